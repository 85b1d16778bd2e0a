//! Waits of a thread for a future, and the pace of a waiter for a key.

use core::future::Future;
use core::pin::pin;
use core::task::{Context, Poll};
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use crate::clock::Timestamp;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls the future on this thread until it is ready, or until `until`.
pub(crate) fn block_on_until<F: Future>(future: F, until: Option<Timestamp>) -> Option<F::Output> {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        match until {
            None => thread::park(),
            Some(until) => {
                let left = until.since(Timestamp::now());
                if left.is_zero() {
                    return None;
                }
                thread::park_timeout(left);
            }
        }
    }
}

/// A wait for a key that ends sooner counts as spurious.
const SPURIOUS: Duration = Duration::from_millis(1);

/// The number of such waits in sequence after which a waiter pauses. It was not measured.
const SPURIOUS_WAITS: u32 = 20;

/// The pause.
const PAUSE: Duration = Duration::from_millis(5);

/// The pace of one waiter for a key, because an engine may end a wait at any time
/// [LE12].
#[derive(Debug, Default)]
pub(crate) struct Pace {
    spurious: u32,
}

impl Pace {
    /// Records a wait since `start`, and returns the end of the pause that must follow it, if any.
    pub(crate) fn pause_after(&mut self, start: Timestamp) -> Option<Timestamp> {
        let now = Timestamp::now();
        if now.since(start) >= SPURIOUS {
            self.spurious = 0;
            return None;
        }
        self.spurious = self.spurious.saturating_add(1);
        (self.spurious > SPURIOUS_WAITS).then(|| now.plus(PAUSE))
    }
}
