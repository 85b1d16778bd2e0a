//! The clocks: one for deadlines, and one for statistics. The second is read twice in each wait,
//! and costs almost nothing where waits are short.
//!
//! The clock of `std` panics on targets that have none. On such a target the clock for statistics
//! stands still, and the clock for deadlines is read only where the caller has passed a time.
//!
//! Tasks that hand over a key cannot afford a single read of the system's clock: with one they miss
//! their target (report, `async`). So a thread reuses its last reading for a few thousand ticks of
//! the processor's counter, which are microseconds at the rate of any processor.
//!
//! No time is computed from ticks: each time is from the system's clock, and the counter only
//! determines when it is too old. Where the counter jumps (another socket, a machine that moved or
//! slept), the thread reads the clock again, or uses its reading for one span at most. An old
//! processor stops its counter while it idles, and keeps its reading as long. Only statistics use
//! such a reading.
#![allow(unsafe_code)]

use core::cell::Cell;
use std::sync::LazyLock;
use std::time::Instant;

/// The number of ticks for which a reading is used: less than 17 microseconds at 1 GHz or more. It
/// was not chosen by measurement.
const SPAN: u64 = 1 << 14;

/// Whether the clock of `std` works on this target. Where it does not work, a read panics.
const HAS_CLOCK: bool = !cfg!(any(
    all(target_family = "wasm", target_os = "unknown"),
    target_os = "zkvm",
));

/// Returns the time for deadlines. It is called only where the caller has passed a time.
///
/// # Panics
/// Panics on a target without a clock.
pub(crate) fn now() -> Instant {
    #[cfg(test)]
    tests::count_reading();
    Instant::now()
}

/// Returns the reading of the system's clock, at most one span old, in nanoseconds since its first
/// use.
///
/// It never decreases on one thread. The results of two threads may differ by as much as the span.
#[inline]
pub(crate) fn recently() -> u64 {
    #[cfg(test)]
    if let Some(time) = at_will::TIME.get() {
        return time;
    }
    if !HAS_CLOCK {
        return 0;
    }
    thread_local! {
        static LAST: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
    }
    let Some(ticks) = ticks() else { return read() };
    // A thread that is being torn down has no last reading.
    let (then, time) = LAST.try_with(Cell::get).unwrap_or((0, 0));
    if ticks.wrapping_sub(then) < SPAN {
        return time;
    }
    // Read after the ticks beside it: an interruption in between makes the reading expire early.
    let time = read();
    let _ = LAST.try_with(|last| last.set((ticks, time)));
    time
}

/// Returns the processor's counter, where the processor has one. A model does not use it.
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

/// A clock for statistics that a test moves on, on its own thread.
#[cfg(test)]
pub(crate) mod at_will {
    use core::cell::Cell;

    thread_local! {
        pub(super) static TIME: Cell<Option<u64>> = const { Cell::new(None) };
    }

    /// Lets this clock begin at `time`.
    pub(crate) fn begin(time: u64) {
        TIME.set(Some(time));
    }

    /// Moves it on, and returns the time then.
    pub(crate) fn pass(nanos: u64) -> u64 {
        let time = TIME.get().expect("it has begun") + nanos;
        TIME.set(Some(time));
        time
    }
}

#[cfg(test)]
mod tests {
    use core::future::Future;
    use core::pin::pin;
    use core::task::{Context, Waker};
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::{Fairness, LockTable, Mode, VersionedCell, atomically, session::Policy, snapshot};

    thread_local! {
        static READINGS: Cell<u32> = const { Cell::new(0) };
    }

    pub(super) fn count_reading() {
        READINGS.set(READINGS.get() + 1);
    }

    /// Returns how often `f` reads the clock for deadlines on this thread.
    fn readings(f: impl FnOnce()) -> u32 {
        let before = READINGS.get();
        f();
        READINGS.get() - before
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

    /// Polls `future` once while key 1 is held, and once when it is free.
    fn waits<F: Future>(table: &LockTable<u64>, future: F) {
        let mut context = Context::from_waker(Waker::noop());
        let guard = table.try_lock(&1).expect("it is free");
        let mut future = pin!(future);
        assert!(future.as_mut().poll(&mut context).is_pending());
        drop(guard);
        assert!(future.as_mut().poll(&mut context).is_ready());
    }

    /// All of these work on a target without a clock.
    #[test]
    fn no_clock_is_read_where_no_deadline_was_given() {
        let read = readings(|| {
            for fairness in [Fairness::Eventual, Fairness::Fifo] {
                let table = Arc::new(LockTable::<u64>::builder().fairness(fairness).build());
                drop(table.lock(&1));
                drop(table.lock_all([(&1, Mode::Shared), (&2, Mode::Exclusive)]));
                waits(&table, table.lock_async(&1));
                waits(&table, table.lock_shared_async_owned(&1));
                waits(&table, table.lock_all_async([(&1, Mode::Shared)]));
                for policy in [Policy::Detect, Policy::WaitDie] {
                    for after in [Duration::ZERO, Duration::MAX] {
                        let mut session = table.session().policy(policy).detect_after(after);
                        waits(&table, session.lock_async(&1));
                    }
                }
                let guard = table.lock(&1);
                std::thread::scope(|scope| {
                    scope.spawn(|| assert_eq!(readings(|| drop(table.lock(&1))), 0));
                    while table.stats().waiting == 0 {
                        std::thread::yield_now();
                    }
                    drop(guard);
                });
                assert_eq!(table.inspect().len(), 0);
            }
            let cell = VersionedCell::new(1);
            let seen = cell.version();
            let mut changed = pin!(cell.changed(seen));
            let mut context = Context::from_waker(Waker::noop());
            assert!(changed.as_mut().poll(&mut context).is_pending());
            atomically(|tx| tx.set(&cell, 2));
            assert!(changed.as_mut().poll(&mut context).is_ready());
            assert_eq!(snapshot(|view| *view.read(&cell)), 2);
            cell.set(3);
            cell.wait_changed(seen);
            crate::flush();
            let _ = crate::stats();
        });
        assert_eq!(read, 0);
        let table = LockTable::<u64>::new();
        assert!(readings(|| drop(table.try_lock_for(&1, Duration::ZERO))) > 0);
    }

    /// A session read the clock before it knew whether it waits: for an upgrade, under `WaitDie`,
    /// and under `NoWait` for a key that another owner holds.
    #[test]
    fn a_session_that_does_not_wait_reads_no_clock() {
        let table = LockTable::<u64>::new();
        let _guard = table.lock(&0);
        let timeout = Policy::Timeout(Duration::ZERO);
        for policy in [Policy::Detect, Policy::WaitDie, Policy::NoWait, timeout] {
            let mut session = table.session().policy(policy);
            let read = readings(|| {
                session.lock(&1).unwrap();
                session.lock_shared(&2).unwrap();
                session.lock(&2).unwrap();
                if policy == Policy::NoWait {
                    session.lock(&0).unwrap_err();
                }
                session.release_all();
            });
            assert_eq!(read, 0, "{policy:?}");
        }
        let mut session = table.session().policy(timeout);
        assert!(readings(|| drop(session.lock(&0).unwrap_err())) > 0);
    }
}
