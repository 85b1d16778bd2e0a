//! How much is allocated.

use std::alloc::System;

use cap::Cap;

/// What may be allocated at once, garbage included that threads without a core hold up. All that is
/// in use is a few hundred KiB.
pub(crate) const MOST: usize = 256 << 20;

#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

pub(crate) fn live() -> usize {
    HEAP.allocated()
}

pub(crate) fn peak() -> usize {
    HEAP.max_allocated()
}
