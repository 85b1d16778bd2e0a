//! `lock-all`: the keys of a flight through [`LockTable::lock_all`], which picks the order and
//! stores nothing for a key that nobody holds.

use latchwork::{LockTable, Mode};

use super::Strategy;
use crate::data::{AircraftId, Dataset, DestinationId, Flight, OriginId};
use crate::totals::{Cells, Tally};
use crate::work::Work;

/// What a flight locks.
///
/// A typed key rather than a bare number or the name: aircraft 2 and origin 2 are different things,
/// and with a number they would share a lock; a name would be hashed again on every step although
/// the program knows its id, as one whose records have primary keys does. An enum with a derived
/// `Hash` keeps the kinds apart and says so where it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    Aircraft(AircraftId),
    Origin(OriginId),
    Destination(DestinationId),
}

pub(super) struct LockAll {
    table: LockTable<Key>,
    totals: Cells,
}

impl Strategy for LockAll {
    const NAME: &'static str = "lock-all";
    const ABOUT: &'static str = "LockTable::lock_all over the keys of the flight";

    fn new(dataset: &Dataset) -> Self {
        Self {
            table: LockTable::new(),
            totals: Cells::new(dataset),
        }
    }

    fn step(&self, flight: &Flight, work: Work) -> u64 {
        let origin = Key::Origin(flight.origin);
        let destination = Key::Destination(flight.destination);
        let _locks = match flight.aircraft.map(Key::Aircraft) {
            Some(aircraft) => self.table.lock_all([
                (&aircraft, Mode::Exclusive),
                (&origin, Mode::Exclusive),
                (&destination, Mode::Exclusive),
            ]),
            None => self
                .table
                .lock_all([(&origin, Mode::Exclusive), (&destination, Mode::Exclusive)]),
        };
        self.totals.add(flight, work);
        0
    }

    /// The table counts for itself; it was made for this run, so all of its waits are of this run.
    fn other_waits(&self) -> u64 {
        self.table.stats().waits
    }

    fn tally(&self) -> Tally {
        self.totals.tally()
    }
}
