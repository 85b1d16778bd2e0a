//! Parts that models need and users must not have.

use super::VersionedCell;
use super::read::pin_cells;
use crate::mvcc::clock;
use crate::reclaim;

/// An instant between writes: the timestamp of a snapshot.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Moment(u64);

impl Moment {
    /// Reads a timestamp, as a snapshot does.
    #[doc(hidden)]
    pub fn take() -> Self {
        Moment(clock::read_timestamp())
    }
}

/// Reclaims inside this execution. Before the first use of a cell.
#[doc(hidden)]
pub fn reclaim_in_model() {
    reclaim::reclaim_in_model();
}

/// The same, and each scan lets idle threads leave the scans.
pub fn reclaim_with_dormant_slots_in_model() {
    reclaim::reclaim_with_dormant_slots_in_model();
}

/// From now on, in this and later executions of this test, a commit begins again at most so many
/// times before it closes or is lost.
#[doc(hidden)]
pub fn set_max_pushes(times: u32) {
    crate::sync::tuning::MAX_PUSHES.set(times);
}

/// From now on, in this and later executions of this test, others may run between an access and the
/// fence behind it.
#[doc(hidden)]
pub fn make_fences_steps() {
    crate::sync::make_fences_steps();
}

impl<T: Send + Sync + 'static> VersionedCell<T> {
    /// Shows `f` the value at a moment.
    #[doc(hidden)]
    pub fn at_moment<R>(&self, moment: Moment, f: impl FnOnce(&T) -> R) -> R {
        let pin = pin_cells();
        f(self.head.current(&pin).at(moment.0).get())
    }
}
