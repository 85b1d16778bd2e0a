//! The graph of waits of a table, and the deadlocks that were found in it.
//!
//! A search ends each cycle while it holds the graph's mutex.
//!
//! PROTOCOL.md of sessions defines when each wait is published, and proves that no cycle is missed.

use std::collections::VecDeque;
use std::sync::Arc;

use super::cycle::Cycle;
use super::graph::{Graph, Want};
use super::owner::{Held, Owner};

/// The graph of waiting sessions, and the sessions that were victims.
#[derive(Debug)]
pub(crate) struct Waits<P> {
    pub(crate) graph: Graph<P>,
    deadlocks: VecDeque<Arc<Cycle>>,
    kept: usize,
    /// The number of deadlocks since the table was made, including those that are not kept.
    found: u64,
}

/// The time at which a wait is searched for a cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Search {
    /// Before the threshold of its session.
    Early,
    /// At the threshold, or because the session has no clock to wait for the threshold.
    Due,
}

/// The result of a search.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing,
    /// A deadlock, which has been resolved.
    Cycle,
}

/// The place of an owner that waits according to the graph, whose mutex is held. So its wait has
/// not ended, and nothing ends it as long as this exists, unless the caller does [D2].
pub(crate) struct Waiting<'g, P>(&'g P);

impl<'g, P> Waiting<'g, P> {
    pub(crate) fn place(&self) -> &'g P {
        self.0
    }
}

/// Ends the waits of other threads. The lock table does: a graph is plain data.
pub(crate) trait EndWaits<P> {
    /// Ends a wait, unless the key was granted to it. Returns whether it did.
    fn kill(&mut self, waiting: Waiting<'_, P>) -> bool;

    /// Grants a shared wait ahead of the waiters before it, unless a holder conflicts.
    fn let_past(&mut self, waiting: Waiting<'_, P>);
}

impl<P> Waits<P> {
    /// Makes a graph without waits, which keeps so many deadlocks.
    pub(crate) fn new(kept: usize) -> Self {
        Waits {
            graph: Graph::default(),
            deadlocks: VecDeque::new(),
            kept,
            found: 0,
        }
    }

    /// Keeps a deadlock, and removes the oldest one if there are too many.
    pub(crate) fn remember(&mut self, cycle: Arc<Cycle>) {
        self.found += 1;
        self.deadlocks.push_back(cycle);
        while self.deadlocks.len() > self.kept {
            self.deadlocks.pop_front();
        }
    }

    /// Returns the last deadlocks, the oldest first.
    pub(crate) fn deadlocks(&self) -> Vec<Arc<Cycle>> {
        self.deadlocks.iter().cloned().collect()
    }

    /// Returns the number of deadlocks since the table was made.
    pub(crate) fn found(&self) -> u64 {
        self.found
    }

    /// Publishes that `owner` holds `held` and waits [D1].
    pub(crate) fn publish(&mut self, owner: &Owner, held: Vec<Held>, want: Want<P>) {
        self.graph.enter(owner, held);
        self.graph.wait(owner.id, want);
    }

    fn waiting(&self, id: u64) -> Waiting<'_, P> {
        Waiting(&self.graph.want(id).expect("it is in the cycle").place)
    }

    /// Ends the cycles in which an owner waits for the key `hash`, until none is left or the owner
    /// `id` no longer waits.
    pub(crate) fn resolve(&mut self, ends: &mut impl EndWaits<P>, id: u64, hash: u64) -> Found {
        let mut found = Found::Nothing;
        while self.graph.want(id).is_some() {
            let Some(mut cycle) = self.graph.cycle(hash) else {
                break;
            };
            found = Found::Cycle;
            let soft = cycle.soft().map(|link| link.owner.id);
            if let Some(reader) = soft {
                ends.let_past(self.waiting(reader));
                self.graph.arrive(reader);
                continue;
            }
            let Some(victim) = cycle.choose() else {
                debug_assert!(false, "sets lock in one order, and wait for no cycle [L1]");
                break;
            };
            cycle.victim = victim;
            self.end_wait(ends, cycle);
        }
        found
    }

    /// Ends the wait of the victim of a hard cycle.
    pub(crate) fn end_wait(&mut self, ends: &mut impl EndWaits<P>, cycle: Cycle) {
        let victim = cycle.links[cycle.victim].owner.id;
        if ends.kill(self.waiting(victim)) {
            let cycle = Arc::new(cycle);
            self.graph.kill(victim, cycle.clone());
            self.remember(cycle);
        } else {
            // A holder that waits keeps others out, so no owner in a hard cycle is granted a key
            // [D4].
            debug_assert!(
                false,
                "the victim of a hard cycle holds the key that it waits for"
            );
            self.graph.arrive(victim);
        }
    }
}
