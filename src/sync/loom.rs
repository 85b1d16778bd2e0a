//! The facade of a loom model.

use core::cell::Cell;
use core::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Instant;

pub(crate) use loom::cell::UnsafeCell;
pub(crate) use loom::hint::spin_loop;
pub(crate) use loom::sync::MutexGuard;
pub(crate) use loom::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64};
pub(crate) use loom::thread::yield_now;
pub(crate) use loom::thread_local;

pub(crate) fn nap() {
    yield_now();
}

/// Declares a static of one execution, made at its first use.
macro_rules! global {
    (static $name:ident: $ty:ty = $init:expr;) => {
        loom::lazy_static! { static ref $name: $ty = $init; }
    };
    // Of what can be made at compile time, where it can: each of so many,
    (const $name:ident: [$ty:ty; $many:expr] = $each:expr;) => {
        loom::lazy_static! { static ref $name: [$ty; $many] = core::array::from_fn(|_| $each); }
    };
    // or the one that there is.
    (const $name:ident: $ty:ty = $init:expr;) => {
        loom::lazy_static! { static ref $name: $ty = $init; }
    };
}
pub(crate) use global;

// Here every fence is a whole one.
pub(crate) use self::full_fence as store_load_fence;

pub(crate) fn full_fence() {
    if FENCES_ARE_STEPS.get() {
        // Relaxed: an access, for loom to let others run before it. What follows fences.
        FENCES.fetch_add(1, Ordering::Relaxed);
    }
    load_load_fence();
}

pub(crate) fn load_load_fence() {
    // SeqCst: pairs with itself in the other thread.
    loom::sync::atomic::fence(Ordering::SeqCst);
}

/// loom runs a fence together with the access before it, so that nobody else ever comes between the two. From now on, in this
/// execution and later ones, others do, at a price in executions.
pub(crate) fn make_fences_steps() {
    FENCES_ARE_STEPS.set(true);
    // Made here: whoever makes it comes before all who use it.
    let _ = &*FENCES;
}

global! {
    const FENCES: AtomicU32 = AtomicU32::new(0);
}

std::thread_local! {
    /// All threads of a model are one to the system.
    static FENCES_ARE_STEPS: Cell<bool> = const { Cell::new(false) };
}

pub(crate) fn release_fence() {
    // Release: as in a real build.
    loom::sync::atomic::fence(Ordering::Release);
}

pub(crate) fn acquire_fence() {
    // Acquire: as in a real build.
    loom::sync::atomic::fence(Ordering::Acquire);
}

/// loom's mutex with `parking_lot`'s signature: a model that panics fails, so poison is no news.
#[derive(Debug)]
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Mutex(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap()
    }
}

/// loom's `Notify` and not its `park`, whose token does not survive other uses in a model.
#[derive(Debug)]
pub(crate) struct Parker(Arc<loom::sync::Notify>);

#[derive(Clone, Debug)]
pub(crate) struct Unparker(Arc<loom::sync::Notify>);

impl Parker {
    pub(crate) fn new() -> (Self, Unparker) {
        let notify = Arc::new(loom::sync::Notify::new());
        (Parker(notify.clone()), Unparker(notify))
    }

    pub(crate) fn park(&self) {
        self.0.wait();
    }

    /// There is no clock in a model: every deadline has passed.
    pub(crate) fn park_until(&self, _: Instant) -> bool {
        false
    }
}

impl Unparker {
    pub(crate) fn unpark(&self) {
        self.0.notify();
    }
}

/// Declares what each thread keeps of plain data. Here it is a thread-local like any other.
macro_rules! plain_thread_local {
    (static $name:ident: $ty:ty = $init:expr;) => {
        loom::thread_local! { static $name: $ty = $init; }
    };
}
pub(crate) use plain_thread_local;
