//! Histories of tasks under schedules that shuttle chooses, checked as those of real threads are:
//! keys, sessions, latches, cells, maps, transactions and snapshots. A stamp is exact here: what
//! overlaps did so.
//!
//! ```text
//! ci/schedules.sh 100000 TEST        so many schedules of a test
//! ci/schedules.sh --replay TEST 7    one of them again
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::common::hashers::Place;
use crate::common::schedules;
use crate::common::work::cells::{Cell, Value, Writer};
use crate::common::work::keys::Locker;
use crate::common::work::latches::{Latch, Visitor};
use crate::common::work::maps::{Caller, Map, Pick};
use crate::common::work::sessions::Owner;
use crate::common::work::txns::{self, Mix, Recorder};
use crate::common::work::{cells, keys, latches, maps};
use crate::common::{Rng, history};
use latchwork::{Fairness, LockTable, VersionedCell, VersionedMap, atomically};
use shuttle::thread;

/// Schedules of a test, unless a campaign wants more.
const SCHEDULES: u64 = 4_000;
/// There is no clock: who would wait gives up.
const PATIENCE: Duration = Duration::from_secs(1 << 20);

/// Runs `each` in as many tasks.
fn together<R: Send + 'static>(
    tasks: usize,
    each: impl Fn(usize) -> R + Send + Sync + 'static,
) -> Vec<R> {
    let each = Arc::new(each);
    let spawn = |task| {
        let each = each.clone();
        thread::spawn(move || each(task))
    };
    let tasks: Vec<_> = (0..tasks).map(spawn).collect();
    let tasks = tasks.into_iter();
    tasks.map(|t| t.join().expect("no task panics")).collect()
}

/// Two keys that part in the first child, and one that parts two levels further down.
const KEYS: [u64; 3] = [0, 1 << 10, 1 << 13];

fn on_keys(seed: u64) -> u64 {
    let fairness = [Fairness::Eventual, Fairness::Fifo][seed as usize % 2];
    let table = LockTable::builder()
        .hasher(Place::Identity)
        .fairness(fairness)
        .build();
    let keys = 1 + seed as usize / 2 % 3;
    let (tasks, steps) = [(3, 4), (5, 2)][seed as usize / 6 % 2];
    let table = Arc::new(table);
    let logs = together(tasks, {
        let table = table.clone();
        move |task| {
            let mut locker = Locker::new(&table, &KEYS[..keys], (task, seed, steps), PATIENCE);
            (0..steps).for_each(|_| locker.step());
            locker.into_log()
        }
    });
    let (_, refused) = keys::judge(logs, keys);
    assert_eq!(table.locked_count(), 0, "locks are left");
    refused as u64
}

/// Returns how many were told of a deadlock.
fn on_sessions(seed: u64) -> u64 {
    let fairness = [Fairness::Eventual, Fairness::Fifo][seed as usize % 2];
    let table = LockTable::builder()
        .hasher(Place::Identity)
        .fairness(fairness)
        .build();
    let keys = 2 + seed as usize / 2 % 2;
    let (tasks, steps) = [(3, 2), (4, 1)][seed as usize / 4 % 2];
    let table = Arc::new(table);
    let logs = together(tasks, {
        let table = table.clone();
        move |task| {
            let mut owner = Owner::new(&table, &KEYS[..keys], (task, seed, steps), PATIENCE);
            (0..steps).for_each(|_| owner.step());
            owner.into_log()
        }
    });
    let (logs, told): (Vec<_>, Vec<_>) = logs.into_iter().unzip();
    keys::judge(logs, keys);
    assert_eq!(table.locked_count(), 0, "locks are left");
    assert!(table.knows_no_session(), "a session is left");
    told.into_iter().sum::<usize>() as u64
}

/// Returns reads and upgrades that came too late.
fn on_latches(seed: u64) -> u64 {
    let count = 1 + seed as usize % 2;
    let (tasks, steps) = [(3, 4), (4, 3)][seed as usize / 2 % 2];
    let world: Arc<Vec<_>> = Arc::new((0..count).map(|_| Latch::default()).collect());
    let logs = together(tasks, move |task| {
        let mut visitor = Visitor::new(&world, (task, seed, steps));
        (0..steps).for_each(|_| visitor.step());
        visitor.into_log()
    });
    let (logs, late): (Vec<_>, Vec<_>) = logs.into_iter().unzip();
    latches::judge(logs, count);
    late.into_iter().sum::<usize>() as u64
}

fn on_cells(seed: u64) -> u64 {
    let count = 1 + seed as usize % 2;
    let (tasks, steps) = [(3, 5), (5, 3)][seed as usize / 2 % 2];
    let world: Arc<Vec<_>> = Arc::new((0..count).map(|_| Cell::new(Value::new(0))).collect());
    let logs = together(tasks, move |task| {
        let mut writer = Writer::new(&world, (task, seed, steps), PATIENCE);
        (0..steps).for_each(|_| writer.step());
        writer.into_log()
    });
    cells::judge(logs, count).1 as u64
}

/// Returns conditional writes and batches that were refused.
fn on_maps(seed: u64) -> u64 {
    let place = [Place::Identity, Place::Constant(7)][seed as usize % 2];
    let keys = 1 + seed as usize / 2 % history::keys::KEYS;
    let (tasks, steps) = [(3, 4), (4, 3)][seed as usize / 8 % 2];
    let map: Arc<Map> = Arc::new(VersionedMap::with_hasher(place));
    let logs = together(tasks, move |task| {
        let mut caller = Caller::new(&map, task, steps, PATIENCE);
        let mut rng = Rng::new(seed << 8 | task as u64);
        (0..steps).for_each(|_| caller.call(Pick::draw(&mut rng, keys)));
        caller.into_log()
    });
    maps::judge(logs).1 as u64
}

/// Returns attempts that were lost.
fn on_txns(seed: u64, mix: Mix) -> u64 {
    let count = 2 + seed as usize % 3;
    let (tasks, steps) = [(3, 3), (4, 2)][seed as usize / 3 % 2];
    let world: Arc<Vec<_>> = Arc::new((0..count).map(|_| VersionedCell::new(0)).collect());
    let records = together(tasks, {
        let world = world.clone();
        move |task| {
            let mut recorder = Recorder::new(&world, task as u64, seed, 4, mix);
            (0..steps).for_each(|_| recorder.step());
            recorder.into_record()
        }
    });
    txns::judge(records).lost as u64
}

/// Tasks that wait by `retry` for what others commit or write. Nobody sleeps for ever: shuttle says
/// so.
fn on_retries(seed: u64) -> u64 {
    const EACH: u64 = 2;
    let tasks = 3 + seed as usize % 2;
    let cells = Arc::new([0_u64; 2].map(VersionedCell::new));
    let retries = together(tasks, move |task| {
        let mut retries = 0;
        for step in 0..EACH {
            // One at a time, in turns.
            let turn = step * tasks as u64 + task as u64;
            let single = (seed >> step) % 2 == 0;
            atomically(|tx| {
                let [first, second] = [*tx.read(&cells[0])?, *tx.read(&cells[1])?];
                assert!(
                    first == second || first == second + 1,
                    "a state that never was"
                );
                if second != turn {
                    retries += 1;
                    return tx.retry();
                }
                if !single {
                    tx.update(&cells[1], |n| n + 1)?;
                }
                tx.update(&cells[0], |n| n + 1)
            });
            if single {
                cells[1].update(|n| n + 1);
            }
        }
        retries
    });
    retries.into_iter().sum()
}

/// Explores, and wants something to have happened in one schedule of `often`.
fn explore(name: &str, often: u64, each: fn(u64) -> u64) {
    let seen = Arc::new(AtomicU64::new(0));
    let sum = seen.clone();
    let count = schedules::explore(name, SCHEDULES, move |seed| {
        sum.fetch_add(each(seed), Relaxed);
    });
    let seen = seen.load(Relaxed);
    println!("{name}: {seen} were in the way");
    assert!(
        count < 100 || seen > count / often,
        "hardly anybody: {seen}"
    );
}

#[test]
fn histories_of_keys() {
    explore("histories_of_keys", 4, on_keys);
}

#[test]
fn histories_of_sessions() {
    explore("histories_of_sessions", 20, on_sessions);
}

#[test]
fn histories_of_latches() {
    explore("histories_of_latches", 10, on_latches);
}

#[test]
fn histories_of_cells() {
    explore("histories_of_cells", 10, on_cells);
}

#[test]
fn histories_of_maps() {
    explore("histories_of_maps", 10, on_maps);
}

#[test]
fn histories_of_transactions() {
    let each = |seed| {
        let mix = Mix {
            snapshots: 0,
            singles: 2,
        };
        on_txns(seed, mix)
    };
    explore("histories_of_transactions", 10, each);
}

#[test]
fn histories_of_snapshots() {
    let each = |seed| {
        let mix = Mix {
            snapshots: 3,
            singles: 1,
        };
        on_txns(seed, mix)
    };
    explore("histories_of_snapshots", 10, each);
}

#[test]
fn tasks_that_retry() {
    explore("tasks_that_retry", 2, on_retries);
}

/// Else a failing number would say nothing. It does not hold for maps: one of 40 runs differed from
/// its repetition, so a failure of theirs may need more than one run of its number.
#[test]
fn a_number_is_a_schedule() {
    let each: [fn(u64) -> u64; 5] = [on_keys, on_sessions, on_latches, on_cells, on_retries];
    for (which, each) in each.into_iter().enumerate() {
        let trace = |seed| {
            schedules::trace("a_number_is_a_schedule", seed, move |seed| {
                each(seed);
            })
        };
        let traces: Vec<u64> = (0..40).map(trace).collect();
        let again: Vec<u64> = (0..40).rev().map(trace).collect();
        let again: Vec<u64> = again.into_iter().rev().collect();
        assert_eq!(traces, again, "of workload {which}");
        let mut different = traces.clone();
        different.sort_unstable();
        different.dedup();
        assert!(different.len() > 30, "hardly two schedules differ");
    }
}
