//! Running a closure until it commits.

use core::fmt;
use core::future::Future;
use core::marker::PhantomData;
use core::num::NonZeroU32;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::attempt::{Attempt, Outlook};
use super::error::{Abort, TxAbort, TxError};
use super::ladder::{self, Ladder, Loss};
use super::retry::{Places, Sleeper};
use super::{Tx, stats};
use crate::reclaim;
use crate::reclaim::inside::{self, Inside};
use crate::wait::Notify;

/// How often and how long a transaction is to be tried, and what it is called.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use latchwork::{Transaction, TxError, VersionedCell};
///
/// let stock = VersionedCell::new(0_u32);
/// let take = Transaction::builder().label("take").timeout(Duration::from_millis(5));
/// // Waits for stock, but not for ever.
/// let taken = take.run(|tx| match *tx.read(&stock)? {
///     0 => tx.retry(),
///     n => tx.set(&stock, n - 1),
/// });
/// assert_eq!(taken, Err(TxError::TimedOut));
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use = "a transaction does nothing until it is run"]
pub struct Transaction {
    max_attempts: Option<NonZeroU32>,
    deadline: Option<Instant>,
    label: Option<&'static str>,
}

/// Why one attempt did not end the transaction.
enum Setback {
    /// It was lost, at the cell of this address if at one.
    Lost(Loss, Option<usize>),
    /// The closure waits for a change of what it has read; `None` if there has been one.
    Waits(Option<Places>),
    ReadNothing,
}

impl Transaction {
    /// A transaction that is tried for ever.
    pub fn builder() -> Self {
        Self::default()
    }

    /// Gives up after this many lost attempts.
    ///
    /// # Panics
    /// If it is 0.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        let attempts = NonZeroU32::new(attempts);
        self.max_attempts = Some(attempts.expect("a transaction needs at least one attempt"));
        self
    }

    /// Gives up once an attempt is lost, or while it waits for a change, after this moment. The first attempt is always
    /// made.
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// As [`deadline`](Self::deadline), this long after now. A time too long to be told is for ever.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.deadline = Instant::now().checked_add(timeout);
        self
    }

    /// Counts this transaction's commits and aborts under a name, in [`stats`](crate::stats()).
    pub fn label(mut self, label: &'static str) -> Self {
        self.label = Some(label);
        self
    }

    /// Runs the closure until what it has done commits, and returns what it returns. See [`atomically`](crate::atomically).
    ///
    /// # Errors
    /// See [`TxError`]; nothing is written then.
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
    /// # Errors
    /// See [`TxError`]; nothing is written then.
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
        let mut ladder = None;
        let mut sleeper = None;
        loop {
            let now = ladder.as_deref().unwrap_or(&ladder::FIRST);
            let notify = || sleeper.get_or_insert_with(Sleeper::new).notify();
            match self.attempt(now, &mut f, notify) {
                Ok(result) => return result.map_err(TxError::Aborted),
                Err(setback) => self.go_on_after(setback, &mut ladder, &sleeper)?,
            }
        }
    }

    /// Waits for as long as there is reason to, on this thread.
    #[cold]
    #[inline(never)]
    fn go_on_after<E>(
        &self,
        setback: Setback,
        ladder: &mut Option<Box<Ladder>>,
        sleeper: &Option<Sleeper>,
    ) -> Result<(), TxError<E>> {
        match setback {
            Setback::Lost(loss, at) => {
                let ladder = ladder.get_or_insert_with(|| Box::new(Ladder::new()));
                self.step_back(ladder, loss, at)
            }
            Setback::Waits(None) => self.check_deadline(),
            Setback::Waits(Some(places)) => {
                inside::check_unpinned(self.deadline);
                let sleeper = sleeper.as_ref().expect("it was to be notified by it");
                let woken = sleeper.sleep(self.deadline);
                drop(places);
                if woken {
                    Ok(())
                } else {
                    Err(TxError::TimedOut)
                }
            }
            Setback::ReadNothing => Err(TxError::RetryWithoutReads),
        }
    }

    /// A future that runs the closure whenever it is polled for a reason, and is ready once it commits: a `retry` waits
    /// without blocking the thread.
    ///
    /// The closure runs inside `poll`, from its beginning to its end, and holds nothing while the future waits.
    ///
    /// # Cancel safety
    /// A future that is dropped has written nothing, unless it was ready.
    ///
    /// # Errors
    /// As [`run`](Self::run); a deadline is looked at when the future is polled, and does not wake it.
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
    pub fn run_async<'env, R, F>(&self, f: F) -> RunAsync<'env, R, F>
    where
        F: for<'t> FnMut(&mut Tx<'t, 'env>) -> Result<R, Abort>,
    {
        RunAsync {
            transaction: *self,
            f,
            ladder: Ladder::new(),
            places: None,
            env: PhantomData,
        }
    }

    /// Runs the closure once. `Err`: it is not the end.
    #[inline(always)]
    fn attempt<'env, R, E>(
        &self,
        ladder: &Ladder,
        f: &mut impl for<'t> FnMut(&mut Tx<'t, 'env>) -> Result<R, TxAbort<E>>,
        notify: impl FnMut() -> Notify,
    ) -> Result<Result<R, E>, Setback> {
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
                    stats::count_commit(self.label);
                    tx.attempt.conclude();
                    return Ok(Ok(result));
                }
                // What the closure relied on was so at one moment.
                Err(TxAbort::Transaction(error)) if attempt.outlook == Outlook::Running => {
                    attempt.roll_back();
                    Ok(Err(error))
                }
                _ => Err(attempt.end_without_commit(notify)),
            };
            stats::count_end(self.label, attempt.outlook);
            ended
        })
    }

    /// Counts a loss, and waits a little, if there is to be another attempt.
    #[cold]
    fn step_back<E>(
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
        self.check_deadline()?;
        ladder.step_back();
        Ok(())
    }

    fn check_deadline<E>(&self) -> Result<(), TxError<E>> {
        match self.deadline {
            Some(deadline) if Instant::now() >= deadline => Err(TxError::TimedOut),
            _ => Ok(()),
        }
    }
}

impl Attempt<'_> {
    /// Rolls an attempt back that was lost or wants to wait, and says what is to be done.
    #[cold]
    fn end_without_commit(&mut self, notify: impl FnMut() -> Notify) -> Setback {
        self.roll_back();
        match self.outlook {
            Outlook::Retry if self.has_read() => Setback::Waits(self.enlist(notify)),
            Outlook::Retry => Setback::ReadNothing,
            Outlook::Lost(loss, at) => Setback::Lost(loss, at),
            // The closure has returned an `Abort` that was not its own.
            Outlook::Running => Setback::Lost(Loss::Overtaken, None),
        }
    }
}

/// A transaction that runs when it is polled. Made by [`Transaction::run_async`].
///
/// # Examples
/// See [`Transaction::run_async`].
#[must_use = "futures do nothing unless polled"]
pub struct RunAsync<'env, R, F> {
    transaction: Transaction,
    f: F,
    ladder: Ladder,
    places: Option<Places>,
    env: PhantomData<Invariant<'env, R>>,
}

/// Neither longer nor shorter, as in `Tx`; and the result is only made.
type Invariant<'env, R> = (&'env mut &'env (), fn() -> R);

// The closure is never pinned.
impl<R, F> Unpin for RunAsync<'_, R, F> {}

impl<'env, R, F> Future for RunAsync<'env, R, F>
where
    F: for<'t> FnMut(&mut Tx<'t, 'env>) -> Result<R, Abort>,
{
    type Output = Result<R, TxError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        this.places = None;
        let notify = || Notify::Task(context.waker().clone());
        let f = &mut this.f;
        let mut f = |tx: &mut Tx<'_, 'env>| f(tx).map_err(TxAbort::Attempt);
        loop {
            let setback = match this.transaction.attempt(&this.ladder, &mut f, notify) {
                Ok(result) => return Poll::Ready(result.map_err(TxError::Aborted)),
                Err(setback) => setback,
            };
            match setback {
                Setback::Lost(loss, at) => {
                    this.transaction.step_back(&mut this.ladder, loss, at)?;
                }
                Setback::Waits(places) => {
                    this.transaction.check_deadline()?;
                    if places.is_some() {
                        this.places = places;
                        return Poll::Pending;
                    }
                }
                Setback::ReadNothing => return Poll::Ready(Err(TxError::RetryWithoutReads)),
            }
        }
    }
}

impl<R, F> fmt::Debug for RunAsync<'_, R, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunAsync")
            .field("transaction", &self.transaction)
            .field("is_waiting", &self.places.is_some())
            .finish_non_exhaustive()
    }
}
