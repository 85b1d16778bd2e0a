//! Locks by key, taken by threads in every way there is.
#![allow(unsafe_code, reason = "plain memory that only the locks protect")]

use std::cell::UnsafeCell;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::yield_now;
use std::time::Duration;

use latchwork::{Fairness, LockTable, Mode, table::ExclusiveGuard};

use super::{Structure, Total, equal};
use crate::Plant;
use crate::crew::Worker;

/// Keys that protect something.
pub(super) const KEYS: u64 = 48;

/// Leaves so many zeros below an integer key, so that keys meet on their way through the index.
#[derive(Clone, Copy, Debug)]
pub(super) struct Above(pub(super) u32);

/// The hasher of [`Above`].
pub(super) struct Shifted(u64, u32);

impl BuildHasher for Above {
    type Hasher = Shifted;

    fn build_hasher(&self) -> Shifted {
        Shifted(0, self.0)
    }
}

impl Hasher for Shifted {
    fn finish(&self) -> u64 {
        self.0 << self.1
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are integers");
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

pub(super) type Table = LockTable<u64, Above>;

/// A table that says what it looked like before it was used.
pub(super) struct Fresh {
    pub(super) table: Arc<Table>,
    bytes: usize,
}

impl Fresh {
    pub(super) fn new(fairness: Fairness, hasher: Above) -> Self {
        let builder = LockTable::builder().hasher(hasher).fairness(fairness);
        let table: Table = builder.expected_locks(64).build();
        let bytes = table.stats().index_bytes;
        Fresh {
            table: Arc::new(table),
            bytes,
        }
    }

    /// Whether nothing is left of what it has been through.
    pub(super) fn check(&self) -> Result<(), String> {
        let stats = self.table.stats();
        equal("keys held", self.table.locked_count(), 0)?;
        equal("waiters", stats.waiting, 0)?;
        equal("monitors", stats.monitors, 0)?;
        equal("bytes of the index", stats.index_bytes, self.bytes)
    }
}

/// What a key protects: two numbers that are written one after the other, in plain memory, so that
/// ThreadSanitizer sees whether the lock orders them.
#[derive(Default)]
pub(super) struct Pair(UnsafeCell<[u64; 2]>);

// SAFETY: it is accessed by holders of its key's lock only, those that write alone. If the lock is
// broken this is a race, which is what the soak is there to find.
unsafe impl Sync for Pair {}

impl Pair {
    /// To be called by a holder of the exclusive lock.
    pub(super) fn write(&self, worker: &mut Worker) {
        let pair = self.0.get();
        // SAFETY: the caller holds the lock alone, so that nobody else reads or writes.
        let before = unsafe { *pair };
        assert_eq!(before[0], before[1], "another writer was here");
        let next = before[0] + 1;
        // SAFETY: as above.
        unsafe { *pair = [next, before[1]] };
        if worker.rng.one_in(16) {
            yield_now();
        }
        // SAFETY: as above.
        let after = unsafe { *pair };
        assert_eq!(after, [next, before[1]], "another writer came in");
        // SAFETY: as above.
        unsafe { *pair = [next; 2] };
    }

    /// To be called by a holder of a shared lock.
    pub(super) fn read(&self, worker: &mut Worker) {
        let pair = self.0.get();
        // SAFETY: the caller holds a shared lock, so that nobody writes.
        let before = unsafe { *pair };
        if worker.rng.one_in(16) {
            yield_now();
        }
        // SAFETY: as above.
        let after = unsafe { *pair };
        assert_eq!([before, after], [[before[0]; 2]; 2], "a writer came in");
    }

    /// To be called when nobody else is there.
    pub(super) fn get(&self) -> u64 {
        // SAFETY: by the caller's promise.
        unsafe { (*self.0.get())[1] }
    }
}

pub(super) struct Locks {
    tables: [Fresh; 2],
    /// For each table, by key.
    pairs: [Vec<Pair>; 2],
    writes: Total,
    operations: Total,
    standstill: AtomicBool,
}

impl Locks {
    pub(super) fn new(plant: Option<Plant>) -> Self {
        let pairs = || (0..KEYS).map(|_| Pair::default()).collect();
        Locks {
            tables: [
                Fresh::new(Fairness::Eventual, Above(0)),
                Fresh::new(Fairness::Fifo, Above(20)),
            ],
            pairs: [pairs(), pairs()],
            writes: Total::default(),
            operations: Total::default(),
            standstill: AtomicBool::new(plant == Some(Plant::Standstill)),
        }
    }
}

/// One of a few keys half of the time, so that threads meet.
pub(super) fn pick(worker: &mut Worker) -> u64 {
    let among = if worker.rng.one_in(2) { 3 } else { KEYS };
    worker.rng.below(among)
}

impl Structure for Locks {
    fn name(&self) -> &'static str {
        "locks"
    }

    fn operations(&self) -> &Total {
        &self.operations
    }

    fn act(&self, worker: &mut Worker) {
        let which = worker.rng.below(2) as usize;
        let (table, pairs) = (&self.tables[which].table, &self.pairs[which]);
        let key = pick(worker);
        let pair = &pairs[key as usize];
        let patience = Duration::from_micros(worker.rng.below(200));
        let write = |worker: &mut Worker| {
            pair.write(worker);
            self.writes.add();
        };
        match worker.rng.below(16) {
            0..=2 => {
                let guard = table.lock(&key);
                write(worker);
                if self.standstill.swap(false, Relaxed) {
                    std::mem::forget(guard);
                }
            }
            3 => {
                if let Some(_guard) = table.try_lock(&key) {
                    write(worker);
                }
            }
            4 => {
                if let Some(guard) = table.try_lock_for(&key, patience) {
                    write(worker);
                    ExclusiveGuard::unlock_fair(guard);
                }
            }
            5 | 6 => {
                let _guard = table.lock_shared(&key);
                pair.read(worker);
            }
            7 => {
                if let Some(_guard) = table.try_lock_shared_for(&key, patience) {
                    pair.read(worker);
                }
            }
            8 => {
                let mut guard = table.lock_owned(&key);
                write(worker);
                latchwork::table::OwnedExclusiveGuard::bump(&mut guard);
                write(worker);
                let shared = guard.downgrade();
                pair.read(worker);
                if let Ok(_guard) = shared.try_upgrade() {
                    write(worker);
                }
            }
            9 if worker.rng.one_in(8) => {
                let _guard = table.lock(&key);
                let _other = table.try_lock_shared(&pick(worker));
                write(worker);
                worker.panic();
            }
            10..=12 => {
                // Ever new keys, which protect nothing, among them.
                let mut keys: Vec<(u64, Mode)> = (0..1 + worker.rng.below(9))
                    .map(|_| match worker.rng.below(3) {
                        0 => (pick(worker), Mode::Exclusive),
                        1 => (pick(worker), Mode::Shared),
                        _ => (KEYS + worker.rng.below(1 << 40), Mode::Exclusive),
                    })
                    .collect();
                let ask = keys.iter().map(|(key, mode)| (key, *mode));
                let set = match worker.rng.below(4) {
                    0 => table.try_lock_all(ask),
                    1 => table.try_lock_all_for(ask, patience),
                    _ => Some(table.lock_all(ask)),
                };
                let Some(set) = set else { return };
                keys.sort_unstable();
                keys.dedup_by_key(|(key, _)| *key);
                for (key, _) in keys.into_iter().filter(|(key, _)| *key < KEYS) {
                    match set.mode(&key).expect("it was asked for") {
                        Mode::Exclusive => {
                            pairs[key as usize].write(worker);
                            self.writes.add();
                        }
                        Mode::Shared => pairs[key as usize].read(worker),
                    }
                }
            }
            _ => {
                // Ever new keys that meet others deep in the index.
                let new = KEYS + worker.rng.below(1 << 40);
                let _guard = table.lock(&new);
                let _other = table.try_lock(&(new + (1 << worker.rng.below(40))));
            }
        }
    }

    fn check(&self) -> Result<(), String> {
        self.tables.iter().try_for_each(Fresh::check)?;
        let written: u64 = self.pairs.iter().flatten().map(Pair::get).sum();
        equal("writes under locks", written, self.writes.get())
    }
}
