//! Statistics of cells and transactions: [`stats`], and [`flush`].

use core::fmt;
use std::time::Duration;

use crate::reclaim;
use crate::txn::{self, AbortReasons, LabelStats};

/// The retired values that are not yet reclaimed, and the outcomes of transactions.
///
/// Returned by [`stats`]. It is weakly consistent while threads write.
///
/// # Examples
/// See the example of [`stats`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The number of retired values that have not been dropped, of all threads: running, idle and
    /// ended. Either a pin may still show them to a reader, or no thread has written or called
    /// [`flush`] since they became reclaimable. A value whose destructor runs is not counted, nor
    /// are values that only retired values own.
    pub garbage: usize,
    /// The size of these values in bytes, with their versions and headers. Memory that the values
    /// own is not included. Values that a thread drops together count until the last of them.
    pub garbage_bytes: usize,
    /// The age of the oldest retired value that a pin protects, or `None` if no pin protects any.
    ///
    /// It is a lower bound on the age of the oldest pin. A pin does not read the clock, so the age
    /// is measured on the retired values that the pin protects, from the time at which their thread
    /// checked its garbage first: after at most 64 retired values, or in [`stats`] or [`flush`].
    pub oldest_pin: Option<Duration>,
    /// The number of aborted attempts of transactions, by reason.
    pub aborts: AbortReasons,
    /// The outcomes of transactions with a [label](crate::Transaction::label), in the order of the
    /// labels.
    pub labels: Vec<LabelStats>,
}

/// Writes one line for the retired values, one for the aborted attempts, and one for each label.
impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stats {
            garbage,
            garbage_bytes,
            oldest_pin,
            aborts,
            labels,
        } = self;
        write!(
            f,
            "{garbage} retired values wait for reclamation ({garbage_bytes} bytes)"
        )?;
        if let Some(age) = oldest_pin {
            write!(f, ", the oldest for {age:?}")?;
        }
        write!(f, "\naborted attempts: {aborts}")?;
        labels.iter().try_for_each(|label| write!(f, "\n{label}"))
    }
}

/// Returns the number of unreclaimed values and the outcomes of transactions, of all threads.
///
/// # Blocking
/// Blocks only briefly, while another thread checks the same garbage. The time grows with the
/// number of threads that have used cells at once.
///
/// # Examples
/// ```
/// use latchwork::VersionedCell;
///
/// let cell = VersionedCell::new(0);
/// let reader = cell.read(); // stalls reclamation until it is dropped
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

/// Drops the retired values that no pin protects, of all threads: running, idle and ended.
///
/// Values that a dropped value retires are also dropped, so one call ends a chain of any length.
/// The calling thread runs the destructors, one after another. A call inside a destructor that the
/// crate runs drops nothing. While other threads keep retiring values, the call ends after it has
/// dropped those from before the call.
///
/// # Blocking
/// Blocks only briefly, while another thread checks the same garbage; and for as long as the
/// destructors run. If a pin protects values, the call returns and leaves them. It does not wait
/// for the values that other threads are dropping at the same time: one value for each thread, and
/// up to 31 more behind it where the last destructors of this thread were fast. [`stats`] counts
/// these 31, and their thread drops them next.
///
/// # Panics
/// Panics if a destructor panics; later calls drop the other values.
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
