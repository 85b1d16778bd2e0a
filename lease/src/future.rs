//! Asynchronous forms of calls, without a runtime: [`LeaseFuture`].

use core::fmt;
use core::future::{Future, poll_fn};
use core::pin::{Pin, pin};
use core::task::{Context, Poll};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::engine::{EngineError, Nonce};
use crate::runtime::{Class, Core, Job, TimerKey};
use crate::wait::Pace;

/// How often a key is requested while no thread is left that could wait for a hint.
const POLL: Duration = Duration::from_millis(100);

/// The future of an asynchronous call. It needs no runtime: its requests run in threads of the
/// crate.
///
/// It does nothing until it is polled, and may be dropped at any point. A future that is forgotten
/// (`mem::forget`) after its first poll keeps what it acquires, which is renewed.
///
/// # Panics
/// A poll panics after the future was ready.
#[must_use = "a future does nothing unless it is polled"]
pub struct LeaseFuture<T>(Pin<Box<dyn Future<Output = T> + Send>>);

impl<T> LeaseFuture<T> {
    pub(crate) fn new(future: impl Future<Output = T> + Send + 'static) -> Self {
        LeaseFuture(Box::pin(future))
    }
}

impl<T> Future for LeaseFuture<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        self.0.as_mut().poll(cx)
    }
}

impl<T> fmt::Debug for LeaseFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeaseFuture").finish_non_exhaustive()
    }
}

/// Passes one value from a thread to a future.
struct Slot<T>(Mutex<State<T>>);

struct State<T> {
    value: Option<T>,
    waker: Option<Waker>,
    /// No value is expected: one half is dropped.
    is_closed: bool,
    on_close: Option<Job>,
}

impl<T> Slot<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // No user code runs under the mutex, so a poisoned state is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends the value. If it is dropped instead, the future ends without a value.
pub(crate) struct Sender<T>(Arc<Slot<T>>);

/// Receives the value.
pub(crate) struct Receiver<T>(Arc<Slot<T>>);

/// Makes both halves. `on_close` runs if the receiver is dropped before it has the value.
pub(crate) fn oneshot<T>(on_close: Option<Job>) -> (Sender<T>, Receiver<T>) {
    let slot = Arc::new(Slot(Mutex::new(State {
        value: None,
        waker: None,
        is_closed: false,
        on_close,
    })));
    (Sender(slot.clone()), Receiver(slot))
}

impl<T> Sender<T> {
    /// Delivers the value, or drops it if the receiver is dropped.
    pub(crate) fn send(self, value: T) {
        let mut state = self.0.lock();
        if state.is_closed {
            // Unlocked first, because the drop of a lease makes requests.
            drop(state);
            drop(value);
        } else {
            state.value = Some(value);
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.is_closed = true;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Future for Receiver<T> {
    /// `None` if the sender was dropped, because its thread panicked.
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let waker = cx.waker().clone();
        let mut state = self.0.lock();
        if state.value.is_some() || state.is_closed {
            let (value, on_close) = (state.value.take(), state.on_close.take());
            drop(state);
            drop(on_close);
            return Poll::Ready(value);
        }
        let old = state.waker.replace(waker);
        drop(state);
        drop(old);
        Poll::Pending
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.is_closed = true;
        let (value, waker) = (state.value.take(), state.waker.take());
        let on_close = state.on_close.take();
        drop(state);
        drop((value, waker));
        if let Some(on_close) = on_close {
            on_close();
        }
    }
}

/// The error where [`run`] returns `None`.
pub(crate) const NOT_RUN: &str = "the request panicked, or the system started no thread for it";

/// Runs `call` on a thread of the pool. Returns `None` if it panicked, or if there is no thread.
pub(crate) async fn run<T: Send + 'static>(
    core: &Arc<Core>,
    call: impl FnOnce(&Arc<Core>) -> T + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = oneshot(None);
    let shared = core.clone();
    core.submit(Class::Ask, Box::new(move || sender.send(call(&shared))));
    receiver.await
}

/// Polls the future until it is ready, or until `until`.
pub(crate) async fn within<F: Future>(
    core: &Arc<Core>,
    future: F,
    until: Option<Timestamp>,
) -> Option<F::Output> {
    let mut future = pin!(future);
    let timer: Arc<Mutex<Option<Waker>>> = Arc::default();
    let mut scheduled = Scheduled { core, key: None };
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        let Some(until) = until else {
            return Poll::Pending;
        };
        if Timestamp::now() >= until {
            return Poll::Ready(None);
        }
        let waker = Some(cx.waker().clone());
        let old = core::mem::replace(&mut *lock(&timer), waker);
        drop(old);
        if scheduled.key.is_none() {
            let timer = timer.clone();
            let wake = move || {
                let waker = lock(&timer).take();
                if let Some(waker) = waker {
                    waker.wake();
                }
            };
            match core.call_at(until, Box::new(wake)) {
                Ok(key) => scheduled.key = Some(key),
                // Without the timer thread, the limit cannot be kept.
                Err(_) => return Poll::Ready(None),
            }
        }
        Poll::Pending
    })
    .await
}

/// Removes a timer when the wait ends or is dropped, so that long limits leave nothing behind.
struct Scheduled<'a> {
    core: &'a Core,
    key: Option<TimerKey>,
}

impl Drop for Scheduled<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key.filter(|_| !self.core.is_foreign()) {
            self.core.cancel(key);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until `until`.
pub(crate) async fn sleep(core: &Arc<Core>, until: Timestamp) {
    within(core, core::future::pending::<()>(), Some(until)).await;
}

/// Waits until the key may be free, or until `until`.
pub(crate) async fn wait_hint(
    core: &Arc<Core>,
    name: &str,
    nonce: Nonce,
    until: Timestamp,
    pace: &mut Pace,
) {
    let start = Timestamp::now();
    if core.begin_wait() {
        let name = name.to_owned();
        let wait = move |core: &Arc<Core>| -> Result<(), EngineError> {
            let deadline = until.to_instant();
            let waited = core.request(|engine| engine.wait_hint(core.key(&name), nonce, deadline));
            core.end_wait();
            waited
        };
        if let Some(Ok(())) = run(core, wait).await {
            if let Some(until) = pace.pause_after(start) {
                sleep(core, until).await;
            }
            return;
        }
    }
    sleep(core, until.min(Timestamp::now().plus(POLL))).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AcquireError, AcquireOptions, Leases};

    #[test]
    fn a_time_limit_that_was_not_reached_leaves_no_timer() {
        let leases = Leases::connect("memory:").expect("in memory");
        let lease = leases
            .acquire("a", Duration::from_secs(60))
            .expect("the name is free");
        let before = leases.core().timers();
        let mut options = AcquireOptions::new(Duration::from_secs(60));
        options.give_up_after = Some(Duration::from_secs(3600));
        for _ in 0..3 {
            let mut future = Box::pin(leases.acquire_with_async("a", &options));
            let mut context = Context::from_waker(Waker::noop());
            assert!(future.as_mut().poll(&mut context).is_pending());
            assert_eq!(leases.core().timers(), before + 1);
            drop(future);
            assert_eq!(leases.core().timers(), before);
        }
        options.give_up_after = Some(Duration::from_millis(10));
        let result = pollster::block_on(leases.acquire_with_async("a", &options));
        assert!(matches!(result, Err(AcquireError::GaveUp)));
        assert_eq!(leases.core().timers(), before);
        lease.release().expect("in memory");
        assert_eq!(leases.core().timers(), 0);
    }

    #[test]
    fn a_dropped_future_leaves_the_queue_of_the_process_at_once() {
        let engine = crate::memory::MemoryEngine::new();
        let (one, two) = (Leases::new(engine.clone()), Leases::new(engine));
        let ttl = Duration::from_secs(60);
        let held = two.acquire("a", ttl).expect("the name is free");
        let mut future = Box::pin(one.acquire_async("a", ttl));
        let mut context = Context::from_waker(Waker::noop());
        assert!(future.as_mut().poll(&mut context).is_pending());
        // Until a thread of the pool waits for the name.
        std::thread::sleep(Duration::from_millis(100));
        assert!(one.core().table.try_lock("a").is_none());
        drop(future);
        assert!(one.core().table.try_lock("a").is_some());
        drop(held);
    }

    #[test]
    fn a_set_holds_its_names_in_the_queue_of_the_process() {
        let leases = Leases::connect("memory:").expect("in memory");
        let set = leases
            .acquire_all(["b", "a"], Duration::from_secs(60))
            .expect("they are free");
        for name in ["a", "b"] {
            assert!(leases.core().table.try_lock(name).is_none());
        }
        set.release().expect("in memory");
        for name in ["a", "b"] {
            assert!(leases.core().table.try_lock(name).is_some());
        }
    }
}
