//! A table whose keys are their own hashes, data that only a lock protects, and what was seen.
#![allow(dead_code, reason = "each file of models uses its part")]

pub mod arena;
pub mod cells;
pub mod maps;
pub mod task;
pub mod watched;

use std::fmt::Display;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use latchwork::{Fairness, LockTable, Mode, table::ExclusiveGuard};
use latchwork_loom_tests::Notes;
use loom::cell::UnsafeCell;
use loom::thread::JoinHandle;

/// Under loom a table has one root slot and children of two, indexed from bit 10 up: `A` and `B`
/// part at once, `A` and `C` one level further down.
pub const A: u64 = 1 << 10;
pub const B: u64 = 2 << 10;
pub const C: u64 = 3 << 10;

/// A key with this bit folds a child that it leaves with one word in it; without, it does not.
pub const FOLDS: u64 = 1 << 63;

#[derive(Default)]
pub struct Itself(u64);

impl Hasher for Itself {
    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are u64")
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

pub type Table = LockTable<u64, BuildHasherDefault<Itself>>;

/// One execution of a model.
pub struct World {
    pub table: Table,
    /// The bytes of the roots once nothing is held.
    fresh: AtomicUsize,
    data: [UnsafeCell<u64>; 2],
    notes: Notes,
}

// SAFETY: `data` is reached only under the key that it belongs to, and loom reports if it is not.
unsafe impl Sync for World {}

impl World {
    fn with(table: Table) -> Arc<Self> {
        let fresh = table.stats().index_bytes;
        Arc::new(World {
            table,
            fresh: AtomicUsize::new(fresh),
            data: [UnsafeCell::new(0), UnsafeCell::new(0)],
            notes: Notes::default(),
        })
    }

    /// Freed memory is kept to the end: for models of the algorithm.
    pub fn new() -> Arc<Self> {
        Self::with(Table::default())
    }

    pub fn fifo() -> Arc<Self> {
        let table = LockTable::<u64>::builder().hasher(Default::default());
        Self::with(table.fairness(Fairness::Fifo).build())
    }

    /// Memory is freed by crossbeam-epoch inside the model: for models of reclamation.
    pub fn reclaiming() -> Arc<Self> {
        let table = LockTable::<u64>::builder().hasher(Default::default());
        Self::with(table.reclaim_by_epoch().build())
    }

    fn datum(&self, key: u64) -> &UnsafeCell<u64> {
        &self.data[usize::from(key & !FOLDS != A)]
    }

    /// What the exclusive holder of `key` does.
    pub fn write(&self, key: u64) -> u64 {
        self.datum(key).with_mut(|datum| {
            // SAFETY: the key is held exclusively; loom reports if that is not so.
            unsafe {
                *datum += 1;
                *datum
            }
        })
    }

    /// What a shared holder of `key` does.
    pub fn read(&self, key: u64) -> u64 {
        // SAFETY: the key is held; loom reports a concurrent write.
        self.datum(key).with(|datum| unsafe { *datum })
    }

    pub fn lock(&self, key: u64) -> ExclusiveGuard<'_> {
        self.table.lock(&key)
    }

    /// Locks, writes, unlocks.
    pub fn exclusive(&self, key: u64) {
        let guard = self.lock(key);
        self.write(key);
        drop(guard);
    }

    /// Locks shared, reads, unlocks.
    pub fn shared(&self, key: u64) -> u64 {
        let guard = self.table.lock_shared(&key);
        let seen = self.read(key);
        drop(guard);
        seen
    }

    /// Tries to lock; writes if it could. Returns `y` or `n`.
    pub fn try_exclusive(&self, key: u64) -> char {
        let Some(guard) = self.table.try_lock(&key) else {
            return 'n';
        };
        self.write(key);
        drop(guard);
        'y'
    }

    pub fn try_shared(&self, key: u64) -> char {
        let Some(guard) = self.table.try_lock_shared(&key) else {
            return 'n';
        };
        self.read(key);
        drop(guard);
        'y'
    }

    /// Locks, or queues and gives up. Returns `y` or `n`.
    pub fn exclusive_or_cancel(&self, key: u64) -> char {
        let Some(guard) = self.table.lock_or_cancel(&key) else {
            return 'n';
        };
        self.write(key);
        drop(guard);
        'y'
    }

    pub fn shared_or_cancel(&self, key: u64) -> char {
        let Some(guard) = self.table.lock_shared_or_cancel(&key) else {
            return 'n';
        };
        self.read(key);
        drop(guard);
        'y'
    }

    /// Holds `key` shared `n` times, for [`give_back`](Self::give_back).
    pub fn hold_shared(&self, key: u64, n: usize) {
        for _ in 0..n {
            std::mem::forget(self.table.lock_shared(&key));
        }
    }

    /// Gives one forgotten shared hold back.
    pub fn give_back(&self, key: u64, n: usize) {
        for _ in 0..n {
            self.table.force_unlock(&key, Mode::Shared);
        }
    }

    /// Begins to move the keys to a root of two slots: `A` and `C` part from `B`.
    pub fn grow(&self) {
        assert!(self.table.grow(), "a move is in progress");
        self.fresh.store(self.fresh.load(Relaxed) * 2, Relaxed);
    }

    /// Begins to move them back, where no other thread runs.
    pub fn shrink(&self) {
        self.table.settle();
        assert!(self.try_shrink(), "a move is in progress");
    }

    /// Begins to move them back if the first move has settled.
    pub fn try_shrink(&self) -> bool {
        let began = self.table.shrink();
        if began {
            self.fresh.store(self.fresh.load(Relaxed) / 2, Relaxed);
        }
        began
    }

    pub fn note(&self, note: impl Display) {
        self.notes.note(note);
    }

    /// All is given back: nothing is held, and nothing but the root is left [S1] [F3].
    pub fn end(&self) {
        let stats = self.table.stats();
        assert_eq!(self.table.locked_count(), 0, "a key is still held");
        assert_eq!(stats.monitors, 0, "a monitor is left");
        let fresh = self.fresh.load(Relaxed);
        assert_eq!(stats.index_bytes, fresh, "a child array is left");
    }

    /// What was noted, in no order, and how often somebody queued.
    pub fn outcome(&self) -> String {
        self.end();
        let mut notes = self.notes.after([]);
        notes.push(format!("w{}", self.table.stats().waits));
        notes.join(" ")
    }
}

/// Runs `f` on a thread of the model.
pub fn spawn(world: &Arc<World>, f: impl FnOnce(&World) + 'static) -> JoinHandle<()> {
    let world = world.clone();
    loom::thread::spawn(move || {
        f(&world);
        world.table.flush();
    })
}

/// Waits for all and returns the outcome.
pub fn finish(world: Arc<World>, threads: impl IntoIterator<Item = JoinHandle<()>>) -> String {
    world.table.flush();
    for thread in threads {
        thread.join().unwrap();
    }
    world.outcome()
}
