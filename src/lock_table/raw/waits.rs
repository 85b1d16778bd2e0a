//! The graph of waits of a table, and the deadlocks that were found in it.
//!
//! A search ends each cycle while it holds the graph's mutex.
//!
//! PROTOCOL.md of sessions defines when each wait is published, and proves that no cycle is missed.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::sync::Arc;

use super::monitor::{Cancelled, Wish};
use super::place::{Notices, Seat};
use super::table::RawTable;
use crate::park::Wakeup;
use crate::waits_for::{Cycle, Graph, Held, Owner, Want};

/// The graph of waiting sessions, and the sessions that were victims.
#[derive(Debug)]
pub(crate) struct Waits {
    pub(crate) graph: Graph<Seat>,
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

impl Waits {
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
    pub(crate) fn publish(&mut self, owner: &Owner, held: Vec<Held>, want: Want<Seat>) {
        self.graph.enter(owner, held);
        self.graph.wait(owner.id, want);
    }

    /// Ends the cycles in which an owner waits for the key `hash`, until none is left or the owner
    /// `id` no longer waits.
    pub(crate) fn resolve(
        &mut self,
        table: &RawTable,
        id: u64,
        hash: u64,
        notices: &mut Notices,
    ) -> Found {
        let mut found = Found::Nothing;
        while self.graph.want(id).is_some() {
            let Some(mut cycle) = self.graph.cycle(hash) else {
                break;
            };
            found = Found::Cycle;
            let soft = cycle.soft().map(|link| link.owner.id);
            if let Some(reader) = soft {
                let seat = &self.graph.want(reader).expect("it is in the cycle").place;
                // SAFETY: an owner that waits according to the graph, whose mutex is held, has not
                // ended its wait [D2].
                unsafe { let_past(table, seat, notices) };
                self.graph.arrive(reader);
                continue;
            }
            let Some(victim) = cycle.choose() else {
                debug_assert!(false, "sets lock in one order, and wait for no cycle [L1]");
                break;
            };
            cycle.victim = victim;
            self.end_wait(table, cycle, notices);
        }
        found
    }

    /// Ends the wait of the victim of a hard cycle.
    pub(crate) fn end_wait(&mut self, table: &RawTable, cycle: Cycle, notices: &mut Notices) {
        let victim = cycle.links[cycle.victim].owner.id;
        let seat = &self.graph.want(victim).expect("it is in the cycle").place;
        // SAFETY: an owner that waits according to the graph, whose mutex is held, has not ended
        // its wait [D2].
        if unsafe { kill(table, seat, notices) } {
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

/// Ends the wait of another thread, unless the key was granted to it. Returns whether it did.
///
/// # Safety
/// The wait of `seat` has not ended: it was not taken over, cancelled or dropped, nor is it
/// concurrently, and its key has not been released.
unsafe fn kill(table: &RawTable, seat: &Seat, notices: &mut Notices) -> bool {
    // Pinned before the waiter leaves, because then nothing else keeps the monitor alive [M2].
    let pin = table.trie.pin();
    // SAFETY: its waiter is queued or holds the key, by the caller's contract; from the end of
    // the wait on, the pin keeps the monitor [M1] [M13].
    let monitor = unsafe { seat.monitor() };
    let mut wakeup = Wakeup::default();
    match monitor.cancel(&seat.waiter, Wish::Other, &mut wakeup) {
        Cancelled::Granted => false,
        Cancelled::Left(left) => {
            // It wakes no waiter: notifications follow when no mutex is held.
            table.settle(seat.hash, seat.word(), left, pin, &mut Wakeup::default());
            notices.add(wakeup);
            true
        }
    }
}

/// Grants a shared wait of another thread ahead of the waiters before it, unless a holder
/// conflicts.
///
/// # Safety
/// The contract is that of [`kill`].
unsafe fn let_past(table: &RawTable, seat: &Seat, notices: &mut Notices) {
    let _pin = table.trie.pin();
    // SAFETY: as in `kill`.
    let monitor = unsafe { seat.monitor() };
    let mut wakeup = Wakeup::default();
    if monitor.let_past(&seat.waiter, &mut wakeup) {
        notices.add(wakeup);
    }
}
