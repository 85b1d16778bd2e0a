//! Several keys at once: `lock_all`, its try and timed forms, and the
//! [`LockSet`](latchwork::table::LockSet) they return.

use std::thread;
use std::time::Duration;

use crate::common::hashers::Place;
use crate::common::{Rng, assert_as_new, table, until_waits, watchdog};
use latchwork::{Fairness, LockTable, Mode};

/// Long enough never to pass while a test runs.
const LONG: Duration = Duration::from_secs(3600);
/// Short enough to pass at once; nothing depends on how long it takes.
const SHORT: Duration = Duration::from_micros(50);

#[test]
fn a_set_locks_each_key_in_its_mode_until_it_is_dropped() {
    let table: LockTable<str> = LockTable::new();
    let set = table.lock_all([("a", Mode::Exclusive), ("b", Mode::Shared)]);
    assert_eq!((set.len(), set.is_empty()), (2, false));
    assert!(set.contains("a") && set.contains("b") && !set.contains("c"));
    assert_eq!(set.mode("a"), Some(Mode::Exclusive));
    assert_eq!(set.mode("b"), Some(Mode::Shared));
    assert_eq!(set.mode("c"), None);

    assert_eq!(table.locked_count(), 2);
    assert_eq!(table.mode("a"), Some(Mode::Exclusive));
    assert_eq!(table.mode("b"), Some(Mode::Shared));
    assert!(table.try_lock_shared("a").is_none());
    assert!(table.try_lock("b").is_none());
    assert!(table.try_lock_shared("b").is_some());
    assert!(table.try_lock("c").is_some());
    drop(set);
    assert_eq!(table.locked_count(), 0);
    assert!(table.try_lock("a").is_some() && table.try_lock("b").is_some());
}

#[test]
fn any_iterator_of_keys_will_do() {
    let table: LockTable<String> = LockTable::new();
    let keys = [String::from("a"), String::from("b")];
    drop(table.lock_all(keys.iter().map(|key| (key, Mode::Shared))));
    drop(table.lock_all(keys.iter().map(|key| (key.as_str(), Mode::Shared))));
    drop(table.lock_all(Some(("a", Mode::Exclusive))));
    drop(table.lock_all(vec![("a", Mode::Exclusive); 3]));
    let mut left = 5;
    let set = table.lock_all(std::iter::from_fn(|| {
        left -= 1;
        (left > 0).then_some(("a", Mode::Shared))
    }));
    assert_eq!(set.len(), 1);
}

#[test]
fn try_lock_all_takes_all_or_nothing() {
    let (table, fresh) = table(Place::Above(12));
    for held in 0..4 {
        let guard = table.lock(&held);
        let wanted = [0, 1, 2, 3];
        assert!(
            table
                .try_lock_all(wanted.iter().map(|k| (k, Mode::Shared)))
                .is_none()
        );
        assert!(
            table
                .try_lock_all_for(wanted.iter().map(|k| (k, Mode::Shared)), SHORT)
                .is_none()
        );
        assert_eq!(table.locked_count(), 1, "a set that failed kept a key");
        for key in wanted {
            assert_eq!(table.mode(&key), (key == held).then_some(Mode::Exclusive));
        }
        drop(guard);
    }
    for held in 0..4 {
        let guard = table.lock_shared(&held);
        let wanted = [0, 1, 2, 3].map(|key| {
            if key == 2 {
                (key, Mode::Exclusive)
            } else {
                (key, Mode::Shared)
            }
        });
        let set = table.try_lock_all(wanted.iter().map(|(key, mode)| (key, *mode)));
        assert_eq!(
            set.is_some(),
            held != 2,
            "a shared lock conflicts with the one exclusive wish only"
        );
        drop(set);
        drop(guard);
    }
    assert_as_new(&table, fresh);
}

#[test]
fn lock_all_waits_for_every_key() {
    let _dog = watchdog("lock_all_waits_for_every_key");
    for fairness in [Fairness::Eventual, Fairness::Fifo] {
        let table = LockTable::<u64>::builder()
            .hasher(Place::Above(12))
            .fairness(fairness)
            .build();
        let fresh = table.stats().index_bytes;
        let wanted = [3, 1, 2];
        let ask = || wanted.iter().map(|key| (key, Mode::Exclusive));
        let mut waits = 0;
        for timed in [false, true] {
            let guards = [table.lock(&1), table.lock(&2), table.lock(&3)];
            thread::scope(|scope| {
                let table = &table;
                let waiter = scope.spawn(move || {
                    let set = if timed {
                        table.try_lock_all_for(ask(), LONG).expect("there is time")
                    } else {
                        table.lock_all(ask())
                    };
                    assert_eq!(set.len(), 3);
                    assert_eq!(table.locked_count(), 3);
                });
                for guard in guards {
                    // It waits for the keys one at a time, in an order of its own; whichever it
                    // waits for is among those that are left.
                    until_waits(table, waits + 1);
                    assert!(!waiter.is_finished());
                    drop(guard);
                }
            });
            waits = table.stats().waits;
            assert_as_new(&table, fresh);
        }
    }
}

#[test]
fn a_set_holds_nothing_back_that_it_did_not_ask_for() {
    let _dog = watchdog("a_set_holds_nothing_back_that_it_did_not_ask_for");
    let (table, fresh) = table(Place::Above(12));
    let guard = table.lock(&2);
    thread::scope(|scope| {
        scope.spawn(|| drop(table.lock_all([1, 2, 3].iter().map(|k| (k, Mode::Exclusive)))));
        until_waits(&table, 1);
        // Other keys of the same slot go on while the set waits.
        for key in 4..100 {
            assert!(table.try_lock(&key).is_some(), "{key}");
        }
        drop(guard);
    });
    assert_as_new(&table, fresh);
}

#[test]
fn sets_in_opposite_orders_do_not_deadlock() {
    let _dog = watchdog("sets_in_opposite_orders_do_not_deadlock");
    // Up to 8 keys, and more than 8: two ways to keep them.
    for keys in [2, 8, 9, 40] {
        let (table, fresh) = table(Place::Above(12));
        thread::scope(|scope| {
            for seed in 0..4 {
                let table = &table;
                scope.spawn(move || {
                    let mut rng = Rng::new(seed);
                    let mut order: Vec<u64> = (0..keys).collect();
                    for _ in 0..200 {
                        for at in (1..order.len()).rev() {
                            order.swap(at, rng.below(at as u64 + 1) as usize);
                        }
                        let exclusive = rng.below(keys);
                        let set = table.lock_all(order.iter().map(|key| {
                            (
                                key,
                                if *key == exclusive {
                                    Mode::Exclusive
                                } else {
                                    Mode::Shared
                                },
                            )
                        }));
                        assert_eq!(set.len() as u64, keys);
                        assert_eq!(set.mode(&exclusive), Some(Mode::Exclusive));
                    }
                });
            }
        });
        assert_as_new(&table, fresh);
    }
}

#[test]
fn a_set_that_times_out_gives_back_what_it_had() {
    let (table, fresh) = table(Place::Above(12));
    let guard = table.lock(&7);
    for _ in 0..100 {
        for patience in [Duration::ZERO, SHORT] {
            let all = (0..20)
                .map(|key| (key, Mode::Exclusive))
                .collect::<Vec<(u64, Mode)>>();
            let ask = all.iter().map(|(key, mode)| (key, *mode));
            assert!(table.try_lock_all_for(ask, patience).is_none());
            assert_eq!(table.locked_count(), 1);
        }
    }
    drop(guard);
    assert_as_new(&table, fresh);
}
