//! A bounded number of looks before a waiter queues.

use crate::sync::tuning::SPIN_ROUNDS;
use crate::sync::{spin_loop, yield_now};

/// Rounds that only pause, each twice as long as the one before: about the time that it takes to
/// move a cache line and run a short critical section. After them the thread gives way, since on
/// few cores the holder may be waiting for this one.
const PAUSE_ROUNDS: u32 = 6;

#[derive(Debug)]
pub(crate) struct Spin(u32);

impl Spin {
    pub(crate) fn new() -> Self {
        Spin(0)
    }

    /// For waiters that must queue in the order in which they came.
    pub(crate) fn none() -> Self {
        Spin(SPIN_ROUNDS)
    }

    /// Whether it is not yet time to queue.
    pub(crate) fn may_spin(&self) -> bool {
        self.0 < SPIN_ROUNDS
    }

    /// Waits a little. Not while pinned.
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
