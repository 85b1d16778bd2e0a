//! Maps by their public interface.

#[path = "../common/mod.rs"]
mod common;

mod bad_input;
mod batch;
mod calls;
mod locks;
mod properties;
mod room;
mod txn;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A pin of one test would hold back what another one counts.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}
