//! Futures that run a transaction when they are polled.

use core::fmt;
use core::future::Future;
use core::marker::PhantomData;
use core::pin::Pin;
use core::task::{Context, Poll};

use super::Tx;
use super::error::{Abort, TxAbort, TxError};
use super::ladder::{self, Ladder, OnOwner};
use super::retry::Places;
use super::run::{Setback, Transaction};
use crate::cell::limit::has_passed;
use crate::cell::wait::Place;
use crate::wait::{Notify, polled_again};

/// The state of a future between two polls.
struct Task {
    transaction: Transaction,
    ladder: Ladder,
    state: State,
}

enum State {
    /// Not polled yet.
    New,
    /// Waits for a change of the read set.
    Retries(Places),
    /// Waits for the end of a transaction that owns a cell [X10].
    Owned(Place),
    /// The future was ready, or a poll has panicked.
    Ended,
}

impl Task {
    fn new(transaction: Transaction) -> Self {
        Task {
            transaction,
            ladder: ladder::FIRST.again(),
            state: State::New,
        }
    }

    fn is_waiting(&self) -> bool {
        matches!(self.state, State::Retries(_) | State::Owned(_))
    }

    fn poll<'env, R, E>(
        &mut self,
        context: &Context<'_>,
        mut f: impl for<'t> FnMut(&mut Tx<'t, 'env>) -> Result<R, TxAbort<E>>,
    ) -> Poll<Result<R, TxError<E>>> {
        let notify = || Notify::Task(context.waker().clone());
        // `Ended` remains if user code panics below.
        match core::mem::replace(&mut self.state, State::Ended) {
            State::New => self.ladder = self.transaction.begin(OnOwner::Notify),
            State::Retries(places) => drop(places),
            State::Owned(place) => {
                // A spurious poll: the closure would only encounter the owner again.
                if !has_passed(self.ladder.deadline) && place.renew(notify()) {
                    self.state = State::Owned(place);
                    return Poll::Pending;
                }
            }
            State::Ended => polled_again("future of a transaction"),
        }
        let ended = loop {
            let setback = match self.transaction.attempt(&self.ladder, &mut f, notify) {
                Ok(Ok(result)) => return Poll::Ready(Ok(result)),
                Ok(Err(error)) => break TxError::Aborted(error),
                Err(setback) => setback,
            };
            match self.go_on_after(setback) {
                Ok(None) => {}
                Ok(Some(state)) => {
                    self.state = state;
                    return Poll::Pending;
                }
                Err(error) => break error,
            }
        };
        Poll::Ready(Err(self.transaction.fail(ended)))
    }

    /// Returns the wait of the task. `None`: the closure runs again.
    #[cold]
    fn go_on_after<E>(&mut self, setback: Setback) -> Result<Option<State>, TxError<E>> {
        match setback {
            Setback::Lost(loss, at) => {
                let Task {
                    transaction,
                    ladder,
                    ..
                } = self;
                transaction.step_back(ladder, loss, at).map(|()| None)
            }
            Setback::Owned(at, place) => {
                self.ladder.wait_for_owner(at);
                Ok(place.map(State::Owned))
            }
            Setback::Waits(places, timer) => {
                self.ladder.note_timer(timer);
                let places = places.map(|places| places.settle().ok_or(TxError::RetryWithoutReads));
                let places = places.transpose()?;
                self.ladder.check_deadline()?;
                Ok(places.map(State::Retries))
            }
            Setback::TimedOut => Err(TxError::TimedOut),
            Setback::ReadNothing => Err(TxError::RetryWithoutReads),
        }
    }

    fn fmt(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name)
            .field("transaction", &self.transaction)
            .field("is_waiting", &self.is_waiting())
            .finish_non_exhaustive()
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if self.is_waiting() {
            self.transaction.cancel();
        }
    }
}

/// Runs a transaction when it is polled. Created by [`Transaction::run_async`].
///
/// # Examples
/// See [`Transaction::run_async`].
#[must_use = "futures do nothing unless polled"]
pub struct TransactionFuture<'env, R, F> {
    task: Task,
    f: F,
    env: PhantomData<Invariant<'env, R>>,
}

/// Runs a transaction that may end with an error of the caller, when it is polled. Created by
/// [`Transaction::try_run_async`].
///
/// # Examples
/// See [`Transaction::try_run_async`].
#[must_use = "futures do nothing unless polled"]
pub struct TryTransactionFuture<'env, R, E, F> {
    task: Task,
    f: F,
    env: PhantomData<Invariant<'env, Result<R, E>>>,
}

/// Invariant in the lifetime, as `Tx` is. The result is only returned.
type Invariant<'env, R> = (&'env mut &'env (), fn() -> R);

impl<R, F> TransactionFuture<'_, R, F> {
    pub(super) fn new(transaction: Transaction, f: F) -> Self {
        TransactionFuture {
            task: Task::new(transaction),
            f,
            env: PhantomData,
        }
    }
}

impl<R, E, F> TryTransactionFuture<'_, R, E, F> {
    pub(super) fn new(transaction: Transaction, f: F) -> Self {
        TryTransactionFuture {
            task: Task::new(transaction),
            f,
            env: PhantomData,
        }
    }
}

// The closure is never pinned.
impl<R, F> Unpin for TransactionFuture<'_, R, F> {}
impl<R, E, F> Unpin for TryTransactionFuture<'_, R, E, F> {}

impl<'env, R, F> Future for TransactionFuture<'env, R, F>
where
    F: for<'t> FnMut(&mut Tx<'t, 'env>) -> Result<R, Abort>,
{
    type Output = Result<R, TxError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let TransactionFuture { task, f, .. } = self.get_mut();
        task.poll(context, |tx: &mut Tx<'_, 'env>| {
            f(tx).map_err(TxAbort::Attempt)
        })
    }
}

impl<'env, R, E, F> Future for TryTransactionFuture<'env, R, E, F>
where
    F: for<'t> FnMut(&mut Tx<'t, 'env>) -> Result<R, TxAbort<E>>,
{
    type Output = Result<R, TxError<E>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let TryTransactionFuture { task, f, .. } = self.get_mut();
        task.poll(context, f)
    }
}

impl<R, F> fmt::Debug for TransactionFuture<'_, R, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.task.fmt("TransactionFuture", f)
    }
}

impl<R, E, F> fmt::Debug for TryTransactionFuture<'_, R, E, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.task.fmt("TryTransactionFuture", f)
    }
}
