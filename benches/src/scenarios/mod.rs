//! Questions in which one quantity varies, the threads or another number, with all their
//! contenders.
//!
//! The suites under `benches/` and the binary `sweep` both use them, so that they measure the same.
//! Each contender does the same work in the same loop, and its result is checked after every run.

mod locks;
mod modes;
mod steps;
mod tasks;
mod values;
mod ycsb;

use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::throughput;
use crate::times::{Times, fairness};
use crate::workload::Rng;

/// A question with its contenders.
#[derive(Debug)]
pub struct Scenario {
    /// The name of the question on the command line.
    pub name: &'static str,
    /// The set of scenarios that it belongs to.
    pub set: &'static str,
    /// The question.
    pub title: &'static str,
    /// The measured quantity, and how to read it.
    pub prose: &'static str,
    /// What varies.
    pub axis: Axis,
    /// One in so many operations is timed.
    pub every: u32,
    /// The contenders. The first is the one that the others are divided by.
    pub contenders: Vec<Contender>,
    /// If the first contender is optimistic, a pessimistic one, for the point at which their lines
    /// cross.
    pub pessimist: Option<&'static str>,
}

/// What varies from one point of a plot to the next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Axis {
    /// The number of threads.
    Threads,
    /// Something else, on so many threads for each core.
    Value {
        /// The kind of the setting.
        label: &'static str,
        /// Its value.
        values: &'static [f64],
        /// Threads for each core.
        per_core: usize,
    },
}

/// One setting of what varies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Setting {
    /// How many threads work.
    pub threads: usize,
    /// The value of the axis; the number of threads if that is what varies.
    pub value: f64,
    /// What random choices depend on.
    pub seed: u64,
}

impl Setting {
    /// The seed of the random choices of one thread.
    fn seed_of(self, index: usize) -> u64 {
        self.seed.wrapping_add(index as u64)
    }

    /// What `plan` makes of the seed of each thread.
    fn each<T>(self, plan: impl Fn(u64) -> T) -> Vec<T> {
        (0..self.threads)
            .map(|index| plan(self.seed_of(index)))
            .collect()
    }
}

/// A contender in a question.
pub struct Contender {
    /// What plots and tables call it.
    pub name: &'static str,
    /// Whether it is of this crate.
    pub ours: bool,
    /// What it promises more or less than ours; empty if neither.
    pub note: &'static str,
    build: Box<dyn Fn(Setting) -> Load>,
}

impl fmt::Debug for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contender")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Contender {
    fn ours(name: &'static str, build: impl Fn(Setting) -> Load + 'static) -> Self {
        Self {
            name,
            ours: true,
            note: "",
            build: Box::new(build),
        }
    }

    fn peer(
        name: &'static str,
        note: &'static str,
        build: impl Fn(Setting) -> Load + 'static,
    ) -> Self {
        Self {
            ours: false,
            note,
            ..Self::ours(name, build)
        }
    }

    /// Makes the structure that this contender works on.
    #[must_use]
    pub fn build(&self, setting: Setting) -> Load {
        (self.build)(setting)
    }
}

type Work = dyn Fn(usize, &AtomicBool, &mut Times) -> Option<u64> + Sync;

/// The structure of one contender in one setting.
pub struct Load {
    work: Box<Work>,
    check: Box<dyn Fn(u64)>,
    done: Cell<u64>,
}

impl fmt::Debug for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Load").finish_non_exhaustive()
    }
}

/// The work of the threads of one run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Operations a second, all threads together.
    pub rate: f64,
    /// How evenly they were spread over the threads: see [`fairness`].
    pub fairness: f64,
    /// Operations, all threads together.
    pub done: u64,
    /// The durations of the operations that were timed.
    pub times: Times,
}

impl Load {
    /// `work` does operations until its flag is set, through its times, and returns their number,
    /// or `None` if its thread has another purpose. `check` receives the operations of all threads
    /// since the load was made, and panics if the structure has another state.
    fn new<D: Into<Option<u64>>>(
        work: impl Fn(usize, &AtomicBool, &mut Times) -> D + Sync + 'static,
        check: impl Fn(u64) + 'static,
    ) -> Self {
        Self {
            work: Box::new(move |index, stop, times| work(index, stop, times).into()),
            check: Box::new(check),
            done: Cell::new(0),
        }
    }

    /// Runs `threads` threads for about `span`, and checks their work.
    ///
    /// # Panics
    /// Panics if the structure does not have the state that the work implies: the contender is
    /// broken.
    #[must_use]
    pub fn run(&self, threads: usize, span: Duration, every: u32) -> Outcome {
        let work = &self.work;
        let (each, took) = throughput::run_each(threads, span, |index, stop| {
            let mut times = Times::new(every);
            let done = work(index, stop, &mut times);
            (done, times)
        });
        let mut times = Times::new(every);
        each.iter().for_each(|(_, of)| times.add(of));
        // A thread with another purpose is not a thread that got little done.
        let counted: Vec<u64> = each.into_iter().filter_map(|(done, _)| done).collect();
        let sum = counted.iter().sum();
        self.done.set(self.done.get() + sum);
        (self.check)(self.done.get());
        Outcome {
            rate: sum as f64 / took.as_secs_f64(),
            fairness: fairness(&counted),
            done: sum,
            times,
        }
    }
}

/// Does `once` until `stop`, on each of `inputs` in turn and over again; returns how often.
#[inline]
fn until<T>(inputs: &[T], stop: &AtomicBool, times: &mut Times, mut once: impl FnMut(&T)) -> u64 {
    let mut done = 0;
    for input in inputs.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        times.around(|| once(input));
        done += 1;
    }
    done
}

/// Which of a thread's operations update: a part of `updates`, in no order.
fn mixed(updates: f64, seed: u64) -> Vec<bool> {
    let mut coin = Rng::new(seed);
    (0..4096).map(|_| coin.chance(updates)).collect()
}

/// Something to do while others wait: so many passes of an empty loop.
#[inline]
fn busy(passes: u32) {
    for pass in 0..passes {
        std::hint::black_box(pass);
    }
}

/// The scenario of this name.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn named(name: &str) -> Scenario {
    let mut all = all().into_iter();
    let found = all.find(|scenario| scenario.name == name);
    found.unwrap_or_else(|| panic!("there is no scenario '{name}'"))
}

/// Every scenario, in the order of the page.
#[must_use]
pub fn all() -> Vec<Scenario> {
    [
        locks::all(),
        modes::all(),
        tasks::all(),
        values::all(),
        ycsb::all(),
        steps::all(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_contender_of_every_scenario_does_something_and_its_check_holds() {
        for scenario in all() {
            let value = match scenario.axis {
                Axis::Threads => 2.0,
                Axis::Value { values, .. } => values[values.len() / 2],
            };
            for contender in &scenario.contenders {
                let setting = Setting {
                    threads: 2,
                    value,
                    seed: 1,
                };
                let outcome =
                    contender
                        .build(setting)
                        .run(2, Duration::from_millis(1), scenario.every);
                let sane = outcome.rate > 0.0 && (0.49..1.01).contains(&outcome.fairness);
                assert!(
                    sane || outcome.done == 0,
                    "{}: {}",
                    scenario.name,
                    contender.name
                );
            }
        }
    }

    #[test]
    fn names_tell_apart_and_those_to_cross_are_contenders() {
        let scenarios = all();
        let names: HashSet<_> = scenarios.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), scenarios.len());
        for scenario in &scenarios {
            let question = scenario.title.trim_end_matches(|c| c != '?');
            assert!(!question.is_empty(), "{} has no question", scenario.name);
            let names: HashSet<_> = scenario.contenders.iter().map(|c| c.name).collect();
            assert_eq!(names.len(), scenario.contenders.len(), "{}", scenario.name);
            assert!(scenario.contenders[0].ours, "{}", scenario.name);
            let pessimist = scenario.pessimist.iter();
            assert!(pessimist.copied().all(|name| names.contains(name)));
        }
    }

    #[test]
    fn who_gets_nothing_counts_and_who_wants_nothing_does_not() {
        let share = |shares: [Option<u64>; 2]| {
            let load = Load::new(move |index, _, _| shares[index], |_| ());
            load.run(2, Duration::ZERO, 1).fairness
        };
        assert_eq!(share([Some(10), Some(0)]), 0.5);
        assert_eq!(share([Some(10), None]), 1.0);
    }

    #[test]
    #[should_panic = "a lost count"]
    fn a_broken_contender_is_found_out() {
        let load = Load::new(|_, _, _| 2, |done| assert_eq!(done, 3, "a lost count"));
        let _ = load.run(1, Duration::ZERO, 1);
    }
}
