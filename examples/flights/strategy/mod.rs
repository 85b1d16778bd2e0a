//! The trait of a strategy, and the list of all strategies.

use serde::Serialize;

use crate::data::{Dataset, Flight};
use crate::measure::{Replay, Round, replay};
use crate::totals::{Sums, Tally};
use crate::work::Work;

pub(crate) mod cells;
pub(crate) mod levels;
pub(crate) mod lock_all;
pub(crate) mod map;
pub(crate) mod mutex;
pub(crate) mod ordered;
pub(crate) mod rwlock;
pub(crate) mod session;
pub(crate) mod transactions;

/// Whether other threads can observe a step that is half done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Steps {
    /// They cannot: an inconsistent audit is a bug.
    Atomic,
    /// They can: some totals include the flight, and others do not yet.
    Apart,
}

/// How a strategy coordinates its threads; the table lists one group after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Group {
    /// One lock for all totals, or locks by key whose order the library chooses or checks.
    Locks,
    /// A lock for each key, acquired in one order that the program keeps.
    Ordered,
    /// No locks: a step that conflicts with another is repeated.
    Optimistic,
}

impl Group {
    pub(crate) const ALL: [Self; 3] = [Self::Locks, Self::Ordered, Self::Optimistic];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Locks => "locks",
            Self::Ordered => "ordered",
            Self::Optimistic => "optimistic",
        }
    }
}

/// Attempts of steps that were aborted and repeated, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Aborts {
    /// Another step had written a total that this step had read.
    pub(crate) read_conflicts: u64,
    /// Another step had written a total that this step was about to write.
    pub(crate) write_conflicts: u64,
    /// An older step wounded this one.
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
/// A strategy owns its totals, because not every strategy keeps them in
/// [`Cells`](crate::totals::Cells).
pub(crate) trait Strategy: Sync + Sized {
    /// Its name on the command line and in the results.
    const NAME: &'static str;
    /// One line for `--help`.
    const ABOUT: &'static str;
    /// Whether audits must agree.
    const STEPS: Steps;
    const GROUP: Group;

    /// All totals zero.
    fn new(dataset: &Dataset) -> Self;

    /// Adds one flight to its two or three totals and spends the work in the same step. Returns how
    /// often this thread waited for a lock or repeated an update, as far as a step can observe it.
    fn step(&self, flight: &Flight, work: Work) -> u64;

    /// Waits since the start that [`step`](Self::step) did not return.
    fn other_waits(&self) -> u64 {
        0
    }

    /// The aborted attempts since the start, by reason; `None` if steps do not abort.
    fn aborts(&self) -> Option<Aborts> {
        None
    }

    /// The deadlocks since the start, each of which one step resolved by starting again; `None` if
    /// the strategy detects none.
    fn deadlocks(&self) -> Option<u64> {
        None
    }

    /// Adds up departures and arrivals while other threads are in steps.
    fn audit(&self) -> Sums;

    /// The totals after all steps.
    fn tally(&self) -> Tally;
}

/// A strategy that the command line can name.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) steps: Steps,
    pub(crate) group: Group,
    pub(crate) replay: fn(&Replay<'_>) -> Round,
}

impl Entry {
    const fn of<S: Strategy>() -> Self {
        Self {
            name: S::NAME,
            about: S::ABOUT,
            steps: S::STEPS,
            group: S::GROUP,
            replay: replay::<S>,
        }
    }
}

/// The strategy that the others are compared with.
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
    Entry::of::<map::Map>(),
];
