//! Reports each wait to the rest of the program: statistics, metrics, spans.
//!
//! A recorder or a subscriber is user code. It runs while nothing is pinned and no mutex is locked,
//! and only for waiters that have queued. An uncontended lock never runs it.

#[cfg(feature = "console")]
use super::busiest::Busiest;
use super::monitor::Monitor;
use crate::park::Waiter;
use crate::sync::{Counter, recently};
use crate::word::Mode;

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

/// One wait, which begins when its waiter is queued. With the feature `tracing` it is a span at
/// debug level, which closes with the wait.
#[derive(Debug)]
pub(crate) struct WaitSpan {
    #[cfg(feature = "tracing")]
    _span: tracing::Span,
}

impl WaitSpan {
    /// Closes a span, which may run user code.
    pub(crate) fn end(_: Option<Self>) {}

    pub(crate) fn begin(hash: u64, mode: Mode) -> Self {
        #[cfg(feature = "tracing")]
        let span = tracing::debug_span!(
            "latchwork.lock.wait",
            key = %crate::lock_table::KeyId(hash),
            mode = ?mode,
        );
        #[cfg(not(feature = "tracing"))]
        let _ = (hash, mode);
        WaitSpan {
            #[cfg(feature = "tracing")]
            _span: span,
        }
    }
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
