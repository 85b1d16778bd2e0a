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

/// An attempt is over.
#[inline]
pub(super) fn count(label: Option<&'static str>, outlook: Outlook) {
    if label.is_some() || outlook != Outlook::Running {
        count_slow(label, outlook);
    }
}

#[cold]
fn count_slow(label: Option<&'static str>, outlook: Outlook) {
    if let Outlook::Lost(loss, _) = outlook {
        match loss {
            Loss::Read => &TOTALS.read_conflicts,
            Loss::Write => &TOTALS.write_conflicts,
            Loss::Overtaken => &TOTALS.overtaken,
        }
        .increment();
    }
    let Some(label) = label else { return };
    let mut labels = LABELS.lock();
    let stats = labels.entry(label).or_default();
    stats.label = label;
    match outlook {
        Outlook::Running => stats.commits += 1,
        Outlook::Lost(loss, _) => stats.aborts.count(loss),
        Outlook::Retry => {}
    }
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
