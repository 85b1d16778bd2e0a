//! A bounded number of checks before a waiter queues, or once it is queued before it parks.

use crate::sync::tuning::SPIN_ROUNDS;
use crate::sync::{spin_loop, yield_now};

/// Rounds that only pause. Each is twice as long as the one before, and there are very few: each
/// check removes the cache line from the holder's core. After them the thread yields, which checks
/// less often. On few cores the holder may wait for this one. With 6 rounds, eight threads on one
/// key of a two-core machine did three quarters as much as with 2 (report, `async`).
const PAUSE_ROUNDS: u32 = 2;

#[derive(Debug)]
pub(crate) struct Spin(u32);

impl Spin {
    pub(crate) fn new() -> Self {
        Spin(0)
    }

    /// Returns a spin without rounds.
    pub(crate) fn none() -> Self {
        Spin(SPIN_ROUNDS)
    }

    /// Whether rounds remain before the waiter must queue.
    pub(crate) fn may_spin(&self) -> bool {
        self.0 < SPIN_ROUNDS
    }

    /// Waits a little. The thread must not be pinned.
    pub(crate) fn spin(&mut self) {
        if self.0 < PAUSE_ROUNDS {
            for _ in 0..1 << self.0 {
                spin_loop();
            }
        } else {
            yield_now();
        }
        self.0 += 1;
    }
}
