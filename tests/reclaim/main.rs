//! When replaced values are dropped. Reclamation is one for the whole process, so that tests take
//! turns.
#![cfg(not(any(latchwork_loom, latchwork_shuttle)))]

#[path = "../common/mod.rs"]
mod common;

mod bounds;
mod garbage;
mod links;
mod values;

use std::cell::RefCell;
use std::sync::{Mutex, MutexGuard, PoisonError};

thread_local! {
    /// Registered before the thread-locals of the crate, and so dropped after them: a thread that
    /// ends hands its garbage to others.
    static TURN: RefCell<Option<MutexGuard<'static, ()>>> = const { RefCell::new(None) };
}

/// Waits until the threads of the other tests have ended. From then on no other test uses the
/// crate, until this thread ends.
fn turn() {
    static ALONE: Mutex<()> = Mutex::new(());
    TURN.with_borrow_mut(|turn| {
        // One thread runs all tests where that is asked for.
        turn.get_or_insert_with(|| ALONE.lock().unwrap_or_else(PoisonError::into_inner));
    });
    latchwork::flush();
}
