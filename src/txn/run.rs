//! Running a closure until it commits.

use core::num::NonZeroU32;
use std::time::{Duration, Instant};

use super::attempt::{Attempt, Outlook, Timer};
use super::error::{Abort, TxAbort, TxError};
use super::future::{TransactionFuture, TryTransactionFuture};
use super::ladder::{self, Ladder, Loss, OnOwner};
use super::retry::{Enlisted, Sleeper};
use super::{Tx, stats};
use crate::cell::limit::{TimeLimit, earlier, has_passed};
use crate::cell::wait::Place;
use crate::reclaim;
use crate::reclaim::inside::{self, Inside};
use crate::wait::Notify;

/// How often and how long a transaction is tried, and its label.
///
/// It is `Copy`, and can be kept and run any number of times, also in a `const` or a `static`.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use latchwork::{Transaction, TxError, VersionedCell};
///
/// const TAKE: Transaction = Transaction::builder().label("take").timeout(Duration::from_millis(5));
///
/// let stock = VersionedCell::new(0_u32);
/// // Waits for stock, but not indefinitely.
/// let taken = TAKE.run(|tx| match *tx.read(&stock)? {
///     0 => tx.retry(),
///     n => tx.set(&stock, n - 1),
/// });
/// assert_eq!(taken, Err(TxError::TimedOut));
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[doc(alias = "STM")]
#[must_use = "a transaction does nothing until it is run"]
pub struct Transaction {
    max_attempts: Option<NonZeroU32>,
    limit: TimeLimit,
    label: Option<&'static str>,
}

/// Why one attempt did not end the transaction.
pub(super) enum Setback {
    /// It was lost, at the cell of this address if at one.
    Lost(Loss, Option<usize>),
    /// Another transaction owns the cell of this address, and notifies the task when it ends; `None` if it has ended.
    Owned(usize, Option<Place>),
    /// The closure waits for a change of what it has read; no places if there has been one.
    Waits(Option<Enlisted>, Option<Timer>),
    TimedOut,
    ReadNothing,
}

impl Transaction {
    /// Returns a transaction that has no limits and no label.
    pub const fn builder() -> Self {
        Transaction {
            max_attempts: None,
            limit: TimeLimit::NONE,
            label: None,
        }
    }

    /// Gives up after this many lost attempts.
    ///
    /// # Panics
    /// Panics if `attempts` is 0.
    pub const fn max_attempts(mut self, attempts: u32) -> Self {
        let attempts = NonZeroU32::new(attempts);
        self.max_attempts =
            Some(attempts.expect(
                "a transaction needs at least one attempt; pass 1 or more to `max_attempts`",
            ));
        self
    }

    /// Gives up at this point in time. The first attempt is always made, even after the deadline.
    ///
    /// The deadline is checked once an attempt is lost, and it ends each wait: for a change after
    /// [`retry`](Tx::retry), and for another transaction that owns a cell. It does not interrupt the closure.
    pub const fn deadline(mut self, deadline: Instant) -> Self {
        self.limit.deadline = Some(deadline);
        self
    }

    /// As [`deadline`](Self::deadline), this long after the start of each run. The earlier end counts if both are set.
    ///
    /// The clock starts in [`run`](Self::run) and [`try_run`](Self::try_run), and with the first poll of a future. A
    /// timeout that overflows [`Instant`] waits indefinitely.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.limit.timeout = Some(timeout);
        self
    }

    /// Counts how this transaction ends under a name, in [`stats`](crate::stats()).
    pub const fn label(mut self, label: &'static str) -> Self {
        self.label = Some(label);
        self
    }

    /// Runs the closure until its writes commit, and returns the closure's result. See
    /// [`atomically`](crate::atomically).
    ///
    /// # Blocking
    /// Blocks as [`atomically`](crate::atomically) does. A [deadline](Self::deadline) or a [timeout](Self::timeout) ends
    /// each wait, including the wait for a transaction that owns a cell and whose closure blocks. A transaction with
    /// [`max_attempts`](Self::max_attempts) and without a deadline does not wait for such an owner: after a short spin
    /// the attempt counts as lost, as one that was overtaken. No limit interrupts the closure itself, or what the
    /// closure waits for: a write of another cell, say, or a transaction inside of it, which has its own limits.
    ///
    /// # Errors
    /// Returns a [`TxError`]; nothing is written then.
    ///
    /// # Deadlocks
    /// See [Other threads inside the closure](Tx#other-threads-inside-the-closure).
    ///
    /// # Examples
    /// See [`Transaction`].
    pub fn run<'env, R>(
        &self,
        mut f: impl for<'t> FnMut(&mut Tx<'t, 'env>) -> Result<R, Abort>,
    ) -> Result<R, TxError> {
        self.try_run(|tx| f(tx).map_err(TxAbort::Attempt))
    }

    /// As [`run`](Self::run), for closures that may end the transaction with an error of their own.
    ///
    /// [`OrAbort`](crate::txn::OrAbort) turns such an error into a [`TxAbort`], for `?`.
    ///
    /// # Errors
    /// Returns a [`TxError`]; nothing is written then.
    ///
    /// # Examples
    /// ```
    /// use latchwork::{Transaction, TxError, VersionedCell};
    ///
    /// let account = VersionedCell::new(10_u32);
    /// let result = Transaction::builder().try_run(|tx| {
    ///     let balance = *tx.read(&account)?;
    ///     let Some(left) = balance.checked_sub(11) else {
    ///         return tx.abort("no funds");
    ///     };
    ///     tx.set(&account, left)?;
    ///     Ok(left)
    /// });
    /// assert_eq!(result, Err(TxError::Aborted("no funds")));
    /// ```
    pub fn try_run<'env, R, E>(
        &self,
        mut f: impl for<'t> FnMut(&mut Tx<'t, 'env>) -> Result<R, TxAbort<E>>,
    ) -> Result<R, TxError<E>> {
        let first = self.begin(OnOwner::Wait);
        self.run_from(&first, &mut f)
    }

    /// As [`try_run`](Self::try_run), without limits and without a look at them.
    #[inline]
    pub(super) fn run_without_limits<'env, R>(
        &self,
        mut f: impl for<'t> FnMut(&mut Tx<'t, 'env>) -> Result<R, Abort>,
    ) -> Result<R, TxError> {
        self.run_from(&ladder::FIRST, &mut |tx: &mut Tx<'_, 'env>| {
            f(tx).map_err(TxAbort::Attempt)
        })
    }

    /// What the first attempt starts from, now.
    pub(super) fn begin(&self, on_owner: OnOwner) -> Ladder {
        let deadline = self.limit.start();
        match (deadline, self.max_attempts) {
            (None, Some(_)) => Ladder::new(None, OnOwner::Lose),
            _ => Ladder::new(deadline, on_owner),
        }
    }

    fn run_from<'env, R, E>(
        &self,
        first: &Ladder,
        f: &mut impl for<'t> FnMut(&mut Tx<'t, 'env>) -> Result<R, TxAbort<E>>,
    ) -> Result<R, TxError<E>> {
        let mut ladder = None;
        let mut sleeper = None;
        loop {
            let now = ladder.as_deref().unwrap_or(first);
            let notify = || sleeper.get_or_insert_with(Sleeper::new).notify();
            match self.attempt(now, f, notify) {
                Ok(result) => return result.map_err(|error| self.fail(TxError::Aborted(error))),
                Err(setback) => self
                    .go_on_after(setback, first, &mut ladder, &sleeper)
                    .map_err(|error| self.fail(error))?,
            }
        }
    }

    /// The transaction ends without a commit.
    #[cold]
    pub(super) fn fail<E>(&self, error: TxError<E>) -> TxError<E> {
        stats::count_error(self.label, &error);
        error
    }

    /// A future of the transaction was dropped before it was ready.
    pub(super) fn cancel(&self) {
        stats::count_cancelled(self.label);
    }

    /// Waits for as long as there is reason to, on this thread.
    #[cold]
    #[inline(never)]
    fn go_on_after<E>(
        &self,
        setback: Setback,
        first: &Ladder,
        ladder: &mut Option<Box<Ladder>>,
        sleeper: &Option<Sleeper>,
    ) -> Result<(), TxError<E>> {
        let ladder = ladder.get_or_insert_with(|| Box::new(first.again()));
        match setback {
            Setback::Lost(loss, at) => self.step_back(ladder, loss, at),
            Setback::Owned(..) => unreachable!("a thread waits inside the attempt"),
            Setback::Waits(places, timer) => {
                ladder.note_timer(timer);
                let Some(places) = places else {
                    return ladder.check_deadline();
                };
                let Some(places) = places.settle() else {
                    return Err(TxError::RetryWithoutReads);
                };
                let timer = timer.and_then(|timer| timer.until);
                let deadline = earlier(ladder.deadline, timer);
                inside::check_unpinned(deadline);
                let sleeper = sleeper.as_ref().expect("it was to be notified by it");
                let woken = sleeper.sleep(deadline);
                drop(places);
                // Once the time of a `retry_for` is over, the closure runs again.
                if woken || (timer.is_some() && deadline == timer) {
                    Ok(())
                } else {
                    Err(TxError::TimedOut)
                }
            }
            Setback::TimedOut => Err(TxError::TimedOut),
            Setback::ReadNothing => Err(TxError::RetryWithoutReads),
        }
    }

    /// Returns a future that runs the closure when it is polled, and is ready once the closure's writes commit.
    ///
    /// The closure runs inside `poll`, from its beginning to its end. Between two polls the future holds no cell and
    /// keeps no value from being dropped, and may move to another thread.
    ///
    /// # Blocking
    /// `poll` does not block the thread: after [`retry`](Tx::retry), and where another transaction owns a cell that this
    /// one needs, the future registers its waker and is pending. With [`max_attempts`](Self::max_attempts) and no
    /// deadline it is not pending for an owner: the attempt counts as lost after a short spin, as in [`run`](Self::run).
    ///
    /// A deadline is checked when the future is polled, and does not wake it: there is no timer thread. The clock of a
    /// [timeout](Self::timeout) starts with the first poll. Where a runtime has timers, use its own:
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
    /// The future panics if it is polled after it was ready, or after a poll that has panicked. It panics where
    /// [`atomically`](crate::atomically) panics inside the closure.
    ///
    /// # Cancel safety
    /// A future that is dropped has written nothing unless it was ready.
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

    /// As [`run_async`](Self::run_async), for closures that may end the transaction with an error of their own.
    ///
    /// # Errors
    /// The future returns a [`TxError`] as [`try_run`](Self::try_run) does.
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

    /// Runs the closure once. `Err`: it is not the end.
    #[inline(always)]
    pub(super) fn attempt<'env, R, E>(
        &self,
        ladder: &Ladder,
        f: &mut impl for<'t> FnMut(&mut Tx<'t, 'env>) -> Result<R, TxAbort<E>>,
        notify: impl FnMut() -> Notify,
    ) -> Result<Result<R, E>, Setback> {
        let unwinds = Unwinds(self);
        reclaim::with(|local| {
            local.tidy();
            let mut tx = Tx::new(Attempt::new(local, ladder));
            let result = {
                let _inside = Inside::closure(self.label);
                f(&mut tx)
            };
            let attempt = &mut tx.attempt;
            let ended = match result {
                Ok(result) if attempt.commit().is_ok() => {
                    core::mem::forget(unwinds);
                    stats::count_commit(self.label);
                    tx.attempt.conclude();
                    return Ok(Ok(result));
                }
                // What the closure relied on was so at one moment.
                Err(TxAbort::Transaction(error)) if attempt.outlook.is_running() => {
                    attempt.roll_back();
                    Ok(Err(error))
                }
                _ => Err(attempt.end_without_commit(notify)),
            };
            core::mem::forget(unwinds);
            stats::count_end(self.label, attempt.outlook);
            ended
        })
    }

    /// Counts a loss, and waits a little, if there is to be another attempt.
    #[cold]
    pub(super) fn step_back<E>(
        &self,
        ladder: &mut Ladder,
        loss: Loss,
        at: Option<usize>,
    ) -> Result<(), TxError<E>> {
        ladder.lose(loss, at);
        if self
            .max_attempts
            .is_some_and(|max| ladder.losses >= max.get())
        {
            return Err(TxError::Contended {
                attempts: ladder.losses,
                reasons: ladder.reasons(),
            });
        }
        ladder.check_deadline()?;
        ladder.step_back();
        Ok(())
    }
}

/// Counts a transaction that a panic ends. Forgotten where none does.
struct Unwinds<'a>(&'a Transaction);

impl Drop for Unwinds<'_> {
    #[cold]
    fn drop(&mut self) {
        stats::count_panic(self.0.label);
    }
}

impl Ladder {
    pub(super) fn check_deadline<E>(&self) -> Result<(), TxError<E>> {
        match has_passed(self.deadline) {
            true => Err(TxError::TimedOut),
            false => Ok(()),
        }
    }

    /// The closure has waited for a limited time: from its first such wait on.
    pub(super) fn note_timer(&mut self, timer: Option<Timer>) {
        if let Some(timer) = timer {
            self.retries_since = Some(timer.since);
        }
    }
}

impl Attempt<'_> {
    /// Rolls an attempt back that was lost or wants to wait, and returns what follows.
    #[cold]
    fn end_without_commit(&mut self, mut notify: impl FnMut() -> Notify) -> Setback {
        self.roll_back();
        match self.outlook {
            Outlook::Retry(timer) if self.has_read() => Setback::Waits(self.enlist(notify), timer),
            Outlook::Retry(_) => Setback::ReadNothing,
            Outlook::Owned(owner, at) => {
                Setback::Owned(at, self.enlist_with_owner(owner, notify()))
            }
            Outlook::Lost(loss, at) => Setback::Lost(loss, at),
            Outlook::TimedOut => Setback::TimedOut,
            // The closure has returned an `Abort` that was not its own.
            Outlook::Running | Outlook::RunningUntil(_) => Setback::Lost(Loss::Overtaken, None),
        }
    }
}
