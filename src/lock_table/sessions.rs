//! What a table keeps for its sessions: who of them waits for whom, and the last deadlocks.

use core::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe};
use std::collections::VecDeque;
use std::panic::catch_unwind;
use std::sync::Arc;

use super::KeyId;
use super::claim::Seat;
use super::turns::Turns;
use crate::sync::{AtomicU64, Counter, Mutex, Ordering};
use crate::waits_for::{Cycle, Graph, Owner, OwnerKind};

/// Names a key.
pub(super) type Labels = Arc<dyn Fn(KeyId) -> String + Send + Sync>;

/// Deadlocks that a table remembers when nobody says.
pub(super) const KEPT: usize = 16;

/// How many tables there were.
static TABLES: Counter = Counter::new();

pub(crate) struct Sessions {
    /// Which table it is, of all that there ever were.
    table: u64,
    begun: AtomicU64,
    waits: Mutex<Waits>,
    /// How many waits may still search before their threshold. Written under the mutex of the graph.
    early: Counter,
    /// How many a deadlock lets do so.
    early_after: u64,
    turns: Mutex<Turns>,
    labels: Option<Labels>,
}

// No user code runs while the mutex is held, so that a panic finds it whole; a label function is called
// behind `catch_unwind`, and what it leaves behind is its own business.
impl UnwindSafe for Sessions {}
impl RefUnwindSafe for Sessions {}

/// The sessions that wait, and who was ended for it.
#[derive(Debug)]
pub(crate) struct Waits {
    pub(crate) graph: Graph<Seat>,
    deadlocks: VecDeque<Arc<Cycle>>,
    kept: usize,
}

/// When a wait is searched for a cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Search {
    /// Before the threshold of its session.
    Early,
    /// At the threshold, or because the session has no clock to wait for it.
    Due,
}

/// What a search has found.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing,
    /// A deadlock, which has been resolved.
    Cycle,
}

impl Waits {
    /// Remembers a deadlock, and forgets the oldest if there are too many.
    pub(crate) fn remember(&mut self, cycle: Arc<Cycle>) {
        self.deadlocks.push_back(cycle);
        while self.deadlocks.len() > self.kept {
            self.deadlocks.pop_front();
        }
    }

    /// The last deadlocks, the oldest first.
    pub(crate) fn deadlocks(&self) -> Vec<Arc<Cycle>> {
        self.deadlocks.iter().cloned().collect()
    }
}

impl Sessions {
    pub(super) fn new(labels: Option<Labels>, kept: usize, early_after: u64) -> Self {
        let waits = Waits {
            graph: Graph::default(),
            deadlocks: VecDeque::new(),
            kept,
        };
        Sessions {
            table: TABLES.next(),
            begun: AtomicU64::new(0),
            waits: Mutex::new(waits),
            early: Counter::new(),
            early_after,
            turns: Mutex::new(Turns::default()),
            labels,
        }
    }

    /// The number of the table, which no other has or had.
    pub(crate) fn table(&self) -> u64 {
        self.table
    }

    /// A number greater than those of all sessions before.
    pub(crate) fn begin(&self) -> u64 {
        // Relaxed: it tells sessions apart and orders their ages, nothing else.
        self.begun.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A set of so many keys that begins to wait, as an owner: younger than all sessions, with which it shares the numbers.
    pub(super) fn set(&self, keys: usize) -> Owner {
        Owner {
            id: self.begin() | Owner::SET,
            kind: OwnerKind::Set { keys },
            name: None,
            priority: 0,
        }
    }

    /// A set waits no more.
    #[cold]
    pub(super) fn forget(&self, set: &Owner) {
        let _held = self.with(|waits| {
            let killed = waits.graph.end_wait(set.id);
            debug_assert!(killed.is_none(), "a set is no victim [D13]");
            waits.graph.exit(set.id)
        });
    }

    /// Calls `f` with the sessions that wait, to itself. It runs no user code.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut Waits) -> R) -> R {
        f(&mut self.waits.lock())
    }

    /// Whether a wait that begins now searches at once, because deadlocks are frequent [D10].
    pub(crate) fn may_search_early(&self) -> bool {
        self.early.get() > 0
    }

    /// Adjusts the thresholds to what a search has found. The caller holds the mutex of the graph.
    pub(crate) fn searched(&self, search: Search, found: Found) {
        match (found, search) {
            (Found::Cycle, _) => self.early.set(self.early_after),
            (Found::Nothing, Search::Early) => self.early.set(self.early.get().saturating_sub(1)),
            (Found::Nothing, Search::Due) => {}
        }
    }

    /// Calls `f` with the turns of the victims, to itself. It runs no user code.
    pub(crate) fn with_turns<R>(&self, f: impl FnOnce(&mut Turns) -> R) -> R {
        f(&mut self.turns.lock())
    }

    /// What a key is called; `None` if nobody says, or if the function that should panics.
    pub(crate) fn label(&self, key: KeyId) -> Option<String> {
        let labels = self.labels.as_ref()?;
        let label = catch_unwind(AssertUnwindSafe(|| labels(key)));
        // The destructor of what it panicked with is user code too, and is not run.
        label.map_err(core::mem::forget).ok()
    }
}

#[cfg(all(test, not(any(latchwork_loom, latchwork_shuttle))))]
mod tests {
    use super::*;
    use crate::sync::tuning::EARLY_SEARCHES;

    /// A deadlock pays for so many early searches and no more; a search that is due costs none of them.
    #[test]
    fn a_deadlock_pays_for_early_searches() {
        let sessions = Sessions::new(None, KEPT, EARLY_SEARCHES);
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
