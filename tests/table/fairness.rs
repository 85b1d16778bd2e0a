//! Who gets a key next: nobody waits for ever, and under `Fifo` everybody waits their turn.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Barrier, Mutex, PoisonError};
use std::thread;

use crate::common::{until_waits, watchdog};
use latchwork::{Fairness, LockTable, Mode};

const POLICIES: [Fairness; 2] = [Fairness::Eventual, Fairness::Fifo];
/// Releases that may pass over the oldest waiter. The contract says "bounded"; this is a bound that
/// nobody reaches by chance, and far above the table's own.
const BYPASSES: u64 = 1_000;
/// Locks that the one in danger of starving must get while the others keep coming.
const TURNS: u64 = 40;
/// Threads that keep coming.
const STREAM: u64 = 4;

fn table(fairness: Fairness) -> LockTable<u64> {
    LockTable::<u64>::builder().fairness(fairness).build()
}

fn lock(table: &LockTable<u64>, mode: Mode, f: impl FnOnce()) {
    match mode {
        Mode::Exclusive => {
            let _guard = table.lock(&1);
            f();
        }
        Mode::Shared => {
            let _guard = table.lock_shared(&1);
            f();
        }
    }
}

#[test]
fn fifo_grants_in_order_of_arrival() {
    let _dog = watchdog("fifo_grants_in_order_of_arrival");
    use Mode::{Exclusive as E, Shared as S};
    // In runs, because readers next to each other come in together and in no order.
    let runs: [&[Mode]; 6] = [&[E], &[E], &[S, S, S], &[E], &[S], &[E]];
    let table = table(Fairness::Fifo);
    let granted = Mutex::new(Vec::new());
    let guard = table.lock(&1);
    thread::scope(|scope| {
        let mut waiters = 0;
        for (run, modes) in runs.iter().enumerate() {
            for &mode in *modes {
                let (table, granted) = (&table, &granted);
                scope.spawn(move || {
                    lock(table, mode, || {
                        granted
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push(run);
                    });
                });
                waiters += 1;
                until_waits(table, waiters);
            }
        }
        drop(guard);
    });
    assert_eq!(
        granted.into_inner().expect("nobody panics"),
        [0, 1, 2, 2, 2, 3, 4, 5]
    );
}

#[test]
fn fifo_hands_over_and_lets_nobody_barge() {
    let _dog = watchdog("fifo_hands_over_and_lets_nobody_barge");
    let table = table(Fairness::Fifo);
    for round in 0..100 {
        let guard = table.lock(&1);
        let leave = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let _guard = table.lock(&1);
                while !leave.load(Ordering::Relaxed) {
                    thread::yield_now();
                }
            });
            until_waits(&table, round + 1);
            drop(guard);
            // The waiter may not have run yet, but the key is already its own.
            let barged = (
                table.try_lock(&1).is_some(),
                table.try_lock_shared(&1).is_some(),
            );
            let mode = table.mode(&1);
            // Before the assertions: a failure must not leave the waiter in its loop.
            leave.store(true, Ordering::Relaxed);
            assert_eq!(barged, (false, false), "somebody came in before the waiter");
            assert_eq!(mode, Some(Mode::Exclusive));
        });
    }
}

#[test]
fn readers_that_follow_each_other_come_in_together() {
    let _dog = watchdog("readers_that_follow_each_other_come_in_together");
    for fairness in POLICIES {
        let table = table(fairness);
        let together = Barrier::new(STREAM as usize);
        let guard = table.lock(&1);
        thread::scope(|scope| {
            for waiters in 1..=STREAM {
                // Each stays until all are there, which no order of turns would ever bring about.
                scope.spawn(|| lock(&table, Mode::Shared, || _ = together.wait()));
                until_waits(&table, waiters);
            }
            drop(guard);
        });
        assert_eq!(table.locked_count(), 0);
    }
}

#[test]
fn the_oldest_waiter_is_passed_over_a_bounded_number_of_times() {
    let _dog = watchdog("the_oldest_waiter_is_passed_over_a_bounded_number_of_times");
    for fairness in POLICIES {
        for mode in [Mode::Exclusive, Mode::Shared] {
            let table = table(fairness);
            let waits = table.stats().waits;
            let done = AtomicBool::new(false);
            let mut guard = table.lock(&1);
            thread::scope(|scope| {
                scope.spawn(|| lock(&table, mode, || done.store(true, Ordering::Relaxed)));
                until_waits(&table, waits + 1);
                let mut passed_over = 0;
                loop {
                    drop(guard);
                    guard = table.lock(&1);
                    // Written by the waiter while it held the lock, so it is seen by its next
                    // holder.
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    passed_over += 1;
                    assert!(passed_over <= BYPASSES, "{fairness:?} {mode:?}");
                    assert!(fairness == Fairness::Eventual, "Fifo lets nobody pass");
                }
                drop(guard);
            });
        }
    }
}

#[test]
fn nor_is_it_by_callers_that_only_try() {
    let _dog = watchdog("nor_is_it_by_callers_that_only_try");
    for fairness in POLICIES {
        let table = table(fairness);
        let done = AtomicBool::new(false);
        let guard = table.lock(&1);
        thread::scope(|scope| {
            scope.spawn(|| {
                lock(&table, Mode::Exclusive, || {
                    done.store(true, Ordering::Relaxed)
                })
            });
            until_waits(&table, 1);
            drop(guard);
            let mut passed_over = 0;
            while !done.load(Ordering::Relaxed) {
                // Each try that succeeds before the waiter has been is one that passed it over.
                if let Some(_guard) = table.try_lock(&1) {
                    passed_over += u64::from(!done.load(Ordering::Relaxed));
                    assert!(passed_over <= BYPASSES, "{fairness:?}");
                }
            }
        });
    }
}

/// One thread takes [`TURNS`] locks in `mode`, while `STREAM` others call `come` for as long as it
/// takes. That it ends at all is the assertion; the watchdog makes it one.
fn turns_against_a_stream(
    fairness: Fairness,
    mode: Mode,
    come: impl Fn(&LockTable<u64>) -> bool + Sync,
) {
    let table = table(fairness);
    let (done, came) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..STREAM {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    if come(&table) {
                        came.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        for turn in 0..TURNS {
            // The stream is running before each turn, or there is nothing to starve of.
            let before = came.load(Ordering::Relaxed);
            while turn % 10 == 0 && came.load(Ordering::Relaxed) < before + STREAM {
                thread::yield_now();
            }
            lock(&table, mode, || {});
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(table.locked_count(), 0);
    assert!(came.into_inner() >= STREAM, "there was no stream");
}

#[test]
fn a_writer_gets_its_turn_against_readers() {
    let _dog = watchdog("a_writer_gets_its_turn_against_readers");
    for fairness in POLICIES {
        turns_against_a_stream(fairness, Mode::Exclusive, |table| {
            let _guard = table.lock_shared(&1);
            thread::yield_now();
            true
        });
    }
}

#[test]
fn a_writer_gets_its_turn_against_readers_that_only_try() {
    let _dog = watchdog("a_writer_gets_its_turn_against_readers_that_only_try");
    for fairness in POLICIES {
        turns_against_a_stream(fairness, Mode::Exclusive, |table| {
            // Each takes its next lock before it gives up the last: without a queue that readers
            // respect, the key would never be free.
            let mut guard = table.try_lock_shared(&1);
            let came = guard.is_some();
            for _ in 0..100 {
                thread::yield_now();
                if guard.is_none() {
                    break;
                }
                guard = table.try_lock_shared(&1);
            }
            came
        });
    }
}

#[test]
fn a_reader_gets_its_turn_against_writers() {
    let _dog = watchdog("a_reader_gets_its_turn_against_writers");
    for fairness in POLICIES {
        turns_against_a_stream(fairness, Mode::Shared, |table| {
            let _guard = table.lock(&1);
            true
        });
        turns_against_a_stream(fairness, Mode::Shared, |table| table.try_lock(&1).is_some());
    }
}

#[test]
fn a_writer_gets_its_turn_against_writers() {
    let _dog = watchdog("a_writer_gets_its_turn_against_writers");
    for fairness in POLICIES {
        turns_against_a_stream(fairness, Mode::Exclusive, |table| {
            let _guard = table.lock(&1);
            true
        });
        turns_against_a_stream(fairness, Mode::Exclusive, |table| {
            table.try_lock(&1).is_some()
        });
    }
}

#[test]
fn a_set_gets_its_turn_against_locks_of_its_keys() {
    let _dog = watchdog("a_set_gets_its_turn_against_locks_of_its_keys");
    for fairness in POLICIES {
        let table = table(fairness);
        let (done, came) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| {
            for key in 0..STREAM {
                let (table, done, came) = (&table, &done, &came);
                scope.spawn(move || {
                    while !done.load(Ordering::Relaxed) {
                        let _guard = table.lock(&key);
                        came.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            let keys: Vec<u64> = (0..STREAM).collect();
            for _ in 0..TURNS {
                let before = came.load(Ordering::Relaxed);
                while came.load(Ordering::Relaxed) == before {
                    thread::yield_now();
                }
                drop(table.lock_all(keys.iter().map(|key| (key, Mode::Exclusive))));
            }
            done.store(true, Ordering::Relaxed);
        });
        assert_eq!(table.locked_count(), 0);
    }
}
