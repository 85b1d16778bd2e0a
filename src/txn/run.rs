//! The loop that runs a closure until it commits.

use core::num::NonZeroU32;
use std::time::{Duration, Instant};

use super::attempt::{Attempt, Outlook, Timer};
use super::error::{Abort, TxAbort, TxError};
use super::ladder::{self, Ladder, Loss, OnOwner};
use super::log::Lease;
use super::retry::Enlisted;
use super::{Tx, stats};
use crate::cell::limit::{TimeLimit, earlier, has_passed};
use crate::mvcc::enlist::{enlist_with_lock, enlist_with_owner};
use crate::park::{Notify, Wait};
use crate::reclaim;
use crate::reclaim::inside::{self, Inside};
use crate::sync::{Parker, Unparker};

/// Configures a transaction: its limits and its label.
///
/// It is `Copy`, and can be stored and run any number of times, including in a `const` or a
/// `static`.
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

/// The reason for which an attempt did not end the transaction.
pub(super) enum Setback {
    /// The attempt aborted, at the cell of this address if at one.
    Lost(Loss, Option<usize>),
    /// Another transaction owns the cell of this address, or a lock its entry, and notifies the
    /// waiter when it ends; `None` if it has ended.
    Owned(usize, Option<Wait>),
    /// The closure waits for a change of its read set; no waits if there has been one.
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

    /// Ends the transaction with [`TxError::Contended`] after this many aborted attempts.
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

    /// Ends the transaction with [`TxError::TimedOut`] after this point in time.
    ///
    /// The first attempt is always made, even after the deadline. The deadline is checked after
    /// each aborted attempt. It also ends each wait: for a change after [`retry`](Tx::retry), and
    /// for another transaction that owns a cell. It does not interrupt the closure.
    pub const fn deadline(mut self, deadline: Instant) -> Self {
        self.limit.deadline = Some(deadline);
        self
    }

    /// Sets a [`deadline`](Self::deadline) this long after the start of each run.
    ///
    /// The earlier end counts if both are set. The clock starts in [`run`](Self::run) and
    /// [`try_run`](Self::try_run), and with the first poll of a future. A timeout that overflows
    /// [`Instant`] waits indefinitely.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.limit.timeout = Some(timeout);
        self
    }

    /// Counts the outcomes of this transaction under a name, in [`stats`](crate::stats()).
    pub const fn label(mut self, label: &'static str) -> Self {
        self.label = Some(label);
        self
    }

    /// Runs the closure as [`atomically`](crate::atomically) does, within the limits of this
    /// transaction.
    ///
    /// # Blocking
    /// Blocks the thread as [`atomically`](crate::atomically) does. On a current-thread runtime it
    /// can hang indefinitely; use [`run_async`](Self::run_async) in tasks.
    ///
    /// A [deadline](Self::deadline) or a [timeout](Self::timeout) ends each wait, including the
    /// wait for a transaction whose closure blocks. A transaction with
    /// [`max_attempts`](Self::max_attempts) and without a deadline does not wait for such an owner:
    /// after a short spin the attempt counts as aborted. No limit interrupts the closure itself. A
    /// direct write or a nested transaction inside the closure has its own limits.
    ///
    /// # Errors
    /// Returns a [`TxError`] if the transaction ends without a commit. No cell is written then.
    ///
    /// # Panics
    /// Panics as [`atomically`](crate::atomically) does. A retry without reads is an error instead.
    ///
    /// # Deadlocks
    /// See [Other threads inside the closure](Tx#other-threads-inside-the-closure).
    ///
    /// # Examples
    /// See [`Transaction`].
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn run<'env, R>(
        &self,
        mut f: impl for<'t> FnMut(&mut Tx<'t, 'env>) -> Result<R, Abort>,
    ) -> Result<R, TxError> {
        self.try_run(|tx| f(tx).map_err(TxAbort::Attempt))
    }

    /// Runs a closure that may end the transaction with an error of its own.
    ///
    /// In a closure of `try_run`, [`tx.abort(error)`](Tx::abort) ends the transaction with an
    /// error, and [`tx.require(condition)?`](Tx::require) or `tx.retry()?` waits for a change. One
    /// closure may do both: see [Refuse or wait](crate::docs::how_to::transfer#refuse-or-wait).
    /// [`OrAbort`](crate::txn::OrAbort) converts an error into a [`TxAbort`], for `?`.
    ///
    /// # Blocking
    /// Blocks the thread as [`run`](Self::run) does. Use [`try_run_async`](Self::try_run_async) in
    /// tasks.
    ///
    /// # Errors
    /// Returns a [`TxError`] if the transaction ends without a commit. No cell is written then.
    ///
    /// # Panics
    /// Panics as [`run`](Self::run) does.
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
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn try_run<'env, R, E>(
        &self,
        mut f: impl for<'t> FnMut(&mut Tx<'t, 'env>) -> Result<R, TxAbort<E>>,
    ) -> Result<R, TxError<E>> {
        let first = self.begin(OnOwner::Wait);
        self.run_from(&first, &mut f)
    }

    /// Runs as [`try_run`](Self::try_run) does, without any check of limits.
    #[cfg_attr(debug_assertions, track_caller)]
    #[inline]
    pub(super) fn run_without_limits<'env, R>(
        &self,
        mut f: impl for<'t> FnMut(&mut Tx<'t, 'env>) -> Result<R, Abort>,
    ) -> Result<R, TxError> {
        self.run_from(&ladder::FIRST, &mut |tx: &mut Tx<'_, 'env>| {
            f(tx).map_err(TxAbort::Attempt)
        })
    }

    /// Returns the escalation state of the first attempt, and starts the clock.
    pub(super) fn begin(&self, on_owner: OnOwner) -> Ladder {
        let deadline = self.limit.start();
        match (deadline, self.max_attempts) {
            (None, Some(_)) => Ladder::new(None, OnOwner::Lose),
            _ => Ladder::new(deadline, on_owner),
        }
    }

    /// Runs the closure until the transaction ends. This function is inlined so that the checks of
    /// the limits and of the label are constants in [`atomically`](crate::atomically()).
    #[cfg_attr(debug_assertions, track_caller)]
    #[inline]
    fn run_from<'env, R, E>(
        &self,
        first: &Ladder,
        f: &mut impl for<'t> FnMut(&mut Tx<'t, 'env>) -> Result<R, TxAbort<E>>,
    ) -> Result<R, TxError<E>> {
        let mut ladder = None;
        let mut parker = None;
        loop {
            let now = ladder.as_deref().unwrap_or(first);
            let notify = || {
                let (_, unparker) = parker.get_or_insert_with(Parker::new);
                Notify::Thread(unparker.clone())
            };
            match self.attempt(now, f, notify) {
                Ok(result) => return result.map_err(|error| self.fail(TxError::Aborted(error))),
                Err(setback) => self
                    .go_on_after(setback, first, &mut ladder, &parker)
                    .map_err(|error| self.fail(error))?,
            }
        }
    }

    /// Counts a transaction that ends without a commit.
    #[cold]
    pub(super) fn fail<E>(&self, error: TxError<E>) -> TxError<E> {
        stats::count_error(self.label, &error);
        error
    }

    /// Counts a future that was dropped before it was ready.
    pub(super) fn cancel(&self) {
        stats::count_cancelled(self.label);
    }

    /// Waits on this thread for as long as the setback requires.
    #[cfg_attr(debug_assertions, track_caller)]
    #[cold]
    #[inline(never)]
    fn go_on_after<E>(
        &self,
        setback: Setback,
        first: &Ladder,
        ladder: &mut Option<Box<Ladder>>,
        parker: &Option<(Parker, Unparker)>,
    ) -> Result<(), TxError<E>> {
        let ladder = ladder.get_or_insert_with(|| Box::new(first.again()));
        let parker = || &parker.as_ref().expect("made to be notified").0;
        match setback {
            Setback::Lost(loss, at) => self.step_back(ladder, loss, at),
            // For a lock: a thread waits for an owner inside the attempt.
            Setback::Owned(at, wait) => {
                ladder.wait_for_owner(at);
                let Some(wait) = wait else {
                    return ladder.check_deadline();
                };
                match wait.block_on(parker(), ladder.deadline) {
                    true => Ok(()),
                    false => Err(TxError::TimedOut),
                }
            }
            Setback::Waits(waits, timer) => {
                ladder.note_timer(timer);
                let Some(waits) = waits else {
                    return ladder.check_deadline();
                };
                let Some(waits) = waits.settle() else {
                    return Err(TxError::RetryWithoutReads);
                };
                let timer = timer.and_then(|timer| timer.until);
                let deadline = earlier(ladder.deadline, timer);
                inside::check_unpinned(self.label, deadline);
                let woken = Wait::block_on_any(&waits, parker(), deadline);
                drop(waits);
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

    /// Runs the closure once. `Err`: the transaction has not ended.
    #[inline(always)]
    pub(super) fn attempt<'env, R, E>(
        &self,
        ladder: &Ladder,
        f: &mut impl for<'t> FnMut(&mut Tx<'t, 'env>) -> Result<R, TxAbort<E>>,
        notify: impl FnMut() -> Notify,
    ) -> Result<Result<R, E>, Setback> {
        reclaim::with(|local| {
            // The closure creates the guard: a captured guard is copied through memory.
            let unwinds = Unwinds(self);
            local.collect_some();
            // Created before the pin: its drop runs user code, which must not be pinned.
            let mut lease = Lease::new();
            let log = lease.lend();
            let pin = local.pin();
            let mut tx = Tx::new(Attempt::new(local, ladder, log, &pin));
            let result = {
                let _inside = Inside::closure(self.label);
                f(&mut tx)
            };
            let attempt = &mut tx.attempt;
            let ended = match result {
                Ok(result) if attempt.commit().is_ok() => {
                    core::mem::forget(unwinds);
                    stats::count_commit(self.label);
                    tx.conclude();
                    drop(pin);
                    lease.end(local);
                    return Ok(Ok(result));
                }
                // The reads of the closure were consistent.
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

    /// Counts an aborted attempt, and waits a little if another attempt follows.
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

/// Counts a transaction that a panic ends. It is forgotten if no panic does.
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

    /// Records that the closure waits for a limited time, which starts with its first such wait.
    pub(super) fn note_timer(&mut self, timer: Option<Timer>) {
        if let Some(timer) = timer {
            self.retries_since = Some(timer.since);
        }
    }
}

impl Attempt<'_> {
    /// Rolls back an attempt that aborted or must wait, and returns the next step.
    #[cold]
    fn end_without_commit(&mut self, mut notify: impl FnMut() -> Notify) -> Setback {
        self.roll_back();
        match self.outlook {
            Outlook::Retry(timer) if self.has_read() => Setback::Waits(self.enlist(notify), timer),
            Outlook::Retry(_) => Setback::ReadNothing,
            // Pinned still, so that the owner is alive [X1] [X10].
            Outlook::Owned(owner, at) => Setback::Owned(at, enlist_with_owner(owner, notify())),
            Outlook::Locked(head) => {
                // The attempt holds nothing while it waits [V13].
                Setback::Owned(head.address(), enlist_with_lock(head, notify()))
            }
            Outlook::Lost(loss, at) => Setback::Lost(loss, at),
            Outlook::TimedOut => Setback::TimedOut,
            // The closure has returned an `Abort` of another attempt.
            Outlook::Running | Outlook::RunningUntil(_) => Setback::Lost(Loss::Overtaken, None),
        }
    }
}
