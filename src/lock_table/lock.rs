//! Locking one key, from a thread.

use core::borrow::Borrow;
use core::hash::{BuildHasher, Hash};
use std::time::{Duration, Instant};

use super::guard::{ExclusiveGuard, SharedGuard};
use super::{KeyId, LockTable, deadline};
use crate::word::Mode;

impl<K: ?Sized, S: BuildHasher> LockTable<K, S> {
    #[inline]
    pub(crate) fn hash<Q>(&self, key: &Q) -> u64
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        self.hasher.hash_one(key)
    }

    /// Returns the identity of `key`.
    ///
    /// # Panics
    /// If the hasher does, as every method that takes a key.
    pub fn key_id<Q>(&self, key: &Q) -> KeyId
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        KeyId(self.hash(key))
    }

    /// Returns how `key` is held now, or `None` if it is not. It may be out of date by the time that it returns.
    ///
    /// # Examples
    /// ```
    /// use latchwork::{LockTable, Mode};
    /// let table: LockTable<u64> = LockTable::new();
    /// let guard = table.lock_shared(&1);
    /// assert_eq!(table.mode(&1), Some(Mode::Shared));
    /// assert_eq!(table.mode(&2), None);
    /// # drop(guard);
    /// ```
    pub fn mode<Q>(&self, key: &Q) -> Option<Mode>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        self.raw.mode(self.hash(key))
    }

    /// Locks `key` for this holder alone.
    ///
    /// # Blocking
    /// Until nobody else holds the key. It spins a little, then sleeps.
    ///
    /// # Deadlocks
    /// If the thread holds the key already, in either mode.
    ///
    /// # Examples
    /// ```
    /// let table: latchwork::LockTable<str> = latchwork::LockTable::new();
    /// let guard = table.lock("user:42");
    /// # drop(guard);
    /// ```
    #[inline]
    pub fn lock<Q>(&self, key: &Q) -> ExclusiveGuard<'_>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        let hash = self.hash(key);
        self.raw.lock(hash, Mode::Exclusive);
        ExclusiveGuard::new(&self.raw, hash)
    }

    /// Locks `key` together with any number of other shared holders.
    ///
    /// # Blocking
    /// Until nobody holds the key exclusively and nobody who wants it exclusively is queued.
    ///
    /// # Deadlocks
    /// If the thread holds the key exclusively. If it holds the key shared and somebody is queued
    /// for exclusive in between, too.
    ///
    /// # Examples
    /// ```
    /// let table: latchwork::LockTable<str> = latchwork::LockTable::new();
    /// let guard = table.lock_shared("user:42");
    /// # drop(guard);
    /// ```
    #[inline]
    pub fn lock_shared<Q>(&self, key: &Q) -> SharedGuard<'_>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        let hash = self.hash(key);
        self.raw.lock(hash, Mode::Shared);
        SharedGuard::new(&self.raw, hash)
    }

    /// Locks `key` exclusively if it is free.
    ///
    /// Returns `None` only if the key is held or being handed over.
    ///
    /// # Blocking
    /// Never.
    ///
    /// # Examples
    /// ```
    /// let table: latchwork::LockTable<u64> = latchwork::LockTable::new();
    /// let guard = table.try_lock(&1).expect("nobody holds it");
    /// assert!(table.try_lock(&1).is_none());
    /// # drop(guard);
    /// ```
    #[inline]
    pub fn try_lock<Q>(&self, key: &Q) -> Option<ExclusiveGuard<'_>>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        let hash = self.hash(key);
        let locked = self.raw.try_lock(hash, Mode::Exclusive);
        locked.then(|| ExclusiveGuard::new(&self.raw, hash))
    }

    /// Locks `key` shared if that needs no waiting.
    ///
    /// Returns `None` only if the key is held exclusively, is being handed over, or somebody is
    /// queued for it exclusively.
    ///
    /// # Blocking
    /// Never.
    ///
    /// # Examples
    /// ```
    /// let table: latchwork::LockTable<u64> = latchwork::LockTable::new();
    /// let guards = (table.try_lock_shared(&1).unwrap(), table.try_lock_shared(&1).unwrap());
    /// # drop(guards);
    /// ```
    #[inline]
    pub fn try_lock_shared<Q>(&self, key: &Q) -> Option<SharedGuard<'_>>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        let hash = self.hash(key);
        let locked = self.raw.try_lock(hash, Mode::Shared);
        locked.then(|| SharedGuard::new(&self.raw, hash))
    }

    /// Locks `key` exclusively within `timeout`.
    ///
    /// # Blocking
    /// Blocks for at most `timeout`. Zero is one attempt. At the deadline it tries once more, so that a free key is not
    /// refused. A timeout that overflows [`Instant`] waits indefinitely.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// let table: latchwork::LockTable<u64> = latchwork::LockTable::new();
    /// let guard = table.lock(&1);
    /// assert!(table.try_lock_for(&1, Duration::from_millis(1)).is_none());
    /// # drop(guard);
    /// ```
    pub fn try_lock_for<Q>(&self, key: &Q, timeout: Duration) -> Option<ExclusiveGuard<'_>>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        let hash = self.hash(key);
        let locked = self
            .raw
            .lock_until(hash, Mode::Exclusive, deadline(timeout));
        locked.then(|| ExclusiveGuard::new(&self.raw, hash))
    }

    /// Locks `key` exclusively before `instant`.
    ///
    /// # Blocking
    /// Blocks until `instant` at the latest, and then tries once more. An instant that has passed is one attempt.
    ///
    /// # Examples
    /// ```
    /// use std::time::Instant;
    /// let table: latchwork::LockTable<u64> = latchwork::LockTable::new();
    /// assert!(table.try_lock_until(&1, Instant::now()).is_some());
    /// ```
    pub fn try_lock_until<Q>(&self, key: &Q, instant: Instant) -> Option<ExclusiveGuard<'_>>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        let hash = self.hash(key);
        let locked = self.raw.lock_until(hash, Mode::Exclusive, Some(instant));
        locked.then(|| ExclusiveGuard::new(&self.raw, hash))
    }

    /// Locks `key` shared within `timeout`. See [`try_lock_for`](Self::try_lock_for).
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// let table: latchwork::LockTable<u64> = latchwork::LockTable::new();
    /// assert!(table.try_lock_shared_for(&1, Duration::ZERO).is_some());
    /// ```
    pub fn try_lock_shared_for<Q>(&self, key: &Q, timeout: Duration) -> Option<SharedGuard<'_>>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        let hash = self.hash(key);
        let locked = self.raw.lock_until(hash, Mode::Shared, deadline(timeout));
        locked.then(|| SharedGuard::new(&self.raw, hash))
    }

    /// Locks `key` shared before `instant`. See [`try_lock_until`](Self::try_lock_until).
    ///
    /// # Examples
    /// ```
    /// use std::time::Instant;
    /// let table: latchwork::LockTable<u64> = latchwork::LockTable::new();
    /// assert!(table.try_lock_shared_until(&1, Instant::now()).is_some());
    /// ```
    pub fn try_lock_shared_until<Q>(&self, key: &Q, instant: Instant) -> Option<SharedGuard<'_>>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        let hash = self.hash(key);
        let locked = self.raw.lock_until(hash, Mode::Shared, Some(instant));
        locked.then(|| SharedGuard::new(&self.raw, hash))
    }
}
