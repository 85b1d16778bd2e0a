//! Real threads against an oracle that sees any two holders that should exclude each other.
//!
//! A plain test hardly ever preempts a thread where it matters. Run it with
//! `RUSTFLAGS="--cfg latchwork_noise"` too, which yields before one atomic access in eight.
#![allow(
    unsafe_code,
    reason = "the oracle is memory that only the lock protects"
)]

use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use crate::common::hashers::Place;
use crate::common::{Rng, assert_as_new, watchdog};
use latchwork::{Fairness, LockTable, Mode};

const THREADS: u64 = 8;
/// Operations of one thread in one test: a second or two in a debug build on two cores.
const OPS: u64 = if cfg!(latchwork_noise) { 3_000 } else { 10_000 };

/// What one lock protects. Nothing here synchronises by itself: the counts are Relaxed, and the
/// values are plain memory.
#[derive(Default)]
pub(crate) struct Cell {
    writers: AtomicU32,
    readers: AtomicU32,
    /// Written one after the other, so that who reads in between sees them differ.
    values: UnsafeCell<[u64; 2]>,
    /// How often the values were written, counted apart.
    written: AtomicU64,
}

// SAFETY: `values` is accessed only inside `exclusive` and `shared`, whose callers hold the lock in
// that mode. If the lock is broken this is a race, which is what the test is there to find.
unsafe impl Sync for Cell {}

impl Cell {
    /// To be called by a holder of the exclusive lock.
    pub(crate) fn exclusive(&self, rng: &mut Rng) {
        assert_eq!(self.writers.fetch_add(1, Relaxed), 0, "two writers");
        assert_eq!(self.readers.load(Relaxed), 0, "a writer beside readers");
        // SAFETY: the caller holds the lock alone, so no other reference exists.
        let values = unsafe { &mut *self.values.get() };
        values[0] += 1;
        linger(rng);
        values[1] += 1;
        assert_eq!(values[0], values[1], "another writer was here");
        self.written.fetch_add(1, Relaxed);
        assert_eq!(self.readers.load(Relaxed), 0, "a reader came in");
        assert_eq!(self.writers.fetch_sub(1, Relaxed), 1, "two writers");
    }

    /// To be called by a holder of a shared lock.
    pub(crate) fn shared(&self, rng: &mut Rng) {
        self.readers.fetch_add(1, Relaxed);
        assert_eq!(self.writers.load(Relaxed), 0, "a reader beside a writer");
        // SAFETY: the caller holds a shared lock, so all other references are shared too.
        let values = unsafe { &*self.values.get() };
        let first = values[0];
        linger(rng);
        assert_eq!((values[0], values[1]), (first, first), "a writer came in");
        assert_eq!(self.writers.load(Relaxed), 0, "a writer came in");
        self.readers.fetch_sub(1, Relaxed);
    }
}

/// Stays a moment, sometimes long enough for others to run.
fn linger(rng: &mut Rng) {
    if rng.one_in(6) {
        thread::yield_now();
    }
}

/// Keys, their locks, and what the locks protect.
struct Oracle {
    table: LockTable<u64, Place>,
    fresh_bytes: usize,
    place: Place,
    keys: u64,
    cells: Vec<Cell>,
}

impl Oracle {
    fn new(place: Place, fairness: Fairness, keys: u64) -> Self {
        let table = LockTable::builder()
            .hasher(place)
            .fairness(fairness)
            .build();
        let fresh_bytes = table.stats().index_bytes;
        let cells = (0..keys).map(|_| Cell::default()).collect();
        Self {
            table,
            fresh_bytes,
            place,
            keys,
            cells,
        }
    }

    /// The first key that is the same lock as `key` has the cell of all of them.
    fn cell(&self, key: u64) -> (usize, &Cell) {
        let hash = self.place.hash(key);
        let first = (0..self.keys)
            .find(|k| self.place.hash(*k) == hash)
            .expect("the key itself");
        (first as usize, &self.cells[first as usize])
    }

    /// A key: half of the time one of the first two, so that threads meet however many keys there
    /// are.
    fn pick(&self, rng: &mut Rng) -> u64 {
        let among = if rng.one_in(2) {
            self.keys.min(2)
        } else {
            self.keys
        };
        rng.below(among)
    }

    /// One operation of a thread's own choice; says how many cells it wrote.
    fn step(&self, rng: &mut Rng) -> u64 {
        let table = &self.table;
        let key = self.pick(rng);
        let cell = self.cell(key).1;
        let patience = Duration::from_nanos(rng.below(4) * 20_000);
        let exclusive = match rng.below(16) {
            0..=2 => Some(table.lock(&key)),
            3..=4 => table.try_lock(&key),
            5 => table.try_lock_for(&key, patience),
            6 => {
                // Whoever panics with a lock in hand lets go of it.
                let caught = catch_unwind(AssertUnwindSafe(|| {
                    let _guard = table.lock(&key);
                    cell.exclusive(rng);
                    resume_unwind(Box::new(()))
                }));
                assert!(
                    caught.is_err_and(|cause| cause.is::<()>()),
                    "the oracle failed"
                );
                return 1;
            }
            7..=9 => {
                let _guard = table.lock_shared(&key);
                cell.shared(rng);
                return 0;
            }
            10..=11 => {
                if let Some(_guard) = table.try_lock_shared(&key) {
                    cell.shared(rng);
                }
                return 0;
            }
            12 => {
                if let Some(_guard) = table.try_lock_shared_for(&key, patience) {
                    cell.shared(rng);
                }
                return 0;
            }
            how => return self.step_many(rng, how, patience),
        };
        let Some(_guard) = exclusive else { return 0 };
        cell.exclusive(rng);
        1
    }

    fn step_many(&self, rng: &mut Rng, how: u64, patience: Duration) -> u64 {
        let keys: Vec<(u64, Mode)> = (0..2 + rng.below(2))
            .map(|_| {
                let mode = if rng.one_in(2) {
                    Mode::Exclusive
                } else {
                    Mode::Shared
                };
                (self.pick(rng), mode)
            })
            .collect();
        let ask = keys.iter().map(|(key, mode)| (key, *mode));
        let set = match how {
            13 => Some(self.table.lock_all(ask)),
            14 => self.table.try_lock_all(ask),
            _ => self.table.try_lock_all_for(ask, patience),
        };
        let Some(set) = set else { return 0 };
        let mut cells: Vec<_> = keys
            .iter()
            .map(|(key, _)| (self.cell(*key).0, *key))
            .collect();
        cells.sort_unstable();
        cells.dedup_by_key(|(cell, _)| *cell);
        assert_eq!(cells.len(), set.len());
        let mut written = 0;
        for (_, key) in cells {
            match set.mode(&key).expect("the set has what it was asked for") {
                Mode::Exclusive => {
                    self.cell(key).1.exclusive(rng);
                    written += 1;
                }
                Mode::Shared => self.cell(key).1.shared(rng),
            }
        }
        written
    }

    /// Lets [`THREADS`] threads run [`OPS`] operations each, and checks what they leave.
    fn storm(&self) {
        let written: u64 = thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|seed| {
                    scope.spawn(move || {
                        let mut rng = Rng::new(seed);
                        (0..OPS).map(|_| self.step(&mut rng)).sum::<u64>()
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("the oracle failed"))
                .sum()
        });
        let mut found = 0;
        for cell in &self.cells {
            // SAFETY: the threads are joined.
            let values = unsafe { *cell.values.get() };
            assert_eq!(values, [cell.written.load(Relaxed); 2], "a write was lost");
            found += values[0];
        }
        assert_eq!(found, written, "the counters miss a write");
        assert!(self.table.stats().waits > 0, "nobody was ever in the way");
        assert_as_new(&self.table, self.fresh_bytes);
    }
}

#[test]
fn few_keys_each_in_a_slot_of_its_own() {
    let _dog = watchdog("few_keys_each_in_a_slot_of_its_own");
    for fairness in [Fairness::Eventual, Fairness::Fifo] {
        Oracle::new(Place::Identity, fairness, 3).storm();
    }
}

#[test]
fn many_keys_of_one_slot() {
    let _dog = watchdog("many_keys_of_one_slot");
    for fairness in [Fairness::Eventual, Fairness::Fifo] {
        Oracle::new(Place::Above(12), fairness, 24).storm();
    }
}

#[test]
fn two_keys_at_the_bottom_of_the_index() {
    let _dog = watchdog("two_keys_at_the_bottom_of_the_index");
    for fairness in [Fairness::Eventual, Fairness::Fifo] {
        Oracle::new(Place::Above(60), fairness, 2).storm();
    }
}

#[test]
fn keys_that_part_at_different_depths() {
    let _dog = watchdog("keys_that_part_at_different_depths");
    Oracle::new(Place::Spread { shift: 8, step: 4 }, Fairness::Eventual, 64).storm();
}

#[test]
fn keys_that_are_one_lock() {
    let _dog = watchdog("keys_that_are_one_lock");
    for fairness in [Fairness::Eventual, Fairness::Fifo] {
        Oracle::new(Place::Constant(u64::MAX), fairness, 4).storm();
    }
}

#[test]
fn a_try_never_fails_because_of_another_key() {
    let _dog = watchdog("a_try_never_fails_because_of_another_key");
    // Each thread has keys of its own; all meet in one slot, whose children come and go.
    for place in [
        Place::Above(12),
        Place::Above(58),
        Place::Spread { shift: 10, step: 4 },
    ] {
        let (table, fresh) = crate::common::table(place);
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let table = &table;
                scope.spawn(move || {
                    let mut rng = Rng::new(thread);
                    for _ in 0..OPS {
                        let key = thread + THREADS * rng.below(4);
                        if rng.one_in(2) {
                            let guard = table.try_lock(&key).expect("nobody else uses this key");
                            assert_eq!(table.mode(&key), Some(Mode::Exclusive));
                            linger(&mut rng);
                            drop(guard);
                        } else {
                            let first = table.try_lock_shared(&key).expect("nobody else's key");
                            let second = table.try_lock_shared(&key).expect("shared with shared");
                            assert_eq!(table.mode(&key), Some(Mode::Shared));
                            linger(&mut rng);
                            drop((first, second));
                        }
                        assert_eq!(table.mode(&key), None);
                    }
                });
            }
        });
        assert_as_new(&table, fresh);
    }
}

#[test]
fn a_shared_try_never_fails_while_nobody_writes() {
    let _dog = watchdog("a_shared_try_never_fails_while_nobody_writes");
    for place in [Place::Identity, Place::Above(12)] {
        let (table, fresh) = crate::common::table(place);
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let table = &table;
                scope.spawn(move || {
                    let mut rng = Rng::new(thread);
                    for _ in 0..OPS / 10 {
                        // Together they pass the inline count again and again, in both directions.
                        let many = rng.below(40);
                        let guards: Vec<_> = (0..many)
                            .map(|_| table.try_lock_shared(&1).expect("nobody writes"))
                            .collect();
                        linger(&mut rng);
                        drop(guards);
                        assert!(table.try_lock(&(2 + thread)).is_some());
                    }
                });
            }
        });
        assert_as_new(&table, fresh);
    }
}

#[test]
fn what_the_last_holder_wrote_is_seen() {
    let _dog = watchdog("what_the_last_holder_wrote_is_seen");
    // Only blocking calls: each adds one, so that the sum is known beforehand.
    for (place, fairness) in [
        (Place::Identity, Fairness::Eventual),
        (Place::Identity, Fairness::Fifo),
        (Place::Above(12), Fairness::Eventual),
    ] {
        let oracle = Oracle::new(place, fairness, 2);
        thread::scope(|scope| {
            for seed in 0..THREADS {
                let oracle = &oracle;
                scope.spawn(move || {
                    let mut rng = Rng::new(seed);
                    for op in 0..OPS / 4 {
                        let key = op % 2;
                        let _guard = oracle.table.lock(&key);
                        oracle.cell(key).1.exclusive(&mut rng);
                    }
                });
            }
        });
        for key in 0..2 {
            let _guard = oracle.table.lock_shared(&key);
            // SAFETY: a shared lock is held.
            let values = unsafe { *oracle.cell(key).1.values.get() };
            assert_eq!(values, [THREADS * (OPS / 4) / 2; 2]);
        }
        assert_as_new(&oracle.table, oracle.fresh_bytes);
    }
}
