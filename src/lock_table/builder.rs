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

/// Who gets a key that comes free while others wait for it.
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
    /// Whoever comes first: a running thread may take a free key ahead of those that sleep. The
    /// oldest waiter is passed over at most 64 times; then it is handed the key. With more threads than
    /// cores this does tens of times as much as `Fifo`, because nobody waits for a sleeper to wake
    /// (report, `contended`; bench `fairness`).
    #[default]
    Eventual,
    /// Whoever has waited longest: a key that somebody waits for is never free, but is handed to the
    /// head of the queue (if that reads, to all readers that directly follow it).
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
    /// Hashes keys with `hasher`. The default is a [`RandomState`] with a seed of its own.
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

    /// Expects `n` locks to be held at once, 2,048 by default. A hint and never a limit: with more,
    /// operations take longer by the logarithm of the excess.
    ///
    /// The table takes 16 to 32 bytes for each, at least 8 KiB and at most 512 MiB, from the start.
    pub fn expected_locks(mut self, n: usize) -> Self {
        self.expected_locks = n;
        self
    }

    /// Sets who gets a key that comes free, [`Fairness::Eventual`] by default.
    pub fn fairness(mut self, fairness: Fairness) -> Self {
        self.fairness = fairness;
        self
    }

    /// Calls keys by what `label` returns in reports of deadlocks and in [`LockTable::inspect`], beside their identity.
    ///
    /// No key is stored, so `label` has only the identity to go by. With an [`IntegerHasher`](crate::table::IntegerHasher) the
    /// identity of an integer gives the integer back; for other keys, a label needs a map from identities to names. It is
    /// called when a report is made or the table is inspected, with no lock held; if it panics, that key has no label.
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

    /// Remembers the last `n` deadlocks among sessions, 16 by default. See
    /// [`LockTable::deadlocks`].
    pub fn deadlock_history(mut self, n: usize) -> Self {
        self.deadlock_history = n;
        self
    }

    /// Lets the next `n` waits of sessions search early after each deadlock. With 0 the thresholds are fixed, which
    /// benchmarks compare with.
    #[doc(hidden)]
    pub fn early_searches(mut self, n: u64) -> Self {
        self.early_searches = n;
        self
    }

    /// Reclaims through a collector of the table's own, inside the model.
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
