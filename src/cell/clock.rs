//! The clock that only snapshots advance [C4].
//!
//! A version says how often one cell was written; a stamp says between which two snapshots. Writers
//! only read the clock, so that they share it without contention. A stamp has 61 bits: a billion
//! snapshots a second take 73 years to get to the end.

use crossbeam_utils::CachePadded;

use crate::sync::{AtomicU64, Ordering, global};

/// The first moment: of it are the first nodes of cells.
pub(super) const FIRST: u64 = 1;

global! {
    const CLOCK: CachePadded<AtomicU64> = CachePadded::new(AtomicU64::new(FIRST));
}

/// The current moment.
#[inline]
pub(crate) fn now() -> u64 {
    // Acquire: who reads a moment comes after the snapshot that began it [C4].
    CLOCK.load(Ordering::Acquire)
}

/// Begins the next moment, and returns the one that has ended.
pub(crate) fn advance() -> u64 {
    let ended = now();
    // AcqRel: as the load in `now`, and its partner. Acquire on failure: another snapshot has advanced
    // it, which serves as well [C4].
    let _ = CLOCK.compare_exchange(ended, ended + 1, Ordering::AcqRel, Ordering::Acquire);
    crate::sync::full_fence();
    ended
}
