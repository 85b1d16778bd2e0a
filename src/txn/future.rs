//! Futures that run a transaction when they are polled.

use core::fmt;
use core::future::Future;
use core::marker::PhantomData;
use core::pin::Pin;
use core::task::{Context, Poll};

use super::Tx;
use super::error::{Abort, TxAbort, TxError};
use super::ladder::{self, Ladder, OnOwner};
use super::run::{Setback, Transaction};
use crate::cell::limit::has_passed;
use crate::park::{Notify, Wait, polled_again};

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
    Retries(Vec<Wait>),
    /// Waits for the end of a transaction that owns a cell [X10].
    Owned(Wait),
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
            State::Retries(waits) => drop(waits),
            State::Owned(wait) => {
                // A spurious poll: the closure would only encounter the owner again.
                if !has_passed(self.ladder.deadline) && wait.poll(context).is_pending() {
                    self.state = State::Owned(wait);
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
            Setback::Owned(at, wait) => {
                self.ladder.wait_for_owner(at);
                Ok(wait.map(State::Owned))
            }
            Setback::Waits(waits, timer) => {
                self.ladder.note_timer(timer);
                let waits = waits.map(|waits| waits.settle().ok_or(TxError::RetryWithoutReads));
                let waits = waits.transpose()?;
                self.ladder.check_deadline()?;
                Ok(waits.map(State::Retries))
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

impl Transaction {
    /// Returns a future that runs the closure when it is polled, and is ready once the transaction
    /// commits.
    ///
    /// The closure runs inside `poll`, from its beginning to its end. The future does not yield to
    /// the executor if the first attempt commits. Between two polls the future owns no cell, pins
    /// no value, and may move to another thread.
    ///
    /// # Blocking
    /// `poll` does not block the thread. After [`retry`](Tx::retry), or when another transaction
    /// owns a cell that this one needs, the future registers its waker and is pending. With
    /// [`max_attempts`](Self::max_attempts) and no deadline it does not wait for an owner: the
    /// attempt counts as aborted after a short spin, as in [`run`](Self::run).
    ///
    /// A deadline is checked when the future is polled, and does not wake it, because there is no
    /// timer thread. The clock of a [timeout](Self::timeout) starts with the first poll. Use the
    /// timer of the runtime where there is one:
    ///
    /// ```
    /// use std::time::Duration;
    /// use latchwork::{Transaction, VersionedCell};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let stock = VersionedCell::new(0_u32);
    /// let take = Transaction::builder().run_async(|tx| match *tx.read(&stock)? {
    ///     0 => tx.retry(),
    ///     n => tx.set(&stock, n - 1),
    /// });
    /// let taken = tokio::time::timeout(Duration::from_millis(5), take).await;
    /// assert!(taken.is_err());
    /// # });
    /// ```
    ///
    /// # Errors
    /// The future returns a [`TxError`] as [`run`](Self::run) does.
    ///
    /// # Panics
    /// The future panics if it is polled after it was ready, or after a poll that has panicked. It
    /// panics where [`atomically`](crate::atomically) panics inside the closure.
    ///
    /// # Cancel safety
    /// Cancel safe: a future that is dropped before it was ready has written nothing, and owns no
    /// cell.
    ///
    /// # Examples
    /// ```
    /// use latchwork::{Transaction, VersionedCell};
    ///
    /// let mailbox = VersionedCell::new(Some("hello"));
    /// let letter = pollster::block_on(Transaction::builder().run_async(|tx| {
    ///     let Some(letter) = *tx.read(&mailbox)? else { return tx.retry() };
    ///     tx.set(&mailbox, None)?;
    ///     Ok(letter)
    /// }));
    /// assert_eq!(letter, Ok("hello"));
    /// ```
    pub fn run_async<'env, R, F>(&self, f: F) -> TransactionFuture<'env, R, F>
    where
        F: for<'t> FnMut(&mut Tx<'t, 'env>) -> Result<R, Abort>,
    {
        TransactionFuture::new(*self, f)
    }

    /// Returns a future that runs as that of [`run_async`](Self::run_async), for closures with
    /// errors of their own.
    ///
    /// # Blocking
    /// `poll` does not block the thread: see [`run_async`](Self::run_async).
    ///
    /// # Errors
    /// The future returns a [`TxError`] as [`try_run`](Self::try_run) does.
    ///
    /// # Panics
    /// The future panics where that of [`run_async`](Self::run_async) does.
    ///
    /// # Cancel safety
    /// Cancel safe: a future that is dropped before it was ready has written nothing, and owns no
    /// cell.
    ///
    /// # Examples
    /// ```
    /// use latchwork::{Transaction, TxError, VersionedCell, txn::OrAbort};
    ///
    /// let account = VersionedCell::new(10_u32);
    /// let withdrawal = Transaction::builder().try_run_async(|tx| {
    ///     let balance = *tx.read(&account)?;
    ///     let left = balance.checked_sub(11).ok_or("no funds").or_abort()?;
    ///     Ok(tx.set(&account, left)?)
    /// });
    /// assert_eq!(pollster::block_on(withdrawal), Err(TxError::Aborted("no funds")));
    /// ```
    pub fn try_run_async<'env, R, E, F>(&self, f: F) -> TryTransactionFuture<'env, R, E, F>
    where
        F: for<'t> FnMut(&mut Tx<'t, 'env>) -> Result<R, TxAbort<E>>,
    {
        TryTransactionFuture::new(*self, f)
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
