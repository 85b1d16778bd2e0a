//! The direct calls of a map, on one thread and on several.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use crate::alone;
use crate::common::hashers::Place;
use crate::common::watchdog;
use latchwork::cell::{UpdateError, Version};
use latchwork::{RetryPolicy, VersionedMap};

fn version(n: u64) -> Version {
    Version::new(n)
}

#[test]
fn each_call_does_what_it_says() {
    let _alone = alone();
    let map = VersionedMap::new();
    let (first, old) = map.insert("a".to_owned(), 1);
    assert!(first == version(1) && old.is_none());
    let (second, old) = map.insert("a".to_owned(), 2);
    assert_eq!((second, old.map(|old| *old)), (version(2), Some(1)));
    assert_eq!(map.len(), 1);

    assert_eq!(
        map.get("a").map(|value| (*value, value.version())),
        Some((2, second))
    );
    assert_eq!(map.get_owned("a").map(|value| *value), Some(2));
    let pin = latchwork::pin();
    assert_eq!(map.get_in(&pin, "a").map(|value| *value), Some(2));
    let (key, value) = map.get_key_value_in(&pin, "a").unwrap();
    assert_eq!((key.as_str(), *value), ("a", 2));
    drop(pin);
    assert!(map.contains_key("a") && !map.contains_key("b"));
    assert!(map.get("b").is_none() && map.version("b").is_none());

    let occupied = map.insert_if_absent("a".to_owned(), 3).unwrap_err();
    assert_eq!(
        (occupied.key.as_str(), occupied.value, occupied.current),
        ("a", 3, second)
    );
    assert_eq!(map.insert_if_absent("b".to_owned(), 3), Ok(version(1)));

    let conflict = map.compare_and_set("a", first, 9).unwrap_err();
    assert_eq!((conflict.current, conflict.value), (Some(second), 9));
    let conflict = map.compare_and_set("c", first, 9).unwrap_err();
    assert_eq!((conflict.current, conflict.value), (None, 9));
    assert_eq!(map.compare_and_set("a", second, 4), Ok(version(3)));

    assert_eq!(map.update("a", |n| n + 1), Some(version(4)));
    assert_eq!(map.update("c", |n| n + 1), None);
    assert_eq!(map.upsert("a".to_owned(), 0, |n| n * 2), version(5));
    assert_eq!(map.upsert("c".to_owned(), 7, |n| n * 2), version(1));
    let policy = RetryPolicy::attempts(1);
    assert_eq!(
        map.try_update(&policy, "a", |n| Ok::<_, ()>(n + 1)),
        Ok(Some(version(6)))
    );
    assert_eq!(
        map.try_update(&policy, "d", |n| Ok::<_, ()>(n + 1)),
        Ok(None)
    );
    let refused = map.try_update(&policy, "a", |_| Err("no"));
    assert_eq!(refused, Err(UpdateError::Aborted("no")));
    assert_eq!(map.get("a").map(|value| *value), Some(11));

    assert_eq!(
        map.remove_if_version("a", first).unwrap_err().current,
        Some(version(6))
    );
    assert_eq!(*map.remove_if_version("a", version(6)).unwrap(), 11);
    assert_eq!(
        map.remove_if_version("a", version(6)).unwrap_err().current,
        None
    );
    assert_eq!(map.remove("b").map(|value| *value), Some(3));
    assert!(map.remove("b").is_none());
    assert_eq!((map.len(), map.is_empty()), (1, false));
    assert_eq!(format!("{map:?}"), r#"{"c": 7}"#);
}

#[test]
fn the_key_that_was_inserted_first_stays() {
    let _alone = alone();
    #[derive(Clone, Debug)]
    struct Key(u32, &'static str);
    impl PartialEq for Key {
        fn eq(&self, other: &Self) -> bool {
            self.0 == other.0
        }
    }
    impl Eq for Key {}
    impl std::hash::Hash for Key {
        fn hash<H: std::hash::Hasher>(&self, hasher: &mut H) {
            self.0.hash(hasher);
        }
    }
    let map = VersionedMap::new();
    map.insert(Key(1, "first"), 1);
    map.insert(Key(1, "second"), 2);
    let pin = latchwork::pin();
    let (key, value) = map.get_key_value_in(&pin, &Key(1, "third")).unwrap();
    assert_eq!((key.1, *value), ("first", 2));
    assert_eq!(
        map.insert_if_absent(Key(1, "fourth"), 3).unwrap_err().key.1,
        "fourth"
    );
}

/// Versions of a key grow over removals, whether the entry was buried or not.
#[test]
fn versions_of_a_key_are_never_used_twice() {
    let _alone = alone();
    let map = VersionedMap::new();
    let mut last = Version::FIRST;
    for round in 0..100 {
        let (inserted, _) = map.insert("a", round);
        assert!(inserted > last, "{inserted} after {last}");
        last = map.update("a", |n| n + 1).unwrap();
        map.remove("a");
        if round % 3 == 0 {
            map.flush();
            assert_eq!(map.stats().entries, 0);
        }
    }
}

/// Keys that are removed leave nothing, whichever of them are inserted again.
#[test]
fn removed_keys_leave_no_entries() {
    let _alone = alone();
    let map = VersionedMap::new();
    for round in 0..5 {
        for n in 0..1000 {
            map.insert(n, round);
        }
        for n in 0..1000 {
            assert!(map.remove(&n).is_some());
            if n % 7 == 0 {
                map.insert(n, round);
                map.remove(&n);
            }
        }
    }
    map.flush();
    let stats = map.stats();
    assert_eq!((stats.len, stats.entries, stats.removed), (0, 0, 0));
    map.insert(1, 1);
    assert_eq!((map.len(), map.stats().entries), (1, 1));
}

/// Many keys in sequence, 64 at a time: the index stays small, without a call of `flush`.
#[test]
fn a_map_of_few_keys_stays_small_whatever_keys_it_had() {
    let _alone = alone();
    let map = VersionedMap::new();
    let mut largest = (0, 0);
    for n in 0..200_000_u64 {
        map.insert(n, n);
        if n >= 64 {
            map.remove(&(n - 64));
        }
        if n % 1000 == 0 {
            let stats = map.stats();
            largest = (
                largest.0.max(stats.entries),
                largest.1.max(stats.index_bytes),
            );
        }
    }
    assert_eq!(map.len(), 64);
    assert!(largest.0 < 4096 && largest.1 < 1 << 20, "{largest:?}");
    map.flush();
    assert_eq!(map.stats().entries, 64);
}

#[test]
fn a_map_grows_and_keeps_what_it_has() {
    let _alone = alone();
    let map = VersionedMap::new();
    for n in 0..20_000_u64 {
        assert!(map.insert(n, n).1.is_none());
        assert_eq!(map.get(&(n / 2)).map(|value| *value), Some(n / 2));
    }
    assert_eq!(map.len(), 20_000);
    for n in 0..20_000 {
        assert_eq!(
            map.get(&n).map(|value| (*value, value.version().get())),
            Some((n, 1))
        );
    }
    let pin = latchwork::pin();
    let all: BTreeMap<_, _> = map
        .iter_in(&pin)
        .map(|(key, value)| (*key, *value))
        .collect();
    assert_eq!(all.len(), 20_000);
    assert_eq!(map.iter_in(&pin).count(), 20_000);
}

/// A window of one hash grows instead of the table.
#[test]
fn keys_of_one_hash_cost_time_and_little_memory() {
    let _alone = alone();
    for place in [
        Place::Constant(0),
        Place::Constant(u64::MAX),
        Place::Above(48),
        Place::Above(60),
    ] {
        let map = VersionedMap::with_hasher(place);
        for n in 0..2000_u64 {
            map.insert(n, n);
        }
        for n in 0..2000 {
            assert_eq!(map.get(&n).map(|value| *value), Some(n), "{place:?}");
        }
        assert!(map.get(&2000).is_none());
        let bytes = map.stats().index_bytes;
        assert!(bytes <= 1 << 20, "{bytes} bytes for {place:?}");
        for n in 0..2000 {
            assert_eq!(map.remove(&n).map(|value| *value), Some(n));
        }
        map.flush();
        assert_eq!(map.stats().entries, 0);
    }
}

/// Counts drops.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[test]
fn each_key_and_value_is_dropped_once() {
    let _alone = alone();
    let drops = Arc::new(AtomicUsize::new(0));
    #[derive(PartialEq, Eq, Hash)]
    struct Key(u32, Dropped);
    struct Dropped(#[allow(dead_code, reason = "it is dropped")] Counted);
    impl PartialEq for Dropped {
        fn eq(&self, _: &Self) -> bool {
            true
        }
    }
    impl Eq for Dropped {}
    impl std::hash::Hash for Dropped {
        fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
    }
    let map = VersionedMap::new();
    let key = |n| Key(n, Dropped(Counted(drops.clone())));
    let value = || Counted(drops.clone());
    let mut made = 0;
    for n in 0..100 {
        map.insert(key(n), value());
        map.insert(key(n), value());
        made += 4;
        let _ = map.insert_if_absent(key(n), value());
        made += 2;
        if n % 2 == 0 {
            map.remove(&key(n));
            made += 1;
        }
    }
    map.flush();
    // 50 keys and their values are left.
    assert_eq!(drops.load(SeqCst), made - 100);
    let owned = map.get_owned(&key(1)).unwrap();
    drop(map);
    assert_eq!(drops.load(SeqCst), made);
    drop(owned);
    assert_eq!(drops.load(SeqCst), made + 1);
}

#[test]
fn a_map_gives_its_pairs_back() {
    let _alone = alone();
    let map: VersionedMap<_, _> = (0..1000).map(|n| (n, n.to_string())).collect();
    for n in 0..1000 {
        if n % 3 == 0 {
            map.remove(&n);
        }
    }
    let shared = map.get_owned(&1).unwrap();
    let mut pairs = BTreeMap::new();
    for (key, value) in map {
        match value {
            Ok(value) => assert_eq!(value, key.to_string()),
            Err(owned) => assert_eq!((key, owned.as_str()), (1, "1")),
        }
        assert!(pairs.insert(key, ()).is_none());
    }
    assert_eq!(pairs.len(), 666);
    assert_eq!(*shared, "1");
    // An iterator that is dropped drops the rest.
    let drops = Arc::new(AtomicUsize::new(0));
    let map: VersionedMap<_, _> = (0..10).map(|n| (n, Counted(drops.clone()))).collect();
    drop(map.into_iter().next());
    assert_eq!(drops.load(SeqCst), 10);
}

/// A panic of a comparison, a hasher, a closure or a destructor leaves the map as it was.
#[test]
fn a_panic_of_the_user_changes_nothing() {
    let _alone = alone();
    thread_local! {
        static PANICS: Cell<bool> = const { Cell::new(false) };
    }
    #[derive(Clone, Debug)]
    struct Key(u32);
    impl std::hash::Hash for Key {
        fn hash<H: std::hash::Hasher>(&self, hasher: &mut H) {
            self.0.hash(hasher);
        }
    }
    impl PartialEq for Key {
        fn eq(&self, other: &Self) -> bool {
            assert!(!PANICS.get(), "comparison");
            self.0 == other.0
        }
    }
    impl Eq for Key {}
    let map = VersionedMap::new();
    for n in 0..10 {
        map.insert(Key(n), n);
    }
    PANICS.set(true);
    let key = Key(3);
    for call in 0..6 {
        let caught = catch_unwind(AssertUnwindSafe(|| match call {
            0 => drop(map.get(&key)),
            1 => drop(map.insert(key.clone(), 0)),
            2 => drop(map.remove(&key)),
            3 => drop(map.insert_if_absent(key.clone(), 0)),
            4 => drop(map.update(&key, |_| 0)),
            _ => drop(map.upsert(key.clone(), 0, |_| 0)),
        }));
        assert!(caught.is_err(), "call {call}");
    }
    PANICS.set(false);
    let caught = catch_unwind(AssertUnwindSafe(|| map.update(&key, |_| panic!("closure"))));
    assert!(caught.is_err());
    let caught = catch_unwind(AssertUnwindSafe(|| {
        map.upsert(key.clone(), 0, |_| panic!("closure"))
    }));
    assert!(caught.is_err());
    assert_eq!(
        map.get(&key).map(|value| (*value, value.version().get())),
        Some((3, 1))
    );
    assert_eq!(map.len(), 10);
    // No pin is left behind.
    map.insert(key.clone(), 4);
    map.remove(&key);
    map.flush();
    assert_eq!(map.stats().entries, 9);
}

#[test]
fn destructors_that_panic_do_not_stop_the_others() {
    let _alone = alone();
    struct Panics(bool, Arc<AtomicUsize>);
    impl Drop for Panics {
        fn drop(&mut self) {
            self.1.fetch_add(1, SeqCst);
            assert!(!self.0, "destructor");
        }
    }
    let drops = Arc::new(AtomicUsize::new(0));
    let map: VersionedMap<_, _> = (0..10)
        .map(|n| (n, Panics(n == 5, drops.clone())))
        .collect();
    let caught = catch_unwind(AssertUnwindSafe(|| drop(map)));
    assert!(caught.is_err());
    assert_eq!(drops.load(SeqCst), 10);
}

/// Destructors of keys and values use the map that they were in.
#[test]
fn destructors_reenter_the_map() {
    let _alone = alone();
    let _watchdog = watchdog("destructors_reenter_the_map");
    struct Reenters(u64, std::sync::Weak<VersionedMap<u64, Reenters>>);
    impl Drop for Reenters {
        fn drop(&mut self) {
            if let Some(map) = self.1.upgrade() {
                map.remove(&(self.0 + 1000));
                map.insert_if_absent(self.0 + 2000, Reenters(5000, std::sync::Weak::new()))
                    .ok();
                map.flush();
            }
        }
    }
    let map = Arc::new(VersionedMap::new());
    for n in 0..3000 {
        map.insert(n, Reenters(n, Arc::downgrade(&map)));
    }
    for n in 0..1000 {
        map.remove(&n);
    }
    map.flush();
    assert!(map.len() <= 3000);
}

/// Several threads insert, update and remove the same keys; the counters and the entries agree with
/// what is left.
#[test]
fn threads_that_end_leave_a_consistent_map() {
    let _alone = alone();
    let _watchdog = watchdog("threads_that_end_leave_a_consistent_map");
    for keys in [1, 10, 1000_u64] {
        let map = VersionedMap::new();
        let inserted = AtomicUsize::new(0);
        let removed = AtomicUsize::new(0);
        thread::scope(|s| {
            for seed in 0..4_u64 {
                let (map, inserted, removed) = (&map, &inserted, &removed);
                s.spawn(move || {
                    let mut random = seed.wrapping_mul(0x9E37_79B9) + 1;
                    for _ in 0..20_000 {
                        random ^= random << 13;
                        random ^= random >> 7;
                        random ^= random << 17;
                        let key = random % keys;
                        match random >> 32 & 3 {
                            0 => {
                                if map.insert_if_absent(key, seed).is_ok() {
                                    inserted.fetch_add(1, SeqCst);
                                }
                            }
                            1 => {
                                if map.remove(&key).is_some() {
                                    removed.fetch_add(1, SeqCst);
                                }
                            }
                            2 => {
                                map.update(&key, |n| n + 1);
                            }
                            _ => drop(map.get(&key)),
                        }
                    }
                });
            }
        });
        let left = inserted.into_inner() - removed.into_inner();
        let pin = latchwork::pin();
        assert_eq!((map.len(), map.iter_in(&pin).count()), (left, left));
        drop(pin);
        map.flush();
        assert_eq!(map.stats().entries, left);
    }
}

/// Each update of several threads counts, over removals and inserts of the key by others.
#[test]
fn no_update_is_lost() {
    let _alone = alone();
    let _watchdog = watchdog("no_update_is_lost");
    let map = VersionedMap::new();
    thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| {
                for n in 0..10_000_u64 {
                    map.upsert(n % 3, 1_u64, |n| n + 1);
                }
            });
        }
        s.spawn(|| {
            for n in 100..5_000_u64 {
                map.insert(n, 0);
                map.remove(&n);
            }
        });
    });
    let sum: u64 = (0..3).map(|n| *map.get(&n).unwrap()).sum();
    assert_eq!(sum, 40_000);
}

/// Versions of a key that is removed and inserted by all threads never repeat.
#[test]
fn no_version_is_handed_out_twice() {
    let _alone = alone();
    let _watchdog = watchdog("no_version_is_handed_out_twice");
    let map = VersionedMap::with_hasher(Place::Constant(7));
    let stop = AtomicBool::new(false);
    let mut versions: Vec<Version> = thread::scope(|s| {
        let workers: Vec<_> = (0..3)
            .map(|_| {
                s.spawn(|| {
                    let mut versions = Vec::new();
                    for n in 0..10_000_u64 {
                        versions.extend(map.insert_if_absent(1, n).ok());
                        map.remove(&1);
                        map.insert(2, n);
                        map.remove(&2);
                    }
                    versions
                })
            })
            .collect();
        s.spawn(|| {
            while !stop.load(SeqCst) {
                map.flush();
            }
        });
        let versions = workers
            .into_iter()
            .flat_map(|w| w.join().unwrap())
            .collect();
        stop.store(true, SeqCst);
        versions
    });
    let all = versions.len();
    versions.sort_unstable();
    versions.dedup();
    assert_eq!(versions.len(), all);
}

/// A reader that keeps an old pin delays burials and nothing else.
#[test]
fn a_pin_holds_entries_back_and_no_writer() {
    let _alone = alone();
    let map = VersionedMap::new();
    (0..100).for_each(|n| drop(map.insert(n, n)));
    let pin = latchwork::pin();
    let seen: Vec<_> = map.iter_in(&pin).collect();
    thread::scope(|s| {
        s.spawn(|| {
            (0..100).for_each(|n| drop(map.remove(&n)));
            map.flush();
            assert_eq!(map.len(), 0);
        });
    });
    assert_eq!(
        seen.iter().map(|(key, value)| **key ^ **value).max(),
        Some(0)
    );
    drop(seen);
    drop(pin);
    map.flush();
    assert_eq!(map.stats().entries, 0);
}

#[test]
fn room_is_reserved_and_returned() {
    let _alone = alone();
    let map = VersionedMap::new();
    (0..100).for_each(|n| drop(map.insert(n, n)));
    map.reserve(10_000);
    let reserved = map.stats();
    assert!(reserved.capacity >= 10_100);
    (0..10_000).for_each(|n| drop(map.insert(n, n)));
    assert_eq!(
        map.stats().index_bytes,
        reserved.index_bytes,
        "it has grown"
    );
    assert!(map.try_reserve(usize::MAX).is_err() && map.try_reserve(usize::MAX / 64).is_err());
    map.retain(|key, value| key == value && key % 10 == 0);
    assert_eq!(map.len(), 1000);
    map.flush();
    map.shrink_to_fit();
    let shrunk = map.stats();
    assert!(shrunk.index_bytes < reserved.index_bytes / 4 && shrunk.entries == 1000);
    assert!((0..10_000).all(|n| map.contains_key(&n) == (n % 10 == 0)));
    map.clear();
    map.flush();
    assert_eq!((map.len(), map.stats().entries), (0, 0));
}

/// A map that is filled and cleared again and again does not grow: it did in another crate.
#[test]
fn a_map_that_is_cleared_does_not_grow() {
    let _alone = alone();
    let map = VersionedMap::new();
    let mut first = 0;
    for round in 0..10 {
        (0..5000).for_each(|n| drop(map.insert(n, round)));
        let bytes = map.stats().index_bytes;
        if round == 0 {
            first = bytes;
        }
        assert!(bytes <= 2 * first, "{bytes} after {first}");
        map.clear();
        map.flush();
    }
}

/// A thread that is stopped while it copies, or holds the mutex of the map, delays no writer.
#[test]
fn writers_do_not_wait_for_a_copier_that_is_stopped() {
    let _alone = alone();
    let _watchdog = watchdog("writers_do_not_wait_for_a_copier_that_is_stopped");
    let map = VersionedMap::new();
    (0..64).for_each(|n| drop(map.insert(n, n)));
    map.while_stopped(|| {
        for n in 64..10_000 {
            map.insert(n, n);
            map.remove(&(n - 64));
        }
        assert_eq!(map.len(), 64);
        assert!((9_936..10_000).all(|n| map.contains_key(&n)));
        let pin = latchwork::pin();
        assert_eq!(map.iter_in(&pin).count(), 64);
    });
    map.flush();
    map.shrink_to_fit();
    assert_eq!((map.len(), map.stats().entries), (64, 64));
}

#[test]
fn a_waiter_sees_inserts_updates_and_removals() {
    let _alone = alone();
    let _watchdog = watchdog("a_waiter_sees_inserts_updates_and_removals");
    let map = VersionedMap::new();
    let short = Duration::from_millis(2);
    assert_eq!(map.wait_changed_for("a", None, short), None);
    assert_eq!(
        map.wait_changed_for("a", Some(version(3)), short),
        Some(None)
    );
    let inserted = thread::scope(|s| {
        let waiter = s.spawn(|| map.wait_changed("a", None));
        let writer = s.spawn(|| {
            // An entry with a waiter is not buried.
            map.flush();
            map.insert("a".to_owned(), 1).0
        });
        let inserted = Some(writer.join().unwrap());
        assert_eq!(waiter.join().unwrap(), inserted);
        inserted
    });
    thread::scope(|s| {
        let waiter = s.spawn(|| map.wait_changed("a", inserted));
        s.spawn(|| drop(map.remove("a")));
        assert_eq!(waiter.join().unwrap(), None);
    });
    map.flush();
    assert_eq!(map.stats().entries, 0);
}

/// A future that is ready, dropped or re-polled leaves nothing behind.
#[test]
fn a_future_waits_for_an_absent_key() {
    let _alone = alone();
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Wake, Waker};
    #[derive(Default)]
    struct Bell(AtomicUsize);
    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    let map = VersionedMap::new();
    let bells = [Arc::new(Bell::default()), Arc::new(Bell::default())];
    let wakers = bells.each_ref().map(|bell| Waker::from(bell.clone()));
    let rung = || bells.each_ref().map(|bell| bell.0.load(SeqCst));
    {
        let mut future = pin!(map.changed("a", None));
        let mut poll = |n: usize| future.as_mut().poll(&mut Context::from_waker(&wakers[n]));
        assert!(poll(0).is_pending() && poll(1).is_pending());
        map.flush();
        assert_eq!(map.stats().entries, 1, "an entry with a waiter was buried");
        map.insert("a".to_owned(), 1);
        map.remove("a");
        assert_eq!(rung(), [0, 1]);
        // Absent again: it waits for the next insert.
        assert!(poll(0).is_pending());
        let (inserted, _) = map.insert("a".to_owned(), 2);
        assert_eq!(rung(), [1, 1]);
        assert_eq!(poll(0), Poll::Ready(Some(inserted)));
    }
    {
        let mut dropped = Box::pin(map.changed("b", None));
        assert!(
            dropped
                .as_mut()
                .poll(&mut Context::from_waker(&wakers[0]))
                .is_pending()
        );
        drop(dropped);
    }
    map.remove("a");
    map.flush();
    assert_eq!(map.stats().entries, 0);
}

/// Keys that stay are found by each scan, once, while other threads insert and remove.
#[test]
fn a_scan_visits_each_entry_once_while_the_map_grows() {
    let _alone = alone();
    let _watchdog = watchdog("a_scan_visits_each_entry_once_while_the_map_grows");
    for _ in 0..2 {
        let map = VersionedMap::new();
        (0..100_u64).for_each(|n| drop(map.insert(n, n)));
        let stop = AtomicBool::new(false);
        thread::scope(|s| {
            for from in [1_000_000, 2_000_000] {
                let (map, stop) = (&map, &stop);
                s.spawn(move || {
                    let mut n = from;
                    while !stop.load(SeqCst) && n < from + 20_000 {
                        map.insert(n, n);
                        if n % 3 == 0 {
                            map.remove(&(n - 2));
                        }
                        n += 1;
                    }
                });
            }
            for _ in 0..20 {
                let mut keys = Vec::new();
                let pin = latchwork::pin();
                keys.extend(map.iter_in(&pin).map(|(key, _)| *key));
                drop(pin);
                keys.sort_unstable();
                let all = keys.len();
                keys.dedup();
                let stay = keys.iter().take_while(|key| **key < 100).count();
                if (keys.len(), stay) != (all, 100) {
                    stop.store(true, SeqCst);
                    panic!("{} of {all} differ, {stay} stay", keys.len());
                }
            }
            stop.store(true, SeqCst);
        });
    }
}

/// Counts the values that are alive.
struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn new(alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, SeqCst);
        Alive(alive.clone())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// The numbers of keys that walks of both kinds visit.
fn walked<S>(map: &VersionedMap<u64, Alive, S>) -> [usize; 2] {
    let pin = latchwork::pin();
    let iterated = map.iter_in(&pin).count();
    [iterated, latchwork::snapshot(|s| s.len(map))]
}

/// A copy passes a window that is full, and puts the entry into a table after the next one.
#[test]
fn a_scan_finds_copies_that_passed_a_full_window() {
    let _alone = alone();
    let alive = Arc::default();
    let map = VersionedMap::with_hasher(Place::Constant(0));
    for key in 0..300 {
        map.insert(key, Alive::new(&alive));
        assert_eq!(walked(&map), [map.len(); 2], "after key {key}");
    }
    // Many tables, since the copier is stopped; then the copies, one part at each insert.
    let map = VersionedMap::with_hasher(Place::Identity);
    map.while_stopped(|| {
        for key in 0..500 {
            map.insert(key * 0x9E37_79B9, Alive::new(&alive));
        }
    });
    for key in 500..700 {
        map.insert(key * 0x9E37_79B9, Alive::new(&alive));
        assert_eq!(walked(&map), [map.len(); 2], "after key {key}");
    }
}

#[test]
fn a_map_frees_copies_that_passed_a_full_window() {
    let _alone = alone();
    for size in 1..130 {
        let alive = Arc::default();
        let map = VersionedMap::with_hasher(Place::Constant(0));
        for key in 0..size {
            map.insert(key, Alive::new(&alive));
        }
        match size % 2 {
            0 => drop(map),
            _ => assert_eq!(map.into_iter().count() as u64, size),
        }
        latchwork::flush();
        assert_eq!(alive.load(SeqCst), 0, "of {size}");
    }
}

#[test]
fn an_iterator_that_has_ended_stays_ended() {
    let _alone = alone();
    let map = VersionedMap::new();
    map.insert(0, 0);
    let pin = latchwork::pin();
    let mut pairs = map.iter_in(&pin);
    assert_eq!(pairs.by_ref().count(), 1);
    for key in 1..500 {
        map.insert(key, key);
    }
    assert!(pairs.next().is_none());
}

/// A value that is shared stays when its entry, and then the map, are freed. The entry has a room,
/// or the value is too large for it.
#[test]
fn values_outlive_their_entries() {
    fn check<const SIZE: usize>() {
        struct Counted<const SIZE: usize>(Arc<AtomicUsize>, [u8; SIZE]);
        impl<const SIZE: usize> Drop for Counted<SIZE> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, SeqCst);
            }
        }
        let alive = Arc::new(AtomicUsize::new(0));
        let value = |n: u8| {
            alive.fetch_add(1, SeqCst);
            Counted(alive.clone(), [n; SIZE])
        };
        let map = VersionedMap::new();
        for n in 0..100_u8 {
            map.insert(n.to_string(), value(n));
        }
        // The first half has the first values, and the second half has replaced ones.
        for n in 50..100_u8 {
            for _ in 0..3 {
                map.update(n.to_string().as_str(), |_| value(n));
                latchwork::flush();
            }
        }
        let owned = |n: u8| map.get_owned(n.to_string().as_str()).unwrap();
        let shared: Vec<_> = (0..100).map(owned).collect();
        let again: Vec<_> = shared.iter().step_by(3).cloned().collect();
        for n in (0..100_u8).filter(|n| n % 2 == 0) {
            map.remove(n.to_string().as_str());
        }
        map.flush();
        assert_eq!(map.stats().entries, 50);
        for n in (0..100_u8).filter(|n| n % 4 == 0) {
            map.insert(n.to_string(), value(n));
        }
        for (n, value) in shared.iter().enumerate() {
            assert!(value.1.iter().all(|byte| usize::from(*byte) == n));
        }
        drop(map);
        latchwork::flush();
        assert_eq!(alive.load(SeqCst), 100);
        drop(shared);
        for (n, value) in again.iter().enumerate() {
            assert!(value.1.iter().all(|byte| usize::from(*byte) == 3 * n));
        }
        assert_eq!(alive.load(SeqCst), again.len());
        for value in again {
            // The only reference is left of each.
            assert!(value.into_value().is_ok());
        }
        latchwork::flush();
        assert_eq!(alive.load(SeqCst), 0);
    }
    let _alone = alone();
    check::<8>();
    check::<100>();
    check::<1000>();
}
