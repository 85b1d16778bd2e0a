//! The read set and the write set of one attempt.
//!
//! A thread keeps its log from one attempt to the next. So the log names cells and nodes by
//! address. Each address is valid for the attempt that has stored it.
#![allow(unsafe_code)]

use core::cell::Cell;
use core::ptr::NonNull;
use std::collections::HashMap;

use foldhash::fast::FixedState;

use super::aftermath::Aftermath;
use super::touched::{Keeper, Lent};
use crate::mvcc::{Head, Header, Rank};
use crate::reclaim::{Kind, inside};
use crate::sync::tuning::LINEAR_CELLS;

/// One cell.
pub(super) struct Entry {
    pub(super) head: NonNull<Head>,
    pub(super) kind: &'static Kind,
    /// The node on which the attempt relies: the one that it has read, or the previous node of its
    /// own. `None` if the cell is only written, including when it is claimed for that.
    pub(super) seen: Option<NonNull<Header>>,
    /// The attempt's own node, with a value, that is not in the cell yet.
    pub(super) write: Option<NonNull<Header>>,
    /// The attempt's own node in the cell.
    pub(super) put: Option<NonNull<Header>>,
    /// The map, if the cell is that of an entry of one.
    pub(super) map: Option<NonNull<dyn Keeper>>,
}

impl Entry {
    /// Whether others may change the cell before the commit.
    #[inline]
    pub(super) fn is_exposed(&self) -> bool {
        self.seen.is_some() && self.put.is_none()
    }

    #[inline]
    pub(super) fn address(&self) -> usize {
        self.head.addr().get()
    }

    /// Returns the attempt's own node in the cell, if there is one, and the previous node.
    #[inline]
    pub(super) fn take_put(&mut self) -> Option<(NonNull<Header>, NonNull<Header>)> {
        let base = self.put_upon();
        let put = self.put.take()?;
        Some((put, base.expect("an own node has a previous one")))
    }

    /// The previous node of the attempt's own node in the cell, if there is one.
    #[inline]
    pub(super) fn put_upon(&self) -> Option<NonNull<Header>> {
        self.put.and(self.seen).or_else(|| self.claimed_upon())
    }

    /// The previous node of a claim, of a cell that the closure has not read.
    #[cold]
    pub(super) fn claimed_upon(&self) -> Option<NonNull<Header>> {
        // SAFETY: the attempt's own node, which it has installed under its pin [R1].
        self.put.and_then(|put| unsafe { put.as_ref() }.prev())
    }
}

/// In the order of first access; found by address, from some size on through an index.
pub(super) struct Log {
    /// With room for as many as need no index.
    pub(super) entries: Vec<Entry>,
    index: HashMap<usize, u32, FixedState>,
    /// How many of them have something to write.
    pub(super) writes: usize,
    /// The earlier writes of entries that were written again, which keeps those values alive. First
    /// writes are recorded inside alternatives only.
    pub(super) undo: Vec<(u32, Option<NonNull<Header>>)>,
    /// How many alternatives, one inside the other, may have to be undone.
    pub(super) alternatives: usize,
    /// The order in which more than two writes are installed.
    pub(super) order: Vec<u32>,
    pub(super) aftermath: Aftermath,
    /// Whether the closure has inserted or removed keys of maps, unless the write was undone.
    pub(super) changes_maps: bool,
    /// The values that return to their owners unless the attempt commits.
    pub(super) lent: Vec<Lent>,
    /// The rank of the thread before the attempt, if it has an age.
    pub(super) outer: Rank,
}

impl Default for Log {
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
        }
    }
}

impl Log {
    #[inline]
    pub(super) fn find(&self, head: &Head) -> Option<usize> {
        let head = NonNull::from(head);
        if self.entries.len() <= LINEAR_CELLS {
            // The last is the likeliest.
            return self.entries.iter().rposition(|e| e.head == head);
        }
        self.find_in_index(head)
    }

    #[inline(never)]
    fn find_in_index(&self, head: NonNull<Head>) -> Option<usize> {
        self.index.get(&head.addr().get()).map(|i| *i as usize)
    }

    /// Adds an entry for a cell that has none.
    #[inline(always)]
    pub(super) fn push(
        &mut self,
        head: &Head,
        kind: &'static Kind,
        seen: Option<NonNull<Header>>,
    ) -> usize {
        let i = self.entries.len();
        if i >= LINEAR_CELLS {
            self.push_to_index(i, head);
        }
        // SAFETY: there is room: for as many as need no index from the beginning, and for one more
        // from then on.
        unsafe { self.push_early(head, kind, seen) }
    }

    /// As `push`, while the log needs no index.
    ///
    /// # Safety
    /// The log has room for one entry more: it has fewer than need an index, for example.
    #[inline(always)]
    pub(super) unsafe fn push_early(
        &mut self,
        head: &Head,
        kind: &'static Kind,
        seen: Option<NonNull<Header>>,
    ) -> usize {
        inside::note(head.address());
        let i = self.entries.len();
        let entry = Entry {
            head: NonNull::from(head),
            kind,
            seen,
            write: None,
            put: None,
            map: None,
        };
        let end = self.entries.as_mut_ptr().wrapping_add(i);
        // Written in place: a move costs more than all the rest of a read.
        // SAFETY: there is room, by the caller's contract.
        unsafe { end.write(entry) };
        // SAFETY: it was just written.
        unsafe { self.entries.set_len(i + 1) };
        i
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

    /// An empty log, which this thread may have used before.
    #[inline]
    pub(super) fn take() -> Box<Self> {
        KEPT.try_with(Cell::take).ok().flatten().unwrap_or_default()
    }

    /// Keeps the log for the thread's next attempt.
    #[inline(always)]
    pub(super) fn put_away(mut self: Box<Self>) {
        // An earlier attempt of the same transaction may have been longer than the last.
        let longest = self.entries.capacity().max(self.undo.capacity());
        if longest > LINEAR_CELLS {
            if longest > KEPT_CELLS {
                return;
            }
            self.index.clear();
        }
        self.entries.clear();
        self.changes_maps = false;
        self.lent.clear();
        // A panic that the closure has caught may have left some.
        self.alternatives = 0;
        let _ = KEPT.try_with(|kept| kept.set(Some(self)));
    }
}

/// A log of more cells is not kept.
const KEPT_CELLS: usize = 1024;

thread_local! {
    static KEPT: Cell<Option<Box<Log>>> = const { Cell::new(None) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A long attempt may end in a short one.
    #[test]
    fn a_long_log_is_not_kept() {
        for (cells, writes) in [(KEPT_CELLS + 1, 0), (0, KEPT_CELLS + 1), (1, 1)] {
            drop(KEPT.take());
            let mut log = Log::take();
            log.entries.reserve(cells);
            log.undo.reserve(writes);
            log.put_away();
            assert_eq!(KEPT.take().is_some(), cells + writes == 2);
        }
    }
}
