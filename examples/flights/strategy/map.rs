//! `map`: the totals of `transactions`, but in one `VersionedMap` from a key to its total. One
//! transaction writes all totals of a flight, and an audit is a snapshot of the map.

use latchwork::{Transaction, VersionedMap, txn::AbortReasons};

use super::{Aborts, Group, Steps, Strategy};
use crate::data::{AircraftId, Dataset, DestinationId, Flight, OriginId};
use crate::totals::{Flown, Sums, Tally};
use crate::work::Work;

/// The key of a total.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Aircraft(AircraftId),
    Departures(OriginId),
    Arrivals(DestinationId),
}

pub(crate) struct Map {
    /// An airport has no miles. A total that is zero has no key.
    totals: VersionedMap<Key, Flown>,
    /// The numbers of aircraft, origins and destinations.
    sizes: [usize; 3],
    /// How each step is run.
    flight: Transaction,
    /// The counts of the label before this run.
    before: AbortReasons,
}

const LABEL: &str = "flight in the map";

impl Map {
    fn of(&self, key: Key) -> Flown {
        self.totals
            .get(&key)
            .as_deref()
            .copied()
            .unwrap_or_default()
    }
}

impl Strategy for Map {
    const NAME: &'static str = "map";
    const ABOUT: &'static str =
        "one transaction over the keys of a VersionedMap; audits are snapshots";
    const STEPS: Steps = Steps::Atomic;
    const GROUP: Group = Group::Optimistic;

    fn new(dataset: &Dataset) -> Self {
        let sizes = [
            dataset.aircraft.len(),
            dataset.origins.len(),
            dataset.destinations.len(),
        ];
        Self {
            totals: VersionedMap::with_capacity(sizes.iter().sum()),
            sizes,
            flight: Transaction::builder().label(LABEL),
            before: counted(),
        }
    }

    /// The work is done in the transaction, before its last update. An attempt that aborts is
    /// repeated with its work.
    fn step(&self, flight: &Flight, work: Work) -> u64 {
        let mut attempts = 0;
        let committed = self.flight.run(|tx| {
            attempts += 1;
            let mut add = |key, of: Flight| {
                let total = tx.get(&self.totals, &key)?.copied().unwrap_or_default();
                tx.insert(&self.totals, key, total.with(&of)).map(drop)
            };
            let landing = Flight {
                distance: 0,
                ..*flight
            };
            if let Some(aircraft) = flight.aircraft {
                add(Key::Aircraft(aircraft), *flight)?;
            }
            add(Key::Departures(flight.origin), landing)?;
            work.spend();
            add(Key::Arrivals(flight.destination), landing)
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
        latchwork::snapshot(|s| {
            let mut sums = Sums {
                departures: 0,
                arrivals: 0,
            };
            for (key, total) in s.iter(&self.totals) {
                match key {
                    Key::Aircraft(_) => {}
                    Key::Departures(_) => sums.departures += total.flights,
                    Key::Arrivals(_) => sums.arrivals += total.flights,
                }
            }
            sums
        })
    }

    fn tally(&self) -> Tally {
        let [aircraft, origins, destinations] = self.sizes.map(|n| 0..n as u32);
        let flights = |key| self.of(key).flights;
        Tally {
            aircraft: aircraft
                .map(|id| self.of(Key::Aircraft(AircraftId(id))))
                .collect(),
            departures: origins
                .map(|id| flights(Key::Departures(OriginId(id))))
                .collect(),
            arrivals: destinations
                .map(|id| flights(Key::Arrivals(DestinationId(id))))
                .collect(),
        }
    }
}

/// The counts of the label since the program began.
fn counted() -> AbortReasons {
    let labels = latchwork::stats().labels;
    let ours = labels.into_iter().find(|of| of.label == LABEL);
    ours.map_or_else(AbortReasons::default, |of| of.aborts)
}
