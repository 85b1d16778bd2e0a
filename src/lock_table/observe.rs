//! Reports each wait to the rest of the program: statistics, metrics, spans.
//!
//! A recorder or a subscriber is user code. It runs while nothing is pinned and no mutex is locked,
//! and only for waiters that have queued. An uncontended lock never runs it.

use super::index::RawTable;
use super::monitor::Monitor;
use crate::sync::recently;
use crate::wait::Waiter;
use crate::word::Mode;

/// One wait, which begins when its waiter is queued. With the feature `tracing` it is a span at
/// debug level, which closes with the wait.
#[derive(Debug)]
pub(super) struct Wait {
    #[cfg(feature = "tracing")]
    _span: tracing::Span,
}

impl Wait {
    pub(super) fn begin(hash: u64, mode: Mode) -> Self {
        #[cfg(feature = "tracing")]
        let span = tracing::debug_span!(
            "latchwork.lock.wait",
            key = %super::KeyId(hash),
            mode = ?mode,
        );
        #[cfg(not(feature = "tracing"))]
        let _ = (hash, mode);
        Wait {
            #[cfg(feature = "tracing")]
            _span: span,
        }
    }
}

impl RawTable {
    /// Records that a waiter has acquired the key.
    pub(super) fn observe_waited(&self, hash: u64, waiter: &Waiter) {
        let waited = recently().saturating_sub(waiter.since());
        self.statistics.longest_wait.raise(waited);
        #[cfg(feature = "metrics")]
        {
            metrics::counter!("latchwork_lock_waits_total").increment(1);
            metrics::histogram!("latchwork_lock_wait_seconds")
                .record(core::time::Duration::from_nanos(waited));
        }
        self.count_wait(hash, waited);
    }

    /// Records that a waiter has left the queue without the key.
    pub(super) fn observe_gave_up(&self, hash: u64, waiter: &Waiter) {
        #[cfg(feature = "metrics")]
        metrics::counter!("latchwork_lock_gave_up_total").increment(1);
        self.count_wait(hash, recently().saturating_sub(waiter.since()));
    }

    /// Records that a holder is about to release a key that may have waiters.
    #[inline]
    pub(super) fn observe_release(&self, monitor: &Monitor) {
        #[cfg(feature = "console")]
        if monitor.peek().is_queued() {
            let held = monitor.hold_clock.restart();
            self.statistics.busiest.released(monitor.hash(), held);
        }
        #[cfg(not(feature = "console"))]
        let _ = monitor;
    }

    #[inline]
    fn count_wait(&self, hash: u64, waited: u64) {
        #[cfg(feature = "console")]
        self.statistics.busiest.waited(hash, waited);
        #[cfg(not(feature = "console"))]
        let _ = (hash, waited);
    }
}
