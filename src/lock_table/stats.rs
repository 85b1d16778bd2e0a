//! The counters of a table: [`TableStats`].

use std::time::Duration;

use super::raw::Content;
use super::table::LockTable;
use crate::deadlock::OwnerKind;
use crate::sync::recently;

/// The counters of a table, and the memory that it uses. Returned by [`LockTable::stats`].
///
/// # Examples
/// ```
/// let table: latchwork::LockTable<u64> = latchwork::LockTable::new();
/// let stats = table.stats();
/// assert_eq!((stats.waits, stats.monitors), (0, 0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableStats {
    /// The number of times that a waiter has queued for a key, since the table was made.
    pub waits: u64,
    /// The number of times that a lock has outgrown its slot, since the table was made.
    pub inflations: u64,
    /// The longest wait among successful acquisitions since the table was made, to within a few
    /// microseconds.
    pub longest_wait: Duration,
    /// The number of waiters that are queued now.
    pub waiting: usize,
    /// The number of queued waiters that are [sessions](crate::Session).
    pub waiting_sessions: usize,
    /// The number of queued waiters that are sets of [`lock_all`](LockTable::lock_all).
    pub waiting_sets: usize,
    /// The time for which the longest-waiting waiter has been queued, to within a few microseconds.
    pub oldest_waiter: Duration,
    /// The size in bytes of the root, and of the child arrays and monitors that are linked now.
    ///
    /// Larger roots that the table used before have returned their memory, and are not included.
    pub index_bytes: usize,
    /// The size in bytes of the counters behind
    /// [`ExclusiveGuard::token`](super::ExclusiveGuard::token). It is zero until the first token is
    /// issued.
    pub token_bytes: usize,
    /// The number of keys whose lock has outgrown its slot now.
    pub monitors: usize,
    /// The number of times that the keys began to move to a larger root, since the table was made.
    pub growths: u64,
    /// The number of times that the keys began to move to a smaller root, since the table was made.
    pub shrinks: u64,
    /// The number of deadlocks in which a session was the victim, since the table was made.
    /// [`LockTable::deadlocks`] returns the most recent ones.
    pub deadlocks: u64,
}

impl<K: ?Sized, S> LockTable<K, S> {
    /// Returns the counters of the table and the memory that it uses.
    ///
    /// The result is weakly consistent, and takes time in proportion to the size of the table, as
    /// [`locked_count`](Self::locked_count) does.
    ///
    /// # Blocking
    /// Blocks only briefly: it locks the queue of each contended key while it counts the waiters,
    /// and the mutex of the sessions that wait.
    pub fn stats(&self) -> TableStats {
        let counted = self.raw.statistics();
        let (growths, shrinks) = self.raw.moves();
        let mut stats = TableStats {
            waits: counted.waits.get(),
            inflations: counted.inflations.get(),
            longest_wait: Duration::from_nanos(counted.longest_wait.get()),
            waiting: 0,
            waiting_sessions: 0,
            waiting_sets: 0,
            oldest_waiter: Duration::ZERO,
            index_bytes: self.raw.root_bytes(),
            token_bytes: self.raw.token_bytes(),
            monitors: 0,
            growths,
            shrinks,
            deadlocks: self.detector.with(|waits| waits.found()),
        };
        let now = recently();
        self.raw.visit(|content| {
            stats.index_bytes += content.bytes();
            let Content::Monitor(monitor) = content else {
                return;
            };
            stats.monitors += 1;
            monitor.for_each_waiter(|waiter| {
                stats.waiting += 1;
                match waiter.owner().map(|owner| owner.kind) {
                    Some(OwnerKind::Session) => stats.waiting_sessions += 1,
                    Some(OwnerKind::Set { .. }) => stats.waiting_sets += 1,
                    None => {}
                }
                let waited = now.saturating_sub(waiter.since());
                stats.oldest_waiter = stats.oldest_waiter.max(Duration::from_nanos(waited));
            });
        });
        stats
    }
}
