//! The lock table under schedules that shuttle chooses: more threads and longer runs than a model
//! checker can exhaust, in sequential consistency. What orderings are for is shown elsewhere.
//!
//! ```text
//! ci/schedules.sh 100000 TEST        so many schedules of a test
//! ci/schedules.sh --replay TEST 7    one of them again
//! ```
//! In such a build the table has one root slot, children of two, three readers inline and one
//! bypass, so that four tasks and three keys reach every branch. There is no clock: a timed lock
//! that has to wait queues, and gives up as soon as it would sleep.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::common::hashers::Place;
use crate::common::schedules;
use latchwork::{Fairness, LockTable, Mode};
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;

/// Schedules of a test, unless a campaign wants more.
const SCHEDULES: u64 = 8_000;
/// Never over before the call queues.
const LONG: Duration = Duration::from_secs(1 << 20);

/// The top bit decides whether a lone word folds into its parent at once; bit 10 and those above
/// it are what the children of such a build are indexed with.
const FOLDS: u64 = 1 << 63;
/// Two keys that part in the first child.
const SHALLOW: &[u64] = &[0, 1 << 10];
/// Three that part one and three levels further down, of which two fold and one does not.
const DEEP: &[u64] = &[FOLDS, FOLDS | 1 << 11, 1 << 13];

/// What one lock protects. std's atomics, not shuttle's: the oracle adds no scheduling points but
/// the one where its holder lingers.
#[derive(Default)]
struct Cell {
    writers: AtomicU32,
    readers: AtomicU32,
    written: AtomicU64,
}

impl Cell {
    fn hold(&self, mode: Mode) {
        let (readers, writers) = (self.readers.load(Relaxed), self.writers.load(Relaxed));
        assert_eq!(writers, 0, "beside a writer, for {mode:?}");
        match mode {
            Mode::Exclusive => {
                assert_eq!(readers, 0, "a writer beside readers");
                self.writers.store(1, Relaxed);
                let written = self.written.load(Relaxed);
                thread::yield_now();
                assert_eq!(self.readers.load(Relaxed), 0, "a reader came in");
                self.written.store(written + 1, Relaxed);
                self.writers.store(0, Relaxed);
            }
            Mode::Shared => {
                self.readers.store(readers + 1, Relaxed);
                let written = self.written.load(Relaxed);
                thread::yield_now();
                assert_eq!(self.writers.load(Relaxed), 0, "a writer came in");
                assert_eq!(self.written.load(Relaxed), written, "a writer was here");
                self.readers.fetch_sub(1, Relaxed);
            }
        }
    }
}

struct World {
    table: LockTable<u64, Place>,
    fresh_bytes: usize,
    keys: &'static [u64],
    cells: Vec<Cell>,
}

/// What the tasks do.
#[derive(Clone, Copy)]
enum Work {
    /// Every call.
    Mixed,
    /// Blocking calls for one key, readers mostly, so that they are more than a slot counts.
    Readers,
    /// Sets of keys in any order.
    Sets,
    /// Timed calls, which give up as they queue, and blocking calls that they must not strand.
    GiveUp,
}

impl World {
    fn cell(&self, key: u64) -> &Cell {
        let at = self
            .keys
            .iter()
            .position(|k| *k == key)
            .expect("one of the keys");
        &self.cells[at]
    }

    fn one(&self, call: u32, key: u64, mode: Mode) -> u64 {
        let table = &self.table;
        let cell = self.cell(key);
        let held = match (call, mode) {
            (0, Mode::Exclusive) => {
                let _guard = table.lock(&key);
                cell.hold(mode);
                true
            }
            (0, Mode::Shared) => {
                let _guard = table.lock_shared(&key);
                cell.hold(mode);
                true
            }
            (1, Mode::Exclusive) => table.try_lock(&key).is_some_and(|_guard| {
                cell.hold(mode);
                true
            }),
            (1, Mode::Shared) => table.try_lock_shared(&key).is_some_and(|_guard| {
                cell.hold(mode);
                true
            }),
            (_, Mode::Exclusive) => table.try_lock_for(&key, LONG).is_some_and(|_guard| {
                cell.hold(mode);
                true
            }),
            (_, Mode::Shared) => table.try_lock_shared_for(&key, LONG).is_some_and(|_guard| {
                cell.hold(mode);
                true
            }),
        };
        u64::from(held && mode == Mode::Exclusive)
    }

    fn set(&self, call: u32, wanted: &[(u64, Mode)]) -> u64 {
        let ask = wanted.iter().map(|(key, mode)| (key, *mode));
        let set = match call {
            0 => Some(self.table.lock_all(ask)),
            1 => self.table.try_lock_all(ask),
            _ => self.table.try_lock_all_for(ask, LONG),
        };
        let Some(set) = set else { return 0 };
        let mut written = 0;
        for key in self.keys {
            let Some(mode) = set.mode(key) else { continue };
            self.cell(*key).hold(mode);
            written += u64::from(mode == Mode::Exclusive);
        }
        written
    }

    fn step(&self, work: Work) -> u64 {
        let mut rng = thread_rng();
        let key = self.keys[rng.gen_range(0..self.keys.len())];
        let mode = [Mode::Exclusive, Mode::Shared][rng.gen_range(0..2)];
        let other = self.keys[rng.gen_range(0..self.keys.len())];
        match work {
            Work::Mixed => match rng.gen_range(0..8) {
                call @ 0..=2 => self.one(call, key, mode),
                call @ 3..=5 => self.set(call - 3, &[(key, mode), (other, Mode::Exclusive)]),
                6 => {
                    // Whoever panics with a lock in hand lets go of it.
                    let caught = catch_unwind(AssertUnwindSafe(|| {
                        let _guard = self.table.lock(&key);
                        self.cell(key).hold(Mode::Exclusive);
                        resume_unwind(Box::new(()))
                    }));
                    assert!(
                        caught.is_err_and(|cause| cause.is::<()>()),
                        "the oracle failed"
                    );
                    1
                }
                _ => {
                    // Looking is taking no part: whatever it sees, the try is what counts.
                    let _ = (self.table.mode(&key), self.table.locked_count());
                    self.one(1, key, mode)
                }
            },
            Work::Readers => {
                let mode = if rng.gen_range(0..4) == 0 {
                    Mode::Exclusive
                } else {
                    Mode::Shared
                };
                self.one(0, self.keys[0], mode)
            }
            Work::Sets => self.set(
                rng.gen_range(0..2),
                &[(key, mode), (other, mode), (key, Mode::Shared)],
            ),
            Work::GiveUp => self.one(if rng.gen_range(0..3) == 0 { 0 } else { 2 }, key, mode),
        }
    }
}

/// Asserts that no lock, monitor or child is left. A larger root may be, or a move in progress: the
/// table shrinks where keys collide, and none do after the last of them.
pub(crate) fn assert_empty<K: ?Sized, S>(table: &LockTable<K, S>, slot: usize) {
    let stats = table.stats();
    assert_eq!(table.locked_count(), 0, "locks are left: {stats:?}");
    assert_eq!(stats.monitors, 0, "monitors are left: {stats:?}");
    // Roots of one slot and of two, and both. A child of two slots has more than their bytes.
    let roots = [slot, 2 * slot, 3 * slot];
    assert!(
        roots.contains(&stats.index_bytes),
        "children are left: {stats:?}"
    );
    assert!(stats.growths > 0 || stats.index_bytes == slot, "{stats:?}");
}

/// One execution: `tasks` tasks of `steps` steps each. Returns the calls that queued.
fn execute(
    keys: &'static [u64],
    fairness: Fairness,
    tasks: usize,
    steps: usize,
    work: Work,
) -> u64 {
    let table = LockTable::builder()
        .hasher(Place::Identity)
        .fairness(fairness)
        .build();
    let fresh_bytes = table.stats().index_bytes;
    let cells = keys.iter().map(|_| Cell::default()).collect();
    let world = Arc::new(World {
        table,
        fresh_bytes,
        keys,
        cells,
    });
    let tasks: Vec<_> = (0..tasks)
        .map(|_| {
            let world = world.clone();
            thread::spawn(move || (0..steps).map(|_| world.step(work)).sum::<u64>())
        })
        .collect();
    let written: u64 = tasks
        .into_iter()
        .map(|task| task.join().expect("the oracle failed"))
        .sum();
    let found: u64 = world
        .cells
        .iter()
        .map(|cell| cell.written.load(Relaxed))
        .sum();
    assert_eq!(found, written, "a write was lost");
    assert_empty(&world.table, world.fresh_bytes);
    world.table.stats().waits
}

/// Runs a world under many schedules, each fairness under half of them.
fn explore(name: &str, keys: &'static [u64], tasks: usize, steps: usize, work: Work) {
    let waits = Arc::new(AtomicU64::new(0));
    let sum = waits.clone();
    let count = schedules::explore(name, SCHEDULES, move |seed| {
        let fairness = [Fairness::Eventual, Fairness::Fifo][seed as usize % 2];
        sum.fetch_add(execute(keys, fairness, tasks, steps, work), Relaxed);
    });
    let waits = waits.load(Relaxed);
    println!("{waits} waits");
    assert!(
        count < 100 || waits > count / 20,
        "hardly anybody was ever in the way: {waits}"
    );
}

#[test]
fn every_call_on_two_keys_that_part_at_once() {
    explore(
        "every_call_on_two_keys_that_part_at_once",
        SHALLOW,
        4,
        4,
        Work::Mixed,
    );
}

#[test]
fn every_call_on_three_keys_that_part_late() {
    explore(
        "every_call_on_three_keys_that_part_late",
        DEEP,
        4,
        4,
        Work::Mixed,
    );
}

#[test]
fn eight_tasks() {
    explore("eight_tasks", DEEP, 8, 2, Work::Mixed);
}

#[test]
fn more_readers_than_a_slot_counts() {
    explore(
        "more_readers_than_a_slot_counts",
        SHALLOW,
        7,
        2,
        Work::Readers,
    );
}

#[test]
fn sets_in_any_order() {
    explore("sets_in_any_order", DEEP, 5, 3, Work::Sets);
}

#[test]
fn waiters_that_give_up() {
    explore("waiters_that_give_up", SHALLOW, 5, 4, Work::GiveUp);
}

#[test]
fn waiters_that_give_up_on_keys_that_part_late() {
    let name = "waiters_that_give_up_on_keys_that_part_late";
    explore(name, DEEP, 5, 4, Work::GiveUp);
}

#[test]
fn a_try_never_fails_because_of_another_key() {
    /// Each task has a key of its own; all meet in one slot, whose children come and go.
    const OWN: [u64; 5] = [
        FOLDS,
        FOLDS | 1 << 10,
        1 << 11,
        1 << 13,
        FOLDS | 1 << 13 | 1 << 11,
    ];
    let own = |key: u64, table: &LockTable<u64, Place>| {
        for step in 0..3 {
            if step == 1 {
                let guards = [(); 5].map(|()| table.try_lock_shared(&key).expect("nobody writes"));
                assert_eq!(table.mode(&key), Some(Mode::Shared));
                drop(guards);
            } else {
                let guard = table.try_lock(&key).expect("nobody else uses this key");
                assert_eq!(table.mode(&key), Some(Mode::Exclusive));
                assert!(
                    table.try_lock_for(&key, LONG).is_none(),
                    "held by this very task"
                );
                drop(guard);
            }
            assert_eq!(table.mode(&key), None);
        }
    };
    let run = move |_| {
        let table = Arc::new(LockTable::with_hasher(Place::Identity));
        let fresh_bytes = table.stats().index_bytes;
        let tasks = OWN.map(|key| {
            let table = table.clone();
            thread::spawn(move || own(key, &table))
        });
        for task in tasks {
            task.join().expect("a try failed");
        }
        assert_empty(&table, fresh_bytes);
    };
    let name = "a_try_never_fails_because_of_another_key";
    schedules::explore(name, SCHEDULES, run);
}
