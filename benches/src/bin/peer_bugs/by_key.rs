//! Locks by key, behind two traits: for threads and for tasks.

use std::future::Future;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use latchwork::LockTable;

/// A key that counts the living keys of its kind, and so how many a table still keeps.
#[derive(Clone, Debug)]
pub(crate) struct Tracked {
    id: u64,
    _alive: Arc<()>,
}

impl PartialEq for Tracked {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Tracked {}

impl Hash for Tracked {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

/// Makes tracked keys.
#[derive(Debug, Default)]
pub(crate) struct Keys(Arc<()>);

impl Keys {
    pub(crate) fn key(&self, id: u64) -> Tracked {
        Tracked {
            id,
            _alive: self.0.clone(),
        }
    }

    /// How many keys exist that this did not drop.
    fn alive(&self) -> u64 {
        Arc::strong_count(&self.0) as u64 - 1
    }
}

/// A lock by key for threads.
pub(crate) trait Threads: Default + Send + Sync + 'static {
    fn hold(&self, key: Tracked, body: impl FnOnce());

    /// The call that cleans up, if there is one.
    fn clean(&self) {}

    /// How many entries are there, given the keys that were used.
    fn left(&self, keys: &Keys) -> u64 {
        keys.alive()
    }
}

/// A lock by key for tasks.
pub(crate) trait Tasks: Default + Send + 'static {
    fn lock(&self, key: Tracked) -> impl Future<Output = impl Sized>;

    fn left(&self, keys: &Keys) -> u64 {
        keys.alive()
    }
}

pub(crate) struct KeyedThreads(keyed_lock::sync::KeyedLock<Tracked>);
pub(crate) struct KeyedTasks(keyed_lock::r#async::KeyedLock<Tracked>);
pub(crate) struct Lockable(lockable::LockPool<Tracked>);
pub(crate) struct Lockmap(lockmap::LockMap<Tracked, ()>);
#[derive(Default)]
pub(crate) struct KeyLock(key_lock::KeyLock<Tracked>);
pub(crate) struct KeyMutexThreads(key_mutex::KeyMutex<Tracked, ()>);
pub(crate) struct KeyMutexTasks(key_mutex::tokio::KeyMutex<Tracked, ()>);
#[derive(Default)]
pub(crate) struct Latchwork(LockTable<u64>);

/// Gives a wrapper `Default` where the crate has only `new`.
macro_rules! made_by_new {
    ($($wrapper:ident: $inner:ty),*) => {
        $(impl Default for $wrapper {
            fn default() -> Self {
                Self(<$inner>::new())
            }
        })*
    };
}

made_by_new!(
    KeyedThreads: keyed_lock::sync::KeyedLock<Tracked>,
    KeyedTasks: keyed_lock::r#async::KeyedLock<Tracked>,
    Lockable: lockable::LockPool<Tracked>,
    Lockmap: lockmap::LockMap<Tracked, ()>,
    KeyMutexThreads: key_mutex::KeyMutex<Tracked, ()>,
    KeyMutexTasks: key_mutex::tokio::KeyMutex<Tracked, ()>
);

impl Threads for KeyedThreads {
    fn hold(&self, key: Tracked, body: impl FnOnce()) {
        let _guard = self.0.lock(key);
        body();
    }
}

impl Threads for Lockable {
    fn hold(&self, key: Tracked, body: impl FnOnce()) {
        let _guard = self.0.blocking_lock(key);
        body();
    }
}

impl Threads for Lockmap {
    fn hold(&self, key: Tracked, body: impl FnOnce()) {
        let _entry = self.0.entry(key);
        body();
    }
}

impl Threads for KeyLock {
    fn hold(&self, key: Tracked, body: impl FnOnce()) {
        let _guard = self.0.blocking_lock(key);
        body();
    }

    fn clean(&self) {
        self.0.blocking_clean();
    }
}

impl Threads for KeyMutexThreads {
    fn hold(&self, key: Tracked, body: impl FnOnce()) {
        let _guard = self.0.lock(key).expect("nobody panics");
        body();
    }
}

impl Threads for Latchwork {
    fn hold(&self, key: Tracked, body: impl FnOnce()) {
        let _guard = self.0.lock(&key.id);
        body();
    }

    fn left(&self, _: &Keys) -> u64 {
        entries(&self.0)
    }
}

impl Tasks for KeyedTasks {
    fn lock(&self, key: Tracked) -> impl Future<Output = impl Sized> {
        self.0.lock(key)
    }
}

impl Tasks for Lockable {
    fn lock(&self, key: Tracked) -> impl Future<Output = impl Sized> {
        self.0.async_lock(key)
    }
}

impl Tasks for KeyMutexTasks {
    fn lock(&self, key: Tracked) -> impl Future<Output = impl Sized> {
        self.0.lock(key)
    }
}

impl Tasks for KeyLock {
    fn lock(&self, key: Tracked) -> impl Future<Output = impl Sized> {
        self.0.lock(key)
    }
}

impl Tasks for Latchwork {
    fn lock(&self, key: Tracked) -> impl Future<Output = impl Sized> {
        self.0.lock_async(&key.id)
    }

    fn left(&self, _: &Keys) -> u64 {
        entries(&self.0)
    }
}

/// The memory of a table of ours: keys that are held, monitors, and bytes that an empty table does
/// not have.
fn entries(table: &LockTable<u64>) -> u64 {
    let stats = table.stats();
    let empty = LockTable::<u64>::new().stats().index_bytes;
    let grown = u64::from(stats.index_bytes > empty);
    (table.locked_count() + stats.monitors + stats.waiting) as u64 + grown
}
