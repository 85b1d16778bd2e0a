//! What a strategy is, and the list of those that can be chosen.

use serde::Serialize;

use crate::data::{Dataset, Flight};
use crate::measure::{Replay, Round, replay};
use crate::totals::{Sums, Tally};
use crate::work::Work;

pub(crate) mod cells;
pub(crate) mod levels;
pub(crate) mod lock_all;
pub(crate) mod mutex;
pub(crate) mod ordered;
pub(crate) mod rwlock;
pub(crate) mod session;
pub(crate) mod transactions;

/// What others may see of a step that is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Steps {
    /// Nothing: an audit that does not agree is a bug.
    Atomic,
    /// Some of its totals with the flight and some without.
    Apart,
}

/// Attempts of steps that were lost to other steps and made again, by what they were lost to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Aborts {
    /// A total that the step had read was written.
    pub(crate) read_conflicts: u64,
    /// So was one that it was about to write.
    pub(crate) write_conflicts: u64,
    /// Another step that had waited long enough went first.
    pub(crate) overtaken: u64,
}

impl std::iter::Sum for Aborts {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |a, b| Self {
            read_conflicts: a.read_conflicts + b.read_conflicts,
            write_conflicts: a.write_conflicts + b.write_conflicts,
            overtaken: a.overtaken + b.overtaken,
        })
    }
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

    /// What the attempts of steps were lost to, since the start; `None` if steps do not abort.
    fn aborts(&self) -> Option<Aborts> {
        None
    }

    /// How often somebody was told to give way in a deadlock and began again, since the start; `None` if there are
    /// none to be found.
    fn deadlocks(&self) -> Option<u64> {
        None
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
    Entry::of::<levels::Levels>(),
    Entry::of::<rwlock::RwLocks>(),
    Entry::of::<lock_all::LockAll>(),
    Entry::of::<session::Sessions>(),
    Entry::of::<cells::VersionedCells>(),
    Entry::of::<transactions::Transactions>(),
];
