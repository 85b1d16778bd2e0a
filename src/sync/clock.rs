//! A clock that is cheap enough to be looked at twice in each wait.
//!
//! `Instant::now` costs about 26 ns on the machine of the report, and a wait of two tasks that hand a key over
//! takes about 80 in all. x86's time-stamp counter costs about 10, and less where there is other
//! work to do meanwhile. What a tick of it takes is found out when somebody wants a duration, by
//! a look at both clocks. Only statistics are made of it: on a processor whose counters run at
//! a rate that varies, or apart, they are wrong by as much.
#![allow(unsafe_code)]

use core::time::Duration;
use std::sync::LazyLock;
use std::time::Instant;

/// Both clocks, at some time before the first wait.
static START: LazyLock<(Instant, u64)> = LazyLock::new(|| (Instant::now(), counter()));

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline(always)]
fn counter() -> u64 {
    // SAFETY: `rdtsc` reads a register, and every processor of this architecture has it. Where a
    // system forbids it, `Instant::now` does not work either.
    unsafe { core::arch::x86_64::_rdtsc() }
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
fn counter() -> u64 {
    static FIRST: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(FIRST.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// A reading of the counter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment(u64);

/// A length of time by the counter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticks(u64);

impl Moment {
    #[inline]
    pub(crate) fn now() -> Self {
        Moment(counter())
    }

    #[inline]
    pub(crate) fn elapsed(self) -> Ticks {
        Moment::now().since(self)
    }

    /// Nothing, if `earlier` is later: counters of two processors need not agree to the tick.
    fn since(self, earlier: Moment) -> Ticks {
        Ticks(self.0.saturating_sub(earlier.0))
    }
}

impl Ticks {
    pub(crate) const fn get(self) -> u64 {
        self.0
    }
}

/// A look at both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    now: Moment,
    /// What went by since the start, by the one clock and by the other.
    ticks: u64,
    nanos: u128,
}

impl Clock {
    /// Begins to compare the two clocks: before anything is measured, and the earlier the better.
    pub(crate) fn start() {
        LazyLock::force(&START);
    }

    pub(crate) fn read() -> Self {
        let (began, first) = *START;
        let now = Moment::now();
        Clock {
            now,
            ticks: now.since(Moment(first)).0,
            nanos: began.elapsed().as_nanos(),
        }
    }

    /// How long ago `moment` was, when this clock was read.
    pub(crate) fn since(&self, moment: Moment) -> Duration {
        self.duration(self.now.since(moment))
    }

    pub(crate) fn duration(&self, ticks: Ticks) -> Duration {
        let nanos = u128::from(ticks.0) * self.nanos / u128::from(self.ticks.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_become_durations_at_the_rate_since_the_start() {
        let clock = Clock {
            now: Moment(1_000),
            ticks: 300,
            nanos: 100,
        };
        assert_eq!(clock.duration(Ticks(3_000)), Duration::from_micros(1));
        assert_eq!(clock.since(Moment(700)), Duration::from_nanos(100));
        assert_eq!(clock.since(Moment(1_001)), Duration::ZERO);
        // Years of ticks, and a clock that was read the moment that it was started.
        let clock = Clock {
            ticks: 0,
            nanos: u128::from(u64::MAX),
            ..clock
        };
        assert_eq!(
            clock.duration(Ticks(u64::MAX)),
            Duration::from_nanos(u64::MAX)
        );
    }

    #[test]
    fn it_goes_on() {
        Clock::start();
        let moment = Moment::now();
        while moment.elapsed().get() == 0 || Clock::read().since(moment).is_zero() {}
    }
}
