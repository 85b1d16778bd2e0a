//! The word of a cell: the address of its current node, and whether somebody waits.
#![allow(unsafe_code)]

use core::ptr::NonNull;

use super::node::Node;
use crate::sync::{AtomicPtr, Ordering};

/// Somebody waits for a write: whoever replaces this word wakes them.
const WAITED: usize = 1;

/// A value of the word.
pub(super) struct Word<T>(NonNull<Node<T>>);

impl<T> Clone for Word<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Word<T> {}

impl<T> Word<T> {
    #[inline(always)]
    fn from_raw(raw: *mut Node<T>) -> Self {
        debug_assert!(!raw.is_null());
        // SAFETY: a cell always has a node.
        Word(unsafe { NonNull::new_unchecked(raw) })
    }

    #[inline(always)]
    pub(super) fn node(self) -> NonNull<Node<T>> {
        let address = self.0.as_ptr().map_addr(|address| address & !WAITED);
        // SAFETY: without its mark it is still the address of a node.
        unsafe { NonNull::new_unchecked(address) }
    }

    #[inline(always)]
    pub(super) fn is_waited(self) -> bool {
        self.0.as_ptr().addr() & WAITED != 0
    }

    fn waited(self) -> Self {
        Word::from_raw(self.0.as_ptr().map_addr(|address| address | WAITED))
    }
}

/// The word itself. Changed by compare-and-swap only: a publication heads a release sequence that
/// marks continue [C2].
pub(super) struct Head<T>(AtomicPtr<Node<T>>);

impl<T> Head<T> {
    pub(super) fn new(node: NonNull<Node<T>>) -> Self {
        Head(AtomicPtr::new(node.as_ptr()))
    }

    #[inline(always)]
    pub(super) fn load(&self) -> Word<T> {
        // Acquire: the node is whole. Pairs with the Release in `replace` [C1].
        Word::from_raw(self.0.load(Ordering::Acquire))
    }

    /// Puts `node` in the place of `seen`, and takes the mark off.
    #[inline]
    pub(super) fn replace(&self, seen: Word<T>, node: NonNull<Node<T>>) -> Result<(), Word<T>> {
        // AcqRel: Release publishes the node [C1]; Acquire comes after whoever set the mark, and has so put
        // himself into the queue that the caller looks into now [C5].
        // Acquire on failure: as in `load`.
        let replaced = self.0.compare_exchange(
            seen.0.as_ptr(),
            node.as_ptr(),
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        replaced.map(drop).map_err(Word::from_raw)
    }

    /// Sets the mark, if the word is still `seen`.
    pub(super) fn mark(&self, seen: Word<T>) -> Result<(), Word<T>> {
        if seen.is_waited() {
            return Ok(());
        }
        // Release: pairs with the Acquire in `replace` [C5].
        // Acquire on failure: as in `load`.
        let marked = self.0.compare_exchange(
            seen.0.as_ptr(),
            seen.waited().0.as_ptr(),
            Ordering::Release,
            Ordering::Acquire,
        );
        marked.map(drop).map_err(Word::from_raw)
    }
}
