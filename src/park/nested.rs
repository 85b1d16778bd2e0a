//! Wakers that poll inline: how deep their calls nest on one stack.
//!
//! A waker may poll its task at once. The task may release a lock, which wakes the next task, whose
//! waker does the same. Nested calls would be as deep as the queue is long. Here a thread nests
//! them up to a limit. The innermost call within the limit runs all deeper ones itself, one after
//! the other, in their order.
//!
//! Below the limit nothing changes: each waker runs before the call that notifies it returns. A
//! waker beyond it runs when the waker at the limit has returned. Threads are unparked at once at
//! any depth.
//!
//! # Unwinding
//! If a waker panics, the postponed wakers still run. The call at the limit propagates the first
//! panic. A second panic aborts the process, as among the wakers of one grant.

#[cfg(not(any(latchwork_loom, latchwork_shuttle)))]
mod imp {
    use core::cell::Cell;
    use core::mem::ManuallyDrop;
    use std::collections::VecDeque;
    use std::task::Waker;

    /// The greatest number of nested calls of wakers on one stack. Each uses the stack of a poll.
    /// Not found by measurement.
    const MAX_NESTED: u32 = 16;

    // Neither has a destructor, so that both work in the destructors of other thread-locals. The
    // list is empty, and without memory, unless a waker at the limit runs.
    thread_local! {
        static NESTED: Cell<u32> = const { Cell::new(0) };
        static POSTPONED: Cell<ManuallyDrop<VecDeque<Waker>>> =
            const { Cell::new(ManuallyDrop::new(VecDeque::new())) };
    }

    /// Calls `f` with the postponed wakers, which it must not use.
    fn postponed<R>(f: impl FnOnce(&mut VecDeque<Waker>) -> R) -> R {
        let mut wakers = POSTPONED.take();
        let result = f(&mut wakers);
        POSTPONED.set(wakers);
        result
    }

    /// One nested call, which ends when this is dropped. Only the count records it, which is
    /// cheaper.
    struct Nested;

    impl Nested {
        #[inline(always)]
        fn begin() -> Self {
            NESTED.set(NESTED.get() + 1);
            Nested
        }
    }

    impl Drop for Nested {
        #[inline(always)]
        fn drop(&mut self) {
            NESTED.set(NESTED.get() - 1);
        }
    }

    #[inline]
    pub(in super::super) fn wake(waker: Waker) {
        if NESTED.get() + 1 >= MAX_NESTED {
            return wake_slow(waker);
        }
        let _nested = Nested::begin();
        waker.wake();
    }

    /// The call at the limit, which runs all deeper ones, or one of those.
    #[cold]
    #[inline(never)]
    fn wake_slow(waker: Waker) {
        if NESTED.get() == MAX_NESTED {
            return postponed(|wakers| wakers.push_back(waker));
        }
        let _nested = Nested::begin();
        // Dropped first: if a waker panics, this runs the others.
        let rest = Rest;
        waker.wake();
        run_postponed();
        drop(rest);
    }

    fn run_postponed() {
        while let Some(waker) = postponed(VecDeque::pop_front) {
            waker.wake();
        }
    }

    /// Runs the postponed wakers, and frees the list.
    struct Rest;

    impl Drop for Rest {
        fn drop(&mut self) {
            run_postponed();
            drop(ManuallyDrop::into_inner(POSTPONED.take()));
        }
    }
}

/// A model has no deep queue.
#[cfg(any(latchwork_loom, latchwork_shuttle))]
mod imp {
    use std::task::Waker;

    pub(in super::super) fn wake(waker: Waker) {
        waker.wake();
    }
}

pub(super) use imp::wake;
