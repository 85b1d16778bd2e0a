//! The read set and the write set of one attempt.
//!
//! A thread keeps its log from one attempt to the next. [`Lease`] lends it to one attempt, whose
//! cells and nodes live for as long as the loan.
#![allow(unsafe_code)]

use core::cell::Cell;
use core::mem::ManuallyDrop;
use std::collections::HashMap;

use foldhash::fast::FixedState;

use super::access::{Access, Draft, Lent};
use super::aftermath::Aftermath;
use super::touched::Keeper;
use crate::cell::VersionedCell;
use crate::mvcc::{Head, Node, NodeRef, Rank};
use crate::reclaim::{self, CellPin, Kind, Local, inside};
use crate::sync::load_load_fence;
use crate::sync::tuning::LINEAR_CELLS;

/// In the order of first access; found by address, from some size on through an index.
pub(super) struct Log<'t> {
    /// With room for as many as need no index.
    pub(super) entries: Vec<Access<'t>>,
    index: HashMap<usize, u32, FixedState>,
    /// How many of them have something to write.
    pub(super) writes: usize,
    /// The earlier writes of entries that were written again, which keeps those values alive. First
    /// writes are recorded inside alternatives only.
    pub(super) undo: Vec<(u32, Option<Draft>)>,
    /// How many alternatives, one inside the other, may have to be undone.
    pub(super) alternatives: usize,
    /// The order in which more than two writes are installed.
    pub(super) order: Vec<u32>,
    pub(super) aftermath: Aftermath,
    /// Whether the closure has inserted or removed keys of maps, unless the write was undone.
    pub(super) changes_maps: bool,
    /// The values that return to their owners unless the attempt commits.
    pub(super) lent: Vec<Lent<'t>>,
    /// The rank of the thread before the attempt, if it has an age.
    pub(super) outer: Rank,
    fast_below: usize,
}

impl Default for Log<'_> {
    fn default() -> Self {
        Log {
            entries: Vec::with_capacity(LINEAR_CELLS),
            index: HashMap::default(),
            writes: 0,
            undo: Vec::new(),
            alternatives: 0,
            order: Vec::new(),
            aftermath: Aftermath::default(),
            changes_maps: false,
            lent: Vec::new(),
            outer: Rank::NONE,
            fast_below: 0,
        }
    }
}

impl<'t> Log<'t> {
    #[inline]
    pub(super) fn find(&self, head: &Head) -> Option<usize> {
        if self.entries.len() <= LINEAR_CELLS {
            // The last is the likeliest.
            return self.entries.iter().rposition(|e| e.is_of(head));
        }
        self.find_in_index(head)
    }

    #[inline(never)]
    fn find_in_index(&self, head: &Head) -> Option<usize> {
        self.index.get(&head.address()).map(|i| *i as usize)
    }

    /// Adds an entry for a cell that has none.
    #[inline(always)]
    pub(super) fn push(
        &mut self,
        head: &'t Head,
        kind: &'static Kind,
        seen: Option<NodeRef<'t>>,
    ) -> usize {
        let i = self.entries.len();
        if i >= LINEAR_CELLS {
            self.push_to_index(i, head);
        }
        // SAFETY: there is room: for as many as need no index from the beginning, and for one more
        // from then on.
        unsafe { self.push_in_room(head, kind, seen) }
    }

    /// Loads a cell that is not in the log, by the fast path. The words of the cells alone must
    /// show that all reads are still current [X4].
    #[inline(always)]
    pub(super) fn undisturbed<'a, T: Send + Sync + 'static>(
        &'a mut self,
        pin: &'t CellPin,
        cell: &'t VersionedCell<T>,
    ) -> Option<Undisturbed<'a, 't, T>> {
        if self.entries.len() >= self.fast_below {
            return None;
        }
        // As in `observe_first`.
        load_load_fence();
        let head = cell.head();
        let node = head.load_in(pin).1;
        node.stamp()?;
        let is_still_so = |entry: &Access<'_>| {
            let word = entry.head().load();
            let is_current = |seen: NodeRef<'_>| word.node() == seen.as_ptr();
            !entry.is_of(head) && entry.seen.is_none_or(is_current)
        };
        // From the end: a repeated read is most often the last one.
        let are_still_so = self.entries.iter().rev().all(is_still_so);
        are_still_so.then_some(Undisturbed {
            log: self,
            cell,
            node,
        })
    }

    /// # Safety
    /// The log has room for one entry more: it has fewer than need an index, for example.
    #[inline(always)]
    unsafe fn push_in_room(
        &mut self,
        head: &'t Head,
        kind: &'static Kind,
        seen: Option<NodeRef<'t>>,
    ) -> usize {
        inside::note(head.address());
        let i = self.entries.len();
        let end = self.entries.as_mut_ptr().wrapping_add(i);
        // Written in place: a move costs more than all the rest of a read.
        // SAFETY: there is room, by the caller's contract.
        unsafe { end.write(Access::new(head, kind, seen)) };
        // SAFETY: it was just written.
        unsafe { self.entries.set_len(i + 1) };
        i
    }

    /// Attempts that have fewer entries read by the fast path: they are running, have no age, and
    /// validate all reads at each read.
    #[inline(always)]
    pub(super) fn allow_fast_path(&mut self, is_allowed: bool) {
        self.fast_below = match is_allowed {
            true => LINEAR_CELLS,
            false => 0,
        };
    }

    /// Whether an attempt that has read all entries may use the fast path.
    #[inline(always)]
    pub(super) fn is_fast(&self) -> bool {
        self.entries.len() <= self.fast_below
    }

    #[cold]
    fn push_to_index(&mut self, i: usize, head: &Head) {
        self.entries.reserve(1);
        if i == LINEAR_CELLS {
            let before = self.entries.iter().enumerate();
            self.index
                .extend(before.map(|(i, e)| (e.address(), i as u32)));
        }
        self.index.insert(head.address(), i as u32);
    }
}

/// A cell that was loaded by the fast path, and that the log has room for.
pub(super) struct Undisturbed<'a, 't, T: Send + Sync + 'static> {
    log: &'a mut Log<'t>,
    cell: &'t VersionedCell<T>,
    node: NodeRef<'t>,
}

impl<'t, T: Send + Sync + 'static> Undisturbed<'_, 't, T> {
    /// Adds the cell to the log. Returns its place there, and the value.
    #[inline(always)]
    pub(super) fn push(self) -> (usize, &'t T) {
        let (head, seen) = (self.cell.head(), Some(self.node));
        // SAFETY: it has fewer entries than need an index.
        let i = unsafe { self.log.push_in_room(head, Node::<T>::KIND, seen) };
        // SAFETY: a stamped node of this cell, which is in no map and so has a value.
        (i, unsafe { self.node.value() })
    }

    /// Adds the cell of an entry of `map` to the log, and returns its place there. `None`: the
    /// entry is dead [V4].
    #[inline(always)]
    pub(super) fn push_entry(self, map: &'t (dyn Keeper + 'static)) -> Option<usize> {
        if self.node.header().is_dead() {
            return None;
        }
        let (head, seen) = (self.cell.head(), Some(self.node));
        // SAFETY: as in `push`.
        let i = unsafe { self.log.push_in_room(head, Node::<T>::KIND, seen) };
        self.log.entries[i].set_entry::<T>(map, self.node);
        Some(i)
    }
}

/// Owns the log of this thread during an attempt. Its drop runs the user code that an attempt has
/// left, so it is created before the thread is pinned.
pub(super) struct Lease(ManuallyDrop<Box<Log<'static>>>);

impl Lease {
    #[inline(always)]
    pub(super) fn new() -> Self {
        let log = KEPT.try_with(Cell::take).ok().flatten();
        Lease(ManuallyDrop::new(log.unwrap_or_default()))
    }

    /// Lends the log, without entries.
    #[inline(always)]
    pub(super) fn lend<'t>(&'t mut self) -> &'t mut Log<'t> {
        let log = core::ptr::from_mut::<Log<'static>>(&mut self.0);
        // SAFETY: it is borrowed for as long. A lifetime changes no layout. The log has no
        // references of other lifetimes once it is cleared, and none of this lifetime is used
        // after it: only this method reads the fields that have any.
        let log = unsafe { &mut *log.cast::<Log<'t>>() };
        log.entries.clear();
        log.lent.clear();
        log
    }

    /// Ends the lease as its drop does, without a call.
    #[inline(always)]
    pub(super) fn end(self, local: &Local) {
        // SAFETY: it is not used or dropped again.
        unsafe { ManuallyDrop::new(self).finish(local) };
    }

    /// # Safety
    /// It is not used or dropped again.
    #[inline(always)]
    unsafe fn finish(&mut self, local: &Local) {
        // SAFETY: moved once, by the caller's contract.
        let mut log = unsafe { ManuallyDrop::take(&mut self.0) };
        if !log.aftermath.is_empty() {
            core::mem::take(&mut log.aftermath).settle(local);
        }
        Self::put_away(log);
    }

    /// Keeps the log for the thread's next attempt.
    #[inline(always)]
    fn put_away(mut log: Box<Log<'static>>) {
        // An earlier attempt of the same transaction may have been longer than the last.
        let longest = log.entries.capacity().max(log.undo.capacity());
        if longest > LINEAR_CELLS {
            if longest > KEPT_CELLS {
                return;
            }
            log.index.clear();
        }
        // A panic that the closure has caught may have left some.
        log.alternatives = 0;
        let _ = KEPT.try_with(|kept| kept.set(Some(log)));
    }
}

impl Drop for Lease {
    #[cold]
    fn drop(&mut self) {
        // SAFETY: it is dropped once.
        reclaim::with(|local| unsafe { self.finish(local) });
    }
}

/// A log of more cells is not kept.
const KEPT_CELLS: usize = 1024;

thread_local! {
    static KEPT: Cell<Option<Box<Log<'static>>>> = const { Cell::new(None) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A long attempt may end in a short one.
    #[test]
    fn a_long_log_is_not_kept() {
        for (cells, writes) in [(KEPT_CELLS + 1, 0), (0, KEPT_CELLS + 1), (1, 1)] {
            drop(KEPT.take());
            let mut lease = Lease::new();
            lease.0.entries.reserve(cells);
            lease.0.undo.reserve(writes);
            drop(lease);
            assert_eq!(KEPT.take().is_some(), cells + writes == 2);
        }
    }
}
