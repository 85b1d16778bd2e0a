//! Whether a machine reached its full speed around a measurement: the control that decides which
//! measurements are believed.
//!
//! A thread that adds to a counter of its own, on a cache line of its own, depends on no other
//! thread. If *n* such threads do not do *n* times the work of one, or one does not do the same
//! before and after, another program has used the machine. Measurements of that time mean nothing.

use std::iter;
use std::ops::RangeInclusive;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::Duration;

use crossbeam_utils::CachePadded;
use serde::{Deserialize, Serialize};

use crate::ratio::in_turn;
use crate::throughput;
use crate::workload::own_counter;

/// The control's scaling from one thread to two between which a measurement is believed. A scaling
/// that is too great is as wrong: then only the run with one thread was delayed.
const SCALING: RangeInclusive<f64> = 1.85..=2.2;

/// Whether to believe a measurement. The arguments are the control's scaling from one thread to two
/// before the measurement and after it.
///
/// All measurements on several threads follow this rule.
#[must_use]
pub fn is_believed(before: f64, after: f64) -> bool {
    SCALING.contains(&before) && SCALING.contains(&after)
}

/// How far one thread alone may do more or less after than before.
const DRIFT: RangeInclusive<f64> = 0.9..=1.1;

/// How often to check whether the machine has settled.
const LOOKS: usize = 6;

/// Returns the control's scaling from one thread to two, with runs of this length.
///
/// The order of the two runs depends on `round`.
#[must_use]
pub fn scaling(round: usize, span: Duration) -> f64 {
    let (one, two) = in_turn(round, || rate(1, span), || rate(2, span));
    two / one
}

/// Additions a second of so many threads together, each to a counter of its own.
#[must_use]
pub fn rate(threads: usize, span: Duration) -> f64 {
    let counters: Vec<CachePadded<AtomicU64>> =
        (0..threads).map(|_| CachePadded::default()).collect();
    let work = |index: usize, stop: &_| own_counter(&counters[index], stop);
    throughput::run(threads, span, work).rate()
}

/// The work of so many threads that share nothing, measured repeatedly.
#[derive(Debug)]
pub struct Control {
    threads: usize,
    span: Duration,
    /// The best ratio of the work of all threads to the work of one.
    best: f64,
}

/// One reading of the machine's speed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// Additions a second of one thread alone.
    pub one: f64,
    /// How many times as many all threads did together.
    pub scaling: f64,
}

impl Control {
    /// Makes a control for `threads` threads, or as many as there are cores if that is less.
    ///
    /// Two threads must do twice the work of one. The ratio of more threads depends on the machine,
    /// whose cores may share resources: it is the best of some readings.
    #[must_use]
    pub fn new(threads: usize, span: Duration) -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let threads = threads.min(cores);
        let mut control = Self {
            threads,
            span,
            best: threads as f64,
        };
        if threads > 2 {
            let readings = (0..20).map(|_| control.read().scaling);
            control.best = readings.fold(0.0, f64::max);
        }
        control
    }

    /// Returns the best ratio of the work of all threads to the work of one.
    #[must_use]
    pub fn best(&self) -> f64 {
        self.best
    }

    /// Measures the speed of the machine now.
    #[must_use]
    pub fn read(&self) -> Reading {
        let one = rate(1, self.span);
        let scaling = match self.threads {
            1 => 1.0,
            threads => rate(threads, self.span) / one,
        };
        Reading { one, scaling }
    }

    /// Returns the reading `last`, or the first later one at which the machine has its full speed,
    /// if that happens soon. Measurements that follow a bad reading are not believed.
    #[must_use]
    pub fn settled(&self, last: Reading) -> Reading {
        let looks = iter::once(last).chain(iter::repeat_with(|| self.read()));
        let mut looks = looks.take(LOOKS);
        let scales = |look: &Reading| {
            let scaling = self.of_two(*look);
            is_believed(scaling, scaling)
        };
        looks.find(scales).unwrap_or(last)
    }

    /// Whether to believe the measurements between two readings: [`is_believed`], and one thread
    /// alone did as much after as before. The latter is all that a reading of one thread shows.
    #[must_use]
    pub fn believes(&self, before: Reading, after: Reading) -> bool {
        let drift = after.one / before.one;
        is_believed(self.of_two(before), self.of_two(after)) && DRIFT.contains(&drift)
    }

    /// The scaling of a reading as two threads would have it: the best is twofold.
    fn of_two(&self, reading: Reading) -> f64 {
        2.0 * reading.scaling / self.best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measurement_is_believed_if_both_controls_scale() {
        for scaling in [1.85, 1.9, 2.0, 2.1, 2.2] {
            assert!(is_believed(scaling, 2.0), "{scaling}");
            assert!(is_believed(2.0, scaling), "{scaling}");
        }
        for scaling in [0.0, 1.0, 1.84, 2.21, 4.0, f64::INFINITY, f64::NAN] {
            assert!(!is_believed(scaling, 2.0), "{scaling}");
            assert!(!is_believed(2.0, scaling), "{scaling}");
        }
    }

    #[test]
    fn more_threads_are_believed_by_the_same_rule() {
        let control = Control {
            threads: 8,
            span: Duration::ZERO,
            best: 6.0,
        };
        let reading = |scaling| Reading { one: 1.0, scaling };
        let believes = |scaling| control.believes(reading(6.0), reading(scaling));
        assert!(believes(5.6) && believes(6.5));
        assert!(!believes(5.5) && !believes(6.7));
    }

    #[test]
    fn what_a_disturbed_machine_did_is_not_believed() {
        let control = Control {
            threads: 2,
            span: Duration::ZERO,
            best: 2.0,
        };
        let quiet = Reading {
            one: 100.0,
            scaling: 2.0,
        };
        assert!(control.believes(quiet, Reading { one: 95.0, ..quiet }));
        assert!(!control.believes(quiet, Reading { one: 80.0, ..quiet }));
        for scaling in [1.8, 2.25] {
            let disturbed = Reading { scaling, ..quiet };
            assert!(!control.believes(quiet, disturbed));
            assert!(!control.believes(disturbed, quiet));
        }
    }

    #[test]
    fn what_was_right_is_not_looked_at_again() {
        let mut control = Control::new(2, Duration::from_millis(1));
        let (one, scaling) = (1.0, 2.0);
        assert_eq!(control.settled(Reading { one, scaling }).one, one);
        // Nothing scales like this, so that the last that was known is as good as any.
        control.best = f64::INFINITY;
        assert_eq!(control.settled(Reading { one, scaling }).one, one);
    }

    #[test]
    fn one_thread_scales_to_itself() {
        let control = Control::new(1, Duration::from_millis(1));
        let reading = control.read();
        assert!(reading.one > 0.0);
        assert_eq!((control.best(), reading.scaling), (1.0, 1.0));
    }
}
