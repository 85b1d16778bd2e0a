//! Keys and sizes that no program should have, and destructors that use the map.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Weak};

use crate::alone;
use crate::common::hashers::Place;
use crate::common::watchdog;
use latchwork::{Transaction, VersionedMap, atomically, snapshot, txn::TxAbort};

/// The log of the attempt, and the graveyard, have all of them.
#[test]
fn a_transaction_of_a_hundred_thousand_keys_is_all_or_nothing() {
    const KEYS: u64 = 100_000;
    let _alone = alone();
    let _dog = watchdog("a_transaction_of_a_hundred_thousand_keys");
    let map = VersionedMap::<u64, u64>::new();
    let result = Transaction::builder().try_run(|tx| {
        for key in 0..KEYS {
            assert_eq!(tx.insert(&map, key, key)?, None);
        }
        Err::<(), _>(TxAbort::Transaction(()))
    });
    assert!(result.is_err());
    assert_eq!((map.len(), snapshot(|view| view.len(&map))), (0, 0));
    atomically(|tx| {
        for key in 0..KEYS {
            tx.insert(&map, key, key)?;
        }
        Ok(())
    });
    assert_eq!(map.len() as u64, KEYS);
    let sum = atomically(|tx| {
        let mut sum = 0;
        for key in 0..KEYS {
            sum += *tx.remove(&map, &key)?.expect("it was inserted");
        }
        Ok(sum)
    });
    assert_eq!(sum, KEYS * (KEYS - 1) / 2);
    map.flush();
    map.flush();
    let stats = map.stats();
    assert_eq!((stats.len, stats.entries, stats.removed), (0, 0, 0));
}

#[test]
fn a_batch_of_many_keys_is_all_or_nothing() {
    const KEYS: u64 = 20_000;
    let _alone = alone();
    let _dog = watchdog("a_batch_of_many_keys_is_all_or_nothing");
    let map = VersionedMap::<u64, u64>::new();
    let insert = || {
        let batch = (0..KEYS).fold(map.transact(), |batch, key| {
            batch.insert_if_absent(key, key)
        });
        batch.commit()
    };
    let versions = insert().expect("all are absent");
    assert!(versions.iter().all(Option::is_some));
    map.remove(&7);
    let cancelled = insert().expect_err("some are present");
    let met = cancelled.reasons.iter().filter(|reason| reason.is_met());
    assert_eq!((met.count(), map.len() as u64), (1, KEYS - 1));
}

/// All locks, drafts and log entries of these keys meet at one hash.
#[test]
fn keys_of_one_hash_are_written_together() {
    const KEYS: u64 = 300;
    let _alone = alone();
    let _dog = watchdog("keys_of_one_hash_are_written_together");
    let map = VersionedMap::<u64, u64, _>::with_hasher(Place::Constant(9));
    let keys: Vec<u64> = (0..KEYS).collect();
    atomically(|tx| {
        keys.iter()
            .try_for_each(|key| tx.insert(&map, *key, 0).map(drop))
    });
    let mut set = map.lock_all(&keys);
    assert_eq!(set.len() as u64, KEYS);
    for key in &keys {
        set.entry(key).expect("it was locked").set(*key);
    }
    assert_eq!(set.commit() as u64, KEYS);
    let sum: u64 = snapshot(|view| view.iter(&map).map(|(_, n)| *n).sum());
    assert_eq!(sum, KEYS * (KEYS - 1) / 2);
    map.clear();
    map.flush();
    map.flush();
    assert_eq!(map.stats().entries, 0);
}

/// Counts what its destructor may do with the key that it is the draft of.
struct Draft {
    map: Weak<VersionedMap<u32, Draft>>,
    seen: Arc<AtomicU32>,
    refused: Arc<AtomicU32>,
}

impl Drop for Draft {
    fn drop(&mut self) {
        let Some(map) = self.map.upgrade() else {
            return;
        };
        match map.try_lock(&1) {
            Some(_) => self.seen.fetch_add(1, SeqCst),
            None => self.refused.fetch_add(1, SeqCst),
        };
        // Reads never wait.
        let _ = map.get(&1).is_some();
    }
}

/// It runs while the key is locked, so it must not wait for the key.
#[test]
fn the_destructor_of_a_draft_finds_the_key_locked() {
    let _alone = alone();
    let _dog = watchdog("the_destructor_of_a_draft_finds_the_key_locked");
    let map = Arc::new(VersionedMap::new());
    let (seen, refused) = (Arc::default(), Arc::<AtomicU32>::default());
    let draft = || Draft {
        map: Arc::downgrade(&map),
        seen: Arc::clone(&seen),
        refused: refused.clone(),
    };
    // A draft is replaced, removed, and discarded.
    let mut guard = map.lock(&1);
    guard.set(draft());
    guard.set(draft());
    assert_eq!(refused.load(SeqCst), 1);
    assert!(guard.remove());
    assert_eq!(refused.load(SeqCst), 2);
    guard.set(draft());
    drop(guard);
    assert_eq!(refused.load(SeqCst), 3);
    let mut set = map.lock_all(&[1, 2]);
    set.entry(&1).expect("it was locked").set(draft());
    drop(set);
    let mut session = map.session();
    session.lock(&1).expect("it is free").set(draft());
    session.discard();
    assert_eq!((refused.load(SeqCst), seen.load(SeqCst)), (5, 0));
    // What was committed is dropped after the key was unlocked.
    let mut guard = map.lock(&1);
    guard.set(draft());
    guard.commit();
    map.remove(&1);
    map.flush();
    map.flush();
    assert_eq!((refused.load(SeqCst), seen.load(SeqCst)), (5, 1));
}
