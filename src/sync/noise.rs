//! `std`'s atomics and `parking_lot`'s mutex with a random yield before one access in eight.
//!
//! On few cores a thread is rarely preempted between two critical instructions. A yield there has
//! this effect thousands of times a second.

use core::cell::Cell;
use core::sync::atomic::{self, Ordering};
use std::hash::{BuildHasher, RandomState};

fn noise() {
    thread_local! {
        static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(0) | 1);
    }
    // A thread that is being torn down yields nowhere.
    let _ = STATE.try_with(|state| {
        // xorshift64 (Marsaglia, 2003).
        let mut x = state.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        state.set(x);
        if x % 8 == 0 {
            std::thread::yield_now();
        }
    });
}

macro_rules! noisy {
    ($name:ident, $int:ty) => {
        #[derive(Debug, Default)]
        pub(crate) struct $name(atomic::$name);

        #[allow(dead_code, reason = "one set of methods for each width")]
        impl $name {
            pub(crate) const fn new(value: $int) -> Self {
                $name(atomic::$name::new(value))
            }

            pub(crate) fn load(&self, order: Ordering) -> $int {
                noise();
                self.0.load(order)
            }

            pub(crate) fn store(&self, value: $int, order: Ordering) {
                noise();
                self.0.store(value, order);
            }

            pub(crate) fn swap(&self, value: $int, order: Ordering) -> $int {
                noise();
                self.0.swap(value, order)
            }

            pub(crate) fn fetch_add(&self, value: $int, order: Ordering) -> $int {
                noise();
                self.0.fetch_add(value, order)
            }

            pub(crate) fn fetch_sub(&self, value: $int, order: Ordering) -> $int {
                noise();
                self.0.fetch_sub(value, order)
            }

            pub(crate) fn fetch_or(&self, value: $int, order: Ordering) -> $int {
                noise();
                self.0.fetch_or(value, order)
            }

            pub(crate) fn compare_exchange(
                &self,
                current: $int,
                new: $int,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$int, $int> {
                noise();
                self.0.compare_exchange(current, new, success, failure)
            }
        }
    };
}
noisy!(AtomicU8, u8);
noisy!(AtomicU32, u32);
noisy!(AtomicU64, u64);

#[derive(Debug)]
pub(crate) struct AtomicPtr<T>(atomic::AtomicPtr<T>);

impl<T> AtomicPtr<T> {
    pub(crate) const fn new(value: *mut T) -> Self {
        AtomicPtr(atomic::AtomicPtr::new(value))
    }

    pub(crate) fn load(&self, order: Ordering) -> *mut T {
        noise();
        self.0.load(order)
    }

    pub(crate) fn store(&self, value: *mut T, order: Ordering) {
        noise();
        self.0.store(value, order);
    }

    pub(crate) fn swap(&self, value: *mut T, order: Ordering) -> *mut T {
        noise();
        self.0.swap(value, order)
    }

    pub(crate) fn compare_exchange(
        &self,
        current: *mut T,
        new: *mut T,
        success: Ordering,
        failure: Ordering,
    ) -> Result<*mut T, *mut T> {
        noise();
        self.0.compare_exchange(current, new, success, failure)
    }
}

#[derive(Debug)]
pub(crate) struct Mutex<T>(parking_lot::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Mutex(parking_lot::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> parking_lot::MutexGuard<'_, T> {
        noise();
        self.0.lock()
    }

    pub(crate) fn try_lock(&self) -> Option<parking_lot::MutexGuard<'_, T>> {
        noise();
        self.0.try_lock()
    }
}
