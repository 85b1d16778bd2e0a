//! An allocator that counts the bytes in use and the allocations, for the figures about memory.
//!
//! It counts only while a measurement runs: two more atomic operations for each allocation would be
//! charged to exactly those peers that allocate.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

#[cfg(feature = "mimalloc")]
use mimalloc::MiMalloc as Inner;
#[cfg(not(feature = "mimalloc"))]
use std::alloc::System as Inner;

/// The allocator below the counting one: that of the feature `mimalloc`, or the system's.
pub const ALLOCATOR: &str = if cfg!(feature = "mimalloc") {
    "mimalloc"
} else {
    "system"
};

static COUNTING: AtomicBool = AtomicBool::new(false);
static BYTES: AtomicI64 = AtomicI64::new(0);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// The allocator named by [`ALLOCATOR`], counting while [`growth`] or [`allocations`] runs.
#[derive(Debug, Default)]
pub struct CountingAllocator;

fn add(bytes: i64) {
    // Relaxed: a sum; only the thread that asks for it reads it, after its own work or a join.
    if COUNTING.load(Ordering::Relaxed) {
        BYTES.fetch_add(bytes, Ordering::Relaxed);
        if bytes > 0 {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn size(layout: Layout) -> i64 {
    // A layout is at most isize::MAX bytes.
    layout.size() as i64
}

// SAFETY: every method passes its arguments to `Inner` unchanged and returns the result unchanged,
// so `Inner`'s own guarantees hold; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(size(layout));
        // SAFETY: the caller keeps the contract of `alloc`, which is the same there.
        unsafe { Inner.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(size(layout));
        // SAFETY: as for `alloc`.
        unsafe { Inner.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        add(new_size as i64 - size(layout));
        // SAFETY: the caller keeps the contract of `realloc`; the block is from `Inner`, as every
        // block here is.
        unsafe { Inner.realloc(block, layout, new_size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        add(-size(layout));
        // SAFETY: as for `realloc`.
        unsafe { Inner.dealloc(block, layout) }
    }
}

/// Runs `work` and returns its result with the bytes that it allocated and did not free.
///
/// They are the requested sizes, without the allocator's own overhead. Counts nothing unless
/// [`CountingAllocator`] is the global allocator. Blocks of other threads are included, and calls
/// must not overlap.
pub fn growth<T>(work: impl FnOnce() -> T) -> (T, i64) {
    BYTES.store(0, Ordering::Relaxed);
    COUNTING.store(true, Ordering::Relaxed);
    let result = work();
    COUNTING.store(false, Ordering::Relaxed);
    (result, BYTES.load(Ordering::Relaxed))
}

/// Runs `work` and returns how often it allocated, or made a block larger. See [`growth`].
pub fn allocations(work: impl FnOnce()) -> u64 {
    ALLOCATIONS.store(0, Ordering::Relaxed);
    growth(work);
    ALLOCATIONS.load(Ordering::Relaxed)
}

/// As [`growth`], with the greatest growth of the bytes, sampled each millisecond.
///
/// # Panics
/// Panics if `work` panics.
pub fn peak<T>(work: impl FnOnce() -> T) -> (T, i64, i64) {
    let stop = AtomicBool::new(false);
    let ((result, most), left) = thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut most = 0;
            while !stop.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(1));
                most = most.max(BYTES.load(Ordering::Relaxed));
            }
            most
        });
        growth(|| {
            let result = work();
            stop.store(true, Ordering::Relaxed);
            (result, watcher.join().expect("a look does not panic"))
        })
    });
    (result, most, left)
}
