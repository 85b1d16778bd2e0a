//! Counts the heap allocations of a thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    /// Constant and without a destructor, so that it can be used inside the allocator.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: by the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: by the caller's contract; all memory comes from the system's allocator.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: by the caller's contract; all memory comes from the system's allocator.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

/// How often one call of `f` allocates on this thread. It runs once before, so that what a thread
/// sets up once is not counted.
pub(crate) fn allocations(f: impl Fn()) -> u64 {
    f();
    let before = ALLOCATIONS.get();
    f();
    ALLOCATIONS.get() - before
}
