//! Access that models need and users must not have.

use core::borrow::Borrow;
use core::hash::{BuildHasher, Hash};
use std::time::{Duration, Instant};

use super::guard::{ExclusiveGuard, SharedGuard};
use super::table::LockTable;
use crate::word::Mode;

/// A deadline in the future: in a model there is no clock, and the first park ends the wait.
fn far() -> Instant {
    Instant::now() + Duration::from_secs(1 << 20)
}

impl<K: ?Sized, S: BuildHasher> LockTable<K, S> {
    /// Locks, but queues only to cancel at once: a deadline that passes at the worst point.
    #[doc(hidden)]
    pub fn lock_or_cancel<Q>(&self, key: &Q) -> Option<ExclusiveGuard<'_>>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        let hash = self.hash(key);
        let locked = self.raw.lock_until(hash, Mode::Exclusive, Some(far()));
        locked.then(|| ExclusiveGuard::new(&self.raw, hash))
    }

    /// As `lock_or_cancel`, shared.
    #[doc(hidden)]
    pub fn lock_shared_or_cancel<Q>(&self, key: &Q) -> Option<SharedGuard<'_>>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        let hash = self.hash(key);
        let locked = self.raw.lock_until(hash, Mode::Shared, Some(far()));
        locked.then(|| SharedGuard::new(&self.raw, hash))
    }

    /// Returns whether the table has removed every session.
    #[doc(hidden)]
    pub fn knows_no_session(&self) -> bool {
        self.detector.with(|waits| waits.graph.is_empty())
    }

    /// Releases the lock of a guard that was forgotten.
    #[doc(hidden)]
    pub fn force_unlock<Q>(&self, key: &Q, mode: Mode)
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        self.raw.unlock(self.hash(key), mode);
    }

    /// Begins to move keys to the next larger root, unless the last move has not settled.
    #[cfg(latchwork_loom)]
    #[doc(hidden)]
    pub fn grow(&self) -> bool {
        self.raw.move_to(crate::word::Move::Up)
    }

    /// Begins to move keys to the next smaller root, unless the last move has not settled.
    #[cfg(latchwork_loom)]
    #[doc(hidden)]
    pub fn shrink(&self) -> bool {
        self.raw.move_to(crate::word::Move::Down)
    }

    /// Declares the last move settled, while no other thread runs.
    #[cfg(latchwork_loom)]
    #[doc(hidden)]
    pub fn settle(&self) {
        self.raw.settle_move();
    }

    /// Collects this thread's retired values three times, so that they are freed inside the model.
    #[cfg(latchwork_loom)]
    #[doc(hidden)]
    pub fn flush(&self) {
        self.raw.flush();
    }
}
