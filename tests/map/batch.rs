//! Conditional batches of writes of a map.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use crate::alone;
use crate::common::watchdog;
use latchwork::map::{Cancelled, Reason};
use latchwork::{VersionedMap, cell::Version, snapshot};

/// A key and a value without a clone.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Name(&'static str);

#[derive(Debug, PartialEq)]
struct Sum(u32);

type Map = VersionedMap<Name, Sum>;

fn names<V: Send + Sync>(cancelled: &Cancelled<V>) -> Vec<String> {
    let reasons = cancelled.reasons.iter();
    reasons.map(ToString::to_string).collect()
}

#[test]
fn a_batch_writes_all_items_and_returns_their_versions() {
    let _alone = alone();
    let map = Map::new();
    let (a, _) = map.insert(Name("a"), Sum(1));
    let (b, _) = map.insert(Name("b"), Sum(2));
    let (c, _) = map.insert(Name("c"), Sum(3));
    let versions = map
        .transact()
        .put_if(Name("a"), a, Sum(10))
        .remove_if(Name("b"), b)
        .check(Name("c"), c)
        .insert_if_absent(Name("d"), Sum(4))
        .check(Name("e"), None)
        .commit()
        .expect("all conditions are met");
    let now = ["a", "b", "c", "d", "e"].map(|name| map.version(&Name(name)));
    assert_eq!(versions, now);
    assert_eq!(versions[0].map(Version::get), Some(a.get() + 1));
    assert_eq!((now[1], now[2], now[4]), (None, Some(c), None));
    assert_eq!(
        (map.len(), map.get(&Name("d")).as_deref()),
        (3, Some(&Sum(4)))
    );
    map.flush();
    assert_eq!(map.stats().entries, 3);
    assert_eq!(map.transact().commit().expect("nothing fails"), []);
}

#[test]
fn a_cancelled_batch_writes_nothing_and_says_why() {
    let _alone = alone();
    let map = Map::new();
    let (a, _) = map.insert(Name("a"), Sum(1));
    let (_, _) = map.insert(Name("a"), Sum(2));
    let (b, _) = map.insert(Name("b"), Sum(3));
    let wrong = Version::new(77);
    let cancelled = map
        .transact()
        .insert_if_absent(Name("b"), Sum(10))
        .put_if(Name("a"), a, Sum(11))
        .put_if(Name("b"), b, Sum(12));
    // A key twice is refused before any condition.
    let cancelled = cancelled.commit().expect_err("a key is there twice");
    assert!(matches!(
        cancelled.reasons[..],
        [Reason::Duplicate, Reason::Met, Reason::Duplicate]
    ));
    assert_eq!(
        cancelled.values,
        [Some(Sum(10)), Some(Sum(11)), Some(Sum(12))]
    );

    let cancelled = map
        .transact()
        .insert_if_absent(Name("b"), Sum(10))
        .put_if(Name("a"), a, Sum(11))
        .put_if(Name("x"), wrong, Sum(12))
        .remove_if(Name("y"), wrong)
        .check(Name("z"), None)
        .insert_if_absent(Name("w"), Sum(13))
        .commit()
        .expect_err("some conditions are not met");
    assert_eq!(
        names(&cancelled),
        [
            "the key exists",
            "expected version 1, but it is 2",
            "the key is absent",
            "the key is absent",
            "met",
            "met"
        ]
    );
    let Reason::VersionIs { current, value, .. } = &cancelled.reasons[1] else {
        panic!("{cancelled:?}")
    };
    assert_eq!((current.get(), &**value), (2, &Sum(2)));
    let values = [
        Some(Sum(10)),
        Some(Sum(11)),
        Some(Sum(12)),
        None,
        None,
        Some(Sum(13)),
    ];
    assert_eq!(cancelled.values, values);
    assert_eq!(
        (map.len(), map.get(&Name("a")).as_deref()),
        (2, Some(&Sum(2)))
    );
    assert_eq!(
        cancelled.to_string(),
        "nothing was written; item 0: the key exists; item 1: expected version 1, but it is 2; \
         item 2: the key is absent; item 3: the key is absent"
    );
    map.flush();
    assert_eq!(map.stats().entries, 2);
}

/// Each key is dropped once, and each value is in the map, replaced, or returned, whatever attempts
/// were lost on the way.
#[test]
fn batches_beside_writers_lose_no_value() {
    let _alone = alone();
    let _watchdog = watchdog("batches_beside_writers_lose_no_value");
    const ROUNDS: u32 = 400;
    let alive = Arc::new(());
    let map = VersionedMap::new();
    let (committed, cancelled) = (AtomicU32::new(0), AtomicU32::new(0));
    let value = |n: u32| (n, alive.clone());
    for key in 0..3 {
        map.insert(key, value(0));
    }
    thread::scope(|s| {
        for t in 0..4_u32 {
            let (map, committed, cancelled, value) = (&map, &committed, &cancelled, &value);
            s.spawn(move || {
                for n in 0..ROUNDS {
                    let pair = [(n + t) % 3, (n + t + 1) % 3];
                    if t == 3 {
                        // Lets attempts fail between their reads and their commit.
                        map.update(&pair[0], |(n, live)| (*n, live.clone()));
                        continue;
                    }
                    let read = pair.map(|key| {
                        let read = map.get(&key).expect("present");
                        (key, read.version(), read.0)
                    });
                    let [a, b] = read;
                    let batch = map.transact();
                    let batch = batch.put_if(a.0, a.1, value(a.2 + 1));
                    let batch = batch.put_if(b.0, b.1, value(b.2 + 1));
                    match batch
                        .insert_if_absent(100 + t, value(0))
                        .remove_key(n % 2 == 0)
                    {
                        Ok(_) => committed.fetch_add(1, SeqCst),
                        Err(error) => {
                            assert!(error.values.iter().all(Option::is_some));
                            cancelled.fetch_add(1, SeqCst)
                        }
                    };
                    map.remove(&(100 + t));
                }
            });
        }
    });
    let sum: u32 = snapshot(|s| {
        (0..3)
            .map(|key| s.get(&map, &key).expect("present").0)
            .sum()
    });
    assert_eq!(sum, 2 * committed.load(SeqCst));
    assert_eq!(committed.load(SeqCst) + cancelled.load(SeqCst), 3 * ROUNDS);
    assert!(committed.load(SeqCst) > 0);
    assert_eq!(map.len(), 3);
    map.flush();
    assert_eq!((map.stats().entries, Arc::strong_count(&alive)), (3, 4));
    drop(map);
    latchwork::flush();
    assert_eq!(Arc::strong_count(&alive), 1);
}

trait Maybe {
    type Result;
    fn remove_key(self, checks: bool) -> Self::Result;
}

impl Maybe for latchwork::map::Batch<'_, u32, (u32, Arc<()>)> {
    type Result = Result<Vec<Option<Version>>, Cancelled<(u32, Arc<()>)>>;

    /// A batch with a check, which relies on a key that it does not write.
    fn remove_key(self, checks: bool) -> Self::Result {
        match checks {
            true => self.check(200, None).commit().map_err(|mut error| {
                assert!(error.values.pop().is_some_and(|value| value.is_none()));
                error
            }),
            false => self.commit(),
        }
    }
}

/// The values come back from an attempt that has installed its writes, and are written by the next.
#[test]
fn a_batch_waits_for_a_lock_and_keeps_its_values() {
    let _alone = alone();
    let _watchdog = watchdog("a_batch_waits_for_a_lock_and_keeps_its_values");
    let map = &Map::new();
    let (a, _) = map.insert(Name("a"), Sum(1));
    let (b, _) = map.insert(Name("b"), Sum(2));
    for commits in [false, true] {
        drop(map.remove(&Name("c")));
        let mut guard = map.lock_key(Name("b"));
        let (a, b) = (map.version(&Name("a")), map.version(&Name("b")));
        thread::scope(|s| {
            let batch = s.spawn(move || {
                let batch = map
                    .transact()
                    .put_if(Name("a"), a.expect("present"), Sum(10));
                let batch = batch.put_if(Name("b"), b.expect("present"), Sum(20));
                batch.insert_if_absent(Name("c"), Sum(30)).commit()
            });
            thread::sleep(Duration::from_millis(20));
            assert!(!batch.is_finished());
            guard.set(Sum(5));
            match commits {
                true => drop(guard.commit()),
                false => drop(guard),
            }
            match (commits, batch.join().expect("no panic")) {
                (false, Ok(versions)) => assert_eq!(versions.len(), 3),
                (true, Err(cancelled)) => {
                    assert_eq!(
                        cancelled.values,
                        [Some(Sum(10)), Some(Sum(20)), Some(Sum(30))]
                    );
                    assert!(matches!(
                        cancelled.reasons[..],
                        [Reason::Met, Reason::VersionIs { .. }, Reason::Met]
                    ));
                }
                (_, other) => panic!("{other:?}"),
            }
        });
    }
    let values = ["a", "b", "c"].map(|name| map.get(&Name(name)).map(|sum| sum.0));
    assert_eq!(values, [Some(10), Some(5), None]);
    assert!(map.version(&Name("a")) > Some(a) && map.version(&Name("b")) > Some(b));
}

/// Equals its neighbours, so that `Eq` is not transitive.
#[derive(Debug)]
struct Near(i32);

impl PartialEq for Near {
    fn eq(&self, other: &Self) -> bool {
        (self.0 - other.0).abs() <= 1
    }
}

impl Eq for Near {}

impl std::hash::Hash for Near {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}

/// Two items of one entry would have one draft.
#[test]
fn two_items_of_one_entry_are_duplicates() {
    let _alone = alone();
    let _watchdog = watchdog("two_items_of_one_entry_are_duplicates");
    let map = VersionedMap::<Near, String>::new();
    let (version, _) = map.insert(Near(2), "old".to_owned());
    map.insert(Near(9), "other".to_owned());
    // Locked, so that an attempt that records both writes is rolled back.
    let guard = map.lock_key(Near(2));
    let cancelled = thread::scope(|threads| {
        let batch = threads.spawn(|| {
            let batch = map.transact().put_if(Near(1), version, "new".to_owned());
            let batch = batch.remove_if(Near(3), version);
            batch.insert_if_absent(Near(20), String::new()).commit()
        });
        thread::sleep(Duration::from_millis(20));
        drop(guard);
        batch.join().expect("no panic").unwrap_err()
    });
    assert!(matches!(
        cancelled.reasons[..],
        [Reason::Duplicate, Reason::Duplicate, Reason::Met]
    ));
    assert_eq!(
        cancelled.values,
        [Some("new".to_owned()), None, Some(String::new())]
    );
    assert_eq!(
        map.get(&Near(2)).as_deref().map(String::as_str),
        Some("old")
    );
}

/// An entry that a batch has made, at the address and with the hash of an entry that was buried, of
/// which a record is left. If the record buried it, no attempt of the batch would end.
#[test]
fn an_old_record_does_not_bury_the_entry_of_a_batch() {
    let _alone = alone();
    let _watchdog = watchdog("an_old_record_does_not_bury_the_entry_of_a_batch");
    for cells in 0..16 {
        let map = VersionedMap::<u32, u32>::new();
        let pin = latchwork::pin();
        for _ in 0..2 {
            map.insert(1, 0);
            map.remove(&1);
        }
        drop(pin);
        // The grace periods of two records end. The next write examines them: it renews the first,
        // and buries for the second. One node more is retired, and all is freed.
        latchwork::flush();
        map.insert(2, 0);
        map.insert(2, 1);
        latchwork::flush();
        // Of the size of nodes, so that the next entry has the address of the first in some round.
        let cells: Vec<_> = (0..cells).map(latchwork::VersionedCell::new).collect();
        let versions = map.transact().insert_if_absent(1, 7).commit();
        assert!(versions.is_ok(), "no other thread writes");
        assert_eq!(
            map.get(&1).as_deref(),
            Some(&7),
            "beside {} cells",
            cells.len()
        );
    }
}

/// Not the version of the last node of the entry before, which a record may have.
#[test]
fn a_vacant_entry_has_a_version_of_its_own() {
    let _alone = alone();
    let map = VersionedMap::<u32, u32>::new();
    let makes: [fn(&VersionedMap<u32, u32>); 2] = [
        |map| drop(map.lock(&1)),
        |map| {
            let is_absent = latchwork::atomically(|tx| Ok(tx.get(map, &1)?.is_none()));
            assert!(is_absent);
        },
    ];
    for make in makes {
        let (version, _) = map.insert(1, 0);
        map.remove(&1);
        map.flush();
        assert_eq!(map.stats().entries, 0);
        make(&map);
        // The removal, the vacant node, the insert.
        assert_eq!(map.insert(1, 0).0, Version::new(version.get() + 3));
        map.remove(&1);
        map.flush();
    }
}
