//! A multi-word compare-and-swap of a few cells, whose number the compiler knows.
//!
//! Steps 16 and 6 of the protocol, without a log: everything lies in registers and on the stack. A
//! transaction that reads and writes two cells commits like this, and so do
//! [`update_all`](super::update_all()) and a batch of a few keys of a map.
#![allow(unsafe_code)]

use core::ptr::NonNull;

use crate::mvcc::{Head, Header, NodeRef, OwnerSlot, When, Word};
use crate::reclaim::{CellPin, Kind, Local};
use crate::sync::store_load_fence;

/// The cells, and the nodes that an owner installs in them.
pub(crate) struct Few<'a, const N: usize> {
    pub(crate) heads: [&'a Head; N],
    pub(crate) kinds: [&'static Kind; N],
    /// The words of the heads when the attempt read them. Their nodes had the values of the cells,
    /// and the pin of the thread keeps them.
    pub(crate) words: [Word; N],
    /// The nodes of the owner, over those of `words`.
    pub(crate) nodes: [NonNull<Header>; N],
    /// The order of the addresses of the heads.
    pub(crate) order: [usize; N],
}

/// The owner is not committed, and the first cells in order have its nodes.
pub(crate) struct Failed {
    pub(crate) own: OwnerSlot,
    pub(crate) installed: usize,
}

/// Returns the order of the addresses of different heads; `None` if one is there twice.
#[inline(always)]
pub(crate) fn order<const N: usize>(heads: &[&Head; N]) -> Option<[usize; N]> {
    let mut order = [0; N];
    let mut ranks = 0;
    for (i, head) in heads.iter().enumerate() {
        // Counted and not sorted: a branch on addresses is mispredicted half the time.
        let is_before = |other: &&Head| other.address() < head.address();
        let rank: usize = heads
            .iter()
            .map(|other| usize::from(is_before(other)))
            .sum();
        order[rank] = i;
        ranks += rank;
    }
    (ranks == N * (N - 1) / 2).then_some(order)
}

impl<const N: usize> Few<'_, N> {
    /// Installs all nodes, commits, stamps them, and retires the replaced ones. Returns whether a
    /// cell has waiters.
    ///
    /// # Safety
    /// The nodes are those of the owner, complete, of these kinds and not published; `pin` belongs
    /// to this thread and is from before the words were loaded.
    #[inline(always)]
    pub(crate) unsafe fn commit(
        &self,
        local: &Local,
        pin: &CellPin,
        own: OwnerSlot,
    ) -> Result<bool, Failed> {
        for installed in 0..N {
            let i = self.order[installed];
            if !self.heads[i].replace_marked(self.words[i], self.nodes[i]) {
                return Err(Failed { own, installed });
            }
        }
        // SAFETY: this attempt's own, and retired below.
        let owner = unsafe { own.as_ptr().as_ref() };
        let Some(stamp) = owner.commit() else {
            return Err(Failed { own, installed: N });
        };
        // A thread that begins to wait from now on finds the commit; an earlier waiter is found
        // [C5].
        store_load_fence();
        let mut is_waited = false;
        for i in 0..N {
            // SAFETY: installed by this thread, under the pin [R1].
            unsafe { self.nodes[i].as_ref() }.set_when(When::stamp(stamp));
            is_waited |= self.heads[i].load().is_waited();
        }
        // By number: iterators over arrays by value copy the arrays.
        let replaced = (0..N).map(|i| (self.base(i).cast(), self.kinds[i]));
        // SAFETY: superseded by the commit, which belongs to this thread. The nodes on them are
        // stamped, so no thread that pins from now on reaches them [X7].
        unsafe { local.retire_all(pin, replaced) };
        // SAFETY: each of its nodes is stamped [X1].
        unsafe { own.end(local, pin) };
        Ok(is_waited)
    }

    /// The node that cell `i` had when the attempt read it.
    #[inline(always)]
    pub(crate) fn base(&self, i: usize) -> NonNull<Header> {
        self.words[i].node()
    }
}

/// Completes an unpublished node of an owner, over `base`.
///
/// # Safety
/// The node is the caller's. `base` was found under a pin that still exists [R1].
#[inline(always)]
pub(crate) unsafe fn place(mut node: NonNull<Header>, when: When, base: NonNull<Header>) {
    // SAFETY: the caller's contract.
    let base = unsafe { NodeRef::new(base) };
    // SAFETY: not published yet, by the caller's contract.
    unsafe { node.as_mut() }.place(when, base);
}
