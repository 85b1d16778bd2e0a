//! The word of a cell: the address of its current node, and whether a thread waits.
#![allow(unsafe_code)]

use core::ptr::NonNull;

use super::node::Header;
use crate::sync::{AtomicPtr, Ordering};

/// A thread waits for a write: the writer that replaces this word wakes the waiters.
const WAITED: usize = 1;

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
        let address = self.0.as_ptr().map_addr(|address| address & !WAITED);
        // SAFETY: without its mark it is still the address of a node.
        unsafe { NonNull::new_unchecked(address) }
    }

    #[inline(always)]
    pub(crate) fn is_waited(self) -> bool {
        self.0.as_ptr().addr() & WAITED != 0
    }

    fn waited(self) -> Self {
        Word::from_raw(self.0.as_ptr().map_addr(|address| address | WAITED))
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

    /// Installs `node` in place of `seen`, and clears the mark. `Err`: another word is there.
    #[inline(always)]
    pub(crate) fn replace(&self, seen: Word, node: NonNull<Header>) -> Result<(), Word> {
        self.exchange(seen, Word(node)).map_err(Word::from_raw)
    }

    /// Installs `node` in place of `seen`, and keeps the mark. `false`: another word is there.
    #[inline(always)]
    pub(crate) fn replace_marked(&self, seen: Word, node: NonNull<Header>) -> bool {
        let word = Word(node);
        let word = match seen.is_waited() {
            true => word.waited(),
            false => word,
        };
        self.exchange(seen, word).is_ok()
    }

    #[inline(always)]
    fn exchange(&self, seen: Word, next: Word) -> Result<(), *mut Header> {
        // Release: publishes the node [C1]. Relaxed on failure: a caller that uses the other word
        // loads it again, or has used its node before.
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
