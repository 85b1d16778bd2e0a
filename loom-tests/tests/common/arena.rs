//! Addresses that are the same in each execution.
//!
//! A transaction installs its nodes in the order of the addresses of its cells. The entries of a
//! map are allocated, so their order would be that of the allocator, which differs from execution
//! to execution; loom requires that an execution can be repeated.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Allocates cells and entries in ascending order, and nothing twice in one execution.
pub struct Ascending;

/// Whether the memory is that of cells or of entries, by their sizes under loom. A hash table has
/// no such layout.
fn is_kept(layout: Layout) -> bool {
    layout.align() == 16 && matches!(layout.size(), 64 | 128 | 144)
}

/// More than an execution needs.
const BYTES: usize = 1 << 20;

thread_local! {
    // The arena of each test, and how much of it is used.
    static ARENA: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

/// Begins an execution. Memory of the execution before must not be used again.
pub fn reset() {
    ARENA.with(|arena| {
        let (begin, _) = arena.get();
        arena.set((begin, 0));
    });
}

// SAFETY: memory of the arena is handed out once in each execution; the rest is the system's.
unsafe impl GlobalAlloc for Ascending {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !is_kept(layout) {
            // SAFETY: the caller's contract.
            return unsafe { System.alloc(layout) };
        }
        let place = ARENA.try_with(|arena| {
            let (begin, used) = arena.get();
            let begin = match begin {
                // SAFETY: the size is not zero.
                0 => unsafe { System.alloc(Layout::from_size_align(BYTES, 64).unwrap()) as usize },
                begin => begin,
            };
            arena.set((begin, used + layout.size()));
            assert!(
                begin != 0 && used < BYTES,
                "an execution needs more than the arena"
            );
            begin + used
        });
        place.map_or(std::ptr::null_mut(), |place| place as *mut u8)
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if !is_kept(layout) {
            // SAFETY: the caller's contract.
            unsafe { System.dealloc(memory, layout) }
        }
    }
}
