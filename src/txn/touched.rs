//! The records of entries of maps in the log of an attempt.

use core::ptr::NonNull;

use crate::mvcc::{Header, Version};
use crate::reclaim::{CellPin, Local};

/// A map whose entry a transaction has written.
pub(crate) trait Keeper {
    /// An entry was written by a transaction that has committed. The thread is pinned.
    fn note_commit(&self, local: &Local, pin: &CellPin, write: Committed);
}

/// The write of an entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Committed {
    /// Names the entry to its map.
    pub(crate) entry: (u64, usize),
    pub(crate) version: Version,
    pub(crate) was_vacant: bool,
    pub(crate) is_vacant: bool,
}

/// An entry that the closure has written, if the write was not undone.
pub(super) struct Touched {
    pub(super) keeper: NonNull<dyn Keeper>,
    pub(super) entry: (u64, usize),
    /// The number of the log entry.
    pub(super) i: u32,
}

/// All of them, each once. An attempt may have any number.
#[derive(Default)]
pub(super) struct AllTouched {
    list: Vec<Touched>,
    /// A bit for each log entry that is in the list, if the list is long.
    marks: Vec<u64>,
}

/// A list that is no longer is searched.
const SEARCHED: usize = 8;

impl AllTouched {
    #[inline]
    pub(super) fn add(&mut self, touched: Touched) {
        if self.list.len() >= SEARCHED {
            self.add_by_mark(touched);
        } else if !self.list.iter().any(|other| other.i == touched.i) {
            self.list.push(touched);
        }
    }

    #[cold]
    fn add_by_mark(&mut self, touched: Touched) {
        if self.marks.is_empty() {
            for n in 0..self.list.len() {
                self.mark(self.list[n].i);
            }
        }
        if self.mark(touched.i) {
            self.list.push(touched);
        }
    }

    /// Whether the entry had no mark.
    fn mark(&mut self, i: u32) -> bool {
        let (word, bit) = (i as usize / 64, 1 << (i % 64));
        if self.marks.len() <= word {
            self.marks.resize(word + 1, 0);
        }
        let is_new = self.marks[word] & bit == 0;
        self.marks[word] |= bit;
        is_new
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Touched> {
        self.list.iter()
    }

    /// Keeps the memory, for the next attempt.
    pub(super) fn clear(&mut self) {
        self.list.clear();
        self.marks.clear();
    }
}

/// A value that the closure has written, and that returns to its owner unless the attempt commits.
pub(super) struct Lent {
    /// The number of the log entry.
    pub(super) i: u32,
    /// A `Cell<Option<T>>`, which outlives the attempt.
    pub(super) place: NonNull<()>,
    /// Returns the value of a draft, which was installed in its cell or not.
    pub(super) give_back: unsafe fn(&Local, NonNull<Header>, Installed, NonNull<()>),
}

/// Whether a draft was installed in its cell.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Installed {
    No,
    /// By an owner, which was aborted.
    Yes,
}
