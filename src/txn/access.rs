//! One cell in the log of an attempt: the node that the attempt has read, and its own node.
//!
//! An own node is a *draft* until it is installed in the cell. The attempt is pinned, and keeps its
//! drafts until the pin has ended, so each node is alive for the lifetime of the log. All that is
//! `unsafe` about the nodes of a transaction is here and in `few.rs`.
#![allow(unsafe_code)]

use core::cell::Cell;
use core::ptr::NonNull;

use super::few::{self, Failed, Few, Unused, restore};
use super::touched::Keeper;
use crate::cell::VersionedCell;
use crate::mvcc::{Head, Header, Node, NodeRef, Owner, OwnerSlot, Rank, ValueRef, When, Word};
use crate::reclaim::{CellPin, Kind, Local, Retired};

/// One cell.
pub(super) struct Access<'t> {
    head: &'t Head,
    /// The kind of the nodes that are in the cell, and of the drafts.
    kind: &'static Kind,
    /// The node on which the attempt relies: the one that it has read, or the previous node of its
    /// own. `None` if the cell is only written, including when it is claimed for that.
    pub(super) seen: Option<NodeRef<'t>>,
    /// The attempt's own node, with a value or vacant, that is not in the cell yet.
    write: Option<Draft>,
    /// The attempt's own node in the cell.
    put: Option<NodeRef<'t>>,
    /// The map, if the cell is that of an entry of one.
    pub(super) map: Option<&'t (dyn Keeper + 'static)>,
}

/// A node that its attempt has made and has not published. It lives until the attempt is unpinned.
pub(super) struct Draft(NonNull<Header>);

/// A node that was installed in a cell.
pub(super) struct Put<'t> {
    pub(super) node: NodeRef<'t>,
    /// The previous node of the cell.
    base: NodeRef<'t>,
    /// Whether the cell has waiters.
    pub(super) is_waited: bool,
}

/// A value that the closure has recorded, and that returns to its owner unless the attempt commits.
pub(super) struct Lent<'t> {
    /// The number of the log entry.
    pub(super) i: u32,
    place: &'t dyn Place,
}

/// The place of a lent value.
trait Place {
    /// # Safety
    /// `draft` is a node with a value of the type of this place, of an attempt that has ended
    /// without a commit. It was installed as `installed` tells.
    unsafe fn give_back(&self, local: &Local, draft: NonNull<Header>, installed: Installed);
}

/// Whether a draft was installed in its cell.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Installed {
    No,
    /// By an owner, which was aborted.
    Yes,
}

impl Draft {
    #[inline(always)]
    pub(super) fn new<T: Send + Sync + 'static>(local: &Local, value: T) -> Self {
        Draft(local.allocate(Node::draft(value)).cast())
    }

    /// A draft without a value, of an entry of a map.
    pub(super) fn vacant<T: Send + Sync + 'static>(local: &Local) -> Self {
        Draft(Node::<T>::vacant_draft(local).cast())
    }
}

impl<'t> Lent<'t> {
    pub(super) fn new<T: Send + Sync + 'static>(i: usize, place: &'t Cell<Option<T>>) -> Self {
        let i = i as u32;
        Lent { i, place }
    }
}

impl<T: Send + Sync + 'static> Place for Cell<Option<T>> {
    unsafe fn give_back(&self, local: &Local, draft: NonNull<Header>, installed: Installed) {
        let node = draft.cast::<Node<T>>();
        let value = match installed {
            // SAFETY: it was not published, so that it is ours, and it has a value.
            Installed::No => unsafe { Node::into_value(node, local) },
            // SAFETY: its owner was aborted, so no thread reads the value, and it has one.
            Installed::Yes => unsafe { Node::take_aborted(node) },
        };
        self.set(Some(value));
    }
}

impl<'t> Access<'t> {
    #[inline(always)]
    pub(super) fn new(head: &'t Head, kind: &'static Kind, seen: Option<NodeRef<'t>>) -> Self {
        Access {
            head,
            kind,
            seen,
            write: None,
            put: None,
            map: None,
        }
    }

    /// Makes it the access of an entry of `map`, whose committed node may be in the room of the
    /// entry [V16]. The commit retires this node, or none.
    #[inline(always)]
    pub(super) fn set_entry<T: Send + Sync + 'static>(
        &mut self,
        map: &'t (dyn Keeper + 'static),
        seen: NodeRef<'t>,
    ) {
        self.kind = Node::<T>::kind_of(seen.header());
        self.map = Some(map);
    }

    #[inline(always)]
    pub(super) fn head(&self) -> &'t Head {
        self.head
    }

    #[inline(always)]
    pub(super) fn is_of(&self, head: &Head) -> bool {
        core::ptr::eq(self.head, head)
    }

    /// Whether the cell is that of an entry of this map.
    #[inline(always)]
    pub(super) fn is_of_map(&self, map: &dyn Keeper) -> bool {
        let map = core::ptr::from_ref(map).cast::<()>();
        self.map
            .is_some_and(|other| core::ptr::from_ref(other).cast::<()>() == map)
    }

    #[inline]
    pub(super) fn address(&self) -> usize {
        self.head.address()
    }

    /// Whether others may change the cell before the commit.
    #[inline]
    pub(super) fn is_exposed(&self) -> bool {
        self.seen.is_some() && self.put.is_none()
    }

    #[inline(always)]
    pub(super) fn is_written(&self) -> bool {
        self.write.is_some()
    }

    #[inline(always)]
    fn draft(&self) -> Option<NonNull<Header>> {
        self.write.as_ref().map(|draft| draft.0)
    }

    /// The node of the recorded write.
    #[inline(always)]
    pub(super) fn written(&self) -> Option<NodeRef<'t>> {
        // SAFETY: a draft lives until the attempt is unpinned, and so for as long as the log is
        // lent.
        self.draft().map(|node| unsafe { NodeRef::new(node) })
    }

    /// The node whose value the closure sees.
    #[inline(always)]
    pub(super) fn visible(&self) -> Option<NodeRef<'t>> {
        self.written().or(self.seen)
    }

    /// The value that the closure sees, which the attempt has read or recorded. It is kept until
    /// the attempt has ended, including when it is replaced or discarded.
    pub(super) fn value<T: Send + Sync + 'static>(&self, cell: &'t VersionedCell<T>) -> &'t T {
        assert!(self.is_of(cell.head()), "the access of another cell");
        let node = self.visible().expect("it was read or written");
        // SAFETY: the nodes of this cell have a `T`. Neither is a claim.
        unsafe { node.value() }
    }

    /// The same of an entry of a map with values of `T`, if the key has a value.
    #[inline]
    pub(super) fn entry_value<T: Send + Sync + 'static>(&self) -> Option<&'t T> {
        let node = self.visible().expect("it was read");
        // SAFETY: the entry is that of a cell of `T`, and the node has a value.
        (!node.header().is_vacant()).then(|| unsafe { node.value() })
    }

    /// The committed value of an entry of a map with values of `T`, if the key has one.
    pub(super) fn entry_seen<T: Send + Sync + 'static>(&self) -> Option<ValueRef<'t, T>> {
        let node = self.seen.expect("it was read");
        // SAFETY: as above.
        (!node.header().is_vacant()).then(|| unsafe { ValueRef::new(node) })
    }

    /// Records a draft of the type of the cell. Returns the draft that it replaces.
    #[inline(always)]
    pub(super) fn write(&mut self, draft: Draft) -> Option<Draft> {
        self.write.replace(draft)
    }

    /// Records an earlier draft again, or none. Returns the present one.
    pub(super) fn unwrite(&mut self, before: Option<Draft>) -> Option<Unused> {
        let unused = core::mem::replace(&mut self.write, before)?;
        Some(self.unused(unused))
    }

    /// A draft that this access had.
    pub(super) fn unused(&self, Draft(node): Draft) -> Unused {
        // SAFETY: never published, and a draft of this cell.
        unsafe { Unused::new(node, self.kind) }
    }

    /// The attempt's own node in the cell.
    #[inline(always)]
    pub(super) fn put(&self) -> Option<NodeRef<'t>> {
        self.put
    }

    /// The previous node of the attempt's own node in the cell, if there is one.
    #[inline]
    pub(super) fn put_upon(&self) -> Option<NodeRef<'t>> {
        self.put.and(self.seen).or_else(|| self.claimed_upon())
    }

    /// The previous node of a claim, of a cell that the closure has not read.
    #[cold]
    pub(super) fn claimed_upon(&self) -> Option<NodeRef<'t>> {
        self.put.and_then(NodeRef::claimed_upon)
    }

    /// Claims a cell for `owner`, in place of `word`, whose node or the node below is `base`.
    /// `false`: another word is there.
    pub(super) fn claim<T: Send + Sync + 'static>(
        local: &Local,
        pin: &'t CellPin,
        head: &'t Head,
        owner: &Owner,
        (word, base): (Word, NodeRef<'t>),
    ) -> Option<NodeRef<'t>> {
        let node = Node::<T>::claim(local, base, owner).cast::<Header>();
        let access = Access::new(head, Node::<T>::KIND, None);
        if head.replace_marked(word, node) {
            access.retire_above(local, pin, word, base);
            // SAFETY: installed by this thread, under the pin [R1].
            return Some(unsafe { NodeRef::new(node) });
        }
        // It has no value to drop.
        access.unused(Draft(node)).release(local);
        None
    }

    /// Records the claim of the attempt in the cell.
    pub(super) fn note_claim(&mut self, claim: NodeRef<'t>) {
        self.put = Some(claim);
    }

    /// Retires the node of a word that this thread has just replaced, if it is not `base`. It is
    /// the claim of this attempt, or the node of an aborted transaction.
    #[inline(always)]
    fn retire_above(&self, local: &Local, pin: &CellPin, word: Word, base: NodeRef<'_>) {
        if word.node() != base.as_ptr() {
            // SAFETY: unlinked by this compare-and-swap and no other [X7].
            local.retire(pin, unsafe { Retired::new(word.node().cast(), self.kind) });
        }
    }

    /// Installs the write over the node that was read. `None`: the cell was not read, or has
    /// another node.
    #[inline(always)]
    pub(super) fn install(&self, when: When) -> Option<Put<'t>> {
        let (Some(base), Some(node), None) = (self.seen, self.draft(), self.put) else {
            return None;
        };
        let head = self.head;
        let word = head.load();
        // Nor if the entry is locked [V12].
        if !word.is_free(base.as_ptr()) {
            return None;
        }
        Self::exchange(head, word, node, when, base)
    }

    /// Installs the write in place of `word`, whose node or the node below is `base`. `None`:
    /// another word is there.
    pub(super) fn install_over(
        &self,
        local: &Local,
        pin: &CellPin,
        when: When,
        (word, base): (Word, NodeRef<'t>),
    ) -> Option<Put<'t>> {
        let node = self.draft().expect("it is written");
        let put = Self::exchange(self.head, word, node, when, base)?;
        self.retire_above(local, pin, word, base);
        Some(put)
    }

    /// Completes a draft over `base`, and installs it in the cell. A node of an owner keeps the
    /// mark of the waiters until the owner has committed.
    #[inline(always)]
    fn exchange(
        head: &Head,
        seen: Word,
        node: NonNull<Header>,
        when: When,
        base: NodeRef<'t>,
    ) -> Option<Put<'t>> {
        // SAFETY: a draft of this attempt, and the closure that has seen its value is over; the
        // attempt has found `base`, and is pinned since before.
        unsafe { few::place(node, when, base.as_ptr()) };
        let is_installed = if when == When::UNSET {
            head.replace(seen, node).is_ok()
        } else {
            head.replace_marked(seen, node)
        };
        let is_waited = seen.is_waited();
        is_installed.then(|| Put {
            // SAFETY: installed by this thread, under the pin [R1].
            node: unsafe { NodeRef::new(node) },
            base,
            is_waited,
        })
    }

    /// Records an installed node, which is removed if the attempt aborts.
    #[inline(always)]
    pub(super) fn note(&mut self, put: Put<'t>) {
        self.write = None;
        self.seen = Some(put.base);
        self.put = Some(put.node);
    }

    /// Retires the previous node of the one that was installed without an owner, and that the
    /// caller has stamped.
    #[inline(always)]
    pub(super) fn retire_base(&self, local: &Local, pin: &CellPin, put: &Put<'t>) {
        // SAFETY: superseded by this compare-and-swap and no other [C2].
        let base = unsafe { Retired::new(put.base.as_ptr().cast(), self.kind) };
        local.retire(pin, base);
    }

    /// Stamps the installed nodes of all accesses after the commit of their owner, reports each to
    /// `f`, and retires the replaced nodes.
    #[inline(always)]
    pub(super) fn stamp_all(
        accesses: &[Self],
        local: &Local,
        pin: &CellPin,
        stamp: u64,
        mut f: impl FnMut(&Self, NodeRef<'t>),
    ) {
        let replaced = accesses.iter().filter_map(|access| {
            let node = access.put?;
            node.header().set_when(When::stamp(stamp));
            f(access, node);
            let base = access
                .seen
                .expect("an own node with a value is upon another one");
            // SAFETY: superseded by the commit, which belongs to this thread. The node on it is
            // stamped, so no thread that pins from now on reaches this one [X7].
            Some(unsafe { Retired::new(base.as_ptr().cast(), access.kind) })
        });
        replaced.for_each(|base| local.retire(pin, base));
    }

    /// Restores the previous node of the cell, if the attempt's own node is there.
    #[inline]
    pub(super) fn restore(&mut self, local: &Local, pin: &CellPin) {
        let base = self.put_upon();
        if let Some(put) = self.put.take() {
            let base = base.expect("an own node has a previous one");
            restore(
                local,
                pin,
                self.head,
                self.kind,
                (put.as_ptr(), base.as_ptr()),
            );
        }
    }

    /// Commits the writes of two accesses that were read, if both cells are unchanged. `None`: the
    /// accesses are others, or a cell has changed, and nothing was done.
    #[inline(always)]
    pub(super) fn commit_two(
        [a, b]: [&Self; 2],
        local: &Local,
        pin: &CellPin,
    ) -> Option<Result<bool, Failed>> {
        let bases = [a.seen?.as_ptr(), b.seen?.as_ptr()];
        let nodes = [a.draft()?, b.draft()?];
        let heads = [a.head, b.head];
        let words = heads.map(Head::load);
        // A lock of a key in a map keeps all writes away [V12].
        let is_current = words.map(Word::node) == bases && !words.iter().any(|w| w.is_locked());
        let order = few::order(&heads).filter(|_| is_current)?;
        let own = OwnerSlot::new(local, Rank::NONE);
        let when = own.when();
        let few = Few {
            heads,
            kinds: [a.kind, b.kind],
            words,
            nodes,
            order,
        };
        for i in 0..2 {
            // SAFETY: as in `exchange`.
            unsafe { few::place(nodes[i], when, bases[i]) };
        }
        // SAFETY: the nodes are the attempt's, and placed above; the pin is older than the words.
        Some(unsafe { few.commit(local, pin, own) })
    }

    /// Records that the draft is in the cell, over the node that was read.
    pub(super) fn note_installed(&mut self) {
        let put = self.written();
        self.write = None;
        self.put = put;
    }

    /// Returns a lent value to its owner. The attempt does not commit, and its owner is decided.
    pub(super) fn return_lent(&mut self, local: &Local, lent: &Lent<'t>) {
        let installed = |put: &NodeRef<'t>| !put.header().when().is_claim();
        let (node, installed) = match self.written() {
            Some(node) => (node, Installed::No),
            None => match self.put.filter(installed) {
                Some(node) => (node, Installed::Yes),
                None => return,
            },
        };
        // A removal that was recorded later has replaced the value.
        if node.header().is_vacant() {
            return;
        }
        self.write = None;
        // SAFETY: recorded together, with a value.
        unsafe { lent.place.give_back(local, node.as_ptr(), installed) };
    }
}

/// Ends the owner of an attempt, whose own nodes have been unlinked or stamped.
#[inline(always)]
pub(super) fn end_owner(accesses: &[Access<'_>], local: &Local, pin: &CellPin, owner: OwnerSlot) {
    let has_ended = |access: &Access<'_>| access.put.is_none_or(|put| put.stamp().is_some());
    debug_assert!(accesses.iter().all(has_ended), "a node refers to its owner");
    // SAFETY: every node of its own has been unlinked or stamped [X1].
    unsafe { owner.end(local, pin) };
}
