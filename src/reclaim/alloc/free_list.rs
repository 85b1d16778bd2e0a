//! Free memory, piece by piece in a list that lies in the pieces themselves.
#![allow(unsafe_code)]

use core::cell::Cell;
use core::ptr::NonNull;

/// The layout of a free piece.
struct Free {
    next: Option<NonNull<Free>>,
}

/// A list of free pieces of one size, which it owns.
#[derive(Default)]
pub(super) struct FreeList {
    first: Cell<Option<NonNull<Free>>>,
    len: Cell<usize>,
}

impl FreeList {
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len.get()
    }

    #[inline]
    pub(super) fn pop(&self) -> Option<NonNull<u8>> {
        let first = self.first.get()?;
        // SAFETY: a piece in the list was written by `push`, and the list owns it.
        self.first.set(unsafe { first.as_ref() }.next);
        self.len.set(self.len.get() - 1);
        Some(first.cast())
    }

    /// # Safety
    /// `memory` is the caller's, and as long and as aligned as two words.
    #[inline]
    pub(super) unsafe fn push(&self, memory: NonNull<u8>) {
        let free = memory.cast::<Free>();
        let next = self.first.get();
        // SAFETY: the caller's contract.
        unsafe { free.write(Free { next }) };
        self.first.set(Some(free));
        self.len.set(self.len.get() + 1);
    }

    /// Adds some pieces, at most `most`, and returns how many there were.
    ///
    /// # Safety
    /// As for [`push`](Self::push). The iterator uses neither the list nor a piece that it has
    /// returned.
    #[inline(always)]
    pub(super) unsafe fn push_all(
        &self,
        most: usize,
        memory: &mut impl Iterator<Item = NonNull<u8>>,
    ) -> usize {
        let (mut first, mut pushed) = (self.first.get(), 0);
        while pushed < most {
            let Some(memory) = memory.next() else { break };
            let free = memory.cast::<Free>();
            // SAFETY: the caller's contract.
            unsafe { free.write(Free { next: first }) };
            first = Some(free);
            pushed += 1;
        }
        self.first.set(first);
        self.len.set(self.len.get() + pushed);
        pushed
    }

    /// Replaces this list, which is empty, by another.
    pub(super) fn refill(&self, other: Self) {
        debug_assert_eq!(self.len(), 0);
        self.first.set(other.first.get());
        self.len.set(other.len.get());
    }
}
