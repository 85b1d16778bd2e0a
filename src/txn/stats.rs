//! How transactions end, counted, in all and by label.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::attempt::Outlook;
use super::error::AbortReasons;
use super::ladder::Loss;
use crate::sync::Counter;

/// Attempts that were lost, of all transactions.
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

// Plain, under a checker too: no algorithm reads it.
static LABELS: Mutex<BTreeMap<&'static str, LabelStats>> = Mutex::new(BTreeMap::new());

/// How the transactions of one [label](crate::Transaction::label) have ended.
///
/// # Examples
/// ```
/// use latchwork::{Transaction, VersionedCell};
///
/// let cell = VersionedCell::new(0);
/// Transaction::builder().label("add").run(|tx| tx.update(&cell, |n| n + 1)).unwrap();
/// let label = latchwork::stats().labels.into_iter().find(|label| label.label == "add").unwrap();
/// assert_eq!((label.commits, label.aborts.total()), (1, 0));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LabelStats {
    /// The label.
    pub label: &'static str,
    /// Transactions that have committed.
    pub commits: u64,
    /// Attempts that were lost.
    pub aborts: AbortReasons,
}

/// An attempt has committed.
#[inline]
pub(super) fn count_commit(label: Option<&'static str>) {
    if let Some(label) = label {
        count_by_label(label, |stats| stats.commits += 1);
    }
}

/// An attempt is over, and has not committed.
#[cold]
pub(super) fn count_end(label: Option<&'static str>, outlook: Outlook) {
    let Outlook::Lost(loss, _) = outlook else {
        return;
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

#[cold]
fn count_by_label(label: &'static str, count: impl FnOnce(&mut LabelStats)) {
    let mut labels = LABELS.lock();
    let stats = labels.entry(label).or_default();
    stats.label = label;
    count(stats);
}

/// Attempts lost, of all transactions.
pub(crate) fn aborts() -> AbortReasons {
    AbortReasons {
        read_conflicts: TOTALS.read_conflicts.get(),
        write_conflicts: TOTALS.write_conflicts.get(),
        overtaken: TOTALS.overtaken.get(),
    }
}

/// By label, in their order.
pub(crate) fn labels() -> Vec<LabelStats> {
    LABELS.lock().values().copied().collect()
}
