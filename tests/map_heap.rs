//! What a map has on the heap: bounded in a loop that grows and shrinks it, and usable when the
//! allocator has no memory. One test, because the heap belongs to the whole process.

mod common;

use std::alloc::System;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use cap::Cap;
use common::watchdog;
use latchwork::VersionedMap;

#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

/// The largest index of the loop below has 4,096 lines.
const INDEX: usize = 4_096 * 64;

/// A table that was replaced is freed after a grace period, while the loop makes the next ones.
fn a_loop_that_grows_and_shrinks_uses_bounded_memory(threads: usize, rounds: usize) {
    let map: VersionedMap<u64, u64> = (0..100).map(|n| (n, n)).collect();
    let before = HEAP.allocated();
    let ends = AtomicBool::new(false);
    thread::scope(|s| {
        for thread in 1..threads {
            let (map, ends) = (&map, &ends);
            s.spawn(move || {
                while !ends.load(SeqCst) {
                    let key = 1_000 + thread as u64;
                    map.insert(key, 0);
                    map.remove(&key);
                }
            });
        }
        let mut most = 0;
        for _ in 0..rounds {
            map.reserve(16_000);
            most = most.max(HEAP.allocated().saturating_sub(before));
            map.shrink_to_fit();
        }
        ends.store(true, SeqCst);
        println!("{threads} threads: {most} bytes at most");
        // A thread that is suspended while it is pinned keeps any number of them.
        let is_bounded = threads > 1 || most < 64 * INDEX;
        assert!(is_bounded, "{most} bytes beside {INDEX} of an index");
    });
    assert!(map.stats().index_bytes < INDEX / 16);
    let left = || {
        map.flush();
        HEAP.allocated().saturating_sub(before)
    };
    // A thread of a scope ends a little later than the scope.
    let is_freed = (0..500).any(|_| {
        let is_freed = left() < 8 * INDEX;
        if !is_freed {
            thread::sleep(Duration::from_millis(10));
        }
        is_freed
    });
    assert!(is_freed, "{} bytes are left", left());
}

fn a_map_without_memory_stays_as_it_is() {
    let map: VersionedMap<u64, u64> = (0..100).map(|n| (n, n)).collect();
    // The address space has no room for these either.
    for additional in [usize::MAX, usize::MAX / 2, 1 << 50, 1 << 45] {
        let before = map.stats();
        assert!(map.try_reserve(additional).is_err(), "{additional}");
        assert_eq!(map.stats(), before);
    }
    assert!(catch_unwind(AssertUnwindSafe(|| map.reserve(1 << 50))).is_err());
    assert!(catch_unwind(|| VersionedMap::<u64, u64>::with_capacity(1 << 50)).is_err());

    // Room for the entries, by those that were freed, and none for a larger index.
    (100..8_000).for_each(|n| drop(map.insert(n, n)));
    map.retain(|key, _| *key < 100);
    (0..4).for_each(|_| map.flush());
    map.shrink_to_fit();
    map.flush();
    // A report of a panic allocates.
    let hook = take_hook();
    set_hook(Box::new(|_| {}));
    HEAP.set_limit(HEAP.allocated() + INDEX / 16)
        .expect("a limit");
    assert!(map.try_reserve(100_000).is_err());
    let mut inserted = 100;
    let refused = loop {
        let insert = || drop(map.insert(inserted, inserted));
        if let Err(payload) = catch_unwind(AssertUnwindSafe(insert)) {
            break payload;
        }
        inserted += 1;
        assert!(inserted < 100_000, "it has grown without memory");
    };
    HEAP.set_limit(usize::MAX).expect("no limit");
    set_hook(hook);
    let text = refused.downcast::<String>().expect("a text");
    assert!(text.contains("cannot grow"), "{text}");
    // Nothing was lost, and the map grows when there is memory again.
    assert_eq!(map.len() as u64, inserted);
    for n in 0..2 * inserted {
        assert_eq!(map.contains_key(&n), n < inserted);
        if n >= inserted {
            map.insert(n, n);
        }
    }
    assert_eq!(map.len() as u64, 2 * inserted);
}

#[test]
fn the_heap_of_a_map_is_bounded_and_may_end() {
    let _dog = watchdog("the_heap_of_a_map_is_bounded_and_may_end");
    a_loop_that_grows_and_shrinks_uses_bounded_memory(1, 500);
    a_loop_that_grows_and_shrinks_uses_bounded_memory(2, 100);
    a_map_without_memory_stays_as_it_is();
}
