//! What the cells hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Counts those of its kind.
pub(crate) struct Value {
    pub(crate) number: u64,
    live: Arc<AtomicUsize>,
}

impl Value {
    pub(crate) fn new(number: u64, live: &Arc<AtomicUsize>) -> Self {
        live.fetch_add(1, Relaxed);
        let live = live.clone();
        Value { number, live }
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        let before = self.live.fetch_sub(1, Relaxed);
        assert!(before > 0, "dropped more often than made");
    }
}
