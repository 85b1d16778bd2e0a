//! Locks by key: [`LockTable`].
//!
//! A table stores only keys that are held or waited for, so most of its slots are empty. The low
//! bits of a key's hash choose a slot. The slot stores the rest of the hash and the state of the
//! lock in one word. This word is the lock until a thread must wait. [The
//! protocol](crate::docs::internals::lock_table) defines the states, the steps and the rules that
//! are cited here in brackets.

mod acquire;
mod builder;
mod busiest;
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
mod slot;
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
#[cfg(feature = "console")]
pub(crate) use inspect::{Names, Survey};
pub use many::{LockAllFuture, OwnedLockAllFuture};
pub(crate) use sessions::{Found, Search, Sessions, Waits, discard};
pub use set::{LockSet, OwnedLockSet};

use crate::sync::{Counter, now};
use crate::{RandomState, table::IntegerHasher};

/// Locks any key of a type, without registering the key first.
///
/// A table stores nothing for a key that is neither held nor waited for. `K` determines the type of
/// the keys and how they are borrowed, as in [`HashMap::get`](std::collections::HashMap::get). The
/// table never stores a `K`.
///
/// An uncontended lock and an uncontended unlock are one compare-and-swap each. An operation on one
/// key never waits for a thread that is stalled in an operation on another key.
///
/// # Identity
/// The identity of a key is its 64-bit hash. Two keys with the same hash share one lock. Exclusion
/// still holds, but a thread that holds one of them and locks the other deadlocks with itself.
///
/// With *n* keys in use at once, a hash that spreads well makes two of them collide with a
/// probability of about n²/2⁶⁵: one in 37 million for a million keys. A keyed hasher prevents an
/// attacker from choosing colliding keys: [`std::hash::RandomState`], or with less strength the
/// default. It does not make collisions impossible.
///
/// For integer keys, [`IntegerHasher`] makes the identity exact, and the key can be computed from
/// its identity:
///
/// ```
/// use latchwork::{LockTable, table::IntegerHasher};
/// let table = LockTable::<u64, _>::with_hasher(IntegerHasher::new());
/// assert_eq!(IntegerHasher::key_of(table.key_id(&42)), 42);
/// ```
///
/// # Fairness
/// See [`Fairness`]. Under either policy, a stream of readers cannot starve a queued writer, and a
/// stream of writers cannot starve a queued reader.
///
/// # Deadlocks
/// Locks are not re-entrant: a thread that locks a key that it already holds waits for itself.
/// Threads that hold one key and lock another must agree on an order, use
/// [`lock_all`](Self::lock_all), or lock in a [`session`](Self::session), which detects deadlocks.
///
/// # Memory ordering
/// Locking a key synchronises with the previous unlock of that key.
///
/// # Memory
/// Memory is bounded by the number of keys that are held or waited for at once, plus the root
/// ([`LockTableBuilder::expected_locks`]). The entry of a key is removed once it has no holder and
/// no waiter, including after a timeout or a panic.
///
/// # Fork
/// In the child of a process with threads, keys that other threads held stay held. See
/// [`docs::fork`](crate::docs::fork).
///
/// # When something else is better
/// A fixed set of locks with an index needs no table: use an array of `parking_lot::Mutex`. If each
/// key has data that only its holder accesses, a concurrent map with entry locks, such as
/// `dashmap`, may be simpler.
///
/// # Examples
/// ```
/// use latchwork::LockTable;
///
/// let files: LockTable<str> = LockTable::new();
/// {
///     let _guard = files.lock("report.txt");
///     // … this thread alone writes report.txt …
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
/// It is displayed as sixteen hexadecimal digits.
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
    /// Returns the integer key that has this identity, in a table that hashes with
    /// [`IntegerHasher`].
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

/// The counters of a table, and the memory that it uses. Returned by [`LockTable::stats`].
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
    /// The number of times that a waiter has queued for a key, since the table was made.
    pub waits: u64,
    /// The number of times that a lock has outgrown its slot, since the table was made.
    pub inflations: u64,
    /// The longest wait among successful acquisitions since the table was made, to within a few
    /// microseconds.
    pub longest_wait: Duration,
    /// The number of waiters that are queued now.
    pub waiting: usize,
    /// The number of queued waiters that are [sessions](crate::Session).
    pub waiting_sessions: usize,
    /// The number of queued waiters that are sets of [`lock_all`](LockTable::lock_all).
    pub waiting_sets: usize,
    /// The time for which the longest-waiting waiter has been queued, to within a few microseconds.
    pub oldest_waiter: Duration,
    /// The size in bytes of the root, and of the child arrays and monitors that are linked now.
    pub index_bytes: usize,
    /// The size in bytes of the counters behind [`ExclusiveGuard::token`]. It is zero until the
    /// first token is issued.
    pub token_bytes: usize,
    /// The number of keys whose lock has outgrown its slot now.
    pub monitors: usize,
    /// The number of deadlocks in which a session was the victim, since the table was made.
    /// [`LockTable::deadlocks`] returns the most recent ones.
    pub deadlocks: u64,
}

#[derive(Debug, Default)]
struct Statistics {
    waits: Counter,
    inflations: Counter,
    /// In nanoseconds.
    longest_wait: Counter,
    #[cfg(feature = "console")]
    busiest: busiest::Busiest,
}

impl<K: ?Sized> LockTable<K> {
    /// Makes a table with the default hasher, the default fairness and the default size.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Returns a builder with the default options.
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

    /// Returns the table below the hasher.
    #[inline(always)]
    pub(crate) fn raw(&self) -> &RawTable {
        &self.raw
    }

    /// Returns the number of keys that are held now, in either mode.
    ///
    /// The count is weakly consistent: it reads one slot after another, while other threads lock
    /// and unlock. It takes time in proportion to the size of the table.
    ///
    /// # Blocking
    /// Never blocks.
    pub fn locked_count(&self) -> usize {
        self.raw.locked_count()
    }

    /// Returns the keys that are held or waited for, each with its waiters.
    ///
    /// The waiters are in the order in which they will be granted.
    ///
    /// The keys are in no order. Each is named by its identity and its
    /// [label](LockTableBuilder::key_labels). The [`Display`](fmt::Display) form of a [`LockInfo`]
    /// is for people to read.
    ///
    /// A waiting session or set is named as soon as it is queued, with or without a deadlock. Among
    /// the holders, only the [known holders](LockInfo::known_holders) are named: the table does not
    /// record which thread has a guard.
    ///
    /// The result is weakly consistent: keys, waiters and known holders are read one after another,
    /// while other threads lock and unlock. It takes time in proportion to the size of the table,
    /// as [`locked_count`](Self::locked_count) does.
    ///
    /// # Blocking
    /// Blocks only briefly: it locks the queue of each contended key while it copies the waiters.
    ///
    /// # Panics
    /// Never panics because of a label: if the label function panics, that key has no label.
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
        self.sessions.explain(&mut locks, inspect::Names::Shown);
        locks
    }

    /// Returns the counters of the table and the memory that it uses.
    ///
    /// The result is weakly consistent, and takes time in proportion to the size of the table, as
    /// [`locked_count`](Self::locked_count) does.
    ///
    /// # Blocking
    /// Blocks only briefly: it locks the queue of each contended key while it counts the waiters,
    /// and the mutex of the sessions that wait.
    pub fn stats(&self) -> TableStats {
        let mut stats = self.raw.stats();
        stats.deadlocks = self.sessions.with(|waits| waits.found());
        stats
    }
}

/// Returns the instant at the end of `timeout`, or `None` if it overflows the clock.
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
