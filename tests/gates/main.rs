//! What the hot paths cost, counted and printed for `ci/gates`, which compares it with what was
//! agreed on.
//!
//! One line for each path: instructions, atomic read-modify-writes and fences of one call, and heap
//! allocations of a thousand. Of eight calls the one with the fewest instructions counts: what is
//! done once in 64 writes or 256 unlocks is not in it, but its allocations are in those of the
//! thousand.
#![cfg(all(
    target_os = "linux",
    target_arch = "x86_64",
    // Nobody has agreed on what an unoptimised build costs.
    not(debug_assertions),
    // These replace the atomics that are counted here.
    not(any(latchwork_loom, latchwork_noise, latchwork_shuttle))
))]
#![allow(unsafe_code, reason = "ptrace, which is unsafe by nature")]

#[path = "../counts/decode.rs"]
mod decode;
mod gate;
#[path = "../counts/heap.rs"]
mod heap;
#[path = "../counts/steps.rs"]
mod steps;

use std::cell::{Cell, RefCell};
use std::hint::black_box;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use gate::gate;
use latchwork::table::IntegerHasher;
use latchwork::{LockTable, Mode, VersionedCell, VersionedMap, atomically, snapshot, update_all};

/// Uses a value up where the compiler cannot see that nothing is done with it.
fn done<T>(value: T) {
    let _ = black_box(value);
}

#[test]
fn locks() {
    let table: LockTable<u64> = LockTable::new();
    let key = || black_box(&7_u64);
    gate("lock, u64", || drop(table.lock(key())));
    gate("lock_shared, u64", || drop(table.lock_shared(key())));
    gate("try_lock, u64", || drop(table.try_lock(key())));
    gate("try_lock_shared, u64", || {
        drop(table.try_lock_shared(key()));
    });
    gate("lock and downgrade, u64", || {
        drop(table.lock(key()).downgrade());
    });
    gate("lock and token, u64", || done(table.lock(key()).token()));
    let owned: Arc<LockTable<u64>> = Arc::new(LockTable::new());
    gate("lock_owned, u64", || drop(owned.lock_owned(key())));

    let text: LockTable<str> = LockTable::new();
    gate("lock, str", || drop(text.lock(black_box("user:42"))));

    let held = table.lock(&7);
    gate("try_lock of a held key, u64", || {
        assert!(table.try_lock(key()).is_none());
    });
    drop(held);
    let held = table.lock_shared(&7);
    gate("lock_shared beside a reader, u64", || {
        drop(table.lock_shared(key()));
    });
    drop(held);
}

#[test]
fn sets_of_keys() {
    // Keys that meet in a slot cost more, and which do is the hasher's seed: these do not, whatever
    // it is.
    let table: LockTable<u64> = LockTable::new();
    let mut slots = std::collections::HashSet::new();
    let apart = (0..).filter(|key: &u64| slots.insert(table.key_id(key).get() % 4096));
    let keys: Vec<u64> = apart.take(8).collect();
    for n in [1, 3, 8] {
        let ask = || {
            black_box(&keys[..n])
                .iter()
                .map(|key| (key, Mode::Exclusive))
        };
        gate(&format!("lock_all of {n}, u64"), || {
            drop(table.lock_all(ask()));
        });
    }
}

#[test]
fn tasks() {
    let table: LockTable<u64> = LockTable::new();
    let context = RefCell::new(Context::from_waker(Waker::noop()));
    gate("lock_async polled once, u64", || {
        let mut future = table.lock_async(black_box(&7));
        let polled = Pin::new(&mut future).poll(&mut context.borrow_mut());
        assert!(polled.is_ready());
    });
    let held = Cell::new(Some(table.lock(&8)));
    gate("a key handed from task to task, u64", || {
        let mut next = table.lock_async(black_box(&8));
        let mut context = context.borrow_mut();
        assert!(Pin::new(&mut next).poll(&mut context).is_pending());
        drop(held.take());
        match Pin::new(&mut next).poll(&mut context) {
            Poll::Ready(guard) => held.set(Some(guard)),
            Poll::Pending => panic!("the key was given back"),
        }
    });
}

#[test]
fn cells() {
    let cell = VersionedCell::new(7_u64);
    let cell = || black_box(&cell);
    gate("cell, read", || done(*cell().read()));
    gate("cell, version", || done(cell().version()));
    gate("cell, read_owned", || done(*cell().read_owned()));
    let pin = latchwork::pin();
    gate("cell, read_in", || done(*cell().read_in(&pin)));
    drop(pin);
    gate("cell, set", || done(cell().set(1)));
    gate("cell, swap", || done(*cell().swap(1)));
    gate("cell, update", || done(cell().update(|n| n + 1)));
    gate("cell, version and compare_and_set", || {
        done(cell().compare_and_set(cell().version(), 1));
    });
}

#[test]
fn maps() {
    const KEYS: u64 = 1 << 10;
    // Its hashes are the same in each run.
    let map = || VersionedMap::with_capacity_and_hasher(KEYS as usize, IntegerHasher::new());
    let filled: VersionedMap<u64, u64, _> = map();
    (0..KEYS).for_each(|key| drop(filled.insert(key, key)));
    let map_of = || black_box(&filled);
    let key = || black_box(&7_u64);
    let pin = latchwork::pin();
    gate("map, get_in", || {
        done(map_of().get_in(&pin, key()).map(|value| *value));
    });
    gate("map, get_in of an absent key", || {
        // The slots that a search loads first have room, as most have.
        let absent = black_box(&(KEYS + 1));
        done(map_of().get_in(&pin, absent).map(|value| *value));
    });
    drop(pin);
    gate("map, get", || done(map_of().get(key()).map(|value| *value)));
    gate("map, update", || done(map_of().update(key(), |n| n + 1)));
    gate("map, insert over a value", || {
        done(map_of().insert(*key(), 1).0);
    });
    gate("map, lock, set and commit", || {
        let mut entry = map_of().lock(key());
        entry.set(1);
        done(entry.commit());
    });
    gate("map, atomically, two updated", || {
        atomically(|tx| {
            for key in [1, 2] {
                let n = *tx.get(map_of(), black_box(&key))?.expect("it is present");
                tx.insert(map_of(), key, n + 1)?;
            }
            Ok(())
        });
    });
    let batched: VersionedMap<u64, u64, _> = map();
    let versions = Cell::new([4, 5, 6, 7].map(|key| batched.insert(key, 0).0));
    gate("map, batch of four puts", || {
        let keys = [4, 5, 6, 7].into_iter().zip(versions.get());
        let batch = keys.fold(batched.transact(), |batch, (key, version)| {
            batch.put_if(key, version, 1)
        });
        let written = batch.commit().expect("no other thread writes");
        versions.set(std::array::from_fn(|i| written[i].expect("it is present")));
    });
    // A removal is not counted: its burial follows grace periods, and so the time between two runs.
}

#[test]
fn transactions() {
    let accounts: [VersionedCell<i64>; 32] = std::array::from_fn(|_| VersionedCell::new(100));
    let accounts = || black_box(&accounts);
    gate("atomically, two read", || {
        let accounts = accounts();
        done(atomically(|tx| {
            Ok(tx.read(&accounts[0])? + tx.read(&accounts[1])?)
        }));
    });
    gate("atomically, one updated", || {
        let accounts = accounts();
        atomically(|tx| tx.update(&accounts[0], |n| n + 1));
    });
    gate("atomically, two updated", || {
        let accounts = accounts();
        atomically(|tx| {
            tx.update(&accounts[0], |n| n - 1)?;
            tx.update(&accounts[1], |n| n + 1)
        });
    });
    gate("update_all of two", || {
        let accounts = accounts();
        done(update_all((&accounts[0], &accounts[1]), |(a, b)| {
            (a - 1, b + 1)
        }));
    });
    for n in [2, 32] {
        gate(&format!("snapshot of {n}"), || {
            let cells = &accounts()[..n];
            done(snapshot(|s| {
                cells.iter().map(|cell| *s.read(cell)).sum::<i64>()
            }));
        });
    }
}
