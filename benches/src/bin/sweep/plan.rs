//! What to measure, and for how long.

use std::thread;
use std::time::Duration;

use latchwork_bench::scenarios::{Axis, Scenario, Setting};
use serde::{Deserialize, Serialize};

/// How thorough a sweep is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Depth {
    /// Two minutes.
    Quick,
    /// A quarter of an hour or so.
    Usual,
    /// A night.
    Full,
}

impl Depth {
    /// How many runs of each contender in each setting must be believed.
    pub(crate) fn runs(self) -> usize {
        match self {
            Self::Quick => 2,
            Self::Usual => 5,
            Self::Full => 11,
        }
    }

    /// How many rounds are tried to get them.
    pub(crate) fn rounds(self) -> usize {
        match self {
            Self::Quick => 4,
            Self::Usual | Self::Full => 2 * self.runs(),
        }
    }

    /// How long a run is.
    pub(crate) fn span(self) -> Duration {
        Duration::from_millis(match self {
            Self::Quick => 25,
            Self::Usual => 100,
            Self::Full => 1_000,
        })
    }

    /// How long each of the two parts of the control is.
    pub(crate) fn control_span(self) -> Duration {
        Duration::from_millis(match self {
            Self::Quick => 5,
            Self::Usual => 10,
            Self::Full => 20,
        })
    }

    /// Threads for each core at the most.
    pub(crate) fn threads_per_core(self) -> usize {
        match self {
            Self::Quick => 2,
            Self::Usual | Self::Full => 4,
        }
    }
}

/// The request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) depth: Depth,
    /// Threads at the most.
    pub(crate) threads: usize,
    pub(crate) cores: usize,
}

impl Plan {
    pub(crate) fn new(depth: Depth, threads: Option<usize>) -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self {
            depth,
            threads: threads.unwrap_or(depth.threads_per_core() * cores),
            cores,
        }
    }

    /// The settings of one scenario, in the order of its plot.
    pub(crate) fn settings(self, scenario: &Scenario) -> Vec<Setting> {
        let setting = |threads, value| Setting {
            threads,
            value,
            seed: 0,
        };
        match scenario.axis {
            Axis::Threads => {
                let counts = (1..=self.threads).filter(|&count| {
                    let marked = count.is_power_of_two() || count == self.cores;
                    marked || count == self.threads || self.depth == Depth::Full
                });
                counts.map(|count| setting(count, count as f64)).collect()
            }
            Axis::Value {
                values, per_core, ..
            } => {
                let threads = (per_core * self.cores).min(self.threads);
                let all = values.iter().enumerate();
                // A quick sweep has the ends and the middle.
                let some = all.filter(|(place, _)| {
                    let ends = *place == 0 || place + 1 == values.len();
                    ends || *place == values.len() / 2 || self.depth != Depth::Quick
                });
                some.map(|(_, &value)| setting(threads, value)).collect()
            }
        }
    }

    /// The time of one contender in one round, without the time to make its structure.
    pub(crate) fn turn(self) -> Duration {
        self.depth.span() + 2 * self.depth.control_span()
    }
}

#[cfg(test)]
mod tests {
    use latchwork_bench::scenarios;

    use super::*;

    fn plan(depth: Depth) -> Plan {
        let (threads, cores) = (12, 6);
        Plan {
            depth,
            threads,
            cores,
        }
    }

    #[test]
    fn the_cores_and_the_most_threads_are_among_the_counts() {
        let all = scenarios::all();
        let by_threads = all.iter().find(|scenario| scenario.axis == Axis::Threads);
        let by_threads = by_threads.expect("there is one");
        let counts = |depth| {
            let settings = plan(depth).settings(by_threads);
            let counts = settings.iter().map(|setting| setting.threads);
            counts.collect::<Vec<_>>()
        };
        assert_eq!(counts(Depth::Usual), [1, 2, 4, 6, 8, 12]);
        assert_eq!(counts(Depth::Full).len(), 12);
    }

    #[test]
    fn a_quick_look_sees_both_ends() {
        for scenario in scenarios::all() {
            if let Axis::Value { values, .. } = scenario.axis {
                let settings = plan(Depth::Quick).settings(&scenario);
                let seen: Vec<_> = settings.iter().map(|setting| setting.value).collect();
                assert_eq!(seen.first(), values.first());
                assert_eq!(seen.last(), values.last());
                assert_eq!(seen.len(), 3);
            }
        }
    }
}
