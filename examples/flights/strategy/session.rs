//! `session`: a [`Session`](latchwork::Session) locks the keys of a flight one after the other, in
//! the order of the row. No other order is required.
//!
//! Steps alone cannot deadlock, because every row names the aircraft, then the origin, then the
//! destination. An audit locks the destinations first, so that it can deadlock with a step. The
//! victim releases its keys and starts again. An audit holds a hundred keys by then, and a step
//! two. So audits have a higher priority, and steps are the victims.

use std::hash::BuildHasherDefault;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use latchwork::{LockTable, Session, session::LockError};

use super::lock_all::{Key, Spread};
use super::{Group, Steps, Strategy};
use crate::data::{Dataset, DestinationId, Flight, OriginId};
use crate::totals::{Cells, Sums, Tally};
use crate::work::Work;

type Hasher = BuildHasherDefault<Spread>;

/// The priorities: of the sessions in a deadlock, one with the lowest is the victim.
const STEP: i32 = 0;
const AUDIT: i32 = 1;

pub(crate) struct Sessions {
    table: LockTable<Key, Hasher>,
    /// The keys that an audit locks, in its order.
    airports: Box<[Key]>,
    totals: Cells,
    deadlocks: AtomicU64,
}

impl Sessions {
    /// Repeats `lock` with one session until it succeeds. The session keeps its age, so that no
    /// other session of its priority makes it the victim indefinitely.
    fn until_locked(
        &self,
        priority: i32,
        mut lock: impl FnMut(&mut Session<'_, Key, Hasher>) -> Result<(), LockError>,
    ) -> Session<'_, Key, Hasher> {
        let mut session = self.table.session().priority(priority);
        while let Err(error) = lock(&mut session) {
            assert!(matches!(error, LockError::Deadlock(_)), "{error}");
            // Relaxed: a statistic.
            self.deadlocks.fetch_add(1, Relaxed);
            session.release_all();
        }
        session
    }
}

impl Strategy for Sessions {
    const NAME: &'static str = "session";
    const ABOUT: &'static str =
        "the keys in the order of the row, in a Session; deadlocks are found and retried";
    const STEPS: Steps = Steps::Atomic;
    const GROUP: Group = Group::Locks;

    fn new(dataset: &Dataset) -> Self {
        // No more airports than flights, and those were checked to fit.
        let origins = (0..dataset.origins.len()).map(|id| Key::Origin(OriginId(id as u32)));
        let destinations = 0..dataset.destinations.len();
        let destinations = destinations.map(|id| Key::Destination(DestinationId(id as u32)));
        Self {
            table: LockTable::default(),
            airports: destinations.chain(origins).collect(),
            totals: Cells::new(dataset),
            deadlocks: AtomicU64::new(0),
        }
    }

    fn step(&self, flight: &Flight, work: Work) -> u64 {
        let _locks = self.until_locked(STEP, |session| {
            if let Some(aircraft) = flight.aircraft {
                session.lock(&Key::Aircraft(aircraft))?;
            }
            session.lock(&Key::Origin(flight.origin))?;
            session.lock(&Key::Destination(flight.destination))
        });
        self.totals.add(flight, work);
        0
    }

    /// The table counts for itself; it was made for this run, so all of its waits are of this run.
    fn other_waits(&self) -> u64 {
        self.table.stats().waits
    }

    fn deadlocks(&self) -> Option<u64> {
        Some(self.deadlocks.load(Relaxed))
    }

    fn audit(&self) -> Sums {
        let _locks = self.until_locked(AUDIT, |session| {
            let mut airports = self.airports.iter();
            airports.try_for_each(|key| session.lock_shared(key))
        });
        self.totals.sums()
    }

    fn tally(&self) -> Tally {
        self.totals.tally()
    }
}
