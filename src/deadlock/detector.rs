//! The detector of a table: the graph of waits behind a mutex, the thresholds of searches, the
//! turns of victims, and the labels of keys.

use core::any::Any;
use core::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe};
use std::panic::catch_unwind;
use std::sync::Arc;

use super::owner::{Owner, OwnerKind};
use super::turns::Turns;
use super::waits::{Found, Search, Waits};
use crate::sync::{AtomicU64, Counter, Mutex, Ordering};

/// Returns the label of the key with a hash.
pub(crate) type Labels = Arc<dyn Fn(u64) -> String + Send + Sync>;

/// The number of deadlocks that a table keeps by default.
pub(crate) const KEPT: usize = 16;

/// The number of tables that were ever made.
static TABLES: Counter = Counter::new();

/// Detects deadlocks of the owners of one table. `P` is the place of a wait in its queue.
pub(crate) struct Detector<P> {
    /// The number of this table among all that were ever made.
    table: u64,
    begun: AtomicU64,
    waits: Mutex<Waits<P>>,
    /// The number of waits that may still search before their threshold. Written under the mutex of
    /// the graph.
    early: Counter,
    /// How many a deadlock lets do so.
    early_after: u64,
    turns: Mutex<Turns>,
    labels: Option<Labels>,
}

// No user code runs while the mutex is locked, so a panic leaves it consistent. A label function is
// called behind `catch_unwind`, and is itself responsible for its own state.
impl<P> UnwindSafe for Detector<P> {}
impl<P> RefUnwindSafe for Detector<P> {}

impl<P> Detector<P> {
    pub(crate) fn new(labels: Option<Labels>, kept: usize, early_after: u64) -> Self {
        Detector {
            table: TABLES.next(),
            begun: AtomicU64::new(0),
            waits: Mutex::new(Waits::new(kept)),
            early: Counter::new(),
            early_after,
            turns: Mutex::new(Turns::default()),
            labels,
        }
    }

    /// Returns the number of the table, which no other table has or had.
    pub(crate) fn table(&self) -> u64 {
        self.table
    }

    /// Returns a number that is greater than those of all earlier sessions.
    pub(crate) fn begin(&self) -> u64 {
        // Relaxed: it distinguishes sessions and orders their ages, nothing else.
        self.begun.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Returns an owner for a set of `keys` keys that begins to wait. It is newer than all
    /// sessions, with which it shares the numbers.
    pub(crate) fn set(&self, keys: usize) -> Owner {
        Owner {
            id: self.begin() | Owner::SET,
            kind: OwnerKind::Set { keys },
            name: None,
            priority: 0,
        }
    }

    /// Ends the wait of a set.
    #[cold]
    pub(crate) fn forget(&self, set: &Owner) {
        let _held = self.with(|waits| {
            let killed = waits.graph.end_wait(set.id);
            debug_assert!(killed.is_none(), "a set is no victim [D13]");
            waits.graph.exit(set.id)
        });
    }

    /// Calls `f` with the waiting sessions, under their mutex. It runs no user code.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut Waits<P>) -> R) -> R {
        f(&mut self.waits.lock())
    }

    /// Returns whether a wait that begins now searches at once, because deadlocks are frequent
    /// [D10].
    pub(crate) fn may_search_early(&self) -> bool {
        self.early.get() > 0
    }

    /// Adjusts the thresholds to the result of a search. The caller holds the mutex of the graph.
    pub(crate) fn searched(&self, search: Search, found: Found) {
        match (found, search) {
            (Found::Cycle, _) => self.early.set(self.early_after),
            (Found::Nothing, Search::Early) => self.early.set(self.early.get().saturating_sub(1)),
            (Found::Nothing, Search::Due) => {}
        }
    }

    /// Calls `f` with the turns of the victims, under their mutex. It runs no user code.
    pub(crate) fn with_turns<R>(&self, f: impl FnOnce(&mut Turns) -> R) -> R {
        f(&mut self.turns.lock())
    }

    /// Returns the label of the key with a hash, or `None` without a label function or if the
    /// function panics.
    pub(crate) fn label(&self, hash: u64) -> Option<String> {
        let labels = self.labels.as_ref()?;
        let label = catch_unwind(AssertUnwindSafe(|| labels(hash)));
        label.map_err(discard).ok()
    }
}

/// Drops the payload of a panic that does not propagate. Its destructor is user code: if it panics
/// also, the second payload is leaked.
pub(crate) fn discard(payload: Box<dyn Any + Send>) {
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        core::mem::forget(second);
    }
}

#[cfg(all(test, not(any(latchwork_loom, latchwork_shuttle))))]
mod tests {
    use super::*;
    use crate::sync::tuning::EARLY_SEARCHES;

    /// A deadlock allows a fixed number of early searches; a search at the threshold uses none of
    /// them.
    #[test]
    fn a_deadlock_pays_for_early_searches() {
        let sessions = Detector::<()>::new(None, KEPT, EARLY_SEARCHES);
        assert!(!sessions.may_search_early());
        sessions.searched(Search::Early, Found::Nothing);
        sessions.searched(Search::Due, Found::Nothing);
        assert!(!sessions.may_search_early());
        for search in [Search::Early, Search::Due] {
            sessions.searched(search, Found::Cycle);
            for _ in 0..EARLY_SEARCHES {
                assert!(sessions.may_search_early());
                sessions.searched(Search::Due, Found::Nothing);
                sessions.searched(Search::Early, Found::Nothing);
            }
            assert!(!sessions.may_search_early());
        }
    }
}
