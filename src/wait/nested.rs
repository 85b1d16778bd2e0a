//! Wakers that poll inline: how deep their calls nest on one stack.
//!
//! A waker may poll its task at once, and the task may unlock what the next task waits for, whose waker does the same. Nested
//! calls would be as deep as the queue is long. Here a thread nests them up to a limit. The innermost call that it
//! makes runs all deeper ones itself, one after the other, in the order in which they were due.
//!
//! Below the limit nothing changes: each waker runs before the call that notifies it returns. A waker beyond it runs when the
//! waker at the limit has returned. Threads are unparked at once at any depth.
//!
//! # Unwinding
//! A waker that panics does not keep the postponed ones from running. The first panic is passed on, by the call at the limit; a
//! second panic aborts the process, as it does among the wakers of one grant.

use std::task::Waker;

#[cfg(not(any(latchwork_loom, latchwork_shuttle)))]
mod imp {
    use core::cell::Cell;
    use core::mem::ManuallyDrop;
    use std::collections::VecDeque;

    use super::Waker;

    /// Calls of wakers that one stack nests. Each takes the stack of a poll. Not found by measurement.
    const MAX_NESTED: u32 = 16;

    // Neither has a destructor, so that both work in the destructors of other thread-locals. The list is empty, and without
    // memory, unless a waker at the limit runs.
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

    /// Ends a nested call; the one at the limit runs what is postponed, also if its own waker panicked.
    struct Nested {
        outer: u32,
    }

    impl Nested {
        fn run_postponed(&self) {
            if self.outer + 1 == MAX_NESTED {
                while let Some(waker) = postponed(VecDeque::pop_front) {
                    waker.wake();
                }
            }
        }
    }

    impl Drop for Nested {
        fn drop(&mut self) {
            self.run_postponed();
            if self.outer + 1 == MAX_NESTED {
                drop(ManuallyDrop::into_inner(POSTPONED.take()));
            }
            NESTED.set(self.outer);
        }
    }

    pub(in super::super) fn wake(waker: Waker) {
        let outer = NESTED.get();
        if outer == MAX_NESTED {
            return postponed(|wakers| wakers.push_back(waker));
        }
        let nested = Nested { outer };
        NESTED.set(outer + 1);
        waker.wake();
        // Here and not only in the destructor, so that a waker that panics leaves the rest to that.
        nested.run_postponed();
    }
}

/// A model has no queue that is deep.
#[cfg(any(latchwork_loom, latchwork_shuttle))]
mod imp {
    use super::Waker;

    pub(in super::super) fn wake(waker: Waker) {
        waker.wake();
    }
}

pub(super) use imp::wake;
