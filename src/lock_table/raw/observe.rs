//! Reports each wait to the rest of the program: statistics and metrics. `place.rs` has the spans.
//!
//! A recorder or a subscriber is user code. It runs while nothing is pinned and no mutex is locked,
//! and only for waiters that have queued. An uncontended lock never runs it.

#[cfg(feature = "console")]
use super::busiest::Busiest;
use super::monitor::Monitor;
use crate::park::Waiter;
use crate::sync::{Counter, recently};

/// The counters of a table, of the waits that have ended or begun.
#[derive(Debug, Default)]
pub(crate) struct Statistics {
    pub(crate) waits: Counter,
    pub(crate) inflations: Counter,
    /// In nanoseconds.
    pub(crate) longest_wait: Counter,
    #[cfg(feature = "console")]
    pub(crate) busiest: Busiest,
}

impl Statistics {
    /// Records that a waiter has acquired the key.
    #[inline(always)]
    pub(super) fn waited(&self, hash: u64, waiter: &Waiter) {
        let waited = recently().saturating_sub(waiter.since());
        self.longest_wait.raise(waited);
        #[cfg(feature = "metrics")]
        {
            metrics::counter!("latchwork_lock_waits_total").increment(1);
            metrics::histogram!("latchwork_lock_wait_seconds")
                .record(core::time::Duration::from_nanos(waited));
        }
        #[cfg(feature = "console")]
        self.busiest.waited(hash, waited);
        #[cfg(not(feature = "console"))]
        let _ = hash;
    }

    /// Records that a waiter has left the queue without the key.
    #[inline]
    pub(super) fn gave_up(&self, hash: u64, waiter: &Waiter) {
        #[cfg(feature = "metrics")]
        metrics::counter!("latchwork_lock_gave_up_total").increment(1);
        #[cfg(feature = "console")]
        self.busiest
            .waited(hash, recently().saturating_sub(waiter.since()));
        #[cfg(not(feature = "console"))]
        let _ = (hash, waiter);
    }

    /// Records that a holder is about to release a key that may have waiters.
    #[inline]
    pub(super) fn releases(&self, monitor: &Monitor) {
        #[cfg(feature = "console")]
        if monitor.peek().is_queued() {
            self.busiest
                .released(monitor.hash(), monitor.restart_hold());
        }
        #[cfg(not(feature = "console"))]
        let _ = monitor;
    }
}
