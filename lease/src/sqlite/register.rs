//! The number of engines that this process has open, so that a child of a fork opens none.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use crate::engine::EngineError;

static REGISTER: Mutex<Register> = Mutex::new(Register { open: 0 });

/// The process that opened an engine first, or zero. A child of a fork inherits it.
static FIRST_PROCESS: AtomicU32 = AtomicU32::new(0);

/// The engines that are open in this process.
#[derive(Debug)]
pub(super) struct Register {
    open: usize,
}

/// The entry of one engine. Its drop removes it.
#[derive(Debug)]
pub(super) struct Registration(());

/// Locks the register, including against other threads that open a file.
///
/// # Errors
/// Returns an error in the child of a fork whose parent had a file open or was opening one.
pub(super) fn lock(limit: Duration) -> Result<MutexGuard<'static, Register>, EngineError> {
    let process = std::process::id();
    // SQLite's records of its locks are inherited, and the locks are not.
    let inherited = || {
        EngineError::misconfigured(
            "the parent process had a SQLite engine open before the fork; execute a program, or \
             fork before an engine is opened",
        )
    };
    // Relaxed: only a fork separates two processes, and it copies the value.
    let first = FIRST_PROCESS.compare_exchange(0, process, Ordering::Relaxed, Ordering::Relaxed);
    let is_child = first.is_err_and(|first| first != process);
    if is_child {
        // The thread of the parent that has the lock, if one has, is not in this process.
        let register = REGISTER.try_lock().ok_or_else(inherited)?;
        if register.open > 0 {
            return Err(inherited());
        }
        // Relaxed: as above.
        FIRST_PROCESS.store(process, Ordering::Relaxed);
        return Ok(register);
    }
    let Some(register) = REGISTER.try_lock_for(limit) else {
        return Err(EngineError::not_done(
            "another thread is still opening a SQLite engine",
        ));
    };
    Ok(register)
}

impl Register {
    pub(super) fn add(&mut self) -> Registration {
        self.open += 1;
        Registration(())
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        REGISTER.lock().open -= 1;
    }
}
