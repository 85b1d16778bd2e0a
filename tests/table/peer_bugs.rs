//! One test for each bug that other locks by key were shipped with. `cargo run --release -p
//! latchwork-bench --bin peer_bugs` looks for the same bugs in the crates themselves.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::common::hashers::Place;
use crate::common::tasks::{Bell, POLICIES, poll, poll_with};
use crate::common::{Rng, assert_as_new, table, until_waits, watchdog};
use latchwork::{Fairness, LockTable, Mode};

/// A table of the policy, and how many bytes its index has before any use.
fn with(fairness: Fairness, place: Place) -> (LockTable<u64, Place>, usize) {
    let table = LockTable::builder()
        .hasher(place)
        .fairness(fairness)
        .build();
    let fresh = table.stats().index_bytes;
    (table, fresh)
}

/// Counters of who is inside; nothing but the lock keeps them from being wrong.
#[derive(Debug, Default)]
struct Inside {
    now: AtomicU64,
    twice: AtomicU64,
}

impl Inside {
    fn visit(&self) {
        if self.now.fetch_add(1, Ordering::SeqCst) != 0 {
            self.twice.fetch_add(1, Ordering::SeqCst);
        }
        std::hint::spin_loop();
        self.now.fetch_sub(1, Ordering::SeqCst);
    }
}

// A waiter that gives up after the holder has left is the last to know of the entry: lockable,
// keyed-lock and key-mutex keep it for ever.
#[test]
fn a_waiter_that_gave_up_leaves_no_entry() {
    let _dog = watchdog("a_waiter_that_gave_up_leaves_no_entry");
    for fairness in POLICIES {
        for place in [Place::Identity, Place::Above(20)] {
            let (table, fresh) = with(fairness, place);
            for key in 0..1_000 {
                let holder = table.lock(&key);
                let mut writer = table.lock_async(&key);
                let mut reader = table.lock_shared_async(&key);
                assert!(poll(&mut writer).is_pending());
                assert!(poll(&mut reader).is_pending());
                let keys = [(&key, Mode::Exclusive), (&!key, Mode::Shared)];
                let mut both = table.lock_all_async(keys);
                assert!(poll(&mut both).is_pending());
                assert!(table.try_lock_for(&key, Duration::from_nanos(1)).is_none());
                // Before the holder leaves, after it, and who was granted last of all.
                match key % 3 {
                    0 => drop((both, reader, writer, holder)),
                    1 => drop((holder, writer, reader, both)),
                    _ => drop((reader, holder, both, writer)),
                }
                assert_eq!(
                    (table.locked_count(), table.stats().waiting),
                    (0, 0),
                    "key {key}"
                );
            }
            assert_as_new(&table, fresh);
        }
    }
}

#[test]
fn callers_that_timed_out_leave_no_entry() {
    let _dog = watchdog("callers_that_timed_out_leave_no_entry");
    for fairness in POLICIES {
        let (table, fresh) = with(fairness, Place::Above(20));
        for key in 0..200 {
            let holder = table.lock(&key);
            thread::scope(|scope| {
                let waits = table.stats().waits;
                for shared in [false, true] {
                    let table = &table;
                    scope.spawn(move || {
                        let patience = Duration::from_micros(100);
                        if shared {
                            drop(table.try_lock_shared_for(&key, patience));
                        } else {
                            drop(table.try_lock_for(&key, patience));
                        }
                    });
                }
                // Half of the holders leave while somebody waits or has just given up.
                if key % 2 == 0 {
                    until_waits(&table, waits + 1);
                    drop(holder);
                }
            });
        }
        assert_as_new(&table, fresh);
    }
}

// key-lock (and TiKV's latches once): a clean-up takes away the entry that a thread has found and
// is about to lock; the next comer makes another, and both hold the key.
#[test]
fn clean_up_spares_an_entry_that_somebody_has_found() {
    let _dog = watchdog("clean_up_spares_an_entry_that_somebody_has_found");
    for fairness in POLICIES {
        // Alone in a slot, so that monitors come and go; and in one slot with others, so that
        // children do too.
        for place in [Place::Identity, Place::Above(20)] {
            let (table, fresh) = with(fairness, place);
            let inside: [Inside; 2] = Default::default();
            thread::scope(|scope| {
                for thread in 0..4 {
                    let (table, inside) = (&table, &inside);
                    scope.spawn(move || {
                        let mut rng = Rng::new(thread);
                        for _ in 0..10_000 {
                            let key = rng.below(2);
                            if rng.one_in(4) {
                                let patience = Duration::from_nanos(rng.below(2_000));
                                if let Some(_guard) = table.try_lock_for(&key, patience) {
                                    inside[key as usize].visit();
                                }
                            } else {
                                let _guard = table.lock(&key);
                                inside[key as usize].visit();
                            }
                        }
                    });
                }
            });
            for inside in &inside {
                assert_eq!(inside.twice.load(Ordering::SeqCst), 0, "two held one key");
            }
            assert_as_new(&table, fresh);
        }
    }
}

// keyed-lock: who leaves looks at the reference count before giving up the reference; of two that
// leave together each takes the other for one that stays.
#[test]
fn two_that_leave_together_leave_no_entry() {
    let _dog = watchdog("two_that_leave_together_leave_no_entry");
    let (table, fresh) = table(Place::Identity);
    thread::scope(|scope| {
        for _ in 0..2 {
            let table = &table;
            scope.spawn(move || {
                for round in 0..250_000_u64 {
                    let key = round % 64;
                    // Both modes: two readers leave one word, a writer and its waiter leave a
                    // monitor.
                    if round % 128 < 64 {
                        drop(table.lock(&key));
                    } else {
                        drop(table.lock_shared(&key));
                    }
                }
            });
        }
    });
    assert_as_new(&table, fresh);
}

// .NET's ReaderWriterLockSlim and AsyncEx: readers queue behind a writer, the writer gives up, and
// nobody tells them.
#[test]
fn readers_behind_a_writer_that_gave_up_are_let_in() {
    let _dog = watchdog("readers_behind_a_writer_that_gave_up_are_let_in");
    for fairness in POLICIES {
        let (table, fresh) = with(fairness, Place::Identity);
        let holder = table.lock_shared(&1);
        let mut writer = table.lock_async(&1);
        assert!(poll(&mut writer).is_pending());
        let bells = [Bell::new(), Bell::new()];
        let mut readers = bells.each_ref().map(|(_, waker)| {
            let mut reader = table.lock_shared_async(&1);
            assert!(poll_with(&mut reader, waker).is_pending());
            reader
        });
        drop(writer);
        for (reader, (bell, waker)) in readers.iter_mut().zip(&bells) {
            assert_eq!(bell.rings(), 1);
            assert!(poll_with(reader, waker).is_ready());
        }
        drop((holder, readers));
        assert_as_new(&table, fresh);
    }
}

#[test]
fn a_thread_behind_a_writer_that_timed_out_is_let_in() {
    let _dog = watchdog("a_thread_behind_a_writer_that_timed_out_is_let_in");
    for fairness in POLICIES {
        let (table, fresh) = with(fairness, Place::Identity);
        let holder = table.lock_shared(&1);
        for _ in 0..20 {
            let waits = table.stats().waits;
            thread::scope(|scope| {
                // It never gets the key: the holder stays.
                scope.spawn(|| assert!(table.try_lock_for(&1, Duration::from_millis(5)).is_none()));
                until_waits(&table, waits + 1);
                // Comes back only if it is let in beside the holder.
                scope.spawn(|| drop(table.lock_shared(&1)));
            });
        }
        drop(holder);
        assert_as_new(&table, fresh);
    }
}

// parking_lot#489: an upgrade that waits for readers while new ones keep coming.
#[test]
fn an_upgrade_ends_while_new_readers_keep_coming() {
    let _dog = watchdog("an_upgrade_ends_while_new_readers_keep_coming");
    for fairness in POLICIES {
        let (table, fresh) = with(fairness, Place::Identity);
        let stop = AtomicBool::new(false);
        let inside = Inside::default();
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let guard = table.lock_shared(&1);
                        assert_eq!(inside.now.load(Ordering::SeqCst), 0, "beside a writer");
                        thread::yield_now();
                        drop(guard);
                    }
                });
            }
            let mut upgraded = 0;
            while upgraded < 200 {
                match table.lock_shared(&1).try_upgrade() {
                    Ok(guard) => {
                        inside.visit();
                        upgraded += 1;
                        drop(guard.downgrade());
                    }
                    // It comes back at once, with the guard, and whoever insists gets in as a
                    // writer.
                    Err(guard) => {
                        drop(guard);
                        let guard = table.lock(&1);
                        inside.visit();
                        upgraded += 1;
                        drop(guard);
                    }
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert_as_new(&table, fresh);
    }
}

#[test]
fn of_two_that_upgrade_none_waits_for_the_other() {
    let _dog = watchdog("of_two_that_upgrade_none_waits_for_the_other");
    for fairness in POLICIES {
        let (table, fresh) = with(fairness, Place::Identity);
        let one = table.lock_shared(&1);
        let two = table.lock_shared(&1);
        // Also with a writer in the queue, which both are ahead of.
        let mut writer = table.lock_async(&1);
        assert!(poll(&mut writer).is_pending());
        let one = one.try_upgrade().expect_err("two holds the key too");
        let two = two.try_upgrade().expect_err("one holds the key too");
        drop(one);
        let two = two.try_upgrade().expect("nobody else holds the key");
        assert_eq!(table.mode(&1), Some(Mode::Exclusive));
        assert!(poll(&mut writer).is_pending());
        drop(two);
        assert!(poll(&mut writer).is_ready());
        drop(writer);
        assert_as_new(&table, fresh);
    }
}

// bpo-27585: the key is granted to a waiter in the moment in which it is cancelled.
#[test]
fn a_grant_to_a_future_that_is_dropped_is_passed_on() {
    let _dog = watchdog("a_grant_to_a_future_that_is_dropped_is_passed_on");
    for fairness in POLICIES {
        for shared in [false, true] {
            let (table, fresh) = with(fairness, Place::Identity);
            let holder = table.lock(&1);
            let (granted, waker) = Bell::new();
            let mut first = table.lock_async(&1);
            assert!(poll_with(&mut first, &waker).is_pending());
            let bells = [Bell::new(), Bell::new()];
            let mut readers = bells.each_ref().map(|_| table.lock_shared_async(&1));
            let mut writer = table.lock_async(&1);
            if shared {
                for (reader, (_, waker)) in readers.iter_mut().zip(&bells) {
                    assert!(poll_with(reader, waker).is_pending());
                }
            } else {
                assert!(poll_with(&mut writer, &bells[0].1).is_pending());
            }
            drop(holder);
            assert_eq!(granted.rings(), 1, "the first in the queue is told");
            // It never looks.
            drop(first);
            if shared {
                for (reader, (bell, waker)) in readers.iter_mut().zip(&bells) {
                    assert_eq!(bell.rings(), 1);
                    // The guards go at once; who looks later finds the key free.
                    assert!(poll_with(reader, waker).is_ready());
                }
            } else {
                let (bell, waker) = &bells[0];
                assert_eq!(bell.rings(), 1);
                assert!(poll_with(&mut writer, waker).is_ready());
            }
            assert_as_new(&table, fresh);
        }
    }
}

#[test]
fn grants_to_callers_that_time_out_are_passed_on() {
    let _dog = watchdog("grants_to_callers_that_time_out_are_passed_on");
    for fairness in POLICIES {
        let (table, fresh) = with(fairness, Place::Identity);
        let inside = Inside::default();
        let patient = AtomicU64::new(0);
        let got = AtomicU64::new(0);
        thread::scope(|scope| {
            // These wait without a time limit: a grant that is lost is a hang of theirs.
            for task in [false, true] {
                let (table, inside, patient) = (&table, &inside, &patient);
                scope.spawn(move || {
                    for _ in 0..2_000 {
                        let guard = if task {
                            pollster::block_on(table.lock_async(&1))
                        } else {
                            table.lock(&1)
                        };
                        inside.visit();
                        patient.fetch_add(1, Ordering::Relaxed);
                        drop(guard);
                    }
                });
            }
            for thread in 0..6 {
                let (table, inside, patient, got) = (&table, &inside, &patient, &got);
                scope.spawn(move || {
                    let mut rng = Rng::new(thread);
                    while patient.load(Ordering::Relaxed) < 4_000 {
                        let patience = Duration::from_nanos(rng.below(20_000));
                        if rng.one_in(3) {
                            if let Some(_guard) = table.try_lock_shared_for(&1, patience) {
                                thread::yield_now();
                            }
                        } else if let Some(_guard) = table.try_lock_for(&1, patience) {
                            inside.visit();
                            got.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(inside.twice.load(Ordering::SeqCst), 0, "two held one key");
        println!("{fairness:?}: {got:?} in time, {:?}", table.stats());
        assert_as_new(&table, fresh);
    }
}

// saa refuses the 63rd reader.
#[test]
fn a_key_has_as_many_readers_as_ask() {
    let _dog = watchdog("a_key_has_as_many_readers_as_ask");
    for fairness in POLICIES {
        for readers in [200, 100_000] {
            let (table, fresh) = with(fairness, Place::Identity);
            let mut guards: Vec<_> = (0..readers)
                .map(|_| table.try_lock_shared(&1).expect("readers only"))
                .collect();
            assert_eq!(table.inspect()[0].holders, readers);
            assert_eq!(
                (table.locked_count(), table.mode(&1)),
                (1, Some(Mode::Shared))
            );
            assert!(table.try_lock(&1).is_none());
            // The count comes down as it went up: nobody is let in before the last has left.
            let last = guards.pop();
            drop(guards);
            assert!(table.try_lock(&1).is_none());
            drop(last);
            assert!(table.try_lock(&1).is_some());
            assert_as_new(&table, fresh);
        }
    }
}

// A set that locks its keys one by one locks two of one hash twice, and waits for itself.
#[test]
fn keys_of_one_hash_are_locked_once_in_a_set() {
    let _dog = watchdog("keys_of_one_hash_are_locked_once_in_a_set");
    for fairness in POLICIES {
        let (table, fresh) = with(fairness, Place::Constant(7));
        // As many as a set keeps in place, and more.
        for count in [2_u64, 8, 20] {
            let keys: Vec<u64> = (0..count).collect();
            let modes = |key: &u64| match key % 2 {
                0 => Mode::Shared,
                _ => Mode::Exclusive,
            };
            let all = || keys.iter().map(|key| (key, modes(key)));
            for way in 0..4 {
                let set = match way {
                    0 => table.lock_all(all()),
                    1 => table.try_lock_all(all()).expect("nobody else is here"),
                    2 => table
                        .try_lock_all_for(all(), Duration::from_secs(3600))
                        .expect("nobody else is here"),
                    _ => pollster::block_on(table.lock_all_async(all())),
                };
                assert_eq!(set.len(), 1);
                assert_eq!(set.mode(&0), Some(Mode::Exclusive), "the stronger mode");
                drop(set);
                assert_as_new(&table, fresh);
            }
        }
    }
}
