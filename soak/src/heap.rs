//! How much is allocated.
#![allow(unsafe_code, reason = "a global allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// What may be allocated at once, garbage included that threads without a core hold up. All that is
/// in use is a few hundred KiB.
pub(crate) const MOST: usize = 256 << 20;

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static COUNTING: Counting = Counting;

pub(crate) fn live() -> usize {
    LIVE.load(Relaxed)
}

pub(crate) fn peak() -> usize {
    PEAK.load(Relaxed)
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Relaxed) + layout.size();
        // Looked at first: it is hardly ever raised.
        if PEAK.load(Relaxed) < live {
            PEAK.fetch_max(live, Relaxed);
        }
        // SAFETY: by the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: by the caller's contract; all memory comes from the system's allocator.
        unsafe { System.dealloc(ptr, layout) }
    }
}
