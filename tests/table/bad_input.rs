//! What callers should not do, and what must then not happen: no hang, no entry left behind, no key
//! held by two.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;
use std::time::Duration;

use crate::common::hashers::{Fickle, PanicAt, Place};
use crate::common::{assert_as_new, forget_in_sight, table, until_waits, watchdog};
use latchwork::{LockTable, Mode, table::LockSet};

/// Short enough to pass at once; nothing depends on how long it takes.
const SHORT: Duration = Duration::from_micros(50);

/// Runs `f`, which must panic, without the trace that the panic hook would print.
fn unwinds<R>(f: impl FnOnce() -> R) {
    assert!(
        catch_unwind(AssertUnwindSafe(|| drop(f()))).is_err(),
        "no panic came through"
    );
}

/// `keys`, all in one mode.
fn all(keys: &[u64], mode: Mode) -> impl Iterator<Item = (&u64, Mode)> {
    keys.iter().map(move |key| (key, mode))
}

#[test]
fn no_keys_at_all() {
    let (table, fresh) = table(Place::Identity);
    let none = || std::iter::empty::<(&u64, Mode)>();
    for set in [
        Some(table.lock_all(none())),
        table.try_lock_all(none()),
        table.try_lock_all_for(none(), Duration::ZERO),
    ] {
        let set = set.expect("nothing stands in the way of nothing");
        assert_eq!(
            (set.len(), set.is_empty(), set.contains(&1)),
            (0, true, false)
        );
        assert_eq!(table.locked_count(), 0);
    }
    assert_as_new(&table, fresh);
}

#[test]
fn one_key_twice_in_both_modes() {
    let _dog = watchdog("one_key_twice_in_both_modes");
    let (table, fresh) = table(Place::Above(12));
    let (shared, exclusive) = (Mode::Shared, Mode::Exclusive);
    for modes in [
        [shared, exclusive],
        [exclusive, shared],
        [exclusive, exclusive],
        [shared, shared],
    ] {
        let stronger = modes[0].max(modes[1]);
        for repeat in [1, 10] {
            let ask = || {
                modes
                    .iter()
                    .map(|mode| (&1, *mode))
                    .cycle()
                    .take(2 * repeat)
            };
            let check = |set: Option<LockSet<'_, u64, Place>>| {
                let set = set.expect("a set does not wait for itself");
                assert_eq!((set.len(), set.mode(&1)), (1, Some(stronger)));
                assert_eq!(table.mode(&1), Some(stronger));
                assert_eq!(table.try_lock_shared(&1).is_some(), stronger == shared);
            };
            check(Some(table.lock_all(ask())));
            check(table.try_lock_all(ask()));
            check(table.try_lock_all_for(ask(), Duration::ZERO));
            assert_as_new(&table, fresh);
        }
    }
}

#[test]
fn keys_that_share_a_whole_hash() {
    let _dog = watchdog("keys_that_share_a_whole_hash");
    for hash in [0, 1, 0xFFF, u64::MAX, 1 << 63] {
        let (table, fresh) = table(Place::Constant(hash));
        let guard = table.lock(&1);
        assert_eq!(table.key_id(&1), table.key_id(&2));
        assert!(table.try_lock(&2).is_none(), "one hash is one lock");
        assert!(table.try_lock_for(&2, SHORT).is_none());
        assert_eq!(
            (table.mode(&3), table.locked_count()),
            (Some(Mode::Exclusive), 1)
        );
        drop(guard);

        // A set of such keys takes their one lock once and does not wait for itself.
        let keys: Vec<u64> = (0..20).collect();
        let mut ask: Vec<(&u64, Mode)> = all(&keys, Mode::Shared).collect();
        ask[13].1 = Mode::Exclusive;
        let set = table.lock_all(ask);
        assert_eq!(
            (set.len(), set.mode(&0), set.mode(&99)),
            (1, Some(Mode::Exclusive), Some(Mode::Exclusive))
        );
        assert_eq!(table.locked_count(), 1);
        drop(set);
        assert_as_new(&table, fresh);
    }
}

#[test]
fn keys_that_share_the_low_bits() {
    let _dog = watchdog("keys_that_share_the_low_bits");
    for bits in [10, 11, 12, 13, 16, 32, 48, 55, 56] {
        let (table, fresh) = table(Place::Above(bits));
        // One alone at the bottom of a long chain, then a crowd, then each on its own.
        let keys: Vec<u64> = (0..256).collect();
        for &key in &keys[1..] {
            let (first, second) = (table.lock(&0), table.lock(&key));
            assert!(table.try_lock(&0).is_none() && table.try_lock(&key).is_none());
            assert_eq!(table.locked_count(), 2);
            if key % 2 == 0 {
                drop((first, second))
            } else {
                drop((second, first))
            }
            assert_as_new(&table, fresh);
        }
        let set = table.lock_all(all(&keys, Mode::Exclusive));
        assert_eq!((set.len(), table.locked_count()), (256, 256));
        assert!(keys.iter().all(|key| table.try_lock_shared(key).is_none()));
        assert!(table.try_lock_all(all(&keys, Mode::Shared)).is_none());
        drop(set);
        assert_as_new(&table, fresh);
        let guards: Vec<_> = keys.iter().map(|key| table.lock_shared(key)).collect();
        assert!(keys.iter().all(|key| table.try_lock(key).is_none()));
        for (key, guard) in keys.iter().zip(guards) {
            drop(guard);
            assert!(
                table.try_lock(key).is_some(),
                "only its own guard holds a key"
            );
        }
        assert_as_new(&table, fresh);
    }
}

#[test]
fn a_hasher_that_panics() {
    let (table, fresh) = table(PanicAt(3));
    unwinds(|| table.lock(&3));
    unwinds(|| table.lock_shared(&3));
    unwinds(|| table.try_lock(&3));
    unwinds(|| table.try_lock_shared_for(&3, SHORT));
    unwinds(|| table.mode(&3));
    unwinds(|| table.key_id(&3));
    let held = table.lock(&9);
    for keys in [
        &[1, 2, 3, 4][..],
        &[3],
        &[1, 1, 3],
        &[4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15, 3],
    ] {
        unwinds(|| table.lock_all(all(keys, Mode::Exclusive)));
        unwinds(|| table.try_lock_all(all(keys, Mode::Shared)));
        unwinds(|| table.try_lock_all_for(all(keys, Mode::Shared), SHORT));
        assert_eq!(table.locked_count(), 1, "a set that never was keeps a key");
    }
    let set = table.lock_all(all(&[1, 2], Mode::Shared));
    unwinds(|| set.contains(&3));
    drop((held, set));
    assert_as_new(&table, fresh);
}

#[test]
fn an_iterator_that_panics() {
    let (table, fresh) = table(Place::Above(12));
    for good in [0, 1, 7, 8, 9, 100] {
        let keys: Vec<u64> = (0..good).collect();
        let ask = || {
            all(&keys, Mode::Exclusive).chain(std::iter::from_fn(|| resume_unwind(Box::new(()))))
        };
        unwinds(|| table.lock_all(ask()));
        unwinds(|| table.try_lock_all(ask()));
        unwinds(|| table.try_lock_all_for(ask(), SHORT));
        assert_as_new(&table, fresh);
    }
}

#[test]
fn an_iterator_that_uses_the_table() {
    let _dog = watchdog("an_iterator_that_uses_the_table");
    let (table, fresh) = table(Place::Above(12));
    let keys: Vec<u64> = (0..12).collect();
    // Nothing is locked before the last key is known, so there is nothing to meet.
    let set = table.lock_all(all(&keys, Mode::Exclusive).inspect(|(key, _)| {
        drop(table.lock(*key));
        drop(table.lock_all(all(&keys, Mode::Exclusive)));
    }));
    assert_eq!(set.len(), 12);
    drop(set);
    assert_as_new(&table, fresh);
}

#[test]
fn a_hasher_that_never_says_the_same_twice() {
    let (table, fresh) = table(Fickle);
    for _ in 0..100 {
        // Nothing useful can be locked so, but what is locked is unlocked again.
        drop((table.lock(&1), table.lock_shared(&1)));
        let set = table.lock_all(all(&[1, 1, 2], Mode::Exclusive));
        assert_eq!((set.len(), set.contains(&1)), (3, false));
        assert_eq!(table.locked_count(), 3);
    }
    assert_as_new(&table, fresh);
}

#[test]
fn a_guard_that_is_forgotten() {
    let (table, _) = table(Place::Above(12));
    forget_in_sight(table.lock(&1));
    forget_in_sight(table.lock_shared(&2));
    forget_in_sight(table.lock_all(all(&[3, 4], Mode::Exclusive)));
    assert_eq!(table.locked_count(), 4);
    for _ in 0..100 {
        assert!(table.try_lock(&1).is_none());
        assert!(table.try_lock_for(&1, SHORT).is_none());
        assert!(table.try_lock_shared(&2).is_some());
        assert!(table.try_lock_for(&2, SHORT).is_none());
        assert!(table.try_lock_shared_for(&3, SHORT).is_none());
        for key in 5..50 {
            drop(table.lock(&key));
        }
        assert_eq!(table.locked_count(), 4);
    }
    drop(table);
}

#[test]
fn a_table_dropped_with_much_behind_it() {
    let (table, fresh) = table(Place::Above(12));
    let keys: Vec<u64> = (0..10_000).collect();
    let set = table.lock_all(all(&keys, Mode::Shared));
    let grown = table.stats().index_bytes;
    assert!(grown > fresh);
    drop(set);
    assert_as_new(&table, fresh);
    // Once more, with all of it still there: forgotten locks, grown index, a monitor.
    forget_in_sight(table.lock_all(all(&keys, Mode::Shared)));
    assert!(table.try_lock_for(&1, SHORT).is_none());
    let crowd: Vec<_> = (0..1_000).map(|_| table.lock_shared(&2)).collect();
    forget_in_sight(crowd);
    assert!(table.stats().index_bytes > fresh);
    drop(table);
}

#[test]
fn a_guard_dropped_by_a_panic() {
    let _dog = watchdog("a_guard_dropped_by_a_panic");
    let (table, fresh) = table(Place::Above(12));
    unwinds(|| {
        let _guards = (table.lock(&1), table.lock_shared(&2));
        let _set = table.lock_all(all(&[3, 4], Mode::Exclusive));
        resume_unwind(Box::new(()))
    });
    assert_as_new(&table, fresh);
    // With somebody waiting: the panic passes the lock on, and poisons nothing.
    thread::scope(|scope| {
        let table = &table;
        let holder = scope.spawn(move || {
            let _set = table.lock_all(all(&[1, 2], Mode::Exclusive));
            let before = table.stats().waits;
            scope.spawn(|| drop(table.lock_all(all(&[2, 1], Mode::Exclusive))));
            until_waits(table, before + 1);
            resume_unwind(Box::new(()))
        });
        assert!(holder.join().is_err());
    });
    assert_as_new(&table, fresh);
}

#[test]
fn more_readers_than_a_slot_counts() {
    let _dog = watchdog("more_readers_than_a_slot_counts");
    for place in [Place::Identity, Place::Above(20)] {
        let (table, fresh) = table(place);
        let neighbour = table.lock(&2);
        let mut readers: Vec<_> = (0..1_000).map(|_| table.lock_shared(&1)).collect();
        assert_eq!(
            (table.mode(&1), table.locked_count()),
            (Some(Mode::Shared), 2)
        );
        // From both ends and the middle, so that no order of leaving is special.
        while let Some(reader) = if readers.len() % 3 == 0 {
            readers.pop()
        } else {
            Some(readers.swap_remove(0))
        } {
            assert!(
                table.try_lock(&1).is_none(),
                "{} readers are left",
                readers.len() + 1
            );
            assert!(table.try_lock_shared(&1).is_some());
            drop(reader);
            if readers.is_empty() {
                break;
            }
        }
        assert_eq!((table.mode(&1), table.locked_count()), (None, 1));
        assert!(table.try_lock(&1).is_some(), "the last reader is gone");
        drop(neighbour);
        assert_as_new(&table, fresh);
        // From several threads, with a writer queued behind all of them.
        thread::scope(|scope| {
            let readers: Vec<_> = (0..1_000).map(|_| table.lock_shared(&1)).collect();
            let before = table.stats().waits;
            let writer = scope.spawn(|| drop(table.lock(&1)));
            until_waits(&table, before + 1);
            for reader in readers {
                assert!(!writer.is_finished());
                scope.spawn(move || drop(reader));
            }
        });
        assert_as_new(&table, fresh);
    }
}

#[test]
fn more_keys_than_anybody_needs() {
    let _dog = watchdog("more_keys_than_anybody_needs");
    for keys in [8, 9, 10, 100, 10_000] {
        let table: LockTable<u64> = LockTable::new();
        let fresh = table.stats().index_bytes;
        let keys: Vec<u64> = (0..keys).collect();
        let set = table.lock_all(all(&keys, Mode::Exclusive));
        assert_eq!((set.len(), table.locked_count()), (keys.len(), keys.len()));
        assert!(
            keys.iter()
                .all(|key| set.contains(key) && table.try_lock(key).is_none())
        );
        drop(set);
        assert_as_new(&table, fresh);
        let set = table
            .try_lock_all(all(&keys, Mode::Shared))
            .expect("all are free");
        assert_eq!(set.len(), keys.len());
        drop(set);
        let last = table.lock(keys.last().expect("there are keys"));
        assert!(table.try_lock_all(all(&keys, Mode::Shared)).is_none());
        assert!(
            table
                .try_lock_all_for(all(&keys, Mode::Shared), SHORT)
                .is_none()
        );
        assert_eq!(table.locked_count(), 1);
        drop(last);
        assert_as_new(&table, fresh);
    }
}

#[test]
fn many_keys_each_more_than_once() {
    let _dog = watchdog("many_keys_each_more_than_once");
    let (table, fresh) = table(Place::Above(12));
    let (shared, exclusive) = (Mode::Shared, Mode::Exclusive);
    for distinct in [2, 7, 8, 9, 20, 300] {
        // Odd keys are wanted in both modes, even ones shared only; the repeats are far apart.
        for (first, second) in [(shared, exclusive), (exclusive, shared)] {
            let mode = |key: u64, mode| if key % 2 == 0 { shared } else { mode };
            let ask: Vec<(u64, Mode)> = (0..distinct)
                .map(|key| (key, mode(key, first)))
                .chain((0..distinct).rev().map(|key| (key, mode(key, second))))
                .collect();
            let ask = || ask.iter().map(|(key, mode)| (key, *mode));
            let check = |set: Option<LockSet<'_, u64, Place>>| {
                let set = set.expect("a set does not wait for itself");
                assert_eq!(
                    (set.len(), table.locked_count()),
                    (distinct as usize, distinct as usize)
                );
                for key in 0..distinct {
                    assert_eq!(set.mode(&key), Some(mode(key, exclusive)));
                    assert_eq!(table.mode(&key), Some(mode(key, exclusive)));
                }
            };
            check(Some(table.lock_all(ask())));
            check(table.try_lock_all(ask()));
            check(table.try_lock_all_for(ask(), Duration::ZERO));
            assert_as_new(&table, fresh);
        }
    }
}
