//! `lock-all`: the keys of a flight through [`LockTable::lock_all`], which picks the order and
//! stores nothing for a key that is not locked.

use std::hash::{BuildHasherDefault, Hash, Hasher};

use latchwork::{LockTable, Mode};

use super::{Group, Steps, Strategy};
use crate::data::{AircraftId, Dataset, DestinationId, Flight, OriginId};
use crate::totals::{Cells, Sums, Tally};
use crate::work::Work;

/// A key that a step locks.
///
/// A typed key rather than a bare number or the name: aircraft 2 and origin 2 are different things,
/// and with a number they would share a lock; a name would be hashed again on every step although
/// the program has its id, as a program whose records have primary keys does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Aircraft(AircraftId),
    Origin(OriginId),
    Destination(DestinationId),
}

impl Hash for Key {
    /// Each key is one number of its own.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let (kind, id) = match self {
            Key::Aircraft(id) => (0, id.0),
            Key::Origin(id) => (1, id.0),
            Key::Destination(id) => (2, id.0),
        };
        state.write_u64(kind << 32 | u64::from(id));
    }
}

/// A hasher for keys that are numbers: it maps each 64-bit number to another one, so that no two
/// keys share a lock, and spreads neighbours. Multiplication by an odd number and rotation are
/// invertible.
#[derive(Default)]
pub(super) struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, _: &[u8]) {
        unreachable!("a key is one number");
    }

    fn write_u64(&mut self, number: u64) {
        // Knuth's multiplier, 2^64 over the golden ratio: the high bits are mixed, and the
        // rotation moves them to the bits that select the first slot.
        self.0 = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

pub(crate) struct LockAll {
    table: LockTable<Key, BuildHasherDefault<Spread>>,
    /// The keys that an audit locks.
    airports: Box<[Key]>,
    totals: Cells,
}

impl Strategy for LockAll {
    const NAME: &'static str = "lock-all";
    const ABOUT: &'static str = "LockTable::lock_all over the keys of the flight";
    const STEPS: Steps = Steps::Atomic;
    const GROUP: Group = Group::Locks;

    fn new(dataset: &Dataset) -> Self {
        // No more airports than flights, and those were checked to fit.
        let origins = (0..dataset.origins.len()).map(|id| Key::Origin(OriginId(id as u32)));
        let destinations = 0..dataset.destinations.len();
        let destinations = destinations.map(|id| Key::Destination(DestinationId(id as u32)));
        Self {
            table: LockTable::default(),
            airports: origins.chain(destinations).collect(),
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

    fn audit(&self) -> Sums {
        let shared = self.airports.iter().map(|key| (key, Mode::Shared));
        let _locks = self.table.lock_all(shared);
        self.totals.sums()
    }

    fn tally(&self) -> Tally {
        self.totals.tally()
    }
}
