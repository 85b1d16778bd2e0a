//! What threads leave behind when they end is freed, and so is the list that it was in.
#![cfg(not(any(latchwork_loom, latchwork_shuttle)))]
#![allow(unsafe_code, reason = "a global allocator that counts")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering::Relaxed};
use std::thread;

use common::watchdog;
use latchwork::VersionedCell;

struct Counting;

static LIVE: AtomicIsize = AtomicIsize::new(0);

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size() as isize, Relaxed);
        // SAFETY: by the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as isize, Relaxed);
        // SAFETY: by the caller's contract; all memory comes from the system's allocator.
        unsafe { System.dealloc(ptr, layout) }
    }
}

/// Has a thread replace so many values while they are pinned, and end; then drops them all, in a thread of its own, which
/// takes along what it keeps.
fn burst(values: usize) {
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
    thread::spawn(flush).join().expect("no destructor panics");
}

#[test]
fn a_burst_of_a_thread_that_ends_leaves_no_memory_behind() {
    let _dog = watchdog("a_burst_of_a_thread_that_ends_leaves_no_memory_behind");
    burst(100);
    let before = LIVE.load(Relaxed);
    burst(200_000);
    let left = LIVE.load(Relaxed) - before;
    println!("{left} bytes");
    assert!(left < 1 << 18, "{left} bytes are left");
}
