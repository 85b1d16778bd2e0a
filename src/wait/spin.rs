//! A bounded number of looks before a waiter queues, or once it is queued before it sleeps.

use crate::sync::tuning::SPIN_ROUNDS;
use crate::sync::{spin_loop, yield_now};

/// Rounds that only pause, each twice as long as the one before, and very few of them: each look
/// takes the holder's cache line away. After them the thread gives way, which looks less often, and
/// on few cores the holder may be waiting for this one. With 6 rounds, eight threads on one key of a
/// two-core machine did three quarters as much as with 2 (report, `async`).
const PAUSE_ROUNDS: u32 = 2;

#[derive(Debug)]
pub(crate) struct Spin(u32);

impl Spin {
    pub(crate) fn new() -> Self {
        Spin(0)
    }

    /// Not at all.
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
