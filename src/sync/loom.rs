//! The facade of a loom model.

use core::cell::Cell;
use core::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Instant;

pub(crate) use loom::cell::UnsafeCell;
pub(crate) use loom::hint::spin_loop;
pub(crate) use loom::sync::MutexGuard;
pub(crate) use loom::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64};
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
    // An initialiser at compile time, where possible: an array of equal elements,
    (const $name:ident: [$ty:ty; $many:expr] = $each:expr;) => {
        loom::lazy_static! { static ref $name: [$ty; $many] = core::array::from_fn(|_| $each); }
    };
    // or a single value.
    (const $name:ident: $ty:ty = $init:expr;) => {
        loom::lazy_static! { static ref $name: $ty = $init; }
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

// Under loom every fence is a full one.
pub(crate) use self::full_fence as store_load_fence;

pub(crate) fn publish(word: &AtomicU64, value: u64) -> u64 {
    // Relaxed: as in a real build.
    let before = word.swap(value, Ordering::Relaxed);
    full_fence();
    before
}

pub(crate) fn full_fence() {
    if FENCES_ARE_STEPS.get() {
        // Relaxed: an access at which loom may run other threads. The fence follows.
        FENCES.fetch_add(1, Ordering::Relaxed);
    }
    load_load_fence();
}

pub(crate) fn load_load_fence() {
    // SeqCst: pairs with itself in the other thread.
    loom::sync::atomic::fence(Ordering::SeqCst);
}

/// Makes each fence a step of its own, in this execution and later ones.
///
/// loom runs a fence together with the access before it, so that no other thread runs between the
/// two. After this call other threads can run there, at a cost in executions.
pub(crate) fn make_fences_steps() {
    FENCES_ARE_STEPS.set(true);
    // Made here, so that its creation happens before every use.
    let _ = &*FENCES;
}

global! {
    const FENCES: AtomicU32 = AtomicU32::new(0);
}

std::thread_local! {
    /// To the system, all threads of a model are one.
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

/// Unlocks a mutex: the checker chooses the next thread.
pub(crate) fn unlock_fairly<T>(guard: MutexGuard<'_, T>) {
    drop(guard);
}

/// loom's mutex with the signature of `parking_lot`'s. A model that panics fails, so poison is
/// ignored.
#[derive(Debug)]
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Mutex(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap()
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock().ok()
    }
}

/// loom's `Notify` instead of its `park`, whose token does not survive other uses in a model.
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

    /// Returns at once, since a model has no clock: every deadline has passed.
    pub(crate) fn park_until(&self, _: Instant) -> bool {
        false
    }
}

impl Unparker {
    pub(crate) fn unpark(&self) {
        self.0.notify();
    }
}

/// Declares a thread-local of plain data. Under loom it is an ordinary thread-local.
macro_rules! plain_thread_local {
    (static $name:ident: $ty:ty = $init:expr;) => {
        loom::thread_local! { static $name: $ty = $init; }
    };
}
pub(crate) use plain_thread_local;
