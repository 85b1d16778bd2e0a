//! How much a release does: a number of objects, and a time [R12].

use crate::sync::recently;
use crate::sync::tuning::{BATCH_IN_HAND, FAST_BATCH};

/// The most objects without a destructor that are released at once under the mutex of their slot.
/// Its owner may wait for it.
pub(super) const CHUNK: usize = 256;

/// How much one release does [R12].
#[derive(Debug)]
pub(super) struct Quota {
    /// However long it takes.
    least: usize,
    /// While there is time.
    pub(super) most: usize,
    /// From `start`, by [`recently`].
    span: u64,
    start: u64,
    pub(super) done: usize,
    /// How many objects with destructors the next batch has.
    pub(super) batch: usize,
    /// The last reading of the clock, and the objects since then: with destructors, and of both
    /// sorts.
    read: u64,
    destroyed: usize,
    passed: usize,
    has_time: bool,
}

impl Quota {
    /// Everything, however long it takes.
    pub(super) fn all() -> Self {
        Quota::new(usize::MAX, usize::MAX, recently(), 0)
    }

    pub(super) fn new(least: usize, most: usize, start: u64, span: u64) -> Self {
        Quota {
            least,
            most,
            span,
            start,
            done: 0,
            batch: 1,
            read: start,
            destroyed: 0,
            passed: 0,
            has_time: span > 0,
        }
    }

    pub(super) fn count_plain(&mut self, n: usize) {
        self.done += n;
        self.passed += n;
    }

    pub(super) fn count_destroyed(&mut self) {
        self.done += 1;
        self.passed += 1;
        self.destroyed += 1;
    }

    #[inline]
    pub(super) fn is_left(&mut self) -> bool {
        if self.destroyed >= self.batch || self.passed >= CHUNK {
            self.read_clock();
        }
        self.done < self.most && (self.done < self.least || self.has_time)
    }

    /// Returns the size of the next batch.
    pub(super) fn end(&mut self) -> usize {
        if self.destroyed > 0 {
            self.read_clock();
        }
        self.batch
    }

    /// A reading costs as much as a destructor, so there is one for each batch.
    fn read_clock(&mut self) {
        let now = recently();
        if now.saturating_sub(self.read) >= FAST_BATCH {
            self.batch = 1;
        } else if self.destroyed >= self.batch {
            self.batch = (2 * self.batch).min(BATCH_IN_HAND);
        }
        self.has_time = now.saturating_sub(self.start) < self.span;
        self.read = now;
        (self.destroyed, self.passed) = (0, 0);
    }
}
