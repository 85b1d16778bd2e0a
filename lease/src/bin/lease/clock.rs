//! The clock of deadlines that two processes compare.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Returns the time since the system started, in nanoseconds. On Linux it includes the time for
/// which the machine was suspended.
pub(crate) fn now() -> u64 {
    #[cfg(target_os = "linux")]
    let clock = ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let clock = ClockId::Monotonic;
    let time = clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Returns the time of [`now`] at which `instant` is reached.
pub(crate) fn at(instant: Instant) -> u64 {
    let left = instant.saturating_duration_since(Instant::now());
    now().saturating_add(nanoseconds(left))
}

/// Returns the time from now until `time`, or zero.
pub(crate) fn until(time: u64) -> Duration {
    Duration::from_nanos(time.saturating_sub(now()))
}

fn nanoseconds(duration: Duration) -> u64 {
    duration.as_nanos().try_into().unwrap_or(u64::MAX)
}
