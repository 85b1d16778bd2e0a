//! What a strategy is, and the list of those that can be chosen.

use crate::data::{Dataset, Flight};
use crate::measure::{Replay, Round, replay};
use crate::totals::Tally;
use crate::work::Work;

mod lock_all;
mod mutex;
mod ordered;

/// A way to make each flight one atomic step.
///
/// A strategy owns its totals, so that one which keeps them elsewhere than in
/// [`Cells`](crate::totals::Cells) fits too.
pub(crate) trait Strategy: Sync + Sized {
    /// What the command line and the results call it.
    const NAME: &'static str;
    /// One line for `--help`.
    const ABOUT: &'static str;

    /// All totals zero.
    fn new(dataset: &Dataset) -> Self;

    /// Adds one flight to its two or three totals and spends the work in the same step. Returns how
    /// often this thread met a lock that was not free, as far as the strategy can tell from here.
    fn step(&self, flight: &Flight, work: Work) -> u64;

    /// Waits since the start that [`step`](Self::step) did not return.
    fn other_waits(&self) -> u64 {
        0
    }

    /// The totals after all steps.
    fn tally(&self) -> Tally;
}

/// A strategy as the command line knows it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) replay: fn(&Replay<'_>) -> Round,
}

impl Entry {
    const fn of<S: Strategy>() -> Self {
        Self {
            name: S::NAME,
            about: S::ABOUT,
            replay: replay::<S>,
        }
    }
}

/// What the others are compared with.
pub(crate) static BASELINE: &Entry = &ALL[0];

/// Every strategy, the baseline first.
pub(crate) static ALL: &[Entry] = &[
    Entry::of::<mutex::GlobalMutex>(),
    Entry::of::<ordered::OrderedMutexes>(),
    Entry::of::<lock_all::LockAll>(),
];
