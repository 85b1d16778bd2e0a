//! Options of a lock table.

use core::fmt;
use core::marker::PhantomData;
use std::sync::Arc;

use super::index::RawTable;
use super::sessions::{KEPT, Labels, Sessions};
use super::{KeyId, LockTable};
use crate::RandomState;
use crate::reclaim::Domain;
use crate::sync::tuning::DEFAULT_EXPECTED_LOCKS;
use crate::sync::tuning::EARLY_SEARCHES;

/// Determines which thread acquires a key that is released while others wait for it.
///
/// # Examples
/// ```
/// use latchwork::{Fairness, LockTable};
/// let table = LockTable::<u64>::builder().fairness(Fairness::Fifo).build();
/// # let _ = table.lock(&1);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fairness {
    /// The first thread that tries acquires the key: a running thread may acquire a free key ahead
    /// of parked waiters. At most 64 acquisitions bypass the oldest waiter; then the key is handed
    /// to it.
    ///
    /// With more threads than cores, the throughput is tens of times that of `Fifo`, because a
    /// running thread never waits for a parked one to wake (report, `contended`; bench `fairness`).
    #[default]
    Eventual,
    /// The longest-waiting waiter acquires the key: a key with waiters is never free, but is handed
    /// to the head of the queue. If the head is a reader, all readers that directly follow it also
    /// acquire the key.
    Fifo,
}

/// Makes a [`LockTable`] with options. Returned by [`LockTable::builder`].
///
/// # Examples
/// ```
/// use latchwork::{Fairness, LockTable};
/// let table = LockTable::<str>::builder()
///     .hasher(std::hash::RandomState::new())
///     .expected_locks(100_000)
///     .fairness(Fairness::Eventual)
///     .build();
/// # let _ = table.lock("a");
/// ```
#[must_use = "a builder does nothing until it builds"]
pub struct LockTableBuilder<K: ?Sized, S = RandomState> {
    hasher: S,
    expected_locks: usize,
    fairness: Fairness,
    domain: Domain,
    labels: Option<Labels>,
    deadlock_history: usize,
    early_searches: u64,
    keys: PhantomData<fn(&K)>,
}

impl<K: ?Sized> LockTableBuilder<K> {
    pub(super) fn new() -> Self {
        LockTableBuilder {
            hasher: RandomState::new(),
            expected_locks: DEFAULT_EXPECTED_LOCKS,
            fairness: Fairness::default(),
            domain: Domain::default(),
            labels: None,
            deadlock_history: KEPT,
            early_searches: EARLY_SEARCHES,
            keys: PhantomData,
        }
    }
}

impl<K: ?Sized, S> LockTableBuilder<K, S> {
    /// Hashes keys with `hasher`. The default is a [`RandomState`] with its own seed.
    pub fn hasher<T>(self, hasher: T) -> LockTableBuilder<K, T> {
        LockTableBuilder {
            hasher,
            expected_locks: self.expected_locks,
            fairness: self.fairness,
            domain: self.domain,
            labels: self.labels,
            deadlock_history: self.deadlock_history,
            early_searches: self.early_searches,
            keys: PhantomData,
        }
    }

    /// Sets the number of locks that are expected to be held at once. The default is 2,048.
    ///
    /// The number is a hint and not a limit: with more locks, operations take longer by the
    /// logarithm of the excess. The table allocates 16 to 32 bytes for each expected lock when it
    /// is made: at least 8 KiB and at most 512 MiB.
    pub fn expected_locks(mut self, n: usize) -> Self {
        self.expected_locks = n;
        self
    }

    /// Sets the [`Fairness`] of the table. The default is [`Fairness::Eventual`].
    pub fn fairness(mut self, fairness: Fairness) -> Self {
        self.fairness = fairness;
        self
    }

    /// Labels keys in deadlock reports and in [`LockTable::inspect`] with the result of `label`.
    ///
    /// The table stores no key, so `label` receives only the identity. With an
    /// [`IntegerHasher`](crate::table::IntegerHasher), the integer key can be computed from the
    /// identity. For other keys, a label needs a map from identities to names.
    ///
    /// `label` is called when a report is made or the table is inspected, while no lock is held. If
    /// it panics, that key has no label.
    ///
    /// # Examples
    /// ```
    /// use latchwork::{LockTable, table::IntegerHasher};
    /// let table = LockTable::<u64>::builder()
    ///     .hasher(IntegerHasher::new())
    ///     .key_labels(|id| format!("account {}", IntegerHasher::key_of(id)))
    ///     .build();
    /// # let _ = table.lock(&1);
    /// ```
    pub fn key_labels(mut self, label: impl Fn(KeyId) -> String + Send + Sync + 'static) -> Self {
        self.labels = Some(Arc::new(label));
        self
    }

    /// Sets the number of recent deadlocks among sessions that the table keeps. The default is 16.
    /// See [`LockTable::deadlocks`].
    pub fn deadlock_history(mut self, n: usize) -> Self {
        self.deadlock_history = n;
        self
    }

    /// Lets the next `n` waits of sessions search early after each deadlock. With 0 the thresholds
    /// are fixed, as a baseline for benchmarks.
    #[doc(hidden)]
    pub fn early_searches(mut self, n: u64) -> Self {
        self.early_searches = n;
        self
    }

    /// Reclaims through a collector that belongs to the table, for the model.
    #[cfg(latchwork_loom)]
    #[doc(hidden)]
    pub fn reclaim_by_epoch(mut self) -> Self {
        self.domain = Domain::epoch();
        self
    }

    /// Makes the table.
    pub fn build(self) -> LockTable<K, S> {
        LockTable {
            raw: RawTable::new(self.expected_locks, self.fairness, self.domain),
            hasher: self.hasher,
            sessions: Sessions::new(self.labels, self.deadlock_history, self.early_searches),
            keys: PhantomData,
        }
    }
}

impl<K: ?Sized, S> fmt::Debug for LockTableBuilder<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockTableBuilder")
            .field("expected_locks", &self.expected_locks)
            .field("fairness", &self.fairness)
            .finish_non_exhaustive()
    }
}
