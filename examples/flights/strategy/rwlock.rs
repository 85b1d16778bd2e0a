//! `rwlock`: as `ordered`, with a reader-writer lock for each key. A step writes and gains nothing
//! by it; an audit reads, and so leaves other readers alone.

use crossbeam_utils::CachePadded;
use parking_lot::{RwLock, RwLockWriteGuard};

use super::{Group, Steps, Strategy};
use crate::data::{Dataset, Flight};
use crate::totals::{Cells, Sums, Tally, zeroed};
use crate::work::Work;

type Locks = Box<[CachePadded<RwLock<()>>]>;

pub(crate) struct RwLocks {
    aircraft: Locks,
    origins: Locks,
    destinations: Locks,
    totals: Cells,
}

impl Strategy for RwLocks {
    const NAME: &'static str = "rwlock";
    const ABOUT: &'static str = "one padded parking_lot rwlock for each key, taken in one order";
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
            .map(|id| write_counting(&self.aircraft[id.0 as usize], &mut waits));
        let _origin = write_counting(&self.origins[flight.origin.0 as usize], &mut waits);
        let _destination = write_counting(
            &self.destinations[flight.destination.0 as usize],
            &mut waits,
        );
        self.totals.add(flight, work);
        waits
    }

    fn audit(&self) -> Sums {
        let airports = self.origins.iter().chain(&self.destinations);
        let _locks: Vec<_> = airports.map(|lock| lock.read()).collect();
        self.totals.sums()
    }

    fn tally(&self) -> Tally {
        self.totals.tally()
    }
}

/// Locks, and counts a wait if the lock was not free at once.
fn write_counting<'a>(lock: &'a RwLock<()>, waits: &mut u64) -> RwLockWriteGuard<'a, ()> {
    lock.try_write().unwrap_or_else(|| {
        *waits += 1;
        lock.write()
    })
}
