//! The word of a cell: the address of its current node, and two marks.
//!
//! | bits | meaning |
//! |---|---|
//! | 0 | a thread waits, for a write or for the end of a lock |
//! | 1 | the entry of a map is locked: its lock alone installs a node [V12] |
//! | the others | the address of the node |
#![allow(unsafe_code)]

use core::ptr::NonNull;

use super::node::{Header, NodeRef};
use crate::reclaim::CellPin;
use crate::sync::{AtomicPtr, Ordering};

/// A thread waits for a write: the writer that replaces this word wakes the waiters.
const WAITED: usize = 1;

/// The cell is that of an entry of a map, which is locked. The node is settled then [V12].
const LOCKED: usize = 2;

/// A value of the word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Word(NonNull<Header>);

impl Word {
    #[inline(always)]
    fn from_raw(raw: *mut Header) -> Self {
        debug_assert!(!raw.is_null());
        // SAFETY: a cell always has a node.
        Word(unsafe { NonNull::new_unchecked(raw) })
    }

    #[inline(always)]
    pub(crate) fn node(self) -> NonNull<Header> {
        let address = self
            .0
            .as_ptr()
            .map_addr(|address| address & !(WAITED | LOCKED));
        // SAFETY: without its marks it is still the address of a node.
        unsafe { NonNull::new_unchecked(address) }
    }

    /// Whether a writer may replace `node`: it is the node, and the word is not locked.
    #[inline(always)]
    pub(crate) fn is_free(self, node: NonNull<Header>) -> bool {
        self.0.as_ptr().addr() & !WAITED == node.as_ptr().addr()
    }

    #[inline(always)]
    pub(crate) fn is_locked(self) -> bool {
        self.0.as_ptr().addr() & LOCKED != 0
    }

    #[inline(always)]
    pub(crate) fn is_waited(self) -> bool {
        self.0.as_ptr().addr() & WAITED != 0
    }

    fn waited(self) -> Self {
        Word::from_raw(self.0.as_ptr().map_addr(|address| address | WAITED))
    }

    fn locked(self) -> Self {
        Word::from_raw(self.0.as_ptr().map_addr(|address| address | LOCKED))
    }

    fn unlocked(self) -> Self {
        Word::from_raw(self.0.as_ptr().map_addr(|address| address & !LOCKED))
    }
}

/// The word itself. Changed by compare-and-swap only: a publication heads a release sequence that
/// marks continue [C2].
pub(crate) struct Head(AtomicPtr<Header>);

impl Head {
    pub(crate) fn new(node: NonNull<Header>) -> Self {
        Head(AtomicPtr::new(node.as_ptr()))
    }

    /// Where waiters find each other: no other head is there while this one is borrowed.
    #[inline(always)]
    pub(crate) fn address(&self) -> usize {
        core::ptr::from_ref(self).addr()
    }

    #[inline(always)]
    pub(crate) fn load(&self) -> Word {
        // Acquire: the node is whole. Pairs with the Release in `replace` [C1].
        Word::from_raw(self.0.load(Ordering::Acquire))
    }

    /// Loads the word, with its node, which the pin keeps alive.
    #[inline(always)]
    pub(crate) fn load_in<'p>(&self, pin: &'p CellPin) -> (Word, NodeRef<'p>) {
        let word = self.load();
        (word, self.node_in(pin, word))
    }

    /// Returns the node of a word that was loaded from this head under the pin.
    #[inline(always)]
    pub(crate) fn node_in<'p>(&self, _: &'p CellPin, seen: Word) -> NodeRef<'p> {
        // SAFETY: loaded under the pin, which lives as long as the reference [R1] [X1].
        unsafe { NodeRef::new(seen.node()) }
    }

    /// Installs `node` in place of `seen`, and clears the mark. `Err`: another word is there. The
    /// caller has checked that `seen` is not locked, or has locked it.
    #[inline(always)]
    pub(crate) fn replace(&self, seen: Word, node: NonNull<Header>) -> Result<(), Word> {
        self.exchange(seen, Word(node)).map_err(Word::from_raw)
    }

    /// Locks the word, and installs the settled node in place of `seen`, which was not locked.
    /// Keeps the mark. `false`: another word is there.
    pub(crate) fn lock(&self, seen: Word, settled: NonNull<Header>) -> bool {
        let word = Word(settled).locked();
        let word = match seen.is_waited() {
            true => word.waited(),
            false => word,
        };
        // Release: as in `replace`; the node may have been under another one [C1]. Acquire: an
        // equal word may be a later one than was loaded, after another holder has locked and
        // unlocked the entry. Its critical section happens before this one. Pairs with the Release
        // in `exchange` [V12]. Relaxed on failure: as there.
        let locked = self.0.compare_exchange(
            seen.0.as_ptr(),
            word.0.as_ptr(),
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
        locked.is_ok()
    }

    /// Unlocks the word, which the caller has locked, and leaves its node there. Keeps the mark.
    /// Returns the previous word.
    pub(crate) fn unlock(&self) -> Word {
        loop {
            let seen = self.load();
            debug_assert!(seen.is_locked());
            if self.exchange(seen, seen.unlocked()).is_ok() {
                return seen;
            }
        }
    }

    /// Installs `node` in place of `seen`, and keeps the mark. `false`: another word is there. The
    /// caller has checked that `seen` is not locked.
    #[inline(always)]
    pub(crate) fn replace_marked(&self, seen: Word, node: NonNull<Header>) -> bool {
        debug_assert!(!seen.is_locked());
        let word = Word(node);
        let word = match seen.is_waited() {
            true => word.waited(),
            false => word,
        };
        self.exchange(seen, word).is_ok()
    }

    #[inline(always)]
    fn exchange(&self, seen: Word, next: Word) -> Result<(), *mut Header> {
        // Release: publishes the node [C1], and the critical section of a lock [V12]. Relaxed on
        // failure: a caller that uses the other word loads it again, or has used its node before.
        let replaced = self.0.compare_exchange(
            seen.0.as_ptr(),
            next.0.as_ptr(),
            Ordering::Release,
            Ordering::Relaxed,
        );
        replaced.map(drop)
    }

    /// Sets the mark, if the word is still `seen`.
    pub(crate) fn mark(&self, seen: Word) -> Result<(), Word> {
        if seen.is_waited() {
            return Ok(());
        }
        // Relaxed: the mutex of the queue orders the rest. The mark is set under it, and a writer
        // acquires it after the writer has found the mark. A writer that used the mutex earlier
        // would not find the mark [C5]. Relaxed on failure: as above.
        let marked = self.0.compare_exchange(
            seen.0.as_ptr(),
            seen.waited().0.as_ptr(),
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        marked.map(drop).map_err(Word::from_raw)
    }
}
