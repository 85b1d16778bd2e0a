//! The time that a step spends while it holds its locks.

use std::hint::black_box;
use std::time::Instant;

/// Time to spend inside a step, as a number of turns of a loop.
///
/// The loop is calibrated once instead of watching the clock in each step: a clock reading is
/// coarse against a few hundred nanoseconds, and would let a thread that was descheduled off its
/// work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    turns: u64,
}

impl Work {
    /// Work that takes about `nanos` nanoseconds on an idle core.
    pub(crate) fn calibrated(nanos: u64) -> Self {
        const TRIAL: Work = Work { turns: 20_000 };
        if nanos == 0 {
            return Self { turns: 0 };
        }
        // The best of several trials: whatever disturbs one only makes it slower.
        let best = (0..50)
            .map(|_| {
                let began = Instant::now();
                TRIAL.spin();
                began.elapsed().as_secs_f64() * 1e9
            })
            .fold(f64::INFINITY, f64::min);
        let turn = best / TRIAL.turns as f64;
        Self {
            turns: ((nanos as f64 / turn).round() as u64).max(1),
        }
    }

    /// Spends the time.
    #[inline]
    pub(crate) fn spin(self) {
        for turn in 0..self.turns {
            black_box(turn);
        }
    }
}
