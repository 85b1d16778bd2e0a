//! `cells`: each total a [`VersionedCell`], updated alone. No update is lost and no reader waits,
//! but a flight is two or three writes, and others see the first before the last: every total is
//! right in the end, and in between the departures run ahead of the arrivals.

use crossbeam_utils::CachePadded;
use latchwork::VersionedCell;

use super::{Group, Steps, Strategy};
use crate::data::{Dataset, Flight};
use crate::totals::{Flown, Sums, Tally, zeroed};
use crate::work::Work;

type Counts = Box<[CachePadded<VersionedCell<u64>>]>;

/// A cell for each total, padded.
pub(super) struct CellTotals {
    pub(super) aircraft: Box<[CachePadded<VersionedCell<Flown>>]>,
    pub(super) departures: Counts,
    pub(super) arrivals: Counts,
}

impl CellTotals {
    pub(super) fn new(dataset: &Dataset) -> Self {
        Self {
            aircraft: zeroed(dataset.aircraft.len()),
            departures: zeroed(dataset.origins.len()),
            arrivals: zeroed(dataset.destinations.len()),
        }
    }

    pub(super) fn tally(&self) -> Tally {
        let counts = |cells: &Counts| cells.iter().map(|cell| cell.get()).collect();
        Tally {
            aircraft: self.aircraft.iter().map(|cell| cell.get()).collect(),
            departures: counts(&self.departures),
            arrivals: counts(&self.arrivals),
        }
    }
}

pub(crate) struct VersionedCells(CellTotals);

impl VersionedCells {
    /// The first half of a step.
    pub(crate) fn depart(&self, flight: &Flight) -> u64 {
        let flown = flight.aircraft.map_or(0, |id| {
            update(&self.0.aircraft[id.0 as usize], |flown| flown.with(flight))
        });
        flown + update(&self.0.departures[flight.origin.0 as usize], |n| n + 1)
    }

    /// The second half.
    pub(crate) fn arrive(&self, flight: &Flight) -> u64 {
        update(&self.0.arrivals[flight.destination.0 as usize], |n| n + 1)
    }
}

impl Strategy for VersionedCells {
    const NAME: &'static str = "cells";
    const ABOUT: &'static str =
        "one VersionedCell for each total, updated alone: a step is not atomic";
    const STEPS: Steps = Steps::Apart;
    const GROUP: Group = Group::Optimistic;

    fn new(dataset: &Dataset) -> Self {
        Self(CellTotals::new(dataset))
    }

    /// The work is done between departure and arrival, while nothing is locked.
    fn step(&self, flight: &Flight, work: Work) -> u64 {
        let retries = self.depart(flight);
        work.spend();
        retries + self.arrive(flight)
    }

    /// Never waits. Each total is one that existed, but they are not of one instant.
    fn audit(&self) -> Sums {
        let pin = latchwork::pin();
        let sum = |cells: &Counts| cells.iter().map(|cell| *cell.read_in(&pin)).sum();
        Sums {
            departures: sum(&self.0.departures),
            arrivals: sum(&self.0.arrivals),
        }
    }

    fn tally(&self) -> Tally {
        self.0.tally()
    }
}

/// Updates, and returns how often that had to be done again because another thread had written.
fn update<T: Send + Sync + 'static>(cell: &VersionedCell<T>, change: impl Fn(&T) -> T) -> u64 {
    let mut calls = 0;
    cell.update(|value| {
        calls += 1;
        change(value)
    });
    calls - 1
}
