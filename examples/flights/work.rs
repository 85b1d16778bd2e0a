//! The time that a step spends while it holds its locks.

use std::time::{Duration, Instant};

/// A time to spend inside each step.
///
/// It is spent watching the clock, and so lasts as long as asked, and up to one reading of the
/// clock longer, whatever else runs on the core. A loop calibrated beforehand would not: on a
/// machine whose cores are shared, its speed differs by a factor of two from one second to the
/// next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work(Duration);

impl Work {
    pub(crate) fn nanos(nanos: u64) -> Self {
        Self(Duration::from_nanos(nanos))
    }

    /// Spends the time; no time costs nothing, not even a reading of the clock.
    #[inline]
    pub(crate) fn spend(self) {
        if self.0.is_zero() {
            return;
        }
        let start = Instant::now();
        while start.elapsed() < self.0 {}
    }
}
