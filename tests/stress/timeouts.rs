//! Callers that give up: times that are over, times that never come, and a million waiters that
//! must leave nothing behind.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::hashers::Place;
use crate::common::{Rng, assert_as_new, table, until_waits, watchdog};
use latchwork::{Fairness, LockTable, Mode};

/// Nanoseconds: over before the call looks, after it has looked, and while it is queued.
const PATIENCES: [u64; 4] = [1, 200, 400, 1_000];

#[test]
fn times_that_are_over_and_times_that_never_come() {
    let _dog = watchdog("times_that_are_over_and_times_that_never_come");
    let (table, fresh) = table(Place::Identity);
    let now = Instant::now();
    let past = now.checked_sub(Duration::from_secs(1)).unwrap_or(now);
    let far = now + Duration::from_secs(u64::from(u32::MAX) * 60);
    assert!(table.try_lock_for(&1, Duration::MAX).is_some());
    assert!(
        table
            .try_lock_all_for([(&1, Mode::Shared)], Duration::MAX)
            .is_some()
    );
    let mut waits = 0;
    for shared in [false, true] {
        let guard = table.lock(&1);
        assert!(table.try_lock_for(&1, Duration::ZERO).is_none());
        assert!(table.try_lock_shared_for(&1, Duration::ZERO).is_none());
        assert!(table.try_lock_until(&1, past).is_none());
        assert!(table.try_lock_shared_until(&1, past).is_none());
        assert!(
            table
                .try_lock_all_for([(&1, Mode::Shared)], Duration::ZERO)
                .is_none()
        );
        waits = waits.max(table.stats().waits);
        thread::scope(|scope| {
            if shared {
                scope.spawn(|| assert!(table.try_lock_shared_for(&1, Duration::MAX).is_some()));
                scope.spawn(|| assert!(table.try_lock_shared_until(&1, far).is_some()));
            } else {
                scope.spawn(|| assert!(table.try_lock_for(&1, Duration::MAX).is_some()));
                scope.spawn(|| assert!(table.try_lock_until(&1, far).is_some()));
            }
            scope.spawn(|| {
                assert!(
                    table
                        .try_lock_all_for([(&1, Mode::Exclusive)], Duration::MAX)
                        .is_some()
                );
            });
            waits += 3;
            until_waits(&table, waits);
            drop(guard);
        });
        assert_as_new(&table, fresh);
    }
}

#[test]
fn a_million_waiters_that_gave_up() {
    const THREADS: u64 = 16;
    // Fewer with noise: on a busy machine each yield is a time slice.
    const CALLS: u64 = if cfg!(latchwork_noise) {
        100_000
    } else {
        1_000_000
    };
    let mut waits = 0;
    // `Fifo` queues at once, `Eventual` spins first. The held key is alone in its slot, held by a
    // reader, or at the bottom of a chain of children.
    for (place, fairness, exclusive, calls) in [
        (Place::Identity, Fairness::Fifo, true, CALLS / 2),
        (Place::Identity, Fairness::Fifo, false, CALLS / 4),
        (Place::Above(20), Fairness::Fifo, true, CALLS / 8),
        (Place::Above(20), Fairness::Eventual, true, CALLS / 8),
    ] {
        let _dog = watchdog("a_million_waiters_that_gave_up");
        let table = LockTable::<u64>::builder()
            .hasher(place)
            .fairness(fairness)
            .build();
        let fresh = table.stats().index_bytes;
        let neighbour = table.lock(&2);
        let (mut writer, mut reader) = (None, None);
        if exclusive {
            writer = Some(table.lock(&1));
        } else {
            reader = Some(table.lock_shared(&1));
        }
        let bytes = table.stats().index_bytes;
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let table = &table;
                scope.spawn(move || {
                    for call in 0..calls / THREADS {
                        let patience = Duration::from_nanos(PATIENCES[call as usize % 4]);
                        if exclusive && (call + thread) % 3 == 0 {
                            assert!(table.try_lock_shared_for(&1, patience).is_none());
                        } else {
                            assert!(table.try_lock_for(&1, patience).is_none());
                        }
                    }
                });
            }
        });
        let stats = table.stats();
        waits += stats.waits;
        println!("{place:?} {fairness:?}: {stats:?}");
        assert_eq!(table.locked_count(), 2);
        assert!(stats.monitors <= 1, "one key, at most one monitor");
        assert!(
            stats.index_bytes <= bytes + 256,
            "waiters that are gone left more than a monitor: {bytes} bytes before, {stats:?}"
        );
        if !exclusive {
            assert!(
                table.try_lock_shared(&1).is_some(),
                "no writer is queued any more"
            );
        }
        drop((writer, reader));
        assert_eq!((table.locked_count(), table.stats().monitors), (1, 0));
        assert!(table.try_lock(&1).is_some());
        drop(neighbour);
        assert_as_new(&table, fresh);
    }
    println!("{waits} of {CALLS} calls queued");
    assert!(
        waits >= CALLS / 4,
        "too few calls came as far as the queue: {waits}"
    );
}

#[test]
fn a_waiter_behind_one_that_gives_up_is_not_forgotten() {
    let _dog = watchdog("a_waiter_behind_one_that_gives_up_is_not_forgotten");
    const ROUNDS: u64 = 2_000;
    // The holder leaves at about the time at which another gives up. Nobody else comes, so that who
    // stays gets the key from one of these two, or never.
    for fairness in [Fairness::Eventual, Fairness::Fifo] {
        let table = LockTable::<u64>::builder().fairness(fairness).build();
        let fresh = table.stats().index_bytes;
        let barrier = Barrier::new(3);
        let rounds = |seed: u64, each: &dyn Fn(&mut Rng)| {
            let mut rng = Rng::new(seed);
            for _ in 0..ROUNDS {
                barrier.wait();
                each(&mut rng);
                barrier.wait();
            }
        };
        thread::scope(|scope| {
            scope.spawn(|| {
                rounds(1, &|rng| {
                    let patience = Duration::from_micros(rng.below(300));
                    if rng.one_in(2) {
                        drop(table.try_lock_for(&1, patience));
                    } else {
                        drop(table.try_lock_shared_for(&1, patience));
                    }
                });
            });
            scope.spawn(|| {
                rounds(2, &|rng| {
                    if rng.one_in(2) {
                        drop(table.lock(&1));
                    } else {
                        drop(table.lock_shared(&1));
                    }
                });
            });
            let mut rng = Rng::new(3);
            for _ in 0..ROUNDS {
                let (mut writer, mut reader) = (None, None);
                if rng.one_in(2) {
                    writer = Some(table.lock(&1));
                } else {
                    reader = Some(table.lock_shared(&1));
                }
                barrier.wait();
                for _ in 0..rng.below(30) {
                    thread::yield_now();
                }
                drop((writer, reader));
                barrier.wait();
            }
        });
        println!("{fairness:?}: {:?}", table.stats());
        assert_as_new(&table, fresh);
    }
}
