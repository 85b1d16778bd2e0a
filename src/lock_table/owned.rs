//! Guards and futures that own a share of their table.

use core::borrow::Borrow;
use core::hash::{BuildHasher, Hash};
use std::sync::Arc;

use super::LockTable;
use super::future::{OwnedLockFuture, OwnedSharedLockFuture};
use super::guard::{OwnedExclusiveGuard, OwnedSharedGuard};
use crate::word::Mode;

impl<K: ?Sized, S: BuildHasher> LockTable<K, S> {
    /// As [`lock`](Self::lock), with a guard that owns a share of the table.
    pub fn lock_owned<Q>(self: &Arc<Self>, key: &Q) -> OwnedExclusiveGuard<K, S>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        let hash = self.hash(key);
        self.raw.lock(hash, Mode::Exclusive);
        OwnedExclusiveGuard::new(self.clone(), hash)
    }

    /// As [`lock_shared`](Self::lock_shared), with a guard that owns a share of the table.
    pub fn lock_shared_owned<Q>(self: &Arc<Self>, key: &Q) -> OwnedSharedGuard<K, S>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        let hash = self.hash(key);
        self.raw.lock(hash, Mode::Shared);
        OwnedSharedGuard::new(self.clone(), hash)
    }

    /// As [`try_lock`](Self::try_lock), with a guard that owns a share of the table.
    pub fn try_lock_owned<Q>(self: &Arc<Self>, key: &Q) -> Option<OwnedExclusiveGuard<K, S>>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        let hash = self.hash(key);
        let locked = self.raw.try_lock(hash, Mode::Exclusive);
        locked.then(|| OwnedExclusiveGuard::new(self.clone(), hash))
    }

    /// As [`try_lock_shared`](Self::try_lock_shared), with a guard that owns a share of the table.
    pub fn try_lock_shared_owned<Q>(self: &Arc<Self>, key: &Q) -> Option<OwnedSharedGuard<K, S>>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        let hash = self.hash(key);
        let locked = self.raw.try_lock(hash, Mode::Shared);
        locked.then(|| OwnedSharedGuard::new(self.clone(), hash))
    }

    /// As [`lock_async`](Self::lock_async), with a future and a guard that own a share of the
    /// table.
    ///
    /// # Blocking
    /// Never blocks the thread, and does not yield to the executor if it is ready at once ([`docs::tasks`](crate::docs::tasks)).
    ///
    /// # Cancel safety
    /// The same.
    pub fn lock_async_owned<Q>(self: &Arc<Self>, key: &Q) -> OwnedLockFuture<K, S>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        OwnedLockFuture::new(self.clone(), self.hash(key))
    }

    /// As [`lock_shared_async`](Self::lock_shared_async), with a future and a guard that own a
    /// share of the table.
    ///
    /// # Blocking
    /// Never blocks the thread, and does not yield to the executor if it is ready at once ([`docs::tasks`](crate::docs::tasks)).
    ///
    /// # Cancel safety
    /// The same.
    pub fn lock_shared_async_owned<Q>(self: &Arc<Self>, key: &Q) -> OwnedSharedLockFuture<K, S>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        OwnedSharedLockFuture::new(self.clone(), self.hash(key))
    }
}
