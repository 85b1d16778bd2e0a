//! A multi-word compare-and-swap of a few cells, whose number the compiler knows.
//!
//! Steps 16 and 6 of the protocol, without a log: everything lies in registers and on the stack. A
//! transaction that reads and writes two cells commits like this, and so do
//! [`update_all`](super::update_all()) and a batch of a few keys of a map.
#![allow(unsafe_code)]

use core::ptr::NonNull;

use crate::cell::VersionedCell;
use crate::mvcc::{Head, Header, Node, NodeRef, OwnerSlot, Version, When, Word};
use crate::reclaim::{CellPin, Kind, Local, Retired, Share};
use crate::sync::{load_load_fence, store_load_fence};

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
    let mut ranks = [0; N];
    let mut is_twice = false;
    for (n, head) in heads.iter().enumerate() {
        for (m, earlier) in heads[..n].iter().enumerate() {
            let (one, other) = (earlier.address(), head.address());
            is_twice |= one == other;
            // Counted and not sorted: a branch on addresses is mispredicted half the time.
            let is_before = usize::from(other < one);
            ranks[m] += is_before;
            ranks[n] += 1 - is_before;
        }
    }
    let mut order = [0; N];
    for (n, rank) in ranks.into_iter().enumerate() {
        order[rank] = n;
    }
    (!is_twice).then_some(order)
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
        let Some(stamp) = own.owner(pin).commit() else {
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
        let replaced = core::array::from_fn::<_, N, _>(|i| {
            // SAFETY: superseded by the commit, which belongs to this thread. The nodes on them are
            // stamped, so no thread that pins from now on reaches them [X7].
            unsafe { Retired::new(self.base(i).cast(), self.kinds[i]) }
        });
        local.retire_all(pin, replaced);
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

/// The current node of a cell, which has its value.
#[derive(Clone, Copy)]
pub(super) struct Seen<'p> {
    head: &'p Head,
    word: Word,
    node: NodeRef<'p>,
}

/// Reads all cells as of one instant [X11].
#[inline(always)]
pub(super) fn read<'p, const N: usize>(
    heads: &[&'p Head; N],
    pin: &'p CellPin,
) -> Option<[Seen<'p>; N]> {
    let seen = heads.map(|head| {
        // The earlier reads happen before this load [X3].
        load_load_fence();
        let (word, node) = head.load_in(pin);
        Seen { head, word, node }
    });
    let is_settled = seen.iter().all(|seen| seen.node.stamp().is_some());
    // All heads, after all stamps (Acquire): an owner may have committed since its node was
    // loaded here, and its other nodes may have come after the loads.
    let is_current = |seen: &Seen<'_>| seen.head.load().node() == seen.word.node();
    let is_still_so = seen.iter().all(is_current);
    (is_settled && is_still_so).then_some(seen)
}

impl<'p> Seen<'p> {
    #[inline(always)]
    fn check_of<T: Send + Sync + 'static>(self, cell: &VersionedCell<T>) {
        assert!(core::ptr::eq(self.head, cell.head()), "another cell");
    }

    /// The value of the cell.
    #[inline(always)]
    pub(super) fn value<T: Send + Sync + 'static>(self, cell: &VersionedCell<T>) -> &'p T {
        self.check_of(cell);
        // SAFETY: the current node of a cell of this type, which has a value.
        unsafe { self.node.value() }
    }

    /// Makes the node that replaces this one when `own` commits.
    #[inline(always)]
    pub(super) fn replace<T: Send + Sync + 'static>(
        self,
        cell: &VersionedCell<T>,
        local: &Local,
        own: &OwnerSlot,
        value: T,
    ) -> Replacement<'p> {
        self.check_of(cell);
        let node = local.allocate(Node::owned(own.when(), self.node, value));
        Replacement {
            seen: self,
            node: node.cast(),
            kind: Node::<T>::KIND,
        }
    }

    /// The version of the value that replaces this one.
    #[inline(always)]
    pub(super) fn next_version(self) -> Version {
        self.node.version().next()
    }
}

/// A node that was made to replace another one.
pub(super) struct Replacement<'p> {
    seen: Seen<'p>,
    node: NonNull<Header>,
    kind: &'static Kind,
}

/// Commits nodes that were made for `own`, in the order of their heads. Returns whether a cell has
/// waiters. `Err`: every cell is as it was, and `unused` has the nodes.
#[inline(always)]
pub(super) fn commit<const N: usize>(
    local: &Local,
    pin: &CellPin,
    own: OwnerSlot,
    replacements: [Replacement<'_>; N],
    order: [usize; N],
) -> Result<bool, Vec<Unused>> {
    let few = Few {
        heads: core::array::from_fn(|i| replacements[i].seen.head),
        kinds: core::array::from_fn(|i| replacements[i].kind),
        words: core::array::from_fn(|i| replacements[i].seen.word),
        nodes: core::array::from_fn(|i| replacements[i].node),
        order,
    };
    // SAFETY: not published yet, so that it is there.
    let is_own = |node: &NonNull<Header>| unsafe { node.as_ref() }.when() == own.when();
    debug_assert!(few.nodes.iter().all(is_own), "a node of another owner");
    // SAFETY: the nodes were made for the owner, of the kinds of their cells; the pin is from
    // before the words.
    let committed = unsafe { few.commit(local, pin, own) };
    committed.map_err(|failed| few.undo(local, pin, failed))
}

impl<const N: usize> Few<'_, N> {
    /// Leaves every cell as it was. Returns the nodes that were not published.
    #[cold]
    #[inline(never)]
    fn undo(&self, local: &Local, pin: &CellPin, failed: Failed) -> Vec<Unused> {
        let Failed { own, installed } = failed;
        own.owner(pin).kill();
        let mut unused = Vec::with_capacity(N);
        for (place, i) in self.order.into_iter().enumerate() {
            if place < installed {
                let put = (self.nodes[i], self.base(i));
                restore(local, pin, self.heads[i], self.kinds[i], put);
            } else {
                // SAFETY: not installed, and so not published.
                unused.push(unsafe { Unused::new(self.nodes[i], self.kinds[i]) });
            }
        }
        // SAFETY: each of its nodes was unlinked, here or by another thread [X1].
        unsafe { own.end(local, pin) };
        unused
    }
}

/// A node that was never published, and that is not needed any more.
pub(super) struct Unused {
    node: NonNull<Header>,
    kind: &'static Kind,
}

impl Unused {
    /// Drops the value. Runs user code.
    pub(super) fn release(self, local: &Local) {
        // SAFETY: never published, so that its one share is ours.
        local.release_now(unsafe { Share::new(self.node.cast(), self.kind) });
    }

    /// # Safety
    /// `node` is of this kind and was never published. The caller does not use it again.
    pub(super) unsafe fn new(node: NonNull<Header>, kind: &'static Kind) -> Self {
        Unused { node, kind }
    }
}

/// Restores the previous node of a cell, unless another thread has replaced the attempt's own node.
/// That thread then retires it.
pub(crate) fn restore(
    local: &Local,
    pin: &CellPin,
    head: &Head,
    kind: &'static Kind,
    (node, base): (NonNull<Header>, NonNull<Header>),
) {
    loop {
        let word = head.load();
        if word.node() != node {
            return;
        }
        if head.replace_marked(word, base) {
            // SAFETY: unlinked by this compare-and-swap and no other [X7].
            local.retire(pin, unsafe { Retired::new(node.cast(), kind) });
            return;
        }
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
