//! What a strategy is, and the list of those that can be chosen.

use crate::data::{Dataset, Flight};
use crate::measure::{Replay, Round, replay};
use crate::totals::{Sums, Tally};
use crate::work::Work;

pub(crate) mod cells;
pub(crate) mod lock_all;
pub(crate) mod mutex;
pub(crate) mod ordered;
pub(crate) mod rwlock;

/// What others may see of a step that is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Steps {
    /// Nothing: an audit that does not agree is a bug.
    Atomic,
    /// Some of its totals with the flight and some without.
    Apart,
}

/// A way to add each flight to its totals, in one atomic step or in several.
///
/// A strategy owns its totals, so that one which keeps them elsewhere than in
/// [`Cells`](crate::totals::Cells) fits too.
pub(crate) trait Strategy: Sync + Sized {
    /// What the command line and the results call it.
    const NAME: &'static str;
    /// One line for `--help`.
    const ABOUT: &'static str;
    /// Whether audits must agree.
    const STEPS: Steps;

    /// All totals zero.
    fn new(dataset: &Dataset) -> Self;

    /// Adds one flight to its two or three totals and spends the work in the same step. Returns how
    /// often this thread met a lock that was not free, as far as the strategy can tell from here.
    fn step(&self, flight: &Flight, work: Work) -> u64;

    /// Waits since the start that [`step`](Self::step) did not return.
    fn other_waits(&self) -> u64 {
        0
    }

    /// Adds up departures and arrivals while other threads are in steps.
    fn audit(&self) -> Sums;

    /// The totals after all steps.
    fn tally(&self) -> Tally;
}

/// A strategy as the command line knows it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) steps: Steps,
    pub(crate) replay: fn(&Replay<'_>) -> Round,
}

impl Entry {
    const fn of<S: Strategy>() -> Self {
        Self {
            name: S::NAME,
            about: S::ABOUT,
            steps: S::STEPS,
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
    Entry::of::<rwlock::RwLocks>(),
    Entry::of::<lock_all::LockAll>(),
    Entry::of::<cells::VersionedCells>(),
];
