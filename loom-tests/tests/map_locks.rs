//! Locks of keys beside writes, transactions, snapshots and burials, in every interleaving within a
//! bound.

mod common;

use std::sync::Arc;

use common::arena::Ascending;
use common::maps::{KEY, OTHER, World};
use common::task::block_on;
use latchwork::{atomically, snapshot};
use latchwork_loom_tests::{Model, spawn};

#[global_allocator]
static ALLOCATOR: Ascending = Ascending;

fn world() -> Arc<World> {
    let world = World::new();
    world.map.make_locks_in_model();
    world
}

impl World {
    /// Locks a key, and adds ten to its value. A dash is nothing.
    fn lock_and_add(&self, key: u64) {
        let mut guard = self.map.lock(&key);
        let n = guard.get().copied().unwrap_or(0);
        guard.set(n + 10);
        let version = guard.commit().expect("it was written");
        self.note(format!("l{version}"));
    }

    /// Adds one to a key in a transaction that also writes another one.
    fn transact(&self) {
        atomically(|tx| {
            let n = tx.get(&self.map, &KEY)?.copied().unwrap_or(0);
            tx.insert(&self.map, OTHER, n)?;
            tx.insert(&self.map, KEY, n + 1)?;
            Ok(())
        });
    }
}

#[test]
fn a_lock_beside_an_update_loses_nothing() {
    Model::new("a lock beside an update")
        .rules("[V12]")
        .preemptions(Some(3))
        .outcomes(&["l2 12 e1", "l3 12 e1"])
        .check(|| {
            let world = world();
            world.map.insert(KEY, 1);
            let other = spawn(&world, |world| {
                world.map.update(&KEY, |n| n + 1);
            });
            world.lock_and_add(KEY);
            world.outcome([other])
        });
}

#[test]
fn a_lock_beside_a_transaction_loses_nothing() {
    Model::new("a lock beside a transaction of two keys")
        .rules("[V12] [V13] [X6]")
        .preemptions(Some(2))
        .outcomes(&["l2 12 e2 o11", "l3 12 e2 o1"])
        .check(|| {
            let world = world();
            world.map.insert(KEY, 1);
            let other = spawn(&world, |world| world.transact());
            world.lock_and_add(KEY);
            let outcome = world.outcome([other]);
            format!("{outcome} o{}", world.get(OTHER))
        });
}

/// The transaction owns the key, finds that the other one has changed, and restores the key.
#[test]
fn a_lock_beside_a_transaction_that_rolls_back() {
    Model::new(
        "a lock beside a transaction of two keys, of which the thread has written the other",
    )
    .rules("[V12] [X7]")
    .preemptions(Some(2))
    .outcomes(&["l2 12 e2 o11", "l3 12 e2 o1", "l3 12 e2 o2"])
    .check(|| {
        let world = world();
        for key in [KEY, OTHER] {
            world.map.insert(key, 1);
        }
        let other = spawn(&world, |world| world.transact());
        world.map.update(&OTHER, |n| n + 1);
        world.lock_and_add(KEY);
        let outcome = world.outcome([other]);
        format!("{outcome} o{}", world.get(OTHER))
    });
}

/// The lock ends without a write: nothing but its end can wake the transaction.
#[test]
fn the_end_of_a_lock_wakes_a_transaction() {
    Model::new("a lock that is dropped beside a transaction that waits for it")
        .rules("[V13]")
        .preemptions(Some(3))
        .outcomes(&["2 e1"])
        .check(|| {
            let world = world();
            world.map.insert(KEY, 1);
            let guard = world.map.lock(&KEY);
            let other = spawn(&world, |world| {
                atomically(|tx| {
                    let n = tx.get(&world.map, &KEY)?.copied().unwrap_or(0);
                    tx.insert(&world.map, KEY, n + 1)?;
                    Ok(())
                });
            });
            drop(guard);
            world.outcome([other])
        });
}

#[test]
fn a_lock_of_an_absent_key_beside_an_insert() {
    Model::new("a lock of an absent key beside an insert")
        .rules("[V1] [V12]")
        .preemptions(Some(2))
        // The vacant entry of the lock has version 1.
        .outcomes(&["i- l2 10 e1", "i1 l2 12 e1"])
        .check(|| {
            let world = world();
            let other = spawn(&world, |world| world.insert_if_absent(KEY, 2));
            world.lock_and_add(KEY);
            world.outcome([other])
        });
}

/// The record of the removed key would bury the entry under the lock.
#[test]
fn a_lock_beside_a_burial() {
    Model::new("a lock of a removed key beside its burial")
        .rules("[V4] [V12]")
        .preemptions(Some(3))
        .outcomes(&["l3 10 e1", "l4 10 e1"])
        .check(|| {
            let world = World::with_a_removed_key();
            world.map.make_locks_in_model();
            let other = spawn(&world, |world| world.bury());
            world.lock_and_add(KEY);
            world.outcome([other])
        });
}

#[test]
fn a_lock_beside_a_snapshot() {
    Model::new("a lock beside a snapshot that reads the key twice")
        .rules("[V12] [C4]")
        .preemptions(Some(3))
        .outcomes(&["l2 s1 11 e1", "l2 s11 11 e1"])
        .check(|| {
            let world = world();
            world.map.insert(KEY, 1);
            let other = spawn(&world, |world| world.lock_and_add(KEY));
            let [a, b] = snapshot(|s| [0; 2].map(|_| s.get(&world.map, &KEY).copied()));
            assert_eq!(a, b, "a snapshot is of one instant");
            world.note(format!("s{}", a.expect("it is present")));
            world.outcome([other])
        });
}

#[test]
fn two_locks_of_one_key() {
    Model::new("two locks of one key")
        .rules("[V12]")
        .preemptions(Some(2))
        .outcomes(&["l2 l3 21 e1"])
        .check(|| {
            let world = world();
            world.map.insert(KEY, 1);
            let other = spawn(&world, |world| world.lock_and_add(KEY));
            world.lock_and_add(KEY);
            world.outcome([other])
        });
}

/// What the holder of a lock protects outside of the map.
#[derive(Default)]
struct Protected(loom::cell::UnsafeCell<u64>);

// SAFETY: each thread uses it while it has locked the key.
unsafe impl Sync for Protected {}
// SAFETY: as above.
unsafe impl Send for Protected {}

impl World {
    /// Locks a key if it is free, uses what the lock protects, and unlocks the key unchanged.
    fn use_protected(&self, protected: &Protected) {
        match self.map.try_lock(&KEY) {
            Some(guard) => {
                // SAFETY: the key is locked.
                protected.0.with_mut(|n| unsafe { *n += 1 });
                drop(guard);
                self.note("l");
            }
            None => self.note("-"),
        }
    }
}

/// Neither lock writes the key, so both find the same word.
#[test]
fn a_thin_lock_follows_the_one_before_it() {
    Model::new("two thin locks of one key that protect data outside of the map")
        .rules("[V12]")
        .preemptions(Some(3))
        .outcomes(&["- l 1 e1", "l l 1 e1"])
        .check(|| {
            let world = world();
            world.map.insert(KEY, 1);
            let protected = Arc::new(Protected::default());
            let other = spawn(&world, {
                let protected = protected.clone();
                move |world| world.use_protected(&protected)
            });
            world.use_protected(&protected);
            world.outcome([other])
        });
}

/// A set locks the hash, and the other lock does not.
#[test]
fn a_thin_lock_beside_a_lock_of_the_hash() {
    Model::new("a thin lock beside a set of the same key")
        .rules("[V12] [V13]")
        .preemptions(Some(2))
        .outcomes(&["l2 21 e1", "l3 21 e1"])
        .check(|| {
            let world = world();
            world.map.insert(KEY, 1);
            let other = spawn(&world, |world| {
                let mut set = world.map.lock_all([&KEY]);
                let mut entry = set.entry(&KEY).expect("it is locked");
                let n = *entry.get().expect("it is present");
                entry.set(n + 10);
                set.commit();
            });
            world.lock_and_add(KEY);
            world.outcome([other])
        });
}

#[test]
fn the_end_of_a_thin_lock_wakes_the_holder_of_the_hash() {
    Model::new("a thin lock that is dropped beside a thread that has locked the hash")
        .rules("[V13]")
        .preemptions(Some(3))
        .outcomes(&["l2 11 e1"])
        .check(|| {
            let world = world();
            world.map.insert(KEY, 1);
            let guard = world.map.lock(&KEY);
            let other = spawn(&world, |world| world.lock_and_add(KEY));
            drop(guard);
            world.outcome([other])
        });
}

#[test]
fn the_end_of_a_thin_lock_wakes_a_writer() {
    Model::new("a thin lock that commits beside a write")
        .rules("[V12] [V13]")
        .preemptions(Some(3))
        .outcomes(&["12 e1"])
        .check(|| {
            let world = world();
            world.map.insert(KEY, 1);
            let mut guard = world.map.lock(&KEY);
            let other = spawn(&world, |world| {
                world.map.update(&KEY, |n| n + 1);
            });
            guard.set(11);
            guard.commit();
            world.outcome([other])
        });
}

#[test]
fn the_end_of_a_thin_lock_wakes_a_task() {
    Model::new("a thin lock that is dropped beside a task that locks the key")
        .rules("[V13]")
        .preemptions(Some(2))
        .outcomes(&["11 e1"])
        .check(|| {
            let world = world();
            world.map.insert(KEY, 1);
            let guard = world.map.lock(&KEY);
            let other = spawn(&world, |world| {
                let mut guard = block_on(world.map.lock_async(&KEY));
                guard.set(guard.get().expect("it is present") + 10);
                guard.commit();
            });
            drop(guard);
            world.outcome([other])
        });
}

/// The batch writes both keys, or returns both values and reasons of one instant.
#[test]
fn a_batch_beside_a_write_is_all_or_nothing() {
    Model::new("a batch of two conditions beside a write of one key")
        .rules("[V14] [X4]")
        .preemptions(Some(2))
        .outcomes(&["b 11 e2 o20", "x 2 e2 o1"])
        .check(|| {
            let world = world();
            let [(a, _), (b, _)] = [KEY, OTHER].map(|key| world.map.insert(key, 1));
            let other = spawn(&world, |world| {
                world.map.update(&KEY, |n| n + 1);
            });
            let batch = world.map.transact().put_if(KEY, a, 10);
            match batch.put_if(OTHER, b, 20).commit() {
                Ok(_) => world.note("b"),
                Err(cancelled) => {
                    assert_eq!(cancelled.values, [Some(10), Some(20)]);
                    let is_met: Vec<_> = cancelled.reasons.iter().map(|r| r.is_met()).collect();
                    assert_eq!(is_met, [false, true]);
                    world.note("x");
                }
            }
            let outcome = world.outcome([other]);
            format!("{outcome} o{}", world.get(OTHER))
        });
}

/// A transaction sees both writes of a batch or none, one of which is a removal.
#[test]
fn a_batch_beside_a_transaction_that_reads_its_keys() {
    Model::new("a batch of a put and a removal beside a transaction that reads both keys")
        .rules("[V14] [X2] [X3]")
        .preemptions(Some(2))
        .outcomes(&["1,1 10 e2", "10,- 10 e2"])
        .check(|| {
            let world = world();
            let [(a, _), (b, _)] = [KEY, OTHER].map(|key| world.map.insert(key, 1));
            let other = spawn(&world, |world| {
                let both = atomically(|tx| {
                    let one = tx.get(&world.map, &KEY)?.copied();
                    Ok((one, tx.get(&world.map, &OTHER)?.copied()))
                });
                let show = |n: Option<u64>| n.map_or("-".to_owned(), |n| n.to_string());
                world.note(format!("{},{}", show(both.0), show(both.1)));
            });
            let batch = world.map.transact().put_if(KEY, a, 10);
            let written = batch.remove_if(OTHER, b).commit();
            assert_eq!(written.expect("no other writer").len(), 2);
            world.outcome([other])
        });
}

/// Each of two batches writes both keys, in opposite orders of their items. One of them wins.
#[test]
fn a_batch_beside_a_batch() {
    Model::new("two batches of the same keys")
        .rules("[V14] [X6]")
        .preemptions(Some(2))
        .outcomes(&["w20 20 e2 o20", "w10 10 e2 o10"])
        .check(|| {
            let world = world();
            let [(a, _), (b, _)] = [KEY, OTHER].map(|key| world.map.insert(key, 1));
            let other = spawn(&world, move |world| {
                let batch = world.map.transact().put_if(OTHER, b, 20);
                if batch.put_if(KEY, a, 20).commit().is_ok() {
                    world.note("w20");
                }
            });
            let batch = world.map.transact().put_if(KEY, a, 10);
            match batch.put_if(OTHER, b, 10).commit() {
                Ok(_) => world.note("w10"),
                Err(cancelled) => assert_eq!(cancelled.values, [Some(10), Some(10)]),
            }
            let outcome = world.outcome([other]);
            format!("{outcome} o{}", world.get(OTHER))
        });
}
