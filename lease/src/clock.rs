//! The clock by which this process judges its leases, and other facts of the system.
//!
//! The clock is monotonic, and on Linux and Android it advances while the machine is suspended
//! (`CLOCK_BOOTTIME`) [LE6]. Elsewhere it is that of [`Instant`], which may stand still then.

#![allow(unsafe_code)]

use std::time::{Duration, Instant};

/// A time by the clock of this process, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Timestamp(u64);

impl Timestamp {
    pub(crate) const MAX: Timestamp = Timestamp(u64::MAX);

    /// Reads the clock.
    pub(crate) fn now() -> Self {
        Timestamp(nanoseconds())
    }

    pub(crate) const fn from_nanos(nanos: u64) -> Self {
        Timestamp(nanos)
    }

    pub(crate) const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Returns the timestamp `after` this one, or the greatest.
    pub(crate) fn plus(self, after: Duration) -> Self {
        let after = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        Timestamp(self.0.saturating_add(after))
    }

    /// Returns the time from `earlier` until this timestamp, or zero.
    pub(crate) fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Converts to the standard clock, for a wait or a deadline of an engine.
    pub(crate) fn to_instant(self) -> Instant {
        let (now, instant) = (Timestamp::now(), Instant::now());
        if self >= now {
            // A year is as good as never, and is in the range of the clock.
            instant + self.since(now).min(Duration::from_secs(365 * 86_400))
        } else {
            instant.checked_sub(now.since(self)).unwrap_or(instant)
        }
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn nanoseconds() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is valid for a write during the call, and the clock exists since Linux
    // 2.6.39.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut time) } != 0;
    assert!(!failed, "the clock CLOCK_BOOTTIME cannot be read");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn nanoseconds() -> u64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    // One second, so that an earlier timestamp can be expressed.
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64 + 1_000_000_000
}

/// Returns the name of this machine, for people.
pub(crate) fn host_name() -> String {
    #[cfg(unix)]
    {
        let mut buffer = [0_u8; 256];
        // The last byte stays zero, because a name that is cut off need not end with one.
        let length = buffer.len() - 1;
        // SAFETY: the buffer is valid for writes of `length` bytes.
        let failed = unsafe { libc::gethostname(buffer.as_mut_ptr().cast(), length) } != 0;
        let end = buffer.iter().position(|&byte| byte == 0).unwrap_or(0);
        if !failed && end > 0 {
            return String::from_utf8_lossy(&buffer[..end]).into_owned();
        }
    }
    std::env::var("COMPUTERNAME").unwrap_or_else(|_| "localhost".to_owned())
}

/// Returns a random number of 128 bits.
pub(crate) fn random() -> Result<u128, getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(u128::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_convert_to_instants_in_both_directions() {
        let (now, hour) = (Timestamp::now(), Duration::from_secs(3600));
        let instant = Instant::now();
        let ahead = now.plus(hour).to_instant();
        assert!(ahead > instant + hour - Duration::from_secs(60));
        assert!(ahead < instant + hour + Duration::from_secs(60));
        assert!(now.to_instant() <= Instant::now());
        assert_eq!(Timestamp::MAX.plus(hour), Timestamp::MAX);
        assert_eq!(now.since(now.plus(hour)), Duration::ZERO);
        assert!(Timestamp::MAX.to_instant() > instant + hour);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_clock_goes_on_while_the_machine_is_suspended() {
        // The uptime that the system reports includes that time.
        let text = std::fs::read_to_string("/proc/uptime").expect("the system has uptimes");
        let uptime = text.split(' ').next().and_then(|text| text.parse().ok());
        let uptime = Duration::from_secs_f64(uptime.expect("a number"));
        let now = Timestamp::now().since(Timestamp::default());
        let late = now.checked_sub(uptime).unwrap_or_default();
        assert!(now + Duration::from_secs(1) > uptime && late < Duration::from_secs(60));
    }
}
