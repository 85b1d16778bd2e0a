//! Sessions under schedules that shuttle chooses: more threads than a model checker can exhaust, in
//! all policies and both modes, with upgrades, futures that are dropped and savepoints. Logic only;
//! orderings are for loom.
//!
//! ```text
//! RUSTFLAGS="--cfg latchwork_shuttle" cargo test --release --target-dir target/shuttle --test shuttle
//! ```
//! There is no clock: a session that has to wait publishes and looks at once, and one with a time
//! limit gives up as soon as it would sleep. A circle that nobody finds is a deadlock of the
//! schedule, which shuttle reports.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Waker};
use std::time::Duration;

use crate::common::hashers::Place;
use crate::common::schedules;
use crate::table::assert_empty;
use latchwork::{
    Fairness, LockTable, Mode, Session,
    session::{LockError, Policy},
};
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;

const SCHEDULES: u64 = 8_000;
const THREADS: u64 = 4;
const KEYS: u64 = 3;
/// Never over before the call queues.
const LONG: Duration = Duration::from_secs(1 << 20);

type Table = LockTable<u64, Place>;

/// What one lock protects. std's atomics, not shuttle's: the oracle adds no scheduling points.
#[derive(Default)]
struct Cell {
    readers: AtomicU32,
    writers: AtomicU32,
}

struct World {
    table: Table,
    fresh: usize,
    cells: Vec<Cell>,
    deadlocks: AtomicU64,
}

/// Over all schedules: a test in which nobody was ever told shows nothing.
static TOLD: AtomicU64 = AtomicU64::new(0);

impl World {
    fn hold(&self, key: u64, mode: Mode) {
        let cell = &self.cells[key as usize];
        assert_eq!(
            cell.writers.load(Relaxed),
            0,
            "beside a writer, for {mode:?}"
        );
        match mode {
            Mode::Shared => {
                cell.readers.fetch_add(1, Relaxed);
            }
            Mode::Exclusive => {
                assert_eq!(cell.readers.load(Relaxed), 0, "a writer beside readers");
                cell.writers.store(1, Relaxed);
            }
        }
    }

    fn leave(&self, key: u64, mode: Mode) {
        let cell = &self.cells[key as usize];
        match mode {
            Mode::Shared => cell.readers.fetch_sub(1, Relaxed),
            Mode::Exclusive => cell.writers.swap(0, Relaxed),
        };
    }
}

/// Locks a key in one of three ways. Returns whether the session has it so.
fn lock(world: &World, session: &mut Session<'_, u64, Place>, key: u64, mode: Mode) -> bool {
    let done = match (thread_rng().gen_range(0..4), mode) {
        (0, _) => {
            // A future that is dropped as soon as it waits.
            let mut future = match mode {
                Mode::Shared => session.lock_shared_async(&key),
                Mode::Exclusive => session.lock_async(&key),
            };
            let mut cx = Context::from_waker(Waker::noop());
            match Pin::new(&mut future).poll(&mut cx) {
                std::task::Poll::Ready(done) => done,
                std::task::Poll::Pending => {
                    thread::yield_now();
                    return false;
                }
            }
        }
        (_, Mode::Shared) => session.lock_shared(&key),
        (_, Mode::Exclusive) => session.lock(&key),
    };
    if let Err(LockError::Deadlock(report)) = &done {
        assert_eq!(report.victim().session, session.id());
        assert!(report.parties().len() > 1);
        world.deadlocks.fetch_add(1, Relaxed);
    }
    done.is_ok()
}

fn play(world: &World, policy: Policy) {
    let mut session = world.table.session().policy(policy);
    for _ in 0..2 {
        let mut held: Vec<(u64, Mode)> = Vec::new();
        let mut savepoint = None;
        for _ in 0..3 {
            let key = thread_rng().gen_range(0..KEYS);
            let mode = [Mode::Shared, Mode::Exclusive][thread_rng().gen_range(0..2)];
            if thread_rng().gen_range(0..6) == 0 {
                savepoint = Some((session.savepoint(), held.clone()));
            }
            if !lock(world, &mut session, key, mode) {
                break;
            }
            match held.iter_mut().find(|(of, _)| *of == key) {
                Some((_, before)) if *before >= mode => {}
                Some((_, before)) => {
                    world.leave(key, *before);
                    world.hold(key, mode);
                    *before = mode;
                }
                None => {
                    world.hold(key, mode);
                    held.push((key, mode));
                }
            }
            thread::yield_now();
        }
        if let Some((savepoint, before)) = savepoint {
            for (key, mode) in &held {
                let then = before
                    .iter()
                    .find(|(of, _)| of == key)
                    .map(|(_, mode)| *mode);
                if then != Some(*mode) {
                    world.leave(*key, *mode);
                    if let Some(then) = then {
                        world.hold(*key, then);
                    }
                }
            }
            held = before;
            session.rollback_to(savepoint).unwrap();
        }
        assert_eq!(session.len(), held.len());
        for (key, mode) in held {
            assert_eq!(session.mode(&key), Some(mode));
            world.leave(key, mode);
        }
        session.release_all();
    }
}

fn run(fairness: Fairness) {
    let table: Table = LockTable::<u64>::builder()
        .hasher(Place::Above(10))
        .fairness(fairness)
        .build();
    let world = Arc::new(World {
        fresh: table.stats().index_bytes,
        table,
        cells: (0..KEYS).map(|_| Cell::default()).collect(),
        deadlocks: AtomicU64::new(0),
    });
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let policy = match thread_rng().gen_range(0..6) {
                0 => Policy::Timeout(LONG),
                1 | 2 => Policy::WaitDie,
                _ => Policy::Detect,
            };
            let world = world.clone();
            thread::spawn(move || play(&world, policy))
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_empty(&world.table, world.fresh);
    assert!(world.table.knows_no_session());
    let told = world.deadlocks.load(Relaxed);
    // A future that is dropped is not told of the deadlock that it was the victim of.
    assert!(world.table.deadlocks().len() as u64 >= told.min(16));
    TOLD.fetch_add(told, Relaxed);
}

/// Each fairness under half of the schedules.
#[test]
fn sessions_at_random() {
    let count = schedules::explore("sessions_at_random", SCHEDULES, |seed| {
        run([Fairness::Eventual, Fairness::Fifo][seed as usize % 2]);
    });
    let told = TOLD.load(Relaxed);
    println!("{told} were told of a deadlock");
    assert!(
        told > 50 || count < SCHEDULES,
        "they hardly ever met in a circle"
    );
}
