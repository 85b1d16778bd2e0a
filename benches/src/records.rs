//! Records by key, of which one is read or changed at a time: the operations of the YCSB on a
//! key-value store.
//!
//! A record is a counter, so that only the access is measured; a record of a kilobyte would hide
//! it. All keys exist from the start, and none is inserted or removed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use latchwork::{LockTable, RandomState, VersionedCell, atomically};
use lockmap::LockMap;
use parking_lot::{Mutex, RwLock};
use stm::TVar;

/// Records, each of which is read and changed as if no other thread did.
pub trait Records: Sync {
    /// Makes a record at zero for each of `keys`.
    fn of(keys: &[u64]) -> Self;

    /// Returns the record.
    fn read(&self, key: u64) -> u64;

    /// Adds one to the record.
    fn bump(&self, key: u64);
}

/// A map that never changes, of what can be changed.
type Fixed<T> = HashMap<u64, T, RandomState>;

fn fixed<T>(keys: &[u64], make: impl Fn() -> T) -> Fixed<T> {
    keys.iter().map(|&key| (key, make())).collect()
}

/// A cell for each key.
#[derive(Debug)]
pub struct Cells(Fixed<VersionedCell<u64>>);

/// The same cells, read and changed in transactions.
#[derive(Debug)]
pub struct Transactions(Fixed<VersionedCell<u64>>);

/// A variable of the `stm` crate for each key.
#[expect(
    missing_debug_implementations,
    reason = "the crate's own type has none"
)]
pub struct Stm(Fixed<TVar<u64>>);

/// A [`LockTable`] beside a map of records that nothing else protects.
#[derive(Debug)]
pub struct ByTable {
    locks: LockTable<u64>,
    // Atomic so that no `unsafe` is needed.
    records: Fixed<AtomicU64>,
}

/// A reader-writer lock for each key.
#[derive(Debug)]
pub struct RwLocks(Fixed<RwLock<u64>>);

/// A mutex of the standard library for each key.
#[derive(Debug)]
pub struct StdMutexes(Fixed<std::sync::Mutex<u64>>);

/// A reader-writer lock of the standard library for each key.
#[derive(Debug)]
pub struct StdRwLocks(Fixed<std::sync::RwLock<u64>>);

/// One reader-writer lock for all keys.
#[derive(Debug)]
pub struct OneRwLock(RwLock<Fixed<u64>>);

/// One mutex for all keys.
#[derive(Debug)]
pub struct OneMutex(Mutex<Fixed<u64>>);

/// `dashmap`, which locks a shard of its map.
#[derive(Debug)]
pub struct Dash(DashMap<u64, u64, RandomState>);

/// `scc::HashMap`, which locks a bucket of its map.
#[derive(Debug)]
pub struct Scc(scc::HashMap<u64, u64, RandomState>);

/// `lockmap`, which locks the entry.
#[derive(Debug)]
pub struct Lockmap(LockMap<u64, u64, RandomState>);

const THERE: &str = "every key has a record";

impl Records for Cells {
    fn of(keys: &[u64]) -> Self {
        Self(fixed(keys, || VersionedCell::new(0)))
    }

    fn read(&self, key: u64) -> u64 {
        *self.0[&key].read()
    }

    fn bump(&self, key: u64) {
        self.0[&key].update(|record| record + 1);
    }
}

impl Records for Transactions {
    fn of(keys: &[u64]) -> Self {
        Self(fixed(keys, || VersionedCell::new(0)))
    }

    fn read(&self, key: u64) -> u64 {
        let record = &self.0[&key];
        atomically(|tx| tx.read(record).copied())
    }

    fn bump(&self, key: u64) {
        let record = &self.0[&key];
        atomically(|tx| tx.update(record, |record| record + 1));
    }
}

impl Records for Stm {
    fn of(keys: &[u64]) -> Self {
        Self(fixed(keys, || TVar::new(0)))
    }

    fn read(&self, key: u64) -> u64 {
        let record = &self.0[&key];
        stm::atomically(|tx| record.read(tx))
    }

    fn bump(&self, key: u64) {
        let record = &self.0[&key];
        stm::atomically(|tx| record.modify(tx, |record| record + 1));
    }
}

impl Records for ByTable {
    fn of(keys: &[u64]) -> Self {
        Self {
            locks: LockTable::new(),
            records: fixed(keys, || AtomicU64::new(0)),
        }
    }

    fn read(&self, key: u64) -> u64 {
        let _guard = self.locks.lock_shared(&key);
        // Relaxed: the lock orders it.
        self.records[&key].load(Ordering::Relaxed)
    }

    fn bump(&self, key: u64) {
        let _guard = self.locks.lock(&key);
        let record = &self.records[&key];
        // Relaxed, and in two steps: nothing but the lock keeps a count from being lost.
        record.store(record.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}

impl Records for RwLocks {
    fn of(keys: &[u64]) -> Self {
        Self(fixed(keys, RwLock::default))
    }

    fn read(&self, key: u64) -> u64 {
        *self.0[&key].read()
    }

    fn bump(&self, key: u64) {
        *self.0[&key].write() += 1;
    }
}

impl Records for StdMutexes {
    fn of(keys: &[u64]) -> Self {
        Self(fixed(keys, Default::default))
    }

    fn read(&self, key: u64) -> u64 {
        *self.0[&key].lock().expect("nobody panics")
    }

    fn bump(&self, key: u64) {
        *self.0[&key].lock().expect("nobody panics") += 1;
    }
}

impl Records for StdRwLocks {
    fn of(keys: &[u64]) -> Self {
        Self(fixed(keys, Default::default))
    }

    fn read(&self, key: u64) -> u64 {
        *self.0[&key].read().expect("nobody panics")
    }

    fn bump(&self, key: u64) {
        *self.0[&key].write().expect("nobody panics") += 1;
    }
}

impl Records for OneRwLock {
    fn of(keys: &[u64]) -> Self {
        Self(RwLock::new(fixed(keys, || 0)))
    }

    fn read(&self, key: u64) -> u64 {
        self.0.read()[&key]
    }

    fn bump(&self, key: u64) {
        *self.0.write().get_mut(&key).expect(THERE) += 1;
    }
}

impl Records for OneMutex {
    fn of(keys: &[u64]) -> Self {
        Self(Mutex::new(fixed(keys, || 0)))
    }

    fn read(&self, key: u64) -> u64 {
        self.0.lock()[&key]
    }

    fn bump(&self, key: u64) {
        *self.0.lock().get_mut(&key).expect(THERE) += 1;
    }
}

impl Records for Dash {
    fn of(keys: &[u64]) -> Self {
        Self(keys.iter().map(|&key| (key, 0)).collect())
    }

    fn read(&self, key: u64) -> u64 {
        *self.0.get(&key).expect(THERE)
    }

    fn bump(&self, key: u64) {
        *self.0.get_mut(&key).expect(THERE) += 1;
    }
}

impl Records for Scc {
    fn of(keys: &[u64]) -> Self {
        let map = scc::HashMap::with_capacity_and_hasher(keys.len(), RandomState::default());
        for &key in keys {
            map.insert_sync(key, 0).expect("keys are distinct");
        }
        Self(map)
    }

    fn read(&self, key: u64) -> u64 {
        self.0.read_sync(&key, |_, record| *record).expect(THERE)
    }

    fn bump(&self, key: u64) {
        self.0
            .update_sync(&key, |_, record| *record += 1)
            .expect(THERE);
    }
}

impl Records for Lockmap {
    fn of(keys: &[u64]) -> Self {
        let map = LockMap::with_capacity_and_hasher(keys.len(), RandomState::default());
        for &key in keys {
            map.insert(key, 0);
        }
        Self(map)
    }

    fn read(&self, key: u64) -> u64 {
        self.0.get(&key).expect(THERE)
    }

    fn bump(&self, key: u64) {
        *self.0.entry(key).or_insert(0) += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::workload::distinct_keys;

    fn holds<R: Records>() {
        let keys = &distinct_keys(4, 1);
        let records = &R::of(keys);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for &key in keys.iter().cycle().take(4_000) {
                        records.bump(key);
                    }
                });
            }
        });
        for &key in keys {
            assert_eq!(records.read(key), 2_000);
        }
    }

    #[test]
    fn no_record_loses_an_update() {
        holds::<Cells>();
        holds::<Transactions>();
        holds::<Stm>();
        holds::<ByTable>();
        holds::<RwLocks>();
        holds::<StdMutexes>();
        holds::<StdRwLocks>();
        holds::<OneRwLock>();
        holds::<OneMutex>();
        holds::<Dash>();
        holds::<Scc>();
        holds::<Lockmap>();
    }
}
