//! Locks by key: [`LockTable`].
//!
//! A table holds only what is held, so it is almost empty. A slot, chosen by the low bits of a key's
//! hash, carries the rest of the hash and the state of the lock in one word: the slot *is* the
//! lock until somebody has to wait. PROTOCOL.md beside this file has the states, the steps and the rules
//! that are cited here in brackets.

mod acquire;
mod builder;
mod claim;
mod descent;
mod detect;
mod fence;
mod fold;
mod future;
mod guard;
mod handle;
mod index;
mod inspect;
mod keys;
mod leave;
mod lock;
mod many;
#[cfg(any(latchwork_loom, latchwork_shuttle))]
mod model;
mod monitor;
mod observe;
mod owned;
mod party;
mod release;
mod sessions;
mod set;
mod turns;

use core::fmt;
use core::marker::PhantomData;
use std::time::{Duration, Instant};

pub use builder::{Fairness, LockTableBuilder};
pub(crate) use claim::{Claim, Claiming, Notices, Told};
pub use fence::{Fence, FencingToken, ParseFencingTokenError};
pub use future::{LockFuture, OwnedLockFuture, OwnedSharedLockFuture, SharedLockFuture};
pub use guard::{ExclusiveGuard, OwnedExclusiveGuard, OwnedSharedGuard, SharedGuard};
pub(crate) use index::RawTable;
pub use inspect::{LockInfo, OwnerInfo, SessionId, WaiterInfo};
pub use many::{LockAllFuture, OwnedLockAllFuture};
pub(crate) use sessions::{Found, Search, Sessions, Waits};
pub use set::{LockSet, OwnedLockSet};

use crate::sync::{Counter, now};
use crate::{RandomState, table::IntegerHasher};

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
/// from choosing colliding ones; it does not make collisions impossible. For integer keys, [`IntegerHasher`] makes identity
/// exact, and the key can be computed from its identity:
///
/// ```
/// use latchwork::{LockTable, table::IntegerHasher};
/// let table = LockTable::<u64, _>::with_hasher(IntegerHasher::new());
/// assert_eq!(IntegerHasher::key_of(table.key_id(&42)), 42);
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
/// Bounded by the locks held or waited for at once, plus the root ([`LockTableBuilder::expected_locks`]).
/// A key's entry goes when its last holder or waiter goes, also by timeout or panic.
///
/// # Fork
/// In the child of a process with threads, keys that other threads held stay held. See [`docs::fork`](crate::docs::fork).
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
#[doc(alias = "KeyMutex")]
#[doc(alias = "RwLock")]
#[doc(alias = "keyed mutex")]
#[doc(alias = "striped")]
pub struct LockTable<K: ?Sized, S = RandomState> {
    raw: RawTable,
    hasher: S,
    pub(crate) sessions: Sessions,
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
pub struct KeyId(pub(crate) u64);

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

impl IntegerHasher {
    /// Returns the integer key of a table that hashes with [`IntegerHasher`], from its identity.
    ///
    /// A negative key is returned as its two's complement: cast the result to the signed type.
    ///
    /// # Examples
    /// ```
    /// use latchwork::{LockTable, table::IntegerHasher};
    /// let table = LockTable::<i32, _>::with_hasher(IntegerHasher::new());
    /// assert_eq!(IntegerHasher::key_of(table.key_id(&-7)) as i32, -7);
    /// ```
    pub const fn key_of(id: KeyId) -> u64 {
        Self::unmix(id.0)
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
    /// The longest that somebody has waited who got the key, since the table was made, give or take
    /// some microseconds.
    pub longest_wait: Duration,
    /// Waiters that are queued now.
    pub waiting: usize,
    /// Of these, those that are [sessions](crate::Session).
    pub waiting_sessions: usize,
    /// Of these, those that are sets of [`lock_all`](LockTable::lock_all).
    pub waiting_sets: usize,
    /// The time that the longest-waiting of them has been queued, to within some microseconds.
    pub oldest_waiter: Duration,
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
    /// Nanoseconds.
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

    /// The table below the hasher.
    #[inline(always)]
    pub(crate) fn raw(&self) -> &RawTable {
        &self.raw
    }

    /// Returns the number of keys held now, in either mode.
    ///
    /// Weakly consistent: it looks at one slot after another, while others lock and unlock. It takes
    /// time in proportion to the size of the table.
    pub fn locked_count(&self) -> usize {
        self.raw.locked_count()
    }

    /// Returns the keys that are held or waited for, with their waiters in the order in which they
    /// will be granted.
    ///
    /// Keys are given by identity, in no order, with their [labels](LockTableBuilder::key_labels). Each key that is waited
    /// for has its queue locked while its waiters are copied. A [`LockInfo`] prints readably.
    ///
    /// A session or a set that waits is named from the moment that it is queued, whether there is a deadlock or not. Of the
    /// holders, those are named that [are known](LockInfo::known_holders); who has a guard is not recorded.
    ///
    /// Weakly consistent, and as slow, as [`held`](Self::held): keys, their waiters and the known holders are read one after the other,
    /// while other threads lock and unlock.
    ///
    /// # Panics
    /// Never panics for a function that labels keys and panics: that key has no label.
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
        let mut locks = self.raw.inspect();
        self.sessions.explain(&mut locks);
        locks
    }

    /// Returns what the table has done and what it occupies.
    ///
    /// Weakly consistent, and as slow, as [`held`](Self::held).
    pub fn stats(&self) -> TableStats {
        self.raw.stats()
    }
}

/// The end of `timeout` from now, or none if the clock does not reach that far.
fn deadline(timeout: Duration) -> Option<Instant> {
    now().checked_add(timeout)
}

impl<K: ?Sized, S: Default> Default for LockTable<K, S> {
    fn default() -> Self {
        Self::with_hasher(S::default())
    }
}

impl<K: ?Sized, S> fmt::Debug for LockTable<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockTable")
            .field("locked_count", &self.locked_count())
            .finish_non_exhaustive()
    }
}
