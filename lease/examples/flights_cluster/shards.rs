//! The flights as numbers, split into shards, in one file that all workers read.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::ops::{AddAssign, Range};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::data::{Dataset, Flight};

/// What a total counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    Aircraft(u32),
    Origin(u32),
    Destination(u32),
}

impl Subject {
    /// A number that is distinct for each subject: the kind in the lowest two bits.
    pub(crate) fn to_number(self) -> i64 {
        let (kind, id) = match self {
            Subject::Aircraft(id) => (0, id),
            Subject::Origin(id) => (1, id),
            Subject::Destination(id) => (2, id),
        };
        i64::from(id) << 2 | kind
    }

    pub(crate) fn from_number(number: i64) -> Option<Self> {
        let id = u32::try_from(number >> 2).ok()?;
        match number & 3 {
            0 => Some(Subject::Aircraft(id)),
            1 => Some(Subject::Origin(id)),
            2 => Some(Subject::Destination(id)),
            _ => None,
        }
    }
}

/// Flights and miles of one subject.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Total {
    pub(crate) flights: i64,
    pub(crate) miles: i64,
}

impl AddAssign for Total {
    fn add_assign(&mut self, other: Total) {
        self.flights += other.flights;
        self.miles += other.miles;
    }
}

/// The totals of all subjects.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals(pub(crate) BTreeMap<Subject, Total>);

impl Totals {
    /// Adds up flights one by one, as a sequential run does.
    pub(crate) fn of(flights: &[Flight]) -> Self {
        let mut totals = Totals::default();
        for flight in flights {
            let one = Total {
                flights: 1,
                miles: i64::from(flight.distance),
            };
            let aircraft = flight.aircraft.map(|id| Subject::Aircraft(id.0));
            let places = [
                Subject::Origin(flight.origin.0),
                Subject::Destination(flight.destination.0),
            ];
            for subject in aircraft.into_iter().chain(places) {
                *totals.0.entry(subject).or_default() += one;
            }
        }
        totals
    }
}

/// Where the shards are: a file of fixed records, and the number of shards.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Shards {
    path: PathBuf,
    flights: usize,
    count: u32,
}

/// Bytes of a record: aircraft, origin, destination and distance.
const RECORD: usize = 16;
/// The aircraft of a flight without a tail number.
const NO_AIRCRAFT: u32 = u32::MAX;

impl Shards {
    /// Writes the flights into a file in `folder`.
    pub(crate) fn write(folder: &Path, data: &Dataset, count: u32) -> io::Result<Self> {
        let mut bytes = Vec::with_capacity(data.flights.len() * RECORD);
        for flight in &data.flights {
            let aircraft = flight.aircraft.map_or(NO_AIRCRAFT, |id| id.0);
            for field in [
                aircraft,
                flight.origin.0,
                flight.destination.0,
                flight.distance,
            ] {
                bytes.extend(field.to_le_bytes());
            }
        }
        let path = folder.join("flights.bin");
        fs::write(&path, bytes)?;
        Ok(Shards {
            path,
            flights: data.flights.len(),
            count,
        })
    }

    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Reads all flights.
    pub(crate) fn read(&self) -> io::Result<Vec<Flight>> {
        use crate::data::{AircraftId, DestinationId, OriginId};
        let bytes = fs::read(&self.path)?;
        let mut flights = Vec::with_capacity(self.flights);
        for record in bytes.chunks_exact(RECORD) {
            let field = |n: usize| {
                let mut field = [0; 4];
                field.copy_from_slice(&record[4 * n..4 * n + 4]);
                u32::from_le_bytes(field)
            };
            let aircraft = field(0);
            flights.push(Flight {
                aircraft: (aircraft != NO_AIRCRAFT).then_some(AircraftId(aircraft)),
                origin: OriginId(field(1)),
                destination: DestinationId(field(2)),
                distance: field(3),
            });
        }
        Ok(flights)
    }

    /// Returns the flights of a shard, as indices.
    pub(crate) fn range(&self, shard: u32) -> Range<usize> {
        let bound = |n: u32| self.flights * n as usize / self.count as usize;
        bound(shard)..bound(shard + 1)
    }
}
