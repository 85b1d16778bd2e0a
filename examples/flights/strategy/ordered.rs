//! `ordered`: a mutex for each key, made in advance, and the discipline that every step locks them
//! in one order.
//!
//! A careful programmer writes this by hand. It needs every key before the start, a mutex for each
//! key whether or not a step ever locks it, and a convention that nothing checks. The order
//! here is aircraft, then origin, then destination; a flight has at most one of each, so that is a
//! total order on the locks of a step. An audit locks all origins and all
//! destinations by their ids; only an audit locks several of a kind.

use crossbeam_utils::CachePadded;
use parking_lot::Mutex;

use super::mutex::lock_counting;
use super::{Group, Steps, Strategy};
use crate::data::{Dataset, Flight};
use crate::totals::{Cells, Sums, Tally, zeroed};
use crate::work::Work;

/// Padded, so that two threads with different keys do not fight for one cache line.
type Locks = Box<[CachePadded<Mutex<()>>]>;

pub(crate) struct OrderedMutexes {
    aircraft: Locks,
    origins: Locks,
    destinations: Locks,
    totals: Cells,
}

impl Strategy for OrderedMutexes {
    const NAME: &'static str = "ordered";
    const ABOUT: &'static str = "one padded parking_lot mutex for each key, taken in one order";
    const STEPS: Steps = Steps::Atomic;
    const GROUP: Group = Group::Ordered;

    fn new(dataset: &Dataset) -> Self {
        Self {
            aircraft: zeroed(dataset.aircraft.len()),
            origins: zeroed(dataset.origins.len()),
            destinations: zeroed(dataset.destinations.len()),
            totals: Cells::new(dataset),
        }
    }

    fn step(&self, flight: &Flight, work: Work) -> u64 {
        let mut waits = 0;
        let _aircraft = flight
            .aircraft
            .map(|id| lock_counting(&self.aircraft[id.0 as usize], &mut waits));
        let _origin = lock_counting(&self.origins[flight.origin.0 as usize], &mut waits);
        let _destination = lock_counting(
            &self.destinations[flight.destination.0 as usize],
            &mut waits,
        );
        self.totals.add(flight, work);
        waits
    }

    fn audit(&self) -> Sums {
        let airports = self.origins.iter().chain(&self.destinations);
        let _locks: Vec<_> = airports.map(|lock| lock.lock()).collect();
        self.totals.sums()
    }

    fn tally(&self) -> Tally {
        self.totals.tally()
    }
}
