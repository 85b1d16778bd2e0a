//! `levels`: a mutex for each key, made in advance, and an order that the compiler checks.
//!
//! The same locks as `ordered`, without the convention: each kind of key is a level, and a step
//! that locks an origin before an aircraft does not compile. An audit locks all origins, and then
//! all destinations, each kind in one call.

use crossbeam_utils::CachePadded;
use latchwork::ordered::{Above, Level, LevelToken, OrderedMutex, OrderedMutexGuard, RootToken};

use super::{Group, Steps, Strategy};
use crate::data::{Dataset, Flight};
use crate::totals::{Cells, Sums, Tally};
use crate::work::Work;

latchwork::levels! {
    /// Locked first.
    pub(crate) Aircraft;
    /// Locked with or without an aircraft.
    pub(crate) Origin;
    /// Locked last.
    pub(crate) Destination;
}

/// Padded, so that two threads with different keys do not fight for one cache line.
type Locks<L> = Box<[CachePadded<OrderedMutex<L, ()>>]>;

pub(crate) struct Levels {
    aircraft: Locks<Aircraft>,
    origins: Locks<Origin>,
    destinations: Locks<Destination>,
    totals: Cells,
}

fn locks<L: Level>(n: usize) -> Locks<L> {
    (0..n)
        .map(|_| CachePadded::new(OrderedMutex::new(())))
        .collect()
}

/// Locks, and counts whether another thread held the lock just before.
fn lock<'g, L: Above<K>, K: Level>(
    locks: &'g Locks<L>,
    id: u32,
    key: &'g mut LevelToken<'_, K>,
    waits: &mut u64,
) -> (OrderedMutexGuard<'g, ()>, LevelToken<'g, L>) {
    let lock = &locks[id as usize];
    *waits += u64::from(lock.is_locked());
    lock.lock(key)
}

impl Levels {
    /// Acquires the remaining locks of a flight, and does the step.
    fn step_above<K: Level>(&self, flight: &Flight, work: Work, key: &mut LevelToken<'_, K>) -> u64
    where
        Origin: Above<K>,
    {
        let mut waits = 0;
        let (_origin, mut key) = lock(&self.origins, flight.origin.0, key, &mut waits);
        let (_destination, _) = lock(
            &self.destinations,
            flight.destination.0,
            &mut key,
            &mut waits,
        );
        self.totals.add(flight, work);
        waits
    }
}

/// The key that a thread of this program begins each step with.
fn root() -> RootToken {
    RootToken::take().expect("a step ends before the next begins")
}

impl Strategy for Levels {
    const NAME: &'static str = "levels";
    const ABOUT: &'static str = "the same mutexes, in an order that the compiler checks";
    const STEPS: Steps = Steps::Atomic;
    const GROUP: Group = Group::Ordered;

    fn new(dataset: &Dataset) -> Self {
        Self {
            aircraft: locks(dataset.aircraft.len()),
            origins: locks(dataset.origins.len()),
            destinations: locks(dataset.destinations.len()),
            totals: Cells::new(dataset),
        }
    }

    fn step(&self, flight: &Flight, work: Work) -> u64 {
        let mut root = root();
        let Some(id) = flight.aircraft else {
            return self.step_above(flight, work, &mut root);
        };
        let mut waits = 0;
        let (_aircraft, mut key) = lock(&self.aircraft, id.0, &mut root, &mut waits);
        waits + self.step_above(flight, work, &mut key)
    }

    fn audit(&self) -> Sums {
        let mut root = root();
        let origins = self.origins.iter().map(|lock| &**lock);
        let (_origins, mut key) = OrderedMutex::lock_all(origins, &mut root);
        let destinations = self.destinations.iter().map(|lock| &**lock);
        let (_destinations, _) = OrderedMutex::lock_all(destinations, &mut key);
        self.totals.sums()
    }

    fn tally(&self) -> Tally {
        self.totals.tally()
    }
}
