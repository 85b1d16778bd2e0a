//! Keys of maps in transactions and snapshots.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use crate::alone;
use crate::common::watchdog;
use latchwork::{
    Transaction, TxError, VersionedCell, VersionedMap, atomically, snapshot, txn::TxAbort,
};

#[test]
fn a_transaction_sees_its_own_inserts_and_removals() {
    let _alone = alone();
    let map = VersionedMap::new();
    map.insert("a".to_owned(), 1);
    let cell = VersionedCell::new(0);
    atomically(|tx| {
        assert_eq!(tx.get(&map, "a")?, Some(&1));
        assert_eq!(tx.get(&map, "b")?, None);
        assert_eq!(tx.insert(&map, "b".to_owned(), 2)?, None);
        assert_eq!(tx.get(&map, "b")?, Some(&2));
        assert_eq!(tx.insert(&map, "b".to_owned(), 3)?, Some(&2));
        assert_eq!(tx.remove(&map, "a")?, Some(&1));
        assert_eq!(tx.get(&map, "a")?, None);
        assert_eq!(tx.remove(&map, "a")?, None);
        assert_eq!(tx.entry_version(&map, "a")?, None);
        // The vacant entry has the version before.
        assert_eq!(tx.entry_version(&map, "b")?.map(|v| v.get()), Some(2));
        assert!(tx.check_entry(&map, "b", None)?);
        assert!(!tx.check_entry(&map, "a", None)?);
        tx.insert(&map, "c".to_owned(), 9)?;
        tx.remove(&map, "c")?;
        tx.set(&cell, 7)
    });
    assert_eq!((map.len(), cell.get()), (1, 7));
    assert!(map.get("a").is_none() && map.get("c").is_none());
    assert_eq!(map.get("b").map(|v| (*v, v.version().get())), Some((3, 2)));
    map.flush();
    assert_eq!(map.stats().entries, 1);
}

/// An attempt that does not commit leaves no key, and its entries are freed.
#[test]
fn a_transaction_that_is_aborted_leaves_nothing() {
    let _alone = alone();
    let map = VersionedMap::new();
    map.insert(1, 1);
    for n in 0..100 {
        let result = Transaction::builder().try_run(|tx| {
            tx.insert(&map, 100 + n, n)?;
            tx.remove(&map, &1)?;
            Err::<(), _>(TxAbort::Transaction(()))
        });
        assert_eq!(result, Err(TxError::Aborted(())));
    }
    let or_else = atomically(|tx| {
        tx.or_else(
            |tx| {
                tx.insert(&map, 2, 2)?;
                tx.retry()
            },
            |tx| Ok(tx.get(&map, &2)?.is_none()),
        )
    });
    assert!(or_else);
    assert_eq!(map.len(), 1);
    map.flush();
    let stats = map.stats();
    assert_eq!((stats.len, stats.entries, stats.removed), (1, 1, 0));
}

/// Two transactions that each insert the key that the other has found absent: one of them sees the
/// other.
#[test]
fn absence_is_in_the_read_set() {
    let _alone = alone();
    let _watchdog = watchdog("absence_is_in_the_read_set");
    let map = VersionedMap::new();
    let both = |a: u32, b: u32| {
        atomically(|tx| {
            if tx.get(&map, &a)?.is_none() {
                tx.insert(&map, b, ())?;
            }
            Ok(())
        });
    };
    for _ in 0..2000 {
        thread::scope(|s| {
            s.spawn(|| both(1, 2));
            both(2, 1);
        });
        assert_eq!(map.len(), 1);
        map.remove(&1);
        map.remove(&2);
    }
}

#[test]
fn a_retry_waits_for_an_absent_key() {
    let _alone = alone();
    let _watchdog = watchdog("a_retry_waits_for_an_absent_key");
    let map = VersionedMap::new();
    for n in 0..100_u64 {
        thread::scope(|s| {
            let waiter = s.spawn(|| {
                atomically(|tx| {
                    let found = tx.get(&map, &n)?.copied();
                    match found {
                        None => tx.retry(),
                        Some(value) => Ok(value),
                    }
                })
            });
            s.spawn(|| {
                map.flush();
                match n % 2 {
                    0 => drop(map.insert(n, n + 1)),
                    _ => atomically(|tx| tx.insert(&map, n, n + 1).map(drop)),
                }
            });
            assert_eq!(waiter.join().unwrap(), n + 1);
        });
    }
    let waits = Transaction::builder()
        .timeout(Duration::from_millis(5))
        .run(|tx| {
            tx.get(&map, &1000)?;
            tx.retry::<()>()
        });
    assert_eq!(waits, Err(TxError::TimedOut));
}

/// Money moves between keys that are inserted and removed; each snapshot has all of it.
#[test]
fn a_snapshot_shows_the_whole_map_at_one_instant() {
    let _alone = alone();
    let _watchdog = watchdog("a_snapshot_shows_the_whole_map_at_one_instant");
    let map: VersionedMap<u64, i64> = VersionedMap::new();
    map.insert(0, 1000);
    let stop = AtomicBool::new(false);
    thread::scope(|s| {
        for seed in 1..3_u64 {
            let (map, stop) = (&map, &stop);
            s.spawn(move || {
                let mut random = seed;
                while !stop.load(SeqCst) {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    let (from, to) = (random % 50, random / 64 % 50);
                    if from == to {
                        continue;
                    }
                    atomically(|tx| {
                        let Some(all) = tx.remove(map, &from)?.copied() else {
                            return Ok(());
                        };
                        let there = tx.get(map, &to)?.copied().unwrap_or(0);
                        let half = all / 2;
                        if half > 0 {
                            tx.insert(map, from, half)?;
                        }
                        tx.insert(map, to, there + all - half)?;
                        Ok(())
                    });
                    // The map grows beside this.
                    map.insert(1000 + random % 5000, 0);
                }
            });
        }
        for _ in 0..300 {
            let (sum, by_key) = snapshot(|view| {
                let sum: i64 = view.iter(&map).map(|(_, n)| *n).sum();
                let by_key: i64 = (0..50).filter_map(|key| view.get(&map, &key)).sum();
                (sum, by_key)
            });
            if (sum, by_key) != (1000, 1000) {
                stop.store(true, SeqCst);
                panic!("{sum} {by_key}");
            }
            map.flush();
        }
        stop.store(true, SeqCst);
    });
}

#[test]
fn a_snapshot_keeps_showing_what_is_removed_and_nothing_that_is_inserted() {
    let _alone = alone();
    let map: VersionedMap<_, _> = (0..100).map(|n| (n, n)).collect();
    snapshot(|view| {
        thread::scope(|s| {
            s.spawn(|| {
                for n in 0..100 {
                    map.remove(&n);
                    map.insert(n + 100, n);
                    map.insert(n, 1000);
                }
                for n in 0..10_000 {
                    map.insert(n + 1000, n);
                }
                map.flush();
            });
        });
        let all: BTreeMap<_, _> = view.iter(&map).map(|(k, v)| (*k, *v)).collect();
        assert_eq!(all, (0..100).map(|n| (n, n)).collect());
        assert_eq!(view.len(&map), 100);
        assert_eq!((view.get(&map, &5), view.get(&map, &105)), (Some(&5), None));
    });
    assert_eq!(map.len(), 10_200);
}

/// More keys than a transaction validates at each read.
#[test]
fn a_transaction_of_many_keys_is_consistent() {
    let _alone = alone();
    let _watchdog = watchdog("a_transaction_of_many_keys_is_consistent");
    let map: VersionedMap<u32, u32> = VersionedMap::new();
    let stop = AtomicBool::new(false);
    thread::scope(|s| {
        s.spawn(|| {
            let mut n = 0;
            while !stop.load(SeqCst) {
                n += 1;
                // An even number of keys is present at each instant.
                atomically(|tx| {
                    for key in [n % 100, (n + 50) % 100] {
                        match tx.remove(&map, &key)? {
                            Some(_) => {}
                            None => drop(tx.insert(&map, key, n)?),
                        }
                    }
                    Ok(())
                });
            }
        });
        for _ in 0..200 {
            let count = atomically(|tx| {
                let mut count = 0;
                for key in 0..100 {
                    count += u32::from(tx.get(&map, &key)?.is_some());
                }
                Ok(count)
            });
            if count % 2 != 0 {
                stop.store(true, SeqCst);
                panic!("{count} keys");
            }
        }
        stop.store(true, SeqCst);
    });
    map.flush();
    assert_eq!(map.stats().entries, map.len());
}

/// A map that only transactions use also grows, and frees the removed keys.
#[test]
fn transactions_alone_maintain_a_map() {
    let _alone = alone();
    let map = VersionedMap::new();
    let mut largest = 0;
    for n in 0..50_000_u64 {
        atomically(|tx| {
            tx.insert(&map, n, n)?;
            if n >= 64 {
                tx.remove(&map, &(n - 64))?;
            }
            tx.get(&map, &(n + 1_000_000))?;
            Ok(())
        });
        if n % 500 == 0 {
            largest = largest.max(map.stats().entries);
        }
    }
    assert_eq!(map.len(), 64);
    assert!(largest < 10_000, "{largest}");
    map.flush();
    assert_eq!(map.stats().entries, 64);
}

/// A closure that panics leaves the map as it was.
#[test]
fn a_panic_of_the_closure_leaves_the_map() {
    let _alone = alone();
    let map: VersionedMap<_, _> = [(1, 1)].into_iter().collect();
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        atomically(|tx| {
            tx.insert(&map, 2, 2)?;
            tx.remove(&map, &1)?;
            if map.stats().len == 1 {
                panic!("closure");
            }
            Ok(())
        });
    }));
    assert!(caught.is_err());
    assert_eq!((map.len(), map.get(&1).map(|v| *v)), (1, Some(1)));
    map.flush();
    assert_eq!(map.stats().entries, 1);
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "direct access")]
fn a_direct_access_inside_the_closure_panics() {
    let _alone = alone();
    let map: VersionedMap<_, _> = [(1, 1)].into_iter().collect();
    atomically(|tx| {
        tx.get(&map, &1)?;
        drop(map.get(&1));
        Ok(())
    });
}

/// A transaction that makes entries for absent keys buries others, and none that it has read.
#[test]
fn a_transaction_does_not_bury_what_it_has_read() {
    let _alone = alone();
    let map = VersionedMap::new();
    for round in 0..50 {
        for key in 0..12 {
            map.insert(key, round);
        }
        for key in 0..12 {
            map.remove(&key);
        }
        // The grace periods of their records end.
        latchwork::flush();
        latchwork::flush();
        let once = Transaction::builder().max_attempts(1);
        let read = once.run(|tx| {
            for key in 0..12 {
                assert_eq!(tx.get(&map, &key)?, None);
                assert_eq!(tx.get(&map, &(1000 + 100 * round + key))?, None);
            }
            Ok(())
        });
        assert!(read.is_ok(), "round {round}: {read:?}");
    }
    map.flush();
    map.flush();
    assert_eq!(map.stats().entries, 0);
}
