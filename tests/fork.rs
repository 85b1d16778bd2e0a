//! The child of a process with threads: what `docs::fork` says works, on Linux with glibc.
//!
//! One test, because no thread but those that it starts may be inside a call of the crate at a
//! fork.
#![cfg(all(target_os = "linux", target_env = "gnu"))]
#![allow(
    unsafe_code,
    reason = "fork, waitpid and _exit are calls of the system"
)]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use common::tasks::poll;
use latchwork::ordered::checked;
use latchwork::{
    LockTable, Mode, RetryPolicy, VersionedCell, VersionedMap, atomically,
    latch::OptimisticLatch,
    session::{LockError, Policy},
    snapshot,
    table::SingleFlight,
};

/// Runs `f` in a child, and returns whether it returned.
fn succeeds_in_a_child(f: impl FnOnce()) -> bool {
    // SAFETY: the child does what is promised to work after a fork, and ends by `_exit`.
    let child = unsafe { libc::fork() };
    match child {
        -1 => panic!("fork: {}", std::io::Error::last_os_error()),
        0 => {
            // A child that hangs is ended by a signal.
            // SAFETY: it sets a timer of this process.
            unsafe { libc::alarm(20) };
            let failed = catch_unwind(AssertUnwindSafe(f)).is_err();
            // SAFETY: it ends the process without running destructors.
            unsafe { libc::_exit(i32::from(failed)) }
        }
        child => {
            let mut status = -1;
            // SAFETY: the child is this process's, and the status is written to a local variable.
            let ended = unsafe { libc::waitpid(child, &raw mut status, 0) };
            ended == child && status == 0
        }
    }
}

/// Everything that other threads use in the parent.
struct World {
    table: LockTable<u64>,
    flights: SingleFlight<u64, u64>,
    cells: [VersionedCell<u64>; 2],
    map: VersionedMap<u64, u64>,
    latch: OptimisticLatch<u64>,
    ordered: [checked::Mutex<u64>; 2],
}

fn locks_work(world: &World) {
    const SHORT: Duration = Duration::from_millis(20);
    let table = &world.table;
    // Held by another thread, which the child does not have: 1 by a guard, 2 by a session.
    for key in [1, 2] {
        assert!(table.try_lock(&key).is_none());
        assert!(table.try_lock_for(&key, SHORT).is_none());
        assert!(poll(&mut table.lock_async(&key)).is_pending());
    }
    // All others.
    drop(table.lock(&10));
    drop(table.lock_all([(&10, Mode::Exclusive), (&11, Mode::Shared)]));
    let token = table.lock(&10).token();
    assert!(token < table.lock(&10).token());
    let mut session = table.session().policy(Policy::Timeout(SHORT));
    session.lock(&12).expect("it is free");
    assert!(matches!(session.lock(&2), Err(LockError::TimedOut)));
    drop(session);
    assert_eq!(table.mode(&12), None);
    // Threads of the child wait for each other.
    let cell = VersionedCell::new(0);
    thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|| {
                for _ in 0..200 {
                    let guard = table.lock(&13);
                    cell.set(cell.get() + 1);
                    drop(guard);
                }
            });
        }
    });
    assert_eq!(cell.get(), 400);
    assert_eq!(world.flights.run(1, || 7), 7);
    drop(world.latch.exclusive().expect("it is not obsolete"));
    let _first = world.ordered[0].lock();
    drop(world.ordered[1].lock());
}

fn cells_work(world: &World) {
    let [one, other] = &world.cells;
    let before = one.version();
    assert!(one.set(5) > before);
    assert_eq!((one.get(), *other.read_owned()), (5, other.get()));
    atomically(|tx| {
        tx.update(one, |n| n + 1)?;
        tx.set(other, 8)
    });
    assert_eq!(snapshot(|s| *s.read(one) + *s.read(other)), 14);
    let seen = one.version();
    assert_eq!(one.wait_changed_for(seen, Duration::from_millis(1)), None);
    thread::scope(|s| {
        s.spawn(|| one.set(9));
        assert!(one.wait_changed(seen) > seen);
    });
    // Another thread was pinned at the fork.
    let value = Arc::new(());
    let cell = VersionedCell::new(value.clone());
    let mut most = 0;
    for n in 0..10_000 {
        one.set(n);
        cell.set(value.clone());
        most = most.max(Arc::strong_count(&value));
    }
    latchwork::flush();
    assert!(most < 5_000, "{most}");
    assert_eq!((one.get(), Arc::strong_count(&value)), (9_999, 2));
}

fn maps_work(world: &World) {
    const SHORT: Duration = Duration::from_millis(20);
    let map = &world.map;
    // Locked by another thread, which the child does not have.
    assert_eq!(map.get(&1).map(|n| *n), Some(7));
    assert!(map.try_lock(&1).is_none() && map.try_lock_for(&1, SHORT).is_none());
    let policy = RetryPolicy::timeout(SHORT);
    assert!(map.try_update(&policy, &1, |n| Ok::<_, ()>(n + 1)).is_err());
    // All others, among them keys that another thread has inserted and removed.
    let (before, capacity) = (map.len(), map.stats().capacity);
    for key in 100..5_000 {
        map.insert(key, key);
    }
    assert!(map.stats().capacity > capacity, "it has not grown");
    let sum: u64 = snapshot(|s| s.iter(map).map(|(_, n)| n).filter(|n| **n >= 100).sum());
    assert_eq!(sum, (100..5_000).sum::<u64>());
    atomically(|tx| tx.remove(map, &100).map(drop));
    let mut guard = map.lock(&101);
    assert!(guard.remove());
    guard.commit();
    map.retain(|key, _| *key < 102);
    assert_eq!(map.len(), before);
    thread::scope(|s| {
        s.spawn(|| map.insert(100, 9).0);
        assert!(map.wait_changed(&100, None).is_some());
    });
    drop(map.remove(&100));
    map.reserve(20_000);
    map.shrink_to_fit();
    for _ in 0..8 {
        map.flush();
    }
    let stats = map.stats();
    assert_eq!((stats.entries, stats.removed), (before, 0));
}

#[test]
fn what_is_promised_of_a_child_works_beside_threads_that_it_does_not_have() {
    let _dog = common::watchdog("what_is_promised_of_a_child_works");
    let world = World {
        table: LockTable::new(),
        flights: SingleFlight::new(),
        cells: [1, 2].map(VersionedCell::new),
        map: VersionedMap::new(),
        latch: OptimisticLatch::new(1),
        ordered: [1, 2].map(checked::Mutex::new),
    };
    let (ready, pinned, done) = (Barrier::new(3), Barrier::new(2), Barrier::new(3));
    let (pin, pins) = channel::<()>();
    thread::scope(|s| {
        let (world, ready, pinned, done) = (&world, &ready, &pinned, &done);
        // One thread holds, and has used everything.
        s.spawn(move || {
            let guard = world.table.lock(&1);
            let mut session = world.table.session();
            session.lock(&2).expect("it is free");
            world.cells.iter().for_each(|cell| {
                let _ = cell.set(3);
            });
            atomically(|tx| tx.update(&world.cells[0], |n| n + 1));
            world.flights.run(1, || 6);
            (1..90).for_each(|key| drop(world.map.insert(key, 7)));
            (2..90).for_each(|key| drop(world.map.remove(&key)));
            let key = world.map.lock(&1);
            ready.wait();
            done.wait();
            drop((guard, session, key));
        });
        // One pins, when it is told to.
        s.spawn(move || {
            ready.wait();
            pins.recv().expect("the other end is kept");
            let pin = latchwork::pin();
            pinned.wait();
            done.wait();
            drop(pin);
        });
        let mine = world.table.lock(&4);
        ready.wait();

        // The barrier has been passed by all; what they do now is wait.
        let mut mine = Some(mine);
        let guard_is_released = succeeds_in_a_child(|| {
            drop(mine.take());
            drop(world.table.lock(&4));
        });
        let locks = succeeds_in_a_child(|| locks_work(world));
        let cells = succeeds_in_a_child(|| {
            cells_work(world);
            assert!(
                latchwork::stats().garbage < 5_000,
                "no pin holds values back"
            );
        });
        let maps = succeeds_in_a_child(|| maps_work(world));
        let mine_is_held = world.table.try_lock(&4).is_none();

        // A thread that is pinned at the fork only stops reclamation.
        pin.send(()).expect("the thread waits for it");
        pinned.wait();
        let cells_beside_a_pin = succeeds_in_a_child(|| cells_work(world));
        done.wait();
        assert!(guard_is_released, "a guard of the thread that forked");
        assert!(locks, "locks");
        assert!(cells, "cells");
        assert!(maps, "maps");
        assert!(cells_beside_a_pin, "cells, with a pin at the fork");
        assert!(mine_is_held, "the child released the parent's guard");
        drop(mine);
    });
    assert_eq!(world.table.locked_count(), 0);

    // The pin of an ended thread is forgotten. The next thread has its stack, and often the address
    // of its thread-locals.
    for _ in 0..4 {
        thread::spawn(|| core::mem::forget(latchwork::pin()))
            .join()
            .expect("it only pins");
        let works = thread::scope(|s| {
            let child = s.spawn(|| succeeds_in_a_child(|| cells_work(&world)));
            child.join().expect("it only forks")
        });
        assert!(works, "cells, with the forgotten pin of an ended thread");
    }
}
