//! Locks by key that have two modes.

use latchwork::{LockTable, Mode};

use super::{PaddedRwLocks, PaddedStdRwLocks};

/// A structure that can be locked by key, exclusively or shared.
pub trait ModeLock: Sync {
    /// Runs `body` while `key` is locked in `mode`.
    fn hold_in<R>(&self, key: u64, mode: Mode, body: impl FnOnce() -> R) -> R;
}

impl ModeLock for LockTable<u64> {
    #[inline]
    fn hold_in<R>(&self, key: u64, mode: Mode, body: impl FnOnce() -> R) -> R {
        match mode {
            Mode::Exclusive => {
                let _guard = self.lock(&key);
                body()
            }
            Mode::Shared => {
                let _guard = self.lock_shared(&key);
                body()
            }
        }
    }
}

impl<const N: usize> ModeLock for PaddedRwLocks<N> {
    #[inline]
    fn hold_in<R>(&self, key: u64, mode: Mode, body: impl FnOnce() -> R) -> R {
        match mode {
            Mode::Exclusive => {
                let _guard = self.of(key).write();
                body()
            }
            Mode::Shared => {
                let _guard = self.of(key).read();
                body()
            }
        }
    }
}

impl<const N: usize> ModeLock for PaddedStdRwLocks<N> {
    #[inline]
    fn hold_in<R>(&self, key: u64, mode: Mode, body: impl FnOnce() -> R) -> R {
        match mode {
            Mode::Exclusive => {
                let _guard = self.of(key).write().expect("nobody panics");
                body()
            }
            Mode::Shared => {
                let _guard = self.of(key).read().expect("nobody panics");
                body()
            }
        }
    }
}
