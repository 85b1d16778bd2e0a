//! The clock by which all processes of a campaign record events: that of the machine.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// A time in nanoseconds by the monotonic clock, which all processes of the machine share.
pub(crate) type Nanos = u64;

pub(crate) const MILLISECOND: Nanos = 1_000_000;

/// Reads the clock.
pub(crate) fn now() -> Nanos {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Converts a time of the standard clock.
pub(crate) fn at(instant: Instant) -> Nanos {
    let (now, present) = (now(), Instant::now());
    if instant >= present {
        now + nanos(instant - present)
    } else {
        now.saturating_sub(nanos(present - instant))
    }
}

pub(crate) fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
