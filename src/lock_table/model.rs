//! What a model needs and a user must not have.

use core::borrow::Borrow;
use core::hash::{BuildHasher, Hash};
use std::time::{Duration, Instant};

use super::{ExclusiveGuard, LockTable, SharedGuard};
use crate::word::Mode;

/// A deadline that is not yet over: in a model there is no clock, and the first park ends it.
fn far() -> Instant {
    Instant::now() + Duration::from_secs(1 << 20)
}

impl<K: ?Sized, S: BuildHasher> LockTable<K, S> {
    /// Locks, but queues only to give up at once: a deadline that passes at the worst moment.
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

    /// Whether the table has forgotten every session.
    #[doc(hidden)]
    pub fn knows_no_session(&self) -> bool {
        self.sessions.with(|waits| waits.graph.is_empty())
    }

    /// Gives back a hold whose guard was forgotten.
    #[doc(hidden)]
    pub fn force_unlock<Q>(&self, key: &Q, mode: Mode)
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        self.raw.unlock(self.hash(key), mode);
    }

    /// Pushes this thread's garbage out, three times over, so that it is freed inside the model.
    #[cfg(latchwork_loom)]
    #[doc(hidden)]
    pub fn flush(&self) {
        for _ in 0..3 {
            self.raw.domain.pin().flush();
        }
    }
}
