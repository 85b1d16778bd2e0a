//! Locks by key that tasks wait for.

use std::future::Future;

use keyed_lock::r#async::KeyedLock;
use latchwork::LockTable;
use lockable::LockPool;

use super::striped::Striped;

/// Something that a task can lock by key.
pub trait AsyncKeyLock: Sync {
    /// Runs `body` while `key` is locked.
    fn hold(&self, key: u64, body: impl FnOnce()) -> impl Future<Output = ()>;
}

/// `LockTable::lock_async`.
#[derive(Debug)]
pub struct AsyncTable(pub LockTable<u64>);

/// An array of tokio's mutexes.
pub type TokioMutexes<const N: usize> = Striped<tokio::sync::Mutex<()>, N>;

/// `keyed-lock`, the asynchronous variant.
#[expect(
    missing_debug_implementations,
    reason = "the crate's own type has none"
)]
pub struct AsyncKeyed(pub KeyedLock<u64>);

/// `lockable`'s `LockPool` by `async_lock`.
#[expect(
    missing_debug_implementations,
    reason = "the crate's own type has none"
)]
pub struct AsyncPool(pub LockPool<u64>);

impl Default for AsyncKeyed {
    fn default() -> Self {
        Self(KeyedLock::new())
    }
}

impl Default for AsyncPool {
    fn default() -> Self {
        Self(LockPool::new())
    }
}

impl AsyncKeyLock for AsyncTable {
    async fn hold(&self, key: u64, body: impl FnOnce()) {
        let _guard = self.0.lock_async(&key).await;
        body();
    }
}

impl<const N: usize> AsyncKeyLock for TokioMutexes<N> {
    async fn hold(&self, key: u64, body: impl FnOnce()) {
        let _guard = self.of(key).lock().await;
        body();
    }
}

impl AsyncKeyLock for AsyncKeyed {
    async fn hold(&self, key: u64, body: impl FnOnce()) {
        let _guard = self.0.lock(key).await;
        body();
    }
}

impl AsyncKeyLock for AsyncPool {
    async fn hold(&self, key: u64, body: impl FnOnce()) {
        let _guard = self.0.async_lock(key).await;
        body();
    }
}
