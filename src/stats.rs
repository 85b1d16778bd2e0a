//! What the rest of the program may learn of cells and transactions.

use core::fmt;
use std::time::Duration;

use crate::reclaim;
use crate::txn::{self, AbortReasons, LabelStats};

/// What waits to be reclaimed, and how transactions end. Made by [`stats`]; weakly consistent while threads
/// write.
///
/// # Examples
/// See [`stats`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Replaced values that have not been dropped because a pin may still show them to a reader, or because nobody has looked
    /// whether one does. Each thread says how many it has when it looks: after 256 values, or
    /// as many more as a sixteenth of those that wait, and in [`flush`].
    pub garbage: usize,
    /// Their size in bytes, with versions and all, and without what the values own.
    pub garbage_bytes: usize,
    /// How long the oldest of the values that somebody has looked for have been waiting for pins: a lower
    /// bound on the age of the oldest pin, if it is more than a few milliseconds. `None` if
    /// no value waits.
    ///
    /// To pin takes no clock, so that a pin is seen by what it holds back, and only once a
    /// thread has replaced 256 values or has called [`flush`].
    pub oldest_pin: Option<Duration>,
    /// Attempts of transactions that were lost, by reason.
    pub aborts: AbortReasons,
    /// How the transactions that have a [label](crate::Transaction::label) have ended, in the order of the labels.
    pub labels: Vec<LabelStats>,
}

/// One line for the values and one for lost attempts, then one for each label.
impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stats {
            garbage,
            garbage_bytes,
            oldest_pin,
            aborts,
            labels,
        } = self;
        write!(f, "{garbage} replaced values wait ({garbage_bytes} bytes)")?;
        if let Some(age) = oldest_pin {
            write!(f, ", the oldest for {age:?}")?;
        }
        write!(f, "\nattempts lost: {aborts}")?;
        labels.iter().try_for_each(|label| write!(f, "\n{label}"))
    }
}

/// Returns what waits to be reclaimed, and how transactions have ended, in all threads.
///
/// # Examples
/// ```
/// use latchwork::VersionedCell;
///
/// let cell = VersionedCell::new(0);
/// let reader = cell.read(); // stalls reclamation while it is there
/// (1..=100).for_each(|n| drop(cell.set(n)));
/// latchwork::flush();
/// assert!(latchwork::stats().garbage >= 100);
/// assert!(latchwork::stats().oldest_pin.is_some());
/// drop(reader);
/// latchwork::flush();
/// assert_eq!(latchwork::stats().garbage, 0);
/// ```
pub fn stats() -> Stats {
    let census = reclaim::census();
    Stats {
        garbage: usize::try_from(census.objects).unwrap_or(usize::MAX),
        garbage_bytes: usize::try_from(census.bytes).unwrap_or(usize::MAX),
        oldest_pin: census.oldest,
        aborts: txn::stats::aborts(),
        labels: txn::stats::labels(),
    }
}

/// Drops every replaced value that no pin holds back, of this thread and of threads that have ended.
///
/// Values that a *living* other thread has replaced are dropped by that thread. Destructors run here; if one of
/// them calls this, it drops nothing more from within.
///
/// # Panics
/// If a destructor does; the other values are dropped by later calls.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use latchwork::VersionedCell;
///
/// let value = Arc::new(());
/// let cell = VersionedCell::new(Arc::clone(&value));
/// cell.set(Arc::default());
/// latchwork::flush();
/// assert_eq!(Arc::strong_count(&value), 1);
/// ```
pub fn flush() {
    reclaim::with(reclaim::Local::flush);
}
