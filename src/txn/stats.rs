//! Counts of how transactions end, in total and by label.

use core::fmt;
use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::attempt::Outlook;
use super::error::{AbortReasons, TxError};
use super::ladder::Loss;
use crate::sync::Counter;

/// Aborted attempts of all transactions.
#[derive(Debug)]
struct Totals {
    read_conflicts: Counter,
    write_conflicts: Counter,
    overtaken: Counter,
}

static TOTALS: Totals = Totals {
    read_conflicts: Counter::new(),
    write_conflicts: Counter::new(),
    overtaken: Counter::new(),
};

// A plain mutex, including under a checker: no algorithm reads it.
static LABELS: Mutex<BTreeMap<&'static str, LabelStats>> = Mutex::new(BTreeMap::new());

/// Counts how the transactions of one [label](crate::Transaction::label) have ended.
///
/// Each transaction that ends is counted once, in one of the fields after `aborts`.
/// [`ended`](Self::ended) returns their sum. A future is counted once it is ready, or is dropped
/// while it waits.
///
/// # Examples
/// ```
/// use latchwork::{Transaction, VersionedCell};
///
/// let cell = VersionedCell::new(0);
/// let add = Transaction::builder().label("add");
/// add.run(|tx| tx.update(&cell, |n| n + 1)).unwrap();
/// add.try_run(|tx| tx.abort::<(), _>("not today")).unwrap_err();
///
/// let label = latchwork::stats().labels.into_iter().find(|label| label.label == "add").unwrap();
/// assert_eq!((label.commits, label.aborted, label.ended()), (1, 1, 2));
/// assert_eq!(label.to_string(), "add: 1 committed, 1 aborted by the closure; no attempts lost");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LabelStats {
    /// The label.
    pub label: &'static str,
    /// Attempts that aborted, by reason, regardless of how their transactions ended.
    pub aborts: AbortReasons,
    /// Transactions that have committed.
    pub commits: u64,
    /// Transactions that used up their attempts.
    pub contended: u64,
    /// Transactions whose deadline has passed.
    pub timed_out: u64,
    /// Transactions whose closures have ended them with an error.
    pub aborted: u64,
    /// Transactions whose closures retried without a read that another thread can change.
    pub retries_without_reads: u64,
    /// Transactions that a panic has ended.
    pub panicked: u64,
    /// Transactions whose futures were dropped while they waited.
    pub cancelled: u64,
}

impl LabelStats {
    /// Returns the number of transactions that have ended.
    pub fn ended(&self) -> u64 {
        self.endings().iter().map(|(n, _)| n).sum()
    }

    fn endings(&self) -> [(u64, &'static str); 7] {
        [
            (self.commits, "committed"),
            (self.contended, "contended"),
            (self.timed_out, "timed out"),
            (self.aborted, "aborted by the closure"),
            (self.retries_without_reads, "retried without reads"),
            (self.panicked, "panicked"),
            (self.cancelled, "cancelled"),
        ]
    }
}

/// Writes the counts on one line, and omits those that are zero.
impl fmt::Display for LabelStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.label)?;
        let mut separator = " ";
        for (n, ending) in self.endings().into_iter().filter(|(n, _)| *n > 0) {
            write!(f, "{separator}{n} {ending}")?;
            separator = ", ";
        }
        if self.ended() == 0 {
            f.write_str(" none ended")?;
        }
        match self.aborts.total() {
            0 => f.write_str("; no attempts lost"),
            total => write!(f, "; {total} attempts lost ({})", self.aborts),
        }
    }
}

/// Counts an attempt that has committed.
#[inline]
pub(super) fn count_commit(label: Option<&'static str>) {
    if let Some(label) = label {
        count_by_label(label, |stats| stats.commits += 1);
    }
}

/// Counts an attempt without a log that has encountered another writer.
pub(crate) fn count_conflict() {
    count_end(None, Outlook::Lost(Loss::Write, None));
}

/// Counts an attempt that has ended without a commit.
#[cold]
pub(super) fn count_end(label: Option<&'static str>, outlook: Outlook<'_>) {
    let loss = match outlook {
        Outlook::Lost(loss, _) => loss,
        Outlook::Owned(..) | Outlook::Locked(_) | Outlook::TimedOut => Loss::Overtaken,
        Outlook::Running | Outlook::RunningUntil(_) | Outlook::Retry(_) => return,
    };
    match loss {
        Loss::Read => &TOTALS.read_conflicts,
        Loss::Write => &TOTALS.write_conflicts,
        Loss::Overtaken => &TOTALS.overtaken,
    }
    .increment();
    if let Some(label) = label {
        count_by_label(label, |stats| stats.aborts.count(loss));
    }
}

/// Counts a transaction that ends with an error.
#[cold]
pub(super) fn count_error<E>(label: Option<&'static str>, error: &TxError<E>) {
    let Some(label) = label else {
        return;
    };
    count_by_label(label, |stats| {
        let ending = match error {
            TxError::Contended { .. } => &mut stats.contended,
            TxError::TimedOut => &mut stats.timed_out,
            TxError::Aborted(_) => &mut stats.aborted,
            TxError::RetryWithoutReads => &mut stats.retries_without_reads,
        };
        *ending += 1;
    });
}

/// Counts a transaction that a panic ends.
#[cold]
pub(super) fn count_panic(label: Option<&'static str>) {
    if let Some(label) = label {
        count_by_label(label, |stats| stats.panicked += 1);
    }
}

/// Counts a future that is dropped while its transaction waits.
#[cold]
pub(super) fn count_cancelled(label: Option<&'static str>) {
    if let Some(label) = label {
        count_by_label(label, |stats| stats.cancelled += 1);
    }
}

#[cold]
fn count_by_label(label: &'static str, count: impl FnOnce(&mut LabelStats)) {
    let mut labels = LABELS.lock();
    let stats = labels.entry(label).or_default();
    stats.label = label;
    count(stats);
}

/// Returns the aborted attempts of all transactions.
pub(crate) fn aborts() -> AbortReasons {
    AbortReasons {
        read_conflicts: TOTALS.read_conflicts.get(),
        write_conflicts: TOTALS.write_conflicts.get(),
        overtaken: TOTALS.overtaken.get(),
    }
}

/// Returns the counts of all labels, in order.
pub(crate) fn labels() -> Vec<LabelStats> {
    LABELS.lock().values().copied().collect()
}
