//! The lock table: a raw table of hashes, a hasher, and the state of its sessions.

use core::marker::PhantomData;

use super::raw::{RawTable, Seat};
use crate::RandomState;
use crate::deadlock::Detector;

/// Locks any key of a type, without registering the key first.
///
/// A table stores nothing for a key that is neither held nor waited for. `K` determines the type of
/// the keys and how they are borrowed, as in [`HashMap::get`](std::collections::HashMap::get). The
/// table never stores a `K`.
///
/// An uncontended lock and an uncontended unlock are one compare-and-swap each. They are up to six
/// in all, and may allocate, if another held key has the same slot of the index: hence
/// [`expected_locks`](super::LockTableBuilder::expected_locks). An operation on one key never waits
/// for a thread that is stalled in an operation on another key.
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
/// For integer keys, [`IntegerHasher`](crate::table::IntegerHasher) makes the identity exact, and
/// the key can be computed from its identity:
///
/// ```
/// use latchwork::{LockTable, table::IntegerHasher};
/// let table = LockTable::<u64, _>::with_hasher(IntegerHasher::new());
/// assert_eq!(IntegerHasher::key_of(table.key_id(&42)), 42);
/// ```
///
/// # Fairness
/// See [`Fairness`](super::Fairness). Under either policy, a stream of readers cannot starve a
/// queued writer, and a stream of writers cannot starve a queued reader.
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
/// ([`expected_locks`](super::LockTableBuilder::expected_locks)). If many more keys are held, the
/// root grows. It shrinks again as they are unlocked, and its memory returns to the system; its
/// addresses remain reserved until the table is dropped. A root grows on 64-bit Linux only: other
/// systems have no call that returns the memory. The entry of a key is removed
/// once it has no holder and no waiter, including after a timeout or a panic.
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
    pub(super) raw: RawTable,
    pub(super) hasher: S,
    pub(crate) detector: Detector<Seat>,
    pub(super) keys: PhantomData<fn(&K)>,
}

impl<K: ?Sized, S> LockTable<K, S> {
    /// Returns the table below the hasher.
    #[inline(always)]
    pub(crate) fn raw(&self) -> &RawTable {
        &self.raw
    }
}
