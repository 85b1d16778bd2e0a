//! Guards and futures that share ownership of their table.

use core::borrow::Borrow;
use core::hash::{BuildHasher, Hash};
use std::sync::Arc;

use super::future::{OwnedLockFuture, OwnedSharedLockFuture};
use super::guard::{OwnedExclusiveGuard, OwnedSharedGuard};
use super::table::LockTable;
use crate::word::Mode;

impl<K: ?Sized, S: BuildHasher> LockTable<K, S> {
    /// Locks `key` exclusively, with a guard that shares ownership of the table.
    ///
    /// # Blocking
    /// Blocks the thread as [`lock`](Self::lock) does. In a task, use
    /// [`lock_async_owned`](Self::lock_async_owned): on a current-thread runtime the call can block
    /// indefinitely.
    ///
    /// # Deadlocks
    /// Deadlocks if the thread already holds the key, in either mode.
    ///
    /// # Examples
    /// ```
    /// use std::sync::Arc;
    /// let table: Arc<latchwork::LockTable<u64>> = Arc::default();
    /// let guard = table.lock_owned(&1);
    /// std::thread::spawn(move || drop(guard)).join().unwrap();
    /// assert!(table.try_lock(&1).is_some());
    /// ```
    pub fn lock_owned<Q>(self: &Arc<Self>, key: &Q) -> OwnedExclusiveGuard<K, S>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        let hash = self.hash(key);
        self.raw.lock(hash, Mode::Exclusive);
        OwnedExclusiveGuard::new(self.clone(), hash)
    }

    /// Locks `key` shared, with a guard that shares ownership of the table.
    ///
    /// # Blocking
    /// Blocks the thread as [`lock_shared`](Self::lock_shared) does. In a task, use
    /// [`lock_shared_async_owned`](Self::lock_shared_async_owned): on a current-thread runtime the
    /// call can block indefinitely.
    ///
    /// # Deadlocks
    /// Deadlocks where [`lock_shared`](Self::lock_shared) does.
    ///
    /// # Examples
    /// ```
    /// use std::sync::Arc;
    /// let table: Arc<latchwork::LockTable<u64>> = Arc::default();
    /// let guards = (table.lock_shared_owned(&1), table.lock_shared_owned(&1));
    /// assert!(table.try_lock(&1).is_none());
    /// # drop(guards);
    /// ```
    pub fn lock_shared_owned<Q>(self: &Arc<Self>, key: &Q) -> OwnedSharedGuard<K, S>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        let hash = self.hash(key);
        self.raw.lock(hash, Mode::Shared);
        OwnedSharedGuard::new(self.clone(), hash)
    }

    /// Locks `key` exclusively if it is free, with a guard that shares ownership of the table.
    ///
    /// It succeeds and fails as [`try_lock`](Self::try_lock) does.
    ///
    /// # Blocking
    /// Never blocks.
    ///
    /// # Examples
    /// ```
    /// use std::sync::Arc;
    /// let table: Arc<latchwork::LockTable<u64>> = Arc::default();
    /// let guard = table.try_lock_owned(&1).expect("the key is free");
    /// assert!(table.try_lock_owned(&1).is_none());
    /// # drop(guard);
    /// ```
    pub fn try_lock_owned<Q>(self: &Arc<Self>, key: &Q) -> Option<OwnedExclusiveGuard<K, S>>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        let hash = self.hash(key);
        let locked = self.raw.try_lock(hash, Mode::Exclusive);
        locked.then(|| OwnedExclusiveGuard::new(self.clone(), hash))
    }

    /// Locks `key` shared if it is available, with a guard that shares ownership of the table.
    ///
    /// It succeeds and fails as [`try_lock_shared`](Self::try_lock_shared) does.
    ///
    /// # Blocking
    /// Never blocks.
    ///
    /// # Examples
    /// ```
    /// use std::sync::Arc;
    /// let table: Arc<latchwork::LockTable<u64>> = Arc::default();
    /// let guard = table.lock_owned(&1);
    /// assert!(table.try_lock_shared_owned(&1).is_none());
    /// # drop(guard);
    /// ```
    pub fn try_lock_shared_owned<Q>(self: &Arc<Self>, key: &Q) -> Option<OwnedSharedGuard<K, S>>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        let hash = self.hash(key);
        let locked = self.raw.try_lock(hash, Mode::Shared);
        locked.then(|| OwnedSharedGuard::new(self.clone(), hash))
    }

    /// Locks `key` exclusively without blocking the thread, with a future and a guard that share
    /// ownership of the table.
    ///
    /// The future behaves as that of [`lock_async`](Self::lock_async).
    ///
    /// # Blocking
    /// Never blocks the thread. A future that is ready at once does not yield to the executor
    /// ([`docs::tasks`](crate::docs::tasks)).
    ///
    /// # Cancel safety
    /// The future may be dropped at any point. It leaves the queue then, and releases the key if
    /// the key was granted to it.
    ///
    /// # Examples
    /// ```
    /// # pollster::block_on(async {
    /// use std::sync::Arc;
    /// let table: Arc<latchwork::LockTable<u64>> = Arc::default();
    /// let guard = table.lock_async_owned(&1).await;
    /// assert!(table.try_lock(&1).is_none());
    /// # drop(guard);
    /// # });
    /// ```
    pub fn lock_async_owned<Q>(self: &Arc<Self>, key: &Q) -> OwnedLockFuture<K, S>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        OwnedLockFuture::new(self.clone(), self.hash(key))
    }

    /// Locks `key` shared without blocking the thread, with a future and a guard that share
    /// ownership of the table.
    ///
    /// The future behaves as that of [`lock_async`](Self::lock_async).
    ///
    /// # Blocking
    /// Never blocks the thread. A future that is ready at once does not yield to the executor
    /// ([`docs::tasks`](crate::docs::tasks)).
    ///
    /// # Cancel safety
    /// The future may be dropped at any point. It leaves the queue then, and releases the key if
    /// the key was granted to it.
    ///
    /// # Examples
    /// ```
    /// # pollster::block_on(async {
    /// use std::sync::Arc;
    /// let table: Arc<latchwork::LockTable<u64>> = Arc::default();
    /// let guard = table.lock_shared_async_owned(&1).await;
    /// assert!(table.try_lock_shared(&1).is_some());
    /// # drop(guard);
    /// # });
    /// ```
    pub fn lock_shared_async_owned<Q>(self: &Arc<Self>, key: &Q) -> OwnedSharedLockFuture<K, S>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        OwnedSharedLockFuture::new(self.clone(), self.hash(key))
    }
}
