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

    /// How many rounds are tried to get them. They are many, because a point with few believed runs
    /// is no point: a disturbed machine gets fewer points, and not all of them without a verdict.
    pub(crate) fn rounds(self) -> usize {
        6 * self.runs()
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
    /// The plan for the cores that this process may use.
    pub(crate) fn new(depth: Depth, threads: Option<usize>) -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self::on(cores, depth, threads)
    }

    fn on(cores: usize, depth: Depth, threads: Option<usize>) -> Self {
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

    /// How much a setting matters to the answer: the least first. A sweep that runs out of time has
    /// measured those that matter most.
    pub(crate) fn importance(self, scenario: &Scenario, setting: &Setting) -> usize {
        match scenario.axis {
            Axis::Threads => match setting.threads {
                threads if threads == self.cores.min(self.threads) => 0,
                1 => 1,
                threads if threads == self.threads => 2,
                _ => 3,
            },
            Axis::Value { values, .. } => {
                let places = [values.len() - 1, 0, values.len() / 2];
                let found = places.iter().position(|&at| values[at] == setting.value);
                found.unwrap_or(3)
            }
        }
    }
}

/// How long a sweep lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Estimate {
    /// If every run is believed.
    pub(crate) calm: Duration,
    /// After this time, no further setting begins.
    pub(crate) most: Duration,
}

impl Estimate {
    /// Estimates the time of so many turns. `making` is the time to make all their structures.
    pub(crate) fn new(plan: Plan, turns: usize, making: Duration) -> Self {
        // The control runs before the first contender of a round, too, and threads start.
        let turns = turns as f64 * plan.turn().as_secs_f64() * 1.15;
        let calm = Duration::from_secs_f64(turns) + making;
        Self {
            calm,
            most: 2 * calm,
        }
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
    fn many_cores_have_all_powers_of_two() {
        let all = scenarios::all();
        let by_threads = all.iter().find(|scenario| scenario.axis == Axis::Threads);
        let by_threads = by_threads.expect("there is one");
        for (cores, expected) in [
            (16, vec![1, 2, 4, 8, 16, 32]),
            (48, vec![1, 2, 4, 8, 16, 32, 48, 64, 96]),
        ] {
            let plan = Plan::on(cores, Depth::Quick, None);
            let settings = plan.settings(by_threads);
            let counts: Vec<_> = settings.iter().map(|setting| setting.threads).collect();
            assert_eq!(counts, expected);
        }
    }

    #[test]
    fn the_cores_and_the_ends_matter_most() {
        let plan = plan(Depth::Usual);
        for scenario in scenarios::all() {
            let mut settings = plan.settings(&scenario);
            settings.sort_by_key(|setting| plan.importance(&scenario, setting));
            match scenario.axis {
                Axis::Threads => {
                    let first: Vec<_> = settings.iter().map(|setting| setting.threads).collect();
                    assert_eq!(first[..3], [6, 1, 12], "{}", scenario.name);
                }
                Axis::Value { values, .. } => {
                    let first: Vec<_> = settings.iter().map(|setting| setting.value).collect();
                    assert_eq!(Some(&first[0]), values.last(), "{}", scenario.name);
                    assert_eq!(Some(&first[1]), values.first(), "{}", scenario.name);
                }
            }
        }
    }

    #[test]
    fn an_estimate_has_the_time_of_each_turn_and_a_limit() {
        let estimate = Estimate::new(plan(Depth::Quick), 1_000, Duration::from_secs(30));
        let turns = 1_000 * plan(Depth::Quick).turn();
        assert!(estimate.calm > turns + Duration::from_secs(30));
        assert!(estimate.most > estimate.calm);
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
