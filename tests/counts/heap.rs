//! Counts the heap allocations of a thread.

/// How often one call of `f` allocates on this thread. It runs once before, so that what a thread
/// sets up once is not counted.
pub(crate) fn allocations(f: impl Fn()) -> u64 {
    f();
    allocation_counter::measure(f).count_total
}
