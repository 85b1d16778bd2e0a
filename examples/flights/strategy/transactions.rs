//! `transactions`: the totals of `cells`, but one transaction writes all totals of a flight. A step
//! is atomic although it locks nothing. An audit is a snapshot, which delays no step.

use latchwork::{Transaction, txn::AbortReasons};

use super::cells::CellTotals;
use super::{Aborts, Group, Steps, Strategy};
use crate::data::{Dataset, Flight};
use crate::totals::{Sums, Tally};
use crate::work::Work;

pub(crate) struct Transactions {
    totals: CellTotals,
    /// How each step is run.
    flight: Transaction,
    /// The counts of the label before this run.
    before: AbortReasons,
}

const LABEL: &str = "flight";

impl Strategy for Transactions {
    const NAME: &'static str = "transactions";
    const ABOUT: &'static str =
        "one transaction over the VersionedCells of the flight; audits are snapshots";
    const STEPS: Steps = Steps::Atomic;
    const GROUP: Group = Group::Optimistic;

    fn new(dataset: &Dataset) -> Self {
        Self {
            totals: CellTotals::new(dataset),
            flight: Transaction::builder().label(LABEL),
            before: counted(),
        }
    }

    /// The work is done in the transaction, after two of its three updates. An attempt that aborts
    /// is repeated with its work.
    fn step(&self, flight: &Flight, work: Work) -> u64 {
        let aircraft = flight
            .aircraft
            .map(|id| &self.totals.aircraft[id.0 as usize]);
        let departures = &self.totals.departures[flight.origin.0 as usize];
        let arrivals = &self.totals.arrivals[flight.destination.0 as usize];
        let mut attempts = 0;
        let committed = self.flight.run(|tx| {
            attempts += 1;
            if let Some(flown) = aircraft {
                tx.update(flown, |flown| flown.with(flight))?;
            }
            tx.update(departures, |n| n + 1)?;
            work.spend();
            tx.update(arrivals, |n| n + 1)
        });
        committed.expect("it is tried until it commits");
        attempts - 1
    }

    fn aborts(&self) -> Option<Aborts> {
        let (now, before) = (counted(), self.before);
        Some(Aborts {
            read_conflicts: now.read_conflicts - before.read_conflicts,
            write_conflicts: now.write_conflicts - before.write_conflicts,
            overtaken: now.overtaken - before.overtaken,
        })
    }

    /// Never waits; all totals are of one instant.
    fn audit(&self) -> Sums {
        latchwork::snapshot(|s| Sums {
            departures: self.totals.departures.iter().map(|c| *s.read(c)).sum(),
            arrivals: self.totals.arrivals.iter().map(|c| *s.read(c)).sum(),
        })
    }

    fn tally(&self) -> Tally {
        self.totals.tally()
    }
}

/// The counts of the label since the program began.
fn counted() -> AbortReasons {
    let labels = latchwork::stats().labels;
    let ours = labels.into_iter().find(|of| of.label == LABEL);
    ours.map_or_else(AbortReasons::default, |of| of.aborts)
}
