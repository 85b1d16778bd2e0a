//! The totals: a sequential tally that is right by construction, and shared cells that are right
//! only under locks.
//!
//! A cell is one or two `AtomicU64` that are read and written with relaxed loads and stores, never
//! with a read-modify-write. So there is no undefined behaviour whatever a strategy does, and yet
//! the cells protect nothing: if two threads are in steps on one key at once, one of them
//! overwrites what the other added, and the comparison with the sequential tally finds it. Every
//! strategy that locks works on these same cells, so that they are compared by their locks alone.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crossbeam_utils::CachePadded;

use crate::data::{Dataset, Flight};
use crate::work::Work;

/// The flights of one aircraft.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flown {
    pub(crate) miles: u64,
    pub(crate) flights: u64,
}

impl Flown {
    /// With one more flight.
    pub(crate) fn with(self, flight: &Flight) -> Self {
        Self {
            miles: self.miles + u64::from(flight.distance),
            flights: self.flights + 1,
        }
    }
}

/// The sums of an audit. Every flight is one departure and one arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) departures: u64,
    pub(crate) arrivals: u64,
}

impl Sums {
    pub(crate) fn agree(self) -> bool {
        self.departures == self.arrivals
    }
}

/// Plain totals, by id.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) aircraft: Vec<Flown>,
    pub(crate) departures: Vec<u64>,
    pub(crate) arrivals: Vec<u64>,
}

impl Tally {
    /// Adds up the flights one after the other.
    pub(crate) fn sequential(dataset: &Dataset) -> Self {
        let mut tally = Self {
            aircraft: vec![Flown::default(); dataset.aircraft.len()],
            departures: vec![0; dataset.origins.len()],
            arrivals: vec![0; dataset.destinations.len()],
        };
        for flight in &dataset.flights {
            if let Some(id) = flight.aircraft {
                let flown = &mut tally.aircraft[id.0 as usize];
                flown.miles += u64::from(flight.distance);
                flown.flights += 1;
            }
            tally.departures[flight.origin.0 as usize] += 1;
            tally.arrivals[flight.destination.0 as usize] += 1;
        }
        tally
    }

    /// What `passes` replays of the same flights add up to.
    pub(crate) fn times(&self, passes: usize) -> Self {
        let passes = passes as u64;
        let times = |counts: &[u64]| counts.iter().map(|n| n * passes).collect();
        let flown = |of: &Flown| Flown {
            miles: of.miles * passes,
            flights: of.flights * passes,
        };
        Self {
            aircraft: self.aircraft.iter().map(flown).collect(),
            departures: times(&self.departures),
            arrivals: times(&self.arrivals),
        }
    }

    /// Compares every total with the `expected` one.
    pub(crate) fn check(&self, expected: &Self, names: &Dataset) -> Result<(), Mismatch> {
        let mut wrong = Vec::new();
        let mut compare = |kind, names: &[String], what, got: &[u64], expected: &[u64]| {
            assert_eq!(got.len(), expected.len(), "a tally covers every key");
            for (id, (&got, &expected)) in got.iter().zip(expected).enumerate() {
                if got != expected {
                    let key = format!("{kind} {}", names[id]);
                    wrong.push((key, what, expected, got));
                }
            }
        };
        let miles = |tally: &Self| tally.aircraft.iter().map(|f| f.miles).collect::<Vec<_>>();
        let flights = |tally: &Self| tally.aircraft.iter().map(|f| f.flights).collect::<Vec<_>>();
        let aircraft = &names.aircraft;
        compare(
            "aircraft",
            aircraft,
            "miles",
            &miles(self),
            &miles(expected),
        );
        compare(
            "aircraft",
            aircraft,
            "flights",
            &flights(self),
            &flights(expected),
        );
        compare(
            "origin",
            &names.origins,
            "departures",
            &self.departures,
            &expected.departures,
        );
        compare(
            "destination",
            &names.destinations,
            "arrivals",
            &self.arrivals,
            &expected.arrivals,
        );

        let others = wrong.len().saturating_sub(1);
        match wrong.into_iter().next() {
            None => Ok(()),
            Some((key, what, expected, got)) => Err(Mismatch {
                key,
                what,
                expected,
                got,
                others,
            }),
        }
    }
}

/// The first total that is wrong, and how many others are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mismatch {
    key: String,
    what: &'static str,
    expected: u64,
    got: u64,
    others: usize,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            key,
            what,
            expected,
            got,
            others,
        } = self;
        write!(
            f,
            "wrong total: {key}: expected {expected} {what}, got {got}"
        )?;
        match others {
            0 => Ok(()),
            n => write!(f, " (and {n} more totals are wrong)"),
        }
    }
}

/// Totals that threads share, one padded cell for each key.
#[derive(Debug)]
pub(crate) struct Cells {
    aircraft: Box<[CachePadded<FlownCell>]>,
    departures: Box<[CachePadded<AtomicU64>]>,
    arrivals: Box<[CachePadded<AtomicU64>]>,
}

#[derive(Debug, Default)]
struct FlownCell {
    miles: AtomicU64,
    flights: AtomicU64,
}

impl Cells {
    pub(crate) fn new(dataset: &Dataset) -> Self {
        Self {
            aircraft: zeroed(dataset.aircraft.len()),
            departures: zeroed(dataset.origins.len()),
            arrivals: zeroed(dataset.destinations.len()),
        }
    }

    /// Adds one flight: reads its totals, does the work, writes the totals. The caller holds the
    /// locks of its keys.
    pub(crate) fn add(&self, flight: &Flight, work: Work) {
        let flown = flight.aircraft.map(|id| &self.aircraft[id.0 as usize]);
        let departures = &self.departures[flight.origin.0 as usize];
        let arrivals = &self.arrivals[flight.destination.0 as usize];

        // Relaxed, and apart from the stores below, on purpose: only the caller's locks order these
        // (see above).
        let before_flown = flown.map(|cell| (cell.miles.load(Relaxed), cell.flights.load(Relaxed)));
        let before_departures = departures.load(Relaxed);
        let before_arrivals = arrivals.load(Relaxed);
        work.spend();
        if let (Some(cell), Some((miles, flights))) = (flown, before_flown) {
            cell.miles
                .store(miles + u64::from(flight.distance), Relaxed);
            cell.flights.store(flights + 1, Relaxed);
        }
        departures.store(before_departures + 1, Relaxed);
        arrivals.store(before_arrivals + 1, Relaxed);
    }

    /// Adds up departures and arrivals. The caller holds the locks of all airports.
    pub(crate) fn sums(&self) -> Sums {
        let sum = |cells: &[CachePadded<AtomicU64>]| cells.iter().map(|c| c.load(Relaxed)).sum();
        Sums {
            departures: sum(&self.departures),
            arrivals: sum(&self.arrivals),
        }
    }

    /// Reads all totals, after the threads that wrote them were joined.
    pub(crate) fn tally(&self) -> Tally {
        let counts =
            |cells: &[CachePadded<AtomicU64>]| cells.iter().map(|c| c.load(Relaxed)).collect();
        Tally {
            aircraft: self
                .aircraft
                .iter()
                .map(|cell| Flown {
                    miles: cell.miles.load(Relaxed),
                    flights: cell.flights.load(Relaxed),
                })
                .collect(),
            departures: counts(&self.departures),
            arrivals: counts(&self.arrivals),
        }
    }
}

/// One default value for each key.
pub(crate) fn zeroed<T: Default>(len: usize) -> Box<[T]> {
    std::iter::repeat_with(T::default).take(len).collect()
}
