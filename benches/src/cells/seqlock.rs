//! A prototype: plain data as atomic words under a version, without allocation and reclamation.
//!
//! It exists only to measure the gain of a second way to store plain data behind the type of the
//! cell. After Boehm, "Can seqlocks get along with programming language memory models?" (2012): the
//! words are atomics, so a read beside a write may be torn, is then discarded, and is never a data
//! race.
//!
//! It has three costs that a cell does not have. A writer that is stopped in the middle stops all
//! other threads, including readers. A read is a copy and no reference. No replaced value is kept
//! for an owned snapshot or for a snapshot of many cells.
//!
//! The version is odd while a thread writes; half of it counts the writes.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use crossbeam_utils::Backoff;

use super::{Pair, Read, Update, Value, Write};

/// Two words under a version.
#[derive(Debug)]
pub struct Seqlock {
    version: AtomicU64,
    words: [AtomicU64; 2],
}

impl Seqlock {
    /// Makes one with this value.
    #[must_use]
    pub fn new(value: Pair) -> Self {
        Self {
            version: AtomicU64::new(0),
            words: value.map(AtomicU64::new),
        }
    }

    /// The value as it was at one moment, with its version, which is even.
    #[inline]
    fn load(&self) -> (u64, Pair) {
        let backoff = Backoff::new();
        loop {
            // Acquire: the words are those of this version or newer. Pairs with the Release in
            // `replace`.
            let before = self.version.load(Ordering::Acquire);
            if before % 2 == 0 {
                let value = [0, 1].map(|at: usize| self.words[at].load(Ordering::Relaxed));
                // Acquire: if a word is newer, so is the version loaded next. Pairs with the fence
                // in `replace`.
                fence(Ordering::Acquire);
                if self.version.load(Ordering::Relaxed) == before {
                    return (before, value);
                }
            }
            backoff.snooze();
        }
    }

    /// Whether the version was still `seen`, and so the value could be replaced.
    #[inline]
    fn replace(&self, seen: u64, value: Pair) -> bool {
        // Acquire: orders this write after the previous one. Relaxed on failure: nothing is read.
        let begun =
            self.version
                .compare_exchange(seen, seen + 1, Ordering::Acquire, Ordering::Relaxed);
        if begun.is_err() {
            return false;
        }
        // Release: a thread that sees a word that is stored below sees the odd version. Pairs with
        // the fence in `load`.
        fence(Ordering::Release);
        for (word, value) in self.words.iter().zip(value) {
            word.store(value, Ordering::Relaxed);
        }
        // Release: publishes the words.
        self.version.store(seen + 2, Ordering::Release);
        true
    }
}

impl Read<Pair> for &Seqlock {
    #[inline]
    fn read(&mut self) -> Pair {
        self.load().1
    }
}

impl Write<Pair> for Seqlock {
    #[inline]
    fn write(&self, value: Pair) {
        let backoff = Backoff::new();
        // Relaxed: a guess at an even version, which `replace` checks.
        while !self.replace(self.version.load(Ordering::Relaxed) & !1, value) {
            backoff.snooze();
        }
    }
}

impl Update for Seqlock {
    #[inline]
    fn update(&self) {
        let backoff = Backoff::new();
        loop {
            let (seen, value) = self.load();
            if self.replace(seen, value.next()) {
                return;
            }
            backoff.snooze();
        }
    }
}
