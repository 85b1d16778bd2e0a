//! Locks one key from a thread.

use core::borrow::Borrow;
use core::hash::{BuildHasher, Hash};
use std::time::{Duration, Instant};

use super::guard::{ExclusiveGuard, SharedGuard};
use super::key::KeyId;
use super::table::LockTable;
use crate::sync::now;
use crate::word::Mode;

/// Returns the instant at the end of `timeout`, or `None` if it overflows the clock.
pub(super) fn deadline(timeout: Duration) -> Option<Instant> {
    now().checked_add(timeout)
}

impl<K: ?Sized, S: BuildHasher> LockTable<K, S> {
    /// Returns whether the root slot of a key was empty, by one load. It is a hint.
    #[inline]
    pub(crate) fn seems_unused<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        self.raw.seems_unused(self.hash(key))
    }

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
    /// Panics if the hasher panics, as does every method that accepts a key.
    pub fn key_id<Q>(&self, key: &Q) -> KeyId
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        KeyId(self.hash(key))
    }

    /// Returns the mode in which `key` is held now, or `None` if it is not held.
    ///
    /// The result may be out of date when the method returns.
    ///
    /// # Blocking
    /// Never blocks.
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

    /// Locks `key` exclusively, waiting until it is available.
    ///
    /// # Blocking
    /// Blocks the thread until no other thread holds the key. The thread spins briefly, and then
    /// parks.
    ///
    /// A blocked thread stops every task of its executor thread. On a current-thread runtime the
    /// call can block indefinitely, because the task that holds the key never runs: use
    /// [`lock_async`](Self::lock_async) there.
    ///
    /// # Panics
    /// Panics if the hasher panics; the key is not locked then.
    ///
    /// # Deadlocks
    /// Deadlocks if the thread already holds the key, in either mode.
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

    /// Locks `key` shared, waiting until it is available. Any number of threads may hold it shared.
    ///
    /// # Blocking
    /// Blocks the thread until the key is not held exclusively and no exclusive waiter is queued
    /// for it.
    ///
    /// On a current-thread runtime the call can block indefinitely, because the task that holds the
    /// key never runs: use [`lock_shared_async`](Self::lock_shared_async) there.
    ///
    /// # Panics
    /// Panics if the hasher panics; the key is not locked then.
    ///
    /// # Deadlocks
    /// Deadlocks if the thread holds the key exclusively. Also deadlocks if the thread holds the
    /// key shared and an exclusive waiter has queued since.
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
    /// Returns `None` only if the key is held or is being handed over to a waiter.
    ///
    /// # Blocking
    /// Never blocks.
    ///
    /// # Examples
    /// ```
    /// let table: latchwork::LockTable<u64> = latchwork::LockTable::new();
    /// let guard = table.try_lock(&1).expect("no thread holds it");
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

    /// Locks `key` shared if it is available without waiting.
    ///
    /// Returns `None` only if the key is held exclusively, is being handed over to a waiter, or has
    /// an exclusive waiter in its queue.
    ///
    /// # Blocking
    /// Never blocks.
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

    /// Locks `key` exclusively within `timeout`, and returns `None` if the time expires.
    ///
    /// # Blocking
    /// Blocks the thread for at most `timeout`. A timeout of zero makes one attempt. At the
    /// deadline the thread makes one more attempt, so that a free key is not refused. A timeout
    /// that overflows [`Instant`] waits indefinitely.
    ///
    /// While it blocks, no task of its executor thread runs. In a task, use
    /// [`lock_async`](Self::lock_async) with the timeout of the runtime.
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

    /// Locks `key` exclusively before `instant`, and returns `None` if that instant passes.
    ///
    /// # Blocking
    /// Blocks the thread until `instant` at the latest, and then makes one more attempt. An instant
    /// that has passed makes one attempt. In a task, use [`lock_async`](Self::lock_async) with the
    /// timeout of the runtime.
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

    /// Locks `key` shared within `timeout`, and returns `None` if the time expires.
    ///
    /// # Blocking
    /// Blocks the thread for at most `timeout`, as [`try_lock_for`](Self::try_lock_for) does.
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

    /// Locks `key` shared before `instant`, and returns `None` if that instant passes.
    ///
    /// # Blocking
    /// Blocks the thread until `instant` at the latest, as [`try_lock_until`](Self::try_lock_until)
    /// does.
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
