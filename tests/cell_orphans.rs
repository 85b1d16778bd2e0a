//! What threads leave behind when they end is freed, and so is the list that it was in.
#![cfg(not(any(latchwork_loom, latchwork_shuttle)))]

mod common;

use std::alloc::System;
use std::thread;

use cap::Cap;
use common::watchdog;
use latchwork::VersionedCell;

#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

/// Has a thread replace so many values while they are pinned, and end; then drops them all, in this
/// thread, which stays, or in one of its own, which takes along what it keeps.
fn burst(values: usize, stays: bool) {
    let cell = VersionedCell::new(0);
    let pin = latchwork::pin();
    thread::scope(|s| {
        let writer = s.spawn(|| {
            (0..values).for_each(|n| {
                cell.set(n);
            });
        });
        // The scope by itself does not wait for what a thread does as it ends.
        writer.join().expect("it only writes");
    });
    drop(pin);
    // Some more than once: the list of a thread that ends is handed over after a grace period.
    let flush = || (0..64).for_each(|_| latchwork::flush());
    if stays {
        flush();
    } else {
        thread::spawn(flush).join().expect("no destructor panics");
    }
}

#[test]
fn a_burst_of_a_thread_that_ends_leaves_no_memory_behind() {
    let _dog = watchdog("a_burst_of_a_thread_that_ends_leaves_no_memory_behind");
    for stays in [false, true] {
        burst(100, stays);
        let before = HEAP.allocated();
        burst(200_000, stays);
        let left = HEAP.allocated().saturating_sub(before);
        println!("{left} bytes");
        assert!(left < 1 << 18, "{left} bytes are left, stays: {stays}");
    }
}
