//! Counts how often the memory around one address is freed.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The allocator of the system, which counts.
pub struct Watched;

thread_local! {
    // The address of each test, and how often it was freed. The threads of a model share them.
    static ADDRESS: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

/// Counts from now on how often memory with this address in it is freed.
pub fn watch(address: usize) {
    ADDRESS.with(|watched| watched.set((address, 0)));
}

/// How often the memory was freed.
pub fn frees() -> usize {
    ADDRESS.with(|watched| watched.get().1)
}

// SAFETY: all calls are passed on. Watched memory is not freed.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        let is_watched = ADDRESS.try_with(|watched| {
            let (address, frees) = watched.get();
            let is_there = (memory.addr()..memory.addr() + layout.size()).contains(&address);
            if is_there {
                watched.set((address, frees + 1));
            }
            is_there
        });
        // No other object uses the memory again, so that each call is counted.
        if is_watched != Ok(true) {
            // SAFETY: the caller's contract.
            unsafe { System.dealloc(memory, layout) }
        }
    }
}
