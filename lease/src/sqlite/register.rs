//! The number of engines that this process has open, so that a child of a fork opens none.

use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use crate::engine::EngineError;

static REGISTER: Mutex<Register> = Mutex::new(Register {
    process: 0,
    open: 0,
});

/// The engines that are open in the process `process`.
#[derive(Debug)]
pub(super) struct Register {
    process: u32,
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
    let Some(mut register) = REGISTER.try_lock_for(limit) else {
        return Err(EngineError::not_done(
            "another thread, of this process or of its parent before a fork, opens an engine",
        ));
    };
    let process = std::process::id();
    if register.process != process {
        // SQLite's records of its locks are inherited, and the locks are not.
        if register.open > 0 {
            return Err(EngineError::misconfigured(
                "the parent process had a SQLite engine open before the fork; execute a program, \
                 or fork before an engine is opened",
            ));
        }
        register.process = process;
    }
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
