//! Polling futures in a model.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use loom::sync::Notify;

/// A waker that ends one wait of its model thread.
pub struct Alarm(pub Notify);

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.0.notify();
    }
}

pub fn alarm() -> (Arc<Alarm>, Waker) {
    let alarm = Arc::new(Alarm(Notify::new()));
    (alarm.clone(), Waker::from(alarm))
}

pub fn poll<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(waker))
}

pub fn block_on<F: Future + Unpin>(mut future: F) -> F::Output {
    let (alarm, waker) = alarm();
    loop {
        if let Poll::Ready(output) = poll(&mut future, &waker) {
            return output;
        }
        alarm.0.wait();
    }
}
