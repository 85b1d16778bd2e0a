//! Two tasks on one thread, by an executor that does next to nothing, so that a lock's own cost
//! shows.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// Whether a task was woken since it was last polled.
#[derive(Debug)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Relaxed: all on one thread.
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs two tasks in turn, each when it was woken, until both are done.
///
/// # Panics
/// If neither was woken and one is not done: a wake-up was lost.
pub fn run_both(one: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    let flags = [(); 2].map(|()| Arc::new(Flag(AtomicBool::new(true))));
    let wakers = flags.each_ref().map(|flag| Waker::from(flag.clone()));
    let mut tasks: [Option<Pin<&mut dyn Future<Output = ()>>>; 2] =
        [Some(pin!(one)), Some(pin!(other))];
    while tasks.iter().any(Option::is_some) {
        let mut polled = false;
        for ((place, flag), waker) in tasks.iter_mut().zip(&flags).zip(&wakers) {
            let Some(task) = place else { continue };
            if !flag.0.swap(false, Ordering::Relaxed) {
                continue;
            }
            polled = true;
            if task
                .as_mut()
                .poll(&mut Context::from_waker(waker))
                .is_ready()
            {
                *place = None;
            }
        }
        assert!(polled, "a task waits that nobody woke");
    }
}

/// Lets the other task run once.
#[derive(Debug, Default)]
pub struct Yield(bool);

impl Future for Yield {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Passes a lock between two tasks until it was acquired `times` times, up to one.
///
/// Each holds it while the other queues, and does not lock it again before the other has had it. So
/// every lock but the first is granted to a task that waits.
#[inline(never)]
pub fn hand_over<F: Future>(times: u64, lock: impl Fn() -> F) {
    let task = async || {
        for _ in 0..times / 2 {
            let guard = lock().await;
            Yield::default().await;
            drop(guard);
            Yield::default().await;
        }
    };
    run_both(task(), task());
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use latchwork::LockTable;

    use super::*;

    #[test]
    fn almost_every_lock_is_handed_over() {
        let table = LockTable::<u64>::new();
        let calls = Cell::new(0);
        hand_over(1_000, || {
            calls.set(calls.get() + 1);
            table.lock_async(&1)
        });
        assert_eq!((calls.get(), table.locked_count()), (1_000, 0));
        assert!(table.stats().waits >= 990, "{:?}", table.stats());
    }

    #[test]
    #[should_panic = "nobody woke"]
    fn a_lost_wake_up_is_told() {
        run_both(std::future::pending(), async {});
    }
}
