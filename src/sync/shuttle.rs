//! The facade of a shuttle test: logic under many schedules, sequentially consistent.

use core::sync::atomic::Ordering;
use std::sync::PoisonError;
use std::time::Instant;

pub(crate) use shuttle::hint::spin_loop;
pub(crate) use shuttle::sync::MutexGuard;
pub(crate) use shuttle::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64};
pub(crate) use shuttle::thread::yield_now;
pub(crate) use shuttle::thread_local;

pub(crate) fn nap() {
    yield_now();
}

// Under shuttle every fence is a full one.
pub(crate) use self::{full_fence as load_load_fence, full_fence as store_load_fence};

pub(crate) fn publish(word: &AtomicU64, value: u64) -> u64 {
    // Relaxed: as in a real build.
    let before = word.swap(value, Ordering::Relaxed);
    full_fence();
    before
}

pub(crate) fn full_fence() {
    // SeqCst: pairs with itself in the other thread.
    shuttle::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
}

pub(crate) fn release_fence() {
    // Release: as in a real build.
    shuttle::sync::atomic::fence(core::sync::atomic::Ordering::Release);
}

pub(crate) fn acquire_fence() {
    // Acquire: as in a real build.
    shuttle::sync::atomic::fence(core::sync::atomic::Ordering::Acquire);
}

#[derive(Debug)]
pub(crate) struct UnsafeCell<T>(core::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    pub(crate) const fn new(value: T) -> Self {
        UnsafeCell(core::cell::UnsafeCell::new(value))
    }

    pub(crate) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        f(self.0.get())
    }

    pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.0.get())
    }
}

/// Unlocks a mutex: the checker chooses the next thread.
pub(crate) fn unlock_fairly<T>(guard: MutexGuard<'_, T>) {
    drop(guard);
}

#[derive(Debug)]
pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Mutex(shuttle::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        // Poison is ignored: the queue is consistent whenever its mutex is unlocked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock().ok()
    }
}

#[derive(Debug)]
pub(crate) struct Parker(());

#[derive(Clone, Debug)]
pub(crate) struct Unparker(shuttle::thread::Thread);

impl Parker {
    pub(crate) fn new() -> (Self, Unparker) {
        (Parker(()), Unparker(shuttle::thread::current()))
    }

    pub(crate) fn park(&self) {
        shuttle::thread::park();
    }

    /// Returns at once, since shuttle has no clock: every deadline has passed.
    pub(crate) fn park_until(&self, _: Instant) -> bool {
        false
    }
}

impl Unparker {
    pub(crate) fn unpark(&self) {
        self.0.unpark();
    }
}

/// Declares a static of one execution, made at its first use.
macro_rules! global {
    (static $name:ident: $ty:ty = $init:expr;) => {
        shuttle::lazy_static! { static ref $name: $ty = $init; }
    };
    // An initialiser at compile time, where possible: an array of equal elements,
    (const $name:ident: [$ty:ty; $many:expr] = $each:expr;) => {
        shuttle::lazy_static! { static ref $name: [$ty; $many] = core::array::from_fn(|_| $each); }
    };
    // or a single value.
    (const $name:ident: $ty:ty = $init:expr;) => {
        shuttle::lazy_static! { static ref $name: $ty = $init; }
    };
}
pub(crate) use global;

/// Declares a constructor for a static. A checker's atomics are not
/// constant.
macro_rules! constructor {
    ($(#[$meta:meta])* $vis:vis fn $name:ident() -> $ty:ty $body:block) => {
        $(#[$meta])*
        $vis fn $name() -> $ty $body
    };
}
pub(crate) use constructor;

/// Declares a thread-local of plain data. Under shuttle it is an ordinary thread-local.
macro_rules! plain_thread_local {
    (static $name:ident: $ty:ty = $init:expr;) => {
        shuttle::thread_local! { static $name: $ty = $init; }
    };
}
pub(crate) use plain_thread_local;
