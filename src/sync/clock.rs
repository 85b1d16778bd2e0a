//! A clock that is looked at twice in each wait, and costs next to nothing where waits are short.
//!
//! Tasks that hand a key over have time for not even one look at the system's clock: with one they miss their
//! target (report, `async`). So a thread goes on using its last reading for a few thousand
//! ticks of the processor's counter, which are microseconds at any processor's rate.
//!
//! No time is computed from ticks: each comes from the system's clock, and the counter only says when it is
//! too old. Where the counter jumps (another socket, a machine that moved or slept), the thread reads again, or
//! goes on for one such span at most. A counter that stops while the processor idles, as old ones
//! do, keeps a reading for as long; only statistics are made of it.
#![allow(unsafe_code)]

use core::cell::Cell;
use std::sync::LazyLock;
use std::time::Instant;

/// Ticks for which a reading is used: less than 17 microseconds at 1 GHz or more. Not found by measurement.
const SPAN: u64 = 1 << 14;

/// What the system's clock says, or said within the span: nanoseconds since it was first read here. Never goes
/// back on one thread; those of two threads may be as far apart as the span.
#[inline]
pub(crate) fn recently() -> u64 {
    thread_local! {
        static LAST: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
    }
    let Some(ticks) = ticks() else { return read() };
    // A thread that is being torn down has no last reading.
    let (then, time) = LAST.try_with(Cell::get).unwrap_or((0, 0));
    if ticks.wrapping_sub(then) < SPAN {
        return time;
    }
    // Later than the ticks beside it: an interruption in between makes it too old too early.
    let time = read();
    let _ = LAST.try_with(|last| last.set((ticks, time)));
    time
}

/// The processor's counter, where there is one to be read. A model has no use for it.
#[inline(always)]
fn ticks() -> Option<u64> {
    #[cfg(all(
        target_arch = "x86_64",
        not(any(miri, latchwork_loom, latchwork_shuttle, target_env = "sgx"))
    ))]
    // SAFETY: `rdtsc` reads a register that every processor of this architecture has.
    return Some(unsafe { core::arch::x86_64::_rdtsc() });
    #[allow(unreachable_code, reason = "elsewhere")]
    None
}

#[cold]
fn read() -> u64 {
    static FIRST: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(FIRST.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

#[test]
fn the_clock_is_never_ahead_and_goes_on() {
    let first = recently();
    let mut last = first;
    while last == first {
        let now = recently();
        assert!(last <= now && now <= read());
        last = now;
    }
}
