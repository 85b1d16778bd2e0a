//! The facade of a real build.

use std::time::Instant;

#[cfg(not(latchwork_noise))]
pub(crate) use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64};
#[cfg(not(latchwork_noise))]
pub(crate) use parking_lot::Mutex;

#[cfg(latchwork_noise)]
pub(crate) use super::noise::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Mutex};

pub(crate) use core::hint::spin_loop;
pub(crate) use std::thread::yield_now;

/// Orders the caller's last compare-and-swap before its next load, in the single order of all such
/// fences (store buffering).
#[inline(always)]
pub(crate) fn store_load_fence() {
    use core::sync::atomic::{Ordering, compiler_fence, fence};
    if cfg!(any(target_arch = "x86", target_arch = "x86_64")) {
        // SeqCst: here a compare-and-swap is a full barrier by itself (Intel SDM vol. 3, 9.2.3.9;
        // AMD APM vol. 2, 7.2), so only the compiler must be stopped. An `mfence` costs as much as
        // the compare-and-swap.
        compiler_fence(Ordering::SeqCst);
    } else {
        // SeqCst: pairs with itself in the other thread.
        fence(Ordering::SeqCst);
    }
}

/// Stores `value`, and orders the store and all before it before the caller's later loads, in the
/// single order of all fences. Returns the value before. Other threads change `word` by
/// read-modify-writes only, so what the caller has released through it stays released.
#[inline(always)]
pub(crate) fn publish(word: &AtomicU64, value: u64) -> u64 {
    use core::sync::atomic::{Ordering, compiler_fence, fence};
    if cfg!(any(target_arch = "x86", target_arch = "x86_64")) {
        // SeqCst: here an exchange is a full barrier by itself, as a compare-and-swap is (above),
        // and cheaper than an `mfence`.
        // Relaxed: the instruction orders, and the compiler is stopped below.
        let before = word.swap(value, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        before
    } else {
        // Relaxed: a read-modify-write continues the release sequence of the store before it.
        let before = word.swap(value, Ordering::Relaxed);
        // SeqCst: pairs with itself, and with `full_fence`, in the other thread.
        fence(Ordering::SeqCst);
        before
    }
}

/// Orders the loads before it and those after it, in the single order of all fences.
#[inline(always)]
pub(crate) fn load_load_fence() {
    use core::sync::atomic::{Ordering, compiler_fence, fence};
    if cfg!(any(target_arch = "x86", target_arch = "x86_64")) {
        // SeqCst: here loads are not reordered, and all cores see stores in one order (Intel SDM
        // vol. 3, 9.2.3.2 and 9.2.3.7).
        compiler_fence(Ordering::SeqCst);
    } else {
        // SeqCst: two readers agree on the order of two writes.
        fence(Ordering::SeqCst);
    }
}

/// Sleeps for about as long as the scheduler needs to run the thread again.
pub(crate) fn nap() {
    std::thread::sleep(core::time::Duration::from_micros(50));
}

/// Orders the caller's earlier loads and stores before its next load, in the single order of all
/// fences.
pub(crate) fn full_fence() {
    // SeqCst: pairs with itself, and with `store_load_fence`, in the other thread.
    core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
}

/// Orders the caller's earlier loads and stores before its later stores.
///
/// A thread that loads such a store and then passes [`acquire_fence`] observes the order.
#[inline(always)]
pub(crate) fn release_fence() {
    // Release: pairs with the one in `acquire_fence`.
    core::sync::atomic::fence(core::sync::atomic::Ordering::Release);
}

/// Orders the caller's earlier loads before its later accesses.
///
/// If such a load has read a store behind a [`release_fence`], the accesses follow all before that
/// fence.
#[inline(always)]
pub(crate) fn acquire_fence() {
    // Acquire: pairs with the one in `release_fence`.
    core::sync::atomic::fence(core::sync::atomic::Ordering::Acquire);
}

/// Unlocks a mutex, and hands it to a thread that waits for it. A thread that locks it again at
/// once would otherwise keep the others out for half a millisecond.
#[inline]
pub(crate) fn unlock_fairly<T>(guard: parking_lot::MutexGuard<'_, T>) {
    parking_lot::MutexGuard::unlock_fair(guard);
}

/// A cell whose accesses loom can observe. Here it is that of `core`.
#[derive(Debug)]
pub(crate) struct UnsafeCell<T>(core::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    pub(crate) const fn new(value: T) -> Self {
        UnsafeCell(core::cell::UnsafeCell::new(value))
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }

    #[inline(always)]
    pub(crate) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        f(self.0.get())
    }

    #[inline(always)]
    pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.0.get())
    }
}

/// Parks the thread that made it.
#[derive(Debug)]
pub(crate) struct Parker(());

/// Ends one present or future park of a thread.
#[derive(Clone, Debug)]
pub(crate) struct Unparker(std::thread::Thread);

impl Parker {
    pub(crate) fn new() -> (Self, Unparker) {
        (Parker(()), Unparker(std::thread::current()))
    }

    /// Blocks until unparked; may return early.
    pub(crate) fn park(&self) {
        std::thread::park();
    }

    /// Parks as `park` does, but returns `false` at once when `deadline` has passed.
    pub(crate) fn park_until(&self, deadline: Instant) -> bool {
        let now = super::now();
        if now >= deadline {
            return false;
        }
        std::thread::park_timeout(deadline - now);
        true
    }
}

impl Unparker {
    pub(crate) fn unpark(&self) {
        self.0.unpark();
    }
}

pub(crate) use std::thread_local;

/// Declares a thread-local of plain data, made at compile time. It has no destructor, so it exists,
/// and is unchanged, in the destructors of other thread-locals.
macro_rules! plain_thread_local {
    (static $name:ident: $ty:ty = $init:expr;) => {
        std::thread_local! { static $name: $ty = const { $init }; }
        const _: () = assert!(!core::mem::needs_drop::<$ty>());
    };
}
pub(crate) use plain_thread_local;

/// Declares a static that is made at its first use.
macro_rules! global {
    (static $name:ident: $ty:ty = $init:expr;) => {
        static $name: std::sync::LazyLock<$ty> = std::sync::LazyLock::new(|| $init);
    };
    // An initialiser at compile time, where possible: an array of equal elements,
    (const $name:ident: [$ty:ty; $many:expr] = $each:expr;) => {
        static $name: [$ty; $many] = [const { $each }; $many];
    };
    // or a single value.
    (const $name:ident: $ty:ty = $init:expr;) => {
        static $name: $ty = $init;
    };
}
pub(crate) use global;

/// Declares a constructor for a static: a constant function.
macro_rules! constructor {
    ($(#[$meta:meta])* $vis:vis fn $name:ident() -> $ty:ty $body:block) => {
        $(#[$meta])*
        $vis const fn $name() -> $ty $body
    };
}
pub(crate) use constructor;
