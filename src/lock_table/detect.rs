//! Detects deadlocks: ends each cycle in the graph of waits while it holds the graph's mutex.
//!
//! PROTOCOL.md of sessions defines when each wait is published, and proves that no cycle is missed.
#![allow(unsafe_code)]

use std::sync::Arc;

use super::claim::{Notices, Seat};
use super::index::RawTable;
use super::sessions::{Found, Waits};
use crate::waits_for::{Cycle, Held, Owner, Want};

impl Waits {
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
                // ended its claim [D2].
                unsafe { table.let_past(seat, notices) };
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
        // its claim [D2].
        if unsafe { table.kill(seat, notices) } {
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
