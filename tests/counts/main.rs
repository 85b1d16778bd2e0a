//! What a lock and unlock cost, counted: heap allocations, atomic read-modify-writes, fences,
//! instructions.
//!
//! Counts are the same on every run and on every machine of an architecture, where times are not.
//! The numbers of atomic operations hold in every build, since no optimisation adds or removes one;
//! the limits on instructions are for optimised builds.
#![cfg(all(
    target_os = "linux",
    target_arch = "x86_64",
    // These replace the atomics that are counted here.
    not(any(latchwork_loom, latchwork_noise, latchwork_shuttle))
))]
#![allow(unsafe_code, reason = "ptrace, which is unsafe by nature")]

mod cells;
mod decode;
mod growth;
mod heap;
mod latches;
mod steps;

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering, compiler_fence, fence};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use heap::allocations;
use latchwork::{Fairness, LockTable, Mode};
use steps::{Steps, steps};

/// Instructions of an optimised lock and unlock: loose, so that a new compiler does not trip
/// over it, and tight enough to notice a second look-up or a call that should be inline.
const INSTRUCTIONS: u64 = 100;
/// The same for a set of three.
const INSTRUCTIONS_OF_THREE: u64 = 700;

/// One test at a time: what others pin and retire would be seen.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Uses a value up where the compiler cannot see that nothing is done with it.
fn done<T>(value: T) {
    let _ = black_box(value);
}

/// Counts one call of `f` and prints what it found.
fn count(what: &str, f: impl Fn()) -> Steps {
    let steps = steps(&f);
    println!("{what:<44} {steps}");
    steps
}

/// Asserts the cost of an uncontended lock and unlock of `keys` keys.
fn is_cheap(what: &str, keys: u64, instructions: u64, f: impl Fn()) {
    let steps = count(what, &f);
    assert_eq!(steps.rmws, 2 * keys, "{what}: atomic read-modify-writes");
    assert_eq!(steps.fences, 0, "{what}: fences");
    if !cfg!(debug_assertions) {
        assert!(steps.instructions <= instructions, "{what}: {steps}");
    }
    assert_eq!(allocations(&f), 0, "{what}: allocations");
}

/// The slot of a key in the root of a table of the default size.
fn slot(table: &LockTable<u64>, key: u64) -> u64 {
    table.key_id(&key).get() % 4096
}

#[test]
fn the_counters_count() {
    let _alone = alone();
    let number = AtomicU64::new(0);
    let seen = |what, f: &dyn Fn()| {
        let steps = count(what, f);
        (steps.rmws, steps.fences)
    };
    let store = || number.store(black_box(1), Ordering::Release);
    let load = || done(number.load(Ordering::SeqCst));
    let add = || done(number.fetch_add(1, Ordering::Relaxed));
    let swap = || done(number.swap(1, Ordering::AcqRel));
    let cas = || {
        let (old, new) = (black_box(77), black_box(78));
        done(number.compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed));
    };
    assert_eq!(seen("nothing", &|| ()), (0, 0));
    assert_eq!(seen("store", &store), (0, 0));
    assert_eq!(seen("load, SeqCst", &load), (0, 0));
    assert_eq!(seen("fetch_add", &add), (1, 0));
    assert_eq!(seen("swap", &swap), (1, 0), "the lock of xchg is implicit");
    assert_eq!(seen("compare_exchange that fails", &cas), (1, 0));
    assert_eq!(
        seen("three fetch_add", &|| [add, add, add]
            .iter()
            .for_each(|f| f())),
        (3, 0)
    );
    assert_eq!(seen("fence, SeqCst", &|| fence(Ordering::SeqCst)), (0, 1));
    assert_eq!(seen("fence, Release", &|| fence(Ordering::Release)), (0, 0));
    assert_eq!(
        seen("compiler_fence", &|| compiler_fence(Ordering::SeqCst)),
        (0, 0)
    );

    let mutex = parking_lot::Mutex::new(0);
    assert_eq!(
        seen("parking_lot::Mutex", &|| *black_box(&mutex).lock() += 1),
        (2, 0)
    );
    let mutex = Mutex::new(0);
    assert_eq!(
        seen("std::sync::Mutex", &|| *black_box(&mutex)
            .lock()
            .unwrap() += 1),
        (2, 0)
    );

    let more = count("a loop of 100", || (0..100).for_each(done));
    assert!(more.instructions >= 100, "{more}");
    assert_eq!(allocations(|| done(Box::new(1))), 1);
    assert_eq!(allocations(|| done(vec![Box::new(1); 3])), 4);
    assert_eq!(allocations(|| done(1)), 0);
}

#[test]
fn one_integer_key() {
    let _alone = alone();
    let table: LockTable<u64> = LockTable::new();
    let key = || black_box(&7);
    is_cheap("lock(&u64)", 1, INSTRUCTIONS, || drop(table.lock(key())));
    is_cheap("lock_shared(&u64)", 1, INSTRUCTIONS, || {
        drop(table.lock_shared(key()))
    });
    is_cheap("try_lock(&u64)", 1, INSTRUCTIONS, || {
        drop(table.try_lock(key()))
    });
    is_cheap("try_lock_shared(&u64)", 1, INSTRUCTIONS, || {
        drop(table.try_lock_shared(key()))
    });
    // Looking at the clock may take any number of instructions.
    let timed = || drop(table.try_lock_for(key(), Duration::from_secs(1)));
    is_cheap("try_lock_for(&u64)", 1, u64::MAX, timed);
    let timed = || drop(table.try_lock_shared_for(key(), Duration::ZERO));
    is_cheap("try_lock_shared_for(&u64)", 1, u64::MAX, timed);
}

#[test]
fn one_string_key() {
    let _alone = alone();
    let table: LockTable<str> = LockTable::new();
    for text in [
        "",
        "user:42",
        "a key that is longer than the hasher takes at one go, by far",
    ] {
        let key = || black_box(text);
        is_cheap("lock(&str)", 1, 2 * INSTRUCTIONS, || {
            drop(table.lock(key()))
        });
        is_cheap("lock_shared(&str)", 1, 2 * INSTRUCTIONS, || {
            drop(table.lock_shared(key()))
        });
        is_cheap("try_lock(&str)", 1, 2 * INSTRUCTIONS, || {
            drop(table.try_lock(key()))
        });
    }
}

#[test]
fn a_table_in_use_costs_the_same() {
    let _alone = alone();
    // Other keys held, and a history of growth, waiting and giving up behind it.
    let table: LockTable<u64> = LockTable::new();
    drop(
        table.lock_all(
            (0..10_000)
                .collect::<Vec<u64>>()
                .iter()
                .map(|k| (k, Mode::Shared)),
        ),
    );
    let held = table.lock(&1);
    assert!(table.try_lock_for(&1, Duration::from_micros(50)).is_none());
    let free = (2..).find(|key| slot(&table, *key) != slot(&table, 1));
    let free = free.expect("not all keys collide");
    is_cheap("lock(&u64), another key held", 1, INSTRUCTIONS, || {
        drop(table.lock(black_box(&free)))
    });
    drop(held);
    is_cheap("lock(&u64), once contended", 1, INSTRUCTIONS, || {
        drop(table.lock(black_box(&1)))
    });
}

/// A key is locked below the root if another held key has its slot, which costs more. The array
/// there stays for the next locks.
#[test]
fn a_key_whose_slot_another_key_has() {
    let _alone = alone();
    let table: LockTable<u64> = LockTable::new();
    let held = table.lock(&1);
    let other = (2..).find(|key| slot(&table, *key) == slot(&table, 1));
    let other = other.expect("some keys collide");
    let lock = || drop(table.lock(black_box(&other)));
    // Every 256th unlock frees the array, so at most one of these does, and it costs more.
    let counted = (0..8).map(|_| count("lock(&u64), its slot has another key", lock));
    let dear: Vec<Steps> = counted
        .filter(|steps| {
            let is_optimised = !cfg!(debug_assertions);
            steps.rmws > 6 || steps.fences > 0 || is_optimised && steps.instructions > 1_500
        })
        .collect();
    assert!(dear.len() <= 1, "{dear:?}");
    // An array may have been freed and made anew in between.
    let allocated = allocations(|| (0..1_000).for_each(|_| lock()));
    assert!(allocated <= 20, "{allocated} allocations of a thousand");
    drop(held);
}

#[test]
fn sets_of_keys() {
    let _alone = alone();
    let table: LockTable<u64> = LockTable::new();
    // Each in a slot of its own; keys that meet go below the root, which costs more.
    let mut slots = HashSet::new();
    let keys: Vec<(u64, Mode)> = (0..)
        .filter(|key| slots.insert(slot(&table, *key)))
        .map(|key| {
            (
                key,
                if key % 2 == 0 {
                    Mode::Shared
                } else {
                    Mode::Exclusive
                },
            )
        })
        .take(8)
        .collect();
    for n in [0, 1, 2, 3, 8] {
        let ask = || black_box(&keys[..n]).iter().map(|(key, mode)| (key, *mode));
        let (count, limit) = (n as u64, INSTRUCTIONS_OF_THREE * (n as u64).max(3) / 3);
        is_cheap(&format!("lock_all of {n}"), count, limit, || {
            drop(table.lock_all(ask()))
        });
        is_cheap(&format!("try_lock_all of {n}"), count, limit, || {
            drop(table.try_lock_all(ask()))
        });
    }
    // A key given twice is locked once, and counts once towards the eight.
    let twice = || keys.iter().chain(&keys).map(|(key, mode)| (key, *mode));
    is_cheap("lock_all of 8, each twice", 8, u64::MAX, || {
        drop(table.lock_all(twice()));
    });
}

#[test]
fn a_key_that_is_handed_from_task_to_task() {
    let _alone = alone();
    for fairness in [Fairness::Eventual, Fairness::Fifo] {
        let table: LockTable<u64> = LockTable::builder().fairness(fairness).build();
        let mut cx = Context::from_waker(Waker::noop());
        let held = Cell::new(Some(table.lock(&7)));
        let hand_over = RefCell::new(|| {
            let mut next = table.lock_async(black_box(&7));
            assert!(Pin::new(&mut next).poll(&mut cx).is_pending());
            drop(held.take());
            match Pin::new(&mut next).poll(&mut cx) {
                Poll::Ready(guard) => held.set(Some(guard)),
                Poll::Pending => panic!("the key was given back"),
            }
        });
        let hand_over = || (*hand_over.borrow_mut())();
        // The key outgrows its slot once.
        hand_over();
        count(&format!("hand over, {fairness:?}"), hand_over);
        assert_eq!(allocations(hand_over), 0, "{fairness:?}");
    }
}

#[test]
fn a_key_that_is_taken() {
    let _alone = alone();
    let table: LockTable<u64> = LockTable::new();
    let guard = table.lock(&7);
    let tries: [(&str, &dyn Fn()); 2] = [
        ("try_lock that fails", &|| {
            assert!(table.try_lock(black_box(&7)).is_none())
        }),
        ("try_lock_shared that fails", &|| {
            assert!(table.try_lock_shared(black_box(&7)).is_none());
        }),
    ];
    for (what, f) in tries {
        let steps = count(what, f);
        assert!(steps.rmws <= 1 && steps.fences == 0, "{what}: {steps}");
        assert_eq!(allocations(f), 0, "{what}");
    }
    drop(guard);
    let _guard = table.lock_shared(&7);
    let second = || drop(table.lock_shared(black_box(&7)));
    let steps = count("lock_shared beside a reader", second);
    // One try at an empty slot, one that joins; one at a single reader, one that leaves.
    assert!(steps.rmws <= 4 && steps.fences == 0, "{steps}");
    assert_eq!(allocations(second), 0);
}
