//! The engines that this process has open: their number, so that a child of a fork opens none, and
//! the turns of their writers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Weak};
use std::time::Duration;

use parking_lot::{FairMutex, Mutex, MutexGuard};

use crate::engine::EngineError;

use super::file::Identity;

static REGISTER: LazyLock<Mutex<Register>> = LazyLock::new(Mutex::default);

/// The process that opened an engine first, or zero. A child of a fork inherits it.
static FIRST_PROCESS: AtomicU32 = AtomicU32::new(0);

/// The engines that are open in this process.
#[derive(Debug, Default)]
pub(super) struct Register {
    open: usize,
    turns: HashMap<Identity, Weak<Turn>>,
}

/// The turn of a writer among the threads of this process that write one file.
///
/// SQLite's lock for writers has no queue: a thread polls it, and may miss its time limit while
/// others write. Here threads write in the order of their calls [Q6].
pub(super) type Turn = FairMutex<()>;

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

    /// Returns the turns of the writers of a file.
    pub(super) fn turn(&mut self, file: Identity) -> Arc<Turn> {
        self.turns.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = self.turns.get(&file).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::new(Turn::default());
        self.turns.insert(file, Arc::downgrade(&turn));
        turn
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        REGISTER.lock().open -= 1;
    }
}
