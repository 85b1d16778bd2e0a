//! Moments by a clock that all threads agree on.
//!
//! A counter that threads share would tell their order exactly, and hide what it is to find: each
//! stamp would synchronise with the one before. So a stamp only reads: the processor's counter,
//! where it counts alike on all of them, or else the system's clock.
//!
//! Whatever takes effect in the crate does so in a compare-and-swap, which everybody sees when the
//! next instruction runs: a stamp behind a call is not before its effect. That a call does not
//! begin before the stamp in front of it is the fence's work.
#![allow(unsafe_code)]

/// A moment. One that was taken after another had been taken, by whomever, is not less.
#[cfg(latchwork_shuttle)]
pub fn stamp() -> u64 {
    use std::cell::Cell;
    // All tasks of an execution run on one thread, one at a time.
    thread_local! {
        static LAST: Cell<u64> = const { Cell::new(0) };
    }
    LAST.set(LAST.get() + 1);
    LAST.get()
}

/// A moment. One that was taken after another had been taken, by whomever, is not less.
#[cfg(not(latchwork_shuttle))]
pub fn stamp() -> u64 {
    if *real::COUNTERS_AGREE {
        real::counter()
    } else {
        real::clock()
    }
}

#[cfg(not(latchwork_shuttle))]
mod real {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
    use std::time::Instant;

    /// Whether the counter has not gone back where threads hand it to each other. Tried once.
    pub(super) static COUNTERS_AGREE: LazyLock<bool> =
        LazyLock::new(|| cfg!(target_arch = "x86_64") && handed_over(counter, 500));

    #[cfg(target_arch = "x86_64")]
    pub(super) fn counter() -> u64 {
        use core::arch::x86_64::{__rdtscp, _mm_lfence};
        let mut processor = 0;
        // SAFETY: every processor that runs the crate's tests has these two instructions; the
        // pointer is to a local.
        #[allow(unused_unsafe, reason = "newer toolchains have the fence safe")]
        #[allow(clippy::multiple_unsafe_ops_per_block, reason = "one reading")]
        unsafe {
            // What comes before has run when it reads; what comes after begins behind the fence.
            let ticks = __rdtscp(&raw mut processor);
            _mm_lfence();
            ticks
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub(super) fn counter() -> u64 {
        clock()
    }

    pub(super) fn clock() -> u64 {
        static FIRST: LazyLock<Instant> = LazyLock::new(Instant::now);
        FIRST.elapsed().as_nanos() as u64
    }

    /// Two threads take stamps in turns: whether none is less than the one before it.
    pub(super) fn handed_over(stamp: fn() -> u64, times: u64) -> bool {
        let (turn, last) = (AtomicU64::new(0), AtomicU64::new(0));
        let take = |parity: u64| {
            let mut grows = true;
            for mine in (parity..2 * times).step_by(2) {
                while turn.load(SeqCst) != mine {
                    std::thread::yield_now();
                }
                let now = stamp();
                grows &= last.swap(now, SeqCst) <= now;
                turn.store(mine + 1, SeqCst);
            }
            grows
        };
        std::thread::scope(|s| {
            let other = s.spawn(|| take(1));
            // Not `&&`, which would leave the other waiting.
            let grows = [take(0), other.join().expect("it only counts")];
            grows == [true, true]
        })
    }
}

/// For the test of the stamps themselves.
#[cfg(not(latchwork_shuttle))]
pub fn never_goes_back() -> bool {
    real::handed_over(stamp, 2_000)
}
