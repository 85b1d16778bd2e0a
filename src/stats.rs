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
    /// The number of retired values that have not been dropped. Either a pin may still show them to
    /// a reader, or the thread that replaced them has not checked for pins since.
    ///
    /// Each thread updates its part of the number when it checks: in [`flush`], and after it has
    /// retired 256 more values, or a sixteenth of its waiting values if that is more.
    pub garbage: usize,
    /// The size of these values in bytes, with their versions and headers. Memory that the values
    /// own is not included.
    pub garbage_bytes: usize,
    /// The age of the oldest retired value that is known to be unreclaimable, or `None` if no value
    /// waits.
    ///
    /// It is a lower bound on the age of the oldest pin, if it exceeds a few milliseconds. A pin
    /// does not read the clock, so the age is measured on the retired values that the pin holds
    /// back. A pin is detected only once a thread has retired 256 values or has called [`flush`].
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
/// Blocks only briefly, while another thread updates the same counters.
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

/// Drops the retired values that no pin protects, of this thread and of threads that have ended.
///
/// Values that a *living* other thread has retired are dropped by that thread. The calling thread
/// runs the destructors of the values. A call from such a destructor drops nothing more.
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
