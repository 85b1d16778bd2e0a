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

use crate::throughput;
use crate::workload::own_counter;

/// The permitted distance between the control's scaling and that of the machine. A scaling that is
/// too great is as wrong: then only the run with one thread was delayed.
const SCALING: RangeInclusive<f64> = 0.95..=1.05;

/// How far one thread alone may do more or less after than before.
const DRIFT: RangeInclusive<f64> = 0.9..=1.1;

/// How often to check whether the machine has settled.
const LOOKS: usize = 6;

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
        looks.find(|&look| self.scales(look)).unwrap_or(last)
    }

    /// Whether to believe the measurements between two readings.
    #[must_use]
    pub fn believes(&self, before: Reading, after: Reading) -> bool {
        let drift = after.one / before.one;
        self.scales(before) && self.scales(after) && DRIFT.contains(&drift)
    }

    fn scales(&self, reading: Reading) -> bool {
        SCALING.contains(&(reading.scaling / self.best))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        for scaling in [1.8, 2.2] {
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
