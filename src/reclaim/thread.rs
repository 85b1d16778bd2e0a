//! The name of a thread.

use core::cell::Cell;

use crate::sync::{Counter, plain_thread_local};

plain_thread_local! {
    // The name of the thread, 0 before its first use. It does not change while the thread is torn
    // down and each call of `with` makes another `Local` [R9].
    static THREAD: Cell<usize> = Cell::new(0);
}

/// The name of the calling thread, that no other thread has, ended threads included. After a fork
/// the child has the name of the thread that forked.
pub(super) fn name() -> usize {
    static NAMES: Counter = Counter::new();
    THREAD.with(|name| {
        if name.get() == 0 {
            name.set(NAMES.next() as usize + 1);
        }
        name.get()
    })
}
