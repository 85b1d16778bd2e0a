//! What tasks cost the heap: nothing where a key is free, and nothing that outlives the wait where
//! it is not.

mod common;
#[path = "counts/heap.rs"]
mod heap;

use std::hint::black_box;

use allocation_counter::measure;
use common::tasks::{POLICIES, now, poll, shared_table};
use common::{Rng, assert_as_new, watchdog};
use heap::allocations;
use latchwork::Mode;

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(black_box(Box::new(1)))), 1);
}

#[test]
fn the_first_poll_takes_a_free_key_and_allocates_nothing() {
    for fairness in POLICIES {
        let (table, fresh) = shared_table(fairness);
        let few: [(&u64, Mode); 8] =
            [&1, &2, &3, &4, &5, &6, &7, &8].map(|key| (key, Mode::Exclusive));
        assert_eq!(allocations(|| drop(now(table.lock_async(&1)))), 0);
        assert_eq!(allocations(|| drop(now(table.lock_shared_async(&1)))), 0);
        assert_eq!(allocations(|| drop(now(table.lock_all_async(few)))), 0);
        assert_eq!(allocations(|| drop(now(table.lock_async_owned(&1)))), 0);
        assert_eq!(
            allocations(|| drop(now(table.lock_shared_async_owned(&1)))),
            0
        );
        assert_eq!(
            allocations(|| drop(now(table.lock_all_async_owned(few)))),
            0
        );
        // A future that nobody polls costs nothing either, whoever holds the key.
        let guard = table.lock(&1);
        assert_eq!(allocations(|| drop(table.lock_async(&1))), 0);
        assert_eq!(allocations(|| drop(table.lock_all_async_owned(few))), 0);
        drop(guard);
        // Shared holders join without one, too.
        let reader = table.lock_shared(&1);
        assert_eq!(allocations(|| drop(now(table.lock_shared_async(&1)))), 0);
        drop(reader);
        assert_as_new(&table, fresh);
    }
}

#[test]
fn a_million_futures_that_gave_up_leave_nothing() {
    const FUTURES: u64 = 1_000_000;
    /// Far less than the smallest leak for each would come to.
    const SLACK: u64 = 1 << 16;
    let _dog = watchdog("a_million_futures_that_gave_up_leave_nothing");
    for fairness in POLICIES {
        let (table, fresh) = shared_table(fairness);
        let guard = table.lock(&1);
        let waits = measure(|| {
            for i in 0..FUTURES / 2 {
                let keys = [(&1, Mode::Shared), (&2, Mode::Exclusive)];
                match i % 4 {
                    0 => assert!(poll(&mut table.lock_async(&1)).is_pending()),
                    1 => assert!(poll(&mut table.lock_shared_async(&1)).is_pending()),
                    2 => assert!(poll(&mut table.lock_async_owned(&1)).is_pending()),
                    _ => assert!(poll(&mut table.lock_all_async(keys)).is_pending()),
                }
            }
        });
        let most = waits.bytes_max;
        println!("{fairness:?}: at most {most} bytes");
        assert!(most < SLACK, "{most} bytes for one waiter at a time");
        let stats = table.stats();
        assert_eq!((stats.waits, stats.waiting), (FUTURES / 2, 0));
        assert_eq!((stats.monitors, table.locked_count()), (1, 1));
        drop(guard);
        assert_as_new(&table, fresh);
    }
}

#[test]
fn a_crowd_of_futures_takes_memory_for_as_long_as_it_waits() {
    const FUTURES: usize = 50_000;
    let _dog = watchdog("a_crowd_of_futures_takes_memory_for_as_long_as_it_waits");
    let (table, fresh) = shared_table(common::tasks::POLICIES[0]);
    let mut futures = Vec::with_capacity(FUTURES);
    let guard = table.lock(&1);
    let arrival = measure(|| {
        for i in 0..FUTURES {
            let mut future = table.lock_async(&1);
            assert!(poll(&mut future).is_pending());
            futures.push(future);
            if i == 0 {
                assert_eq!(table.inspect()[0].waiters.len(), 1);
            }
        }
    });
    let each = arrival.bytes_current / FUTURES as i64;
    println!("{each} bytes a waiter");
    assert!(each <= 160, "{each} bytes a waiter");
    // Out of the middle of the queue, in no order.
    let mut rng = Rng::new(1);
    let departure = measure(|| {
        while !futures.is_empty() {
            let i = rng.below(futures.len() as u64) as usize;
            drop(futures.swap_remove(i));
        }
    });
    assert_eq!((table.stats().waiting, table.locked_count()), (0, 1));
    drop(guard);
    assert_as_new(&table, fresh);
    let left = arrival.bytes_current + departure.bytes_current;
    assert!(left < 1 << 16, "{left} bytes are left");
}
