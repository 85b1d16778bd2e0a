//! Waiting for a change, by a task.

use std::future::Future;
use std::pin::pin;
use std::slice::Iter;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};

use latchwork::VersionedCell;

use crate::value::Value;

use super::{CELLS, World};

#[derive(Default)]
struct CountWakes(AtomicUsize);

impl Wake for CountWakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

impl World {
    /// A future that is polled, left alone for a few calls, and perhaps polled again.
    pub(super) fn wait(
        &mut self,
        cells: &[VersionedCell<Value>; CELLS],
        at: usize,
        with: u8,
        ops: &mut Iter<'_, [u8; 2]>,
        depth: usize,
    ) {
        let cell = &cells[at];
        let seen = self.expected[at].version;
        let mut changed = pin!(cell.changed(seen));
        let wakes = Arc::<CountWakes>::default();
        let waker = Waker::from(wakes.clone());
        let poll = changed.as_mut().poll(&mut Context::from_waker(&waker));
        assert_eq!(poll, Poll::Pending);
        let renewed = Arc::<CountWakes>::default();
        if with & 32 != 0 {
            // Polled by another task: the first is not woken any more.
            let waker = Waker::from(renewed.clone());
            let poll = changed.as_mut().poll(&mut Context::from_waker(&waker));
            assert_eq!(poll, Poll::Pending);
        }
        self.some_more(cells, with, ops, depth);
        let current = self.expected[at].version;
        let is_written = current != seen;
        let woken = [&wakes, &renewed].map(|wakes| wakes.0.load(Relaxed));
        let expected = match (is_written, with & 32 != 0) {
            (false, _) => [0, 0],
            (true, false) => [1, 0],
            (true, true) => [0, 1],
        };
        assert_eq!(woken, expected, "woken once by the first write");
        self.tally.woken += u64::from(is_written);
        if with & 64 != 0 {
            let poll = changed.as_mut().poll(&mut Context::from_waker(&waker));
            let ready = if is_written {
                Poll::Ready(current)
            } else {
                Poll::Pending
            };
            assert_eq!(poll, ready);
        }
    }
}
