//! Options of a lock table.

use core::fmt;
use core::marker::PhantomData;
use std::sync::Arc;

use super::fairness::Fairness;
use super::key::KeyId;
use super::raw::RawTable;
use super::table::LockTable;
use crate::RandomState;
use crate::deadlock::{Detector, KEPT, Labels};
use crate::reclaim::Domain;
use crate::sync::tuning::DEFAULT_EXPECTED_LOCKS;
use crate::sync::tuning::EARLY_SEARCHES;

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
}

impl<K: ?Sized, S: Default> Default for LockTable<K, S> {
    fn default() -> Self {
        Self::with_hasher(S::default())
    }
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
    /// The number is a hint and not a limit. The table allocates 16 to 32 bytes for each expected
    /// lock when it is made: at least 8 KiB and at most 512 MiB. With more locks than about twice
    /// the hint, the table begins to use a larger array on 64-bit Linux, and moves its keys there.
    /// A hint saves these moves, which the operations share among them. On other systems,
    /// operations take longer by the logarithm of the excess.
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
        self.labels = Some(Arc::new(move |hash| label(KeyId(hash))));
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
    ///
    /// # Panics
    /// Panics if the memory for the expected locks is not available.
    pub fn build(self) -> LockTable<K, S> {
        LockTable {
            raw: RawTable::new(self.expected_locks, self.fairness, self.domain),
            hasher: self.hasher,
            detector: Detector::new(self.labels, self.deadlock_history, self.early_searches),
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
