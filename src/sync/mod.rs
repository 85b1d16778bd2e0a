//! The only module that names an implementation of atomics, cells, mutexes and parking.
//!
//! | cfg | implementation behind the names |
//! |---|---|
//! | none | `core`'s atomics, `parking_lot`'s mutex, `std`'s parking |
//! | `latchwork_noise` | the same, and a random yield before one access in eight |
//! | `latchwork_loom` | loom: every interleaving and every allowed reordering of small models |
//! | `latchwork_shuttle` | shuttle: many random interleavings of larger ones |

pub(crate) mod tuning;

#[cfg(latchwork_loom)]
#[path = "loom.rs"]
mod imp;
#[cfg(latchwork_shuttle)]
#[path = "shuttle.rs"]
mod imp;
#[cfg(not(any(latchwork_loom, latchwork_shuttle)))]
#[path = "std.rs"]
mod imp;

mod canary;
mod clock;
#[cfg(latchwork_noise)]
mod noise;
mod pages;

#[cfg(all(latchwork_loom, latchwork_shuttle))]
compile_error!("latchwork_loom and latchwork_shuttle exclude each other");

pub(crate) use canary::Canary;
#[cfg(test)]
pub(crate) use clock::at_will;
pub(crate) use clock::{now, recently};
pub(crate) use core::sync::atomic::Ordering;
#[cfg(latchwork_loom)]
pub(crate) use imp::make_fences_steps;
pub(crate) use imp::{
    AtomicPtr, AtomicU16, AtomicU32, AtomicU64, LocalKey, Mutex, Parker, Unparker, UnsafeCell,
    acquire_fence, constructor, full_fence, global, load_load_fence, nap, plain_thread_local,
    publish, release_fence, spin_loop, store_load_fence, thread_local, unlock_fairly, yield_now,
};
pub(crate) use pages::Pages;

impl Parker {
    /// Parks until unparked or until the deadline, if there is one. Returns `false` if the deadline
    /// has passed. It may return early.
    pub(crate) fn park_by(&self, deadline: Option<std::time::Instant>) -> bool {
        match deadline {
            None => {
                self.park();
                true
            }
            Some(deadline) => self.park_until(deadline),
        }
    }
}

/// A monotone event counter that no algorithm reads. It is the same plain atomic under every
/// checker, so that counting adds no scheduling points.
#[derive(Debug, Default)]
pub(crate) struct Counter(core::sync::atomic::AtomicU64);

impl Counter {
    pub(crate) const fn new() -> Self {
        Counter(core::sync::atomic::AtomicU64::new(0))
    }

    #[cfg(feature = "console")]
    pub(crate) const fn at(value: u64) -> Self {
        Counter(core::sync::atomic::AtomicU64::new(value))
    }

    pub(crate) fn increment(&self) {
        // Relaxed: a statistic, which orders nothing.
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Increments it as [`increment`](Self::increment) does, and returns a number that no other
    /// call returns.
    pub(crate) fn next(&self) -> u64 {
        self.advance(1)
    }

    /// Adds a number as [`next`](Self::next) adds one, and returns the number before.
    pub(crate) fn advance(&self, n: u64) -> u64 {
        // Relaxed: only the numbers themselves are used.
        self.0.fetch_add(n, Ordering::Relaxed)
    }

    /// Adds a number, which may be negative modulo 2⁶⁴.
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        // Relaxed: as above.
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Raises the counter to `value` if it is less.
    pub(crate) fn raise(&self, value: u64) {
        // Loaded first, because it is rarely raised.
        // Relaxed: as above, both.
        if self.get() < value {
            self.0.fetch_max(value, Ordering::Relaxed);
        }
    }

    /// Sets the counter. A change by another thread at the same time may be lost.
    #[inline]
    pub(crate) fn set(&self, value: u64) {
        // Relaxed: as above.
        self.0.store(value, Ordering::Relaxed);
    }

    /// Sets the counter, and returns its value before.
    #[cfg(feature = "console")]
    pub(crate) fn swap(&self, value: u64) -> u64 {
        // Relaxed: as above.
        self.0.swap(value, Ordering::Relaxed)
    }

    /// Sets the counter to `value` if it is `from`, and returns whether it was.
    pub(crate) fn replace(&self, from: u64, value: u64) -> bool {
        // Relaxed: as above, both.
        let set = self
            .0
            .compare_exchange(from, value, Ordering::Relaxed, Ordering::Relaxed);
        set.is_ok()
    }

    /// Sets the counter to `value` if it is 0, and returns whether it was.
    pub(crate) fn claim(&self, value: u64) -> bool {
        // Acquire: what the thread before did happens before. Pairs with the Release in `clear`.
        // Relaxed on failure: another thread has claimed it.
        let set = self
            .0
            .compare_exchange(0, value, Ordering::Acquire, Ordering::Relaxed);
        set.is_ok()
    }

    /// Sets the counter to 0, for another thread to claim.
    pub(crate) fn clear(&self) {
        // Release: pairs with the Acquire in `claim`.
        self.0.store(0, Ordering::Release);
    }

    #[inline]
    pub(crate) fn get(&self) -> u64 {
        // Relaxed: as above.
        self.0.load(Ordering::Relaxed)
    }
}
