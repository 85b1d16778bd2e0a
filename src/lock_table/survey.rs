//! Reads the state of a table for a console.

use super::inspect::{LockInfo, Names};
use super::raw::{Busy, Content, RawTable};
use super::stats::TableStats;
use super::table::LockTable;

/// The state of a table that a console reports.
#[derive(Debug)]
pub(crate) struct Survey {
    pub(crate) stats: TableStats,
    pub(crate) held: usize,
    /// The number of keys with waiters.
    pub(crate) contended: usize,
    /// Those of them that were waited for longest, with the nanoseconds for which each has been
    /// held since its first waiter queued.
    pub(crate) keys: Vec<(LockInfo, u64)>,
    /// The keys with the most waits, each with its label.
    pub(crate) busiest: Vec<(Busy, Option<String>)>,
}

/// Returns the number of held keys and the keys with waiters, without labels, each with the
/// nanoseconds for which it has been held since its first waiter queued. Of the known holders, only
/// those that upgrade are included.
fn contended(table: &RawTable) -> (usize, Vec<(LockInfo, u64)>) {
    let mut held = 0;
    let mut contended = Vec::new();
    table.visit(|found| match found {
        Content::Inline(..) => held += 1,
        Content::Monitor(monitor) => {
            held += usize::from(monitor.peek().is_held());
            let lock = LockInfo::of(monitor).filter(|lock| !lock.waiters.is_empty());
            contended.extend(lock.map(|lock| (lock, monitor.held_for())));
        }
        Content::Child => {}
    });
    (held, contended)
}

impl<K: ?Sized, S> LockTable<K, S> {
    /// Returns the state of the table with the `limit` keys that are contended most.
    ///
    /// Labels are made for the keys that are returned, and only with `Names::Shown`.
    pub(crate) fn survey(&self, limit: usize, names: Names) -> Survey {
        let (held, mut found) = contended(&self.raw);
        let contended = found.len();
        let oldest = |lock: &LockInfo| lock.waiters.iter().map(|waiter| waiter.waited).max();
        found.sort_by_cached_key(|(lock, _)| {
            let waits = (lock.waiters.len(), oldest(lock));
            (core::cmp::Reverse(waits), lock.key_id)
        });
        found.truncate(limit);
        let (mut locks, times): (Vec<_>, Vec<_>) = found.into_iter().unzip();
        self.explain(&mut locks, names);
        let mut busiest = self.raw.statistics().busiest.all();
        busiest.truncate(limit);
        let label = |busy: &Busy| match names {
            Names::Shown => self.detector.label(busy.hash),
            Names::Hidden => None,
        };
        Survey {
            stats: self.stats(),
            held,
            contended,
            keys: locks.into_iter().zip(times).collect(),
            busiest: busiest
                .into_iter()
                .map(|busy| (busy, label(&busy)))
                .collect(),
        }
    }
}
