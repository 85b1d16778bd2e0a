//! Regions, the links between them, and cuts.

/// A region, by its number.
pub(crate) type Region = usize;

/// The names of the regions, in the order in which experiments add them.
pub const REGIONS: [&str; 5] = ["N. Virginia", "Ireland", "Oregon", "Tokyo", "Sydney"];

/// Round-trip times in milliseconds.
///
/// Between regions: averages of the table "Latency Between AWS Global Regions", as published at
/// <https://acomputerscientistlearnsaws.blogspot.com/2017/04/aws-regions.html> in 2017. Of the two
/// directions the greater one is used. Inside a region, the time is an assumption.
const ROUND_TRIPS: [[f64; 5]; 5] = [
    [0.5, 80.6, 88.7, 145.3, 230.0],
    [80.6, 0.5, 137.0, 212.4, 309.6],
    [88.7, 137.0, 0.5, 89.2, 162.2],
    [145.3, 212.4, 89.2, 0.5, 103.9],
    [230.0, 309.6, 162.2, 103.9, 0.5],
];

/// A time in nanoseconds since the simulation began.
pub(crate) type Time = u64;

/// One second.
pub(crate) const SECOND: Time = 1_000_000_000;

/// Converts seconds.
pub(crate) fn seconds(seconds: f64) -> Time {
    (seconds * 1e9) as Time
}

/// The time of a message from one region to another.
pub(crate) fn one_way(from: Region, to: Region) -> Time {
    seconds(ROUND_TRIPS[from][to] / 2000.0)
}

/// The pairs of regions between which no message arrives.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cuts {
    pairs: Vec<(Region, Region)>,
}

impl Cuts {
    /// Cuts the link between two regions.
    pub(crate) fn add(&mut self, a: Region, b: Region) {
        self.pairs.push((a.min(b), a.max(b)));
    }

    /// Repairs a link.
    pub(crate) fn remove(&mut self, a: Region, b: Region) {
        let pair = (a.min(b), a.max(b));
        if let Some(at) = self.pairs.iter().position(|other| *other == pair) {
            self.pairs.swap_remove(at);
        }
    }

    /// Whether a message arrives.
    pub(crate) fn connect(&self, a: Region, b: Region) -> bool {
        !self.pairs.contains(&(a.min(b), a.max(b)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_are_symmetric() {
        for (a, row) in ROUND_TRIPS.iter().enumerate() {
            for (b, time) in row.iter().enumerate() {
                assert_eq!(*time, ROUND_TRIPS[b][a], "{a} and {b}");
            }
        }
    }
}
