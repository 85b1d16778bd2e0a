//! Sessions on threads: circles end, nobody is lost, and nobody holds what another does.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use latchwork::{
    Fairness, LockTable, Mode,
    session::{LockError, Policy},
};

use crate::actors::Table;
use crate::common::{assert_as_new, until_waits, watchdog};

/// Each holds a key and wants the next one's. Every circle has one victim; all others get what they
/// want.
#[test]
fn a_ring_of_threads_has_one_victim() {
    let _watchdog = watchdog("a_ring_of_threads_has_one_victim");
    for n in [2, 3, 8, 64] {
        let table = Table::new();
        let barrier = Barrier::new(n);
        let victims = AtomicU64::new(0);
        std::thread::scope(|s| {
            for i in 0..n {
                let (table, barrier, victims) = (&table, &barrier, &victims);
                s.spawn(move || {
                    let mut session = table.session();
                    session.lock(&(i as u64)).unwrap();
                    barrier.wait();
                    match session.lock(&((i + 1) as u64 % n as u64)) {
                        Ok(()) => {}
                        Err(LockError::Deadlock(report)) => {
                            assert_eq!(report.victim().session, session.id());
                            assert_eq!(report.parties().len(), n);
                            victims.fetch_add(1, Relaxed);
                        }
                        Err(error) => panic!("{error}"),
                    }
                });
            }
        });
        assert_eq!(victims.into_inner(), 1, "a ring of {n}");
        assert_eq!(table.deadlocks().len(), 1);
    }
}

/// The oldest session, of the highest priority, upgrades after a younger one has begun to: it never
/// loses.
#[test]
fn the_oldest_session_loses_no_upgrade() {
    let _watchdog = watchdog("the_oldest_session_loses_no_upgrade");
    let table = Table::new();
    let mut old = table.session().named("old").priority(100);
    for round in 0..20 {
        old.lock_shared(&1).unwrap();
        let mut young = table.session();
        young.lock_shared(&1).unwrap();
        let waits = table.stats().waits;
        std::thread::scope(|s| {
            let young = s.spawn(move || {
                let told = young.lock(&1);
                young.release_all();
                matches!(told, Err(LockError::Deadlock(_)))
            });
            until_waits(&table, waits + 1);
            let told = old.lock(&1);
            assert!(told.is_ok(), "round {round}: {told:?}");
            old.release_all();
            assert!(young.join().unwrap(), "the younger one is the victim");
        });
    }
    assert_eq!(table.locked_count(), 0);
}

struct Cell {
    readers: AtomicU64,
    writers: AtomicU64,
}

impl Cell {
    fn hold(&self, mode: Mode) {
        let (of, other) = match mode {
            Mode::Shared => (&self.readers, &self.writers),
            Mode::Exclusive => (&self.writers, &self.readers),
        };
        let before = of.fetch_add(1, Relaxed);
        assert!(mode == Mode::Shared || before == 0, "two writers");
        assert_eq!(other.load(Relaxed), 0, "a writer beside others");
    }

    fn leave(&self, mode: Mode) {
        match mode {
            Mode::Shared => self.readers.fetch_sub(1, Relaxed),
            Mode::Exclusive => self.writers.fetch_sub(1, Relaxed),
        };
    }
}

/// Every policy and both modes, upgrades and all, in whatever order: all end, with data that only
/// locks protect.
#[test]
fn sessions_in_random_order_all_end() {
    const KEYS: u64 = 6;
    const THREADS: u64 = 6;
    const ROUNDS: u64 = 300;
    let _watchdog = watchdog("sessions_in_random_order_all_end");
    for fairness in [Fairness::Eventual, Fairness::Fifo] {
        let table: Table = LockTable::builder().fairness(fairness).build();
        let fresh = table.stats().index_bytes;
        let cells: Vec<Cell> = (0..KEYS)
            .map(|_| Cell {
                readers: AtomicU64::new(0),
                writers: AtomicU64::new(0),
            })
            .collect();
        let lost = AtomicU64::new(0);
        std::thread::scope(|s| {
            for thread in 0..THREADS {
                let (table, cells, lost) = (&table, &cells, &lost);
                s.spawn(move || {
                    let policy = match thread {
                        0 => Policy::Timeout(Duration::from_millis(1)),
                        1 | 2 => Policy::WaitDie,
                        3 => Policy::NoWait,
                        _ => Policy::Detect,
                    };
                    let mut x = thread * 0x9E37_79B9 + 1;
                    let mut random = move |n: u64| {
                        x ^= x << 13;
                        x ^= x >> 7;
                        x ^= x << 17;
                        x % n
                    };
                    let session = table.session().policy(policy);
                    let mut session = session.detect_after(Duration::from_micros(200));
                    for _ in 0..ROUNDS {
                        let mut held: Vec<(u64, Mode)> = Vec::new();
                        for _ in 0..1 + random(4) {
                            let key = random(KEYS);
                            let mode = [Mode::Shared, Mode::Exclusive][random(2) as usize];
                            let done = match mode {
                                Mode::Shared => session.lock_shared(&key),
                                Mode::Exclusive => session.lock(&key),
                            };
                            if done.is_err() {
                                lost.fetch_add(1, Relaxed);
                                break;
                            }
                            match held.iter_mut().find(|(of, _)| *of == key) {
                                None => {
                                    cells[key as usize].hold(mode);
                                    held.push((key, mode));
                                }
                                Some((_, before)) if *before < mode => {
                                    cells[key as usize].leave(*before);
                                    cells[key as usize].hold(mode);
                                    *before = mode;
                                }
                                Some(_) => {}
                            }
                            std::thread::yield_now();
                        }
                        assert_eq!(session.len(), held.len());
                        for (key, mode) in held {
                            assert_eq!(session.mode(&key), Some(mode));
                            cells[key as usize].leave(mode);
                        }
                        session.release_all();
                    }
                });
            }
        });
        assert!(lost.into_inner() > 0, "nobody ever met");
        assert_as_new(&table, fresh);
    }
}
