//! What a table leaves on the heap: as much as is held, whatever it has been through.
//!
//! `index_bytes` says what is linked; this counts what is allocated, garbage that waits for its
//! epoch and things that nobody can reach any more included. One test, because the heap belongs to
//! the whole process.

mod common;

use std::alloc::System;
use std::collections::VecDeque;
use std::thread;
use std::time::Duration;

use cap::Cap;
use common::hashers::Place;
use common::tasks::poll;
use common::{Rng, assert_as_new, watchdog};
use latchwork::{LockTable, Mode};

#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

/// Garbage that may be waiting for its epoch, and what threads keep for themselves. What the work
/// below would leak, if it leaked a child or a monitor for each, is many times this.
const SLACK: usize = 1 << 18;

/// Runs `work` after a first round that sets up what is set up once, and asserts that it leaves
/// no more than [`SLACK`] behind.
fn leaves_nothing(what: &str, mut work: impl FnMut()) {
    work();
    let before = HEAP.allocated();
    work();
    let left = HEAP.allocated().saturating_sub(before);
    println!("{what}: {left} bytes");
    assert!(left < SLACK, "{what} left {left} bytes");
}

#[test]
fn the_heap_holds_what_is_held() {
    let _dog = watchdog("the_heap_holds_what_is_held");
    let table = LockTable::<u64>::builder()
        .hasher(Place::Identity)
        .expected_locks(1)
        .build();
    let fresh = table.stats().index_bytes;

    leaves_nothing("ever new keys, eight held at a time", || {
        let mut rng = Rng::new(1);
        let mut held = VecDeque::new();
        let mut most = 0;
        for step in 0..200_000 {
            // Few low bits, so that most keys meet another on their way.
            held.push_back(table.lock(&(rng.draw() & !0xFC)));
            if held.len() > 8 {
                held.pop_front();
            }
            if step % 1_000 == 0 {
                most = most.max(table.stats().index_bytes);
            }
        }
        // Eight keys, each below a chain of its own to the last bit, would take this.
        assert!(
            most - fresh <= 8 * 14 * 128,
            "{most} bytes of index for eight keys"
        );
        drop(held);
        assert_as_new(&table, fresh);
    });

    leaves_nothing("waiters that gave up", || {
        let guard = table.lock(&1);
        for _ in 0..20_000 {
            assert!(table.try_lock_for(&1, Duration::from_nanos(500)).is_none());
        }
        drop(guard);
        assert_as_new(&table, fresh);
    });

    leaves_nothing("locks that come to be waited for and go again", || {
        for _ in 0..10_000 {
            let crowd: Vec<_> = (0..130).map(|_| table.lock_shared(&1)).collect();
            assert_eq!(table.stats().monitors, 1, "more readers than a slot counts");
            drop(crowd);
        }
        assert_as_new(&table, fresh);
    });

    leaves_nothing("threads in each other's way", || {
        thread::scope(|scope| {
            for seed in 0..4 {
                let table = &table;
                scope.spawn(move || {
                    let mut rng = Rng::new(seed);
                    for _ in 0..10_000 {
                        let key = rng.below(4) << 10;
                        let _set = table.lock_all([
                            (&key, Mode::Exclusive),
                            (&(rng.below(4) << 10), Mode::Shared),
                        ]);
                        if rng.one_in(8) {
                            thread::yield_now();
                        }
                    }
                });
            }
        });
        assert_as_new(&table, fresh);
    });

    // A table for each round, which stays: what it was once used for, it does not keep room for.
    let mut tables = Vec::new();
    leaves_nothing("a circle of sessions that hold many keys", || {
        let table = LockTable::<u64>::builder().expected_locks(1).build();
        let fresh = table.stats().index_bytes;
        let (mut one, mut two) = (table.session(), table.session());
        two.lock(&0).unwrap();
        for key in 1..20_000 {
            one.lock(&key).unwrap();
        }
        let mut waits = one.lock_async(&0);
        assert!(poll(&mut waits).is_pending());
        assert!(poll(&mut two.lock_async(&1)).is_ready(), "a deadlock");
        drop(waits);
        drop((one, two));
        assert_as_new(&table, fresh);
        tables.push(table);
    });

    leaves_nothing("tables dropped with all that is in them", || {
        for _ in 0..500 {
            let table = LockTable::<u64>::builder()
                .hasher(Place::Above(10))
                .expected_locks(1)
                .build();
            let keys: Vec<u64> = (0..200).collect();
            std::mem::forget(table.lock(&1_000));
            assert!(
                table
                    .try_lock_for(&1_000, Duration::from_nanos(500))
                    .is_none()
            );
            for key in &keys {
                std::mem::forget(table.lock(key));
            }
            assert_eq!(table.locked_count(), 201);
        }
    });
}
