//! Locks by key: [`LockTable`].
//!
//! A table holds only what is held, so it is almost empty. A slot, chosen by the low bits of a key's
//! hash, carries the rest of the hash and the state of the lock in one word: the slot *is* the
//! lock until somebody has to wait. PROTOCOL.md beside this file has the states, the steps and the rules
//! that are cited here in brackets.

mod acquire;
mod builder;
mod descent;
mod fold;
mod future;
mod guard;
mod handle;
mod index;
mod inspect;
mod keys;
mod many;
#[cfg(any(latchwork_loom, latchwork_shuttle))]
mod model;
mod monitor;
mod observe;
mod release;

use core::borrow::Borrow;
use core::fmt;
use core::hash::{BuildHasher, Hash};
use core::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use builder::{Fairness, LockTableBuilder};
pub use future::{LockFuture, OwnedLockFuture, OwnedSharedLockFuture, SharedLockFuture};
pub use guard::{ExclusiveGuard, OwnedExclusiveGuard, OwnedSharedGuard, SharedGuard};
use index::RawTable;
pub use inspect::{LockInfo, WaiterInfo};
pub use many::{LockAllFuture, LockSet, OwnedLockAllFuture, OwnedLockSet};

use crate::RandomState;
use crate::sync::Counter;
use crate::word::Mode;

/// Locks any key of a type, without registering it first.
///
/// Nothing is stored for a key that nobody holds or waits for. `K` says what keys look like and how they
/// are borrowed, as in [`HashMap::get`](std::collections::HashMap::get); no `K` is ever stored.
///
/// An uncontended lock and unlock are one compare-and-swap each. Operations on one key never wait
/// for a thread that is stalled in an operation on another.
///
/// # Identity
/// A key is its 64-bit hash. Two keys of one hash share one lock: exclusion still holds, and a thread that
/// holds one and locks the other waits for itself. With *n* keys in use at once, a hash that spreads well
/// makes two of them collide with odds of about n²/2⁶⁵: one in 37 million for a million keys. A keyed hasher
/// ([`std::hash::RandomState`], or the default with less strength) keeps somebody who chooses keys
/// from choosing colliding ones; it does not make collisions impossible. For integer keys, a hasher that
/// returns the integer makes identity exact:
///
/// ```
/// use std::hash::{BuildHasherDefault, Hasher};
///
/// #[derive(Default)]
/// struct Itself(u64);
/// impl Hasher for Itself {
///     fn write(&mut self, _: &[u8]) { unreachable!("keys are u64") }
///     fn write_u64(&mut self, key: u64) { self.0 = key }
///     fn finish(&self) -> u64 { self.0 }
/// }
/// let table = latchwork::LockTable::<u64, BuildHasherDefault<Itself>>::with_hasher(Default::default());
/// assert_eq!(table.key_id(&42).get(), 42);
/// ```
///
/// # Fairness
/// See [`Fairness`]. Under either policy a queued writer is not starved by a stream of readers, nor a
/// queued reader by a stream of writers.
///
/// # Deadlocks
/// Locks are not re-entrant: a thread that locks a key it holds waits for itself. Threads that hold one
/// key and lock another must agree on an order, or use [`lock_all`](Self::lock_all).
///
/// # Memory ordering
/// Locking a key synchronises with the previous unlock of that key.
///
/// # Memory
/// Bounded by the locks held or waited for at once, plus the root ([`LockTableBuilder::concurrency`]).
/// A key's entry goes when its last holder or waiter goes, also by timeout or panic.
///
/// # When something else is better
/// A fixed set of locks that you can index needs no table: use an array of
/// `parking_lot::Mutex`. If each key has data that only its holder touches, a concurrent map with entry locks such as
/// `dashmap` may be simpler.
///
/// # Examples
/// ```
/// use latchwork::LockTable;
///
/// let files: LockTable<str> = LockTable::new();
/// {
///     let _guard = files.lock("report.txt");
///     // … the only one to write report.txt …
/// }
/// let readers = (files.lock_shared("a.txt"), files.lock_shared("a.txt"));
/// assert!(files.try_lock("a.txt").is_none());
/// # drop(readers);
/// ```
pub struct LockTable<K: ?Sized, S = RandomState> {
    raw: RawTable,
    hasher: S,
    keys: PhantomData<fn(&K)>,
}

/// The identity of a key: its 64-bit hash.
///
/// # Examples
/// ```
/// let table: latchwork::LockTable<str> = latchwork::LockTable::new();
/// assert_eq!(table.key_id("a"), table.lock("a").key_id());
/// println!("{}", table.key_id("a")); // sixteen hexadecimal digits
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(u64);

impl KeyId {
    /// Returns the hash as a number.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// A number that grows with each holder of a key that takes one. Returned by
/// [`ExclusiveGuard::token`].
///
/// # Examples
/// ```
/// let table: latchwork::LockTable<str> = latchwork::LockTable::new();
/// let first = table.lock("a").token();
/// let second = table.lock("a").token();
/// assert!(first < second);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FencingToken(u64);

impl FencingToken {
    /// Returns the token as a number, at least 1.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// What a table has done and what it occupies. Returned by [`LockTable::stats`].
///
/// # Examples
/// ```
/// let table: latchwork::LockTable<u64> = latchwork::LockTable::new();
/// let stats = table.stats();
/// assert_eq!((stats.waits, stats.monitors), (0, 0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableStats {
    /// Times that somebody queued for a key, since the table was made.
    pub waits: u64,
    /// Times that a key's lock outgrew its slot, since the table was made.
    pub inflations: u64,
    /// The longest that somebody has waited who got the key, since the table was made.
    pub longest_wait: Duration,
    /// Waiters that are queued now.
    pub waiting: usize,
    /// Bytes of the root, the child arrays and the monitors that are linked now.
    pub index_bytes: usize,
    /// Bytes of the counters behind [`ExclusiveGuard::token`]: none until the first is taken.
    pub token_bytes: usize,
    /// Keys that have outgrown their slot now.
    pub monitors: usize,
}

#[derive(Debug, Default)]
struct Statistics {
    waits: Counter,
    inflations: Counter,
    longest_wait: Counter,
}

impl<K: ?Sized> LockTable<K> {
    /// Makes a table with the default hasher, fairness and size.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Returns a builder with the defaults.
    pub fn builder() -> LockTableBuilder<K> {
        LockTableBuilder::new()
    }
}

impl<K: ?Sized, S> LockTable<K, S> {
    /// Makes a table that hashes keys with `hasher`.
    ///
    /// # Examples
    /// ```
    /// use std::hash::RandomState;
    /// let table = latchwork::LockTable::<str, _>::with_hasher(RandomState::new());
    /// # let _ = table.lock("a");
    /// ```
    pub fn with_hasher(hasher: S) -> Self {
        LockTableBuilder::new().hasher(hasher).build()
    }

    /// Returns the number of keys held now, in either mode.
    ///
    /// Weakly consistent: it looks at one slot after another, while others lock and unlock. It takes
    /// time in proportion to the size of the table.
    pub fn held(&self) -> usize {
        self.raw.held()
    }

    /// Returns the keys that are held or waited for, with their waiters in the order in which they
    /// will be granted.
    ///
    /// Keys are given by identity, in no order. It is for looking at a program from outside; each
    /// key that is waited for has its queue locked while its waiters are copied.
    ///
    /// Weakly consistent, and as slow, as [`held`](Self::held).
    ///
    /// # Examples
    /// ```
    /// use latchwork::{LockTable, Mode};
    /// let table: LockTable<str> = LockTable::new();
    /// let guard = table.lock("a");
    /// let all = table.inspect();
    /// assert_eq!(all[0].key_id, table.key_id("a"));
    /// assert_eq!((all[0].mode, all[0].holders), (Some(Mode::Exclusive), 1));
    /// assert!(all[0].waiters.is_empty());
    /// # drop(guard);
    /// ```
    pub fn inspect(&self) -> Vec<LockInfo> {
        self.raw.inspect()
    }

    /// Returns what the table has done and what it occupies.
    ///
    /// Weakly consistent, and as slow, as [`held`](Self::held).
    pub fn stats(&self) -> TableStats {
        self.raw.stats()
    }
}

impl<K: ?Sized, S: BuildHasher> LockTable<K, S> {
    #[inline]
    fn hash<Q>(&self, key: &Q) -> u64
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
    /// Until nobody else holds the key. It spins for a few microseconds, then sleeps.
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
    /// For at most `timeout`. Zero is one attempt. A timeout past the range of the clock is none.
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
    /// Until `instant` at most. One that has passed is one attempt.
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

impl<K: ?Sized, S: BuildHasher> LockTable<K, S> {
    /// Locks `key` exclusively without blocking the thread.
    ///
    /// The key is hashed now and not borrowed by the future. Nothing happens until the future is polled;
    /// a free key is then locked at once, without a spin and without an allocation. Tasks and
    /// threads wait in one queue, and any executor will do.
    ///
    /// A future that has been granted the key holds it, whether it is polled or not; one that is
    /// queued and never polled holds up those behind it. Poll it, or drop it.
    ///
    /// # Cancel safety
    /// Dropping the future at any point leaves nothing behind: it gives up its place in the queue,
    /// and passes on the key if it was granted.
    ///
    /// # Panics
    /// The future panics if it is polled after it was ready.
    ///
    /// # Examples
    /// ```
    /// # pollster::block_on(async {
    /// let table: latchwork::LockTable<str> = latchwork::LockTable::new();
    /// let guard = table.lock_async("user:9").await;
    /// # drop(guard);
    /// # });
    /// ```
    #[inline]
    pub fn lock_async<Q>(&self, key: &Q) -> LockFuture<'_>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        LockFuture::new(&self.raw, self.hash(key))
    }

    /// Locks `key` shared without blocking the thread. See [`lock_async`](Self::lock_async).
    #[inline]
    pub fn lock_shared_async<Q>(&self, key: &Q) -> SharedLockFuture<'_>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        SharedLockFuture::new(&self.raw, self.hash(key))
    }

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

/// The end of `timeout` from now, or none if the clock does not reach that far.
fn deadline(timeout: Duration) -> Option<Instant> {
    Instant::now().checked_add(timeout)
}

impl<K: ?Sized, S: Default> Default for LockTable<K, S> {
    fn default() -> Self {
        Self::with_hasher(S::default())
    }
}

impl<K: ?Sized, S> fmt::Debug for LockTable<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockTable")
            .field("held", &self.held())
            .finish_non_exhaustive()
    }
}
