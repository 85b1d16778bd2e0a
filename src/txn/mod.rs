//! Transactions over many cells: [`atomically`].
//!
//! A transaction reads cells as of one instant, buffers its writes, and commits them by one
//! compare-and-swap. [The protocol](crate::docs::internals::transactions) has the steps and the
//! rules that the code cites in brackets.

mod access;
mod aftermath;
mod attempt;
mod commit;
mod entry;
mod error;
pub(crate) mod few;
mod future;
mod ladder;
mod leave;
mod log;
mod retry;
mod run;
mod snapshot;
pub(crate) mod stats;
mod touched;
mod update_all;

use core::fmt;
use core::marker::PhantomData;
use std::time::Duration;

use attempt::Attempt;
pub use error::{Abort, AbortReasons, OrAbort, TxAbort, TxError};
pub(crate) use few::restore;
pub use future::{TransactionFuture, TryTransactionFuture};
pub use run::Transaction;
pub use snapshot::{View, snapshot};
pub use stats::LabelStats;
pub(crate) use touched::{Committed, Keeper};
pub use update_all::{CellSet, try_update_all, update_all};

use crate::cell::VersionedCell;
use crate::mvcc::Version;

/// Runs a closure as a transaction until it commits, and returns the result of the closure.
///
/// All reads of the closure are consistent: they return the values of one instant. All its writes
/// become visible together, at an instant at which its reads are still valid. Transactions are
/// strictly serialisable. The closure may run several times, so its side effects may happen several
/// times. Return a value, and act on it after the commit.
///
/// # Blocking
/// Reads do not wait for other threads. Two waits block the thread:
///
/// - After [`Tx::retry`], the thread sleeps until another thread changes a cell that the closure
///   has read.
/// - A transaction that repeatedly aborts escalates. After three aborts it owns the cells at which
///   it conflicted; after eight, all cells that it encounters. The oldest such transaction is never
///   aborted. A transaction or a write that needs one of its cells waits until it has ended,
///   including while its closure sleeps.
///
/// On a current-thread runtime both waits can hang indefinitely, because the other task never runs.
/// Use [`Transaction::run_async`] in tasks, which waits without blocking the thread. A
/// [`Transaction::timeout`] bounds both waits.
///
/// # Panics
/// - Panics if the closure panics. Every cell then keeps its value.
/// - Panics if the closure retries and no other thread could end the wait: see
///   [`TxError::RetryWithoutReads`].
/// - A direct write of a cell that this transaction owns panics inside the closure. So does a wait
///   for such a cell, or a nested transaction that needs it. This includes the destructors of
///   thread-locals.
/// - Panics after 2⁶¹ snapshots if the read set exceeds 16 cells.
///
/// # Deadlocks
/// Direct writes and nested transactions of the closure have the age of the outer transaction. They
/// wait for older transactions and abort newer ones, so nested closures cannot deadlock. Threads
/// for which the closure waits do not inherit that age: see [Other threads inside the
/// closure](Tx#other-threads-inside-the-closure). A nested transaction commits independently, even
/// if the outer one does not.
///
/// # Direct access
/// In debug builds, a direct access to a cell that this attempt has read or written panics inside
/// the closure. Such an access bypasses the transaction: a read returns the value of another
/// instant, and a write aborts the attempt. The message names the type of the value, the label of
/// the transaction and the source line. Other cells, other threads, nested transactions and
/// [`snapshot`] are not affected. Destructors and wakers that run after the attempt are not
/// affected either.
///
/// In debug builds, a thread that would sleep in [`Tx::retry`] panics while it keeps a
/// [`Versioned`](crate::cell::Versioned) or a [`ReadPin`](crate::cell::ReadPin). These hold back
/// the replaced values of all cells.
///
/// # Memory ordering
/// A transaction synchronises with each transaction whose writes it has read, and with all that
/// committed before it began.
///
/// # Source
/// Descriptors that only owners install follow Harris, Fraser and Pratt (2002) and Guerraoui et al.
/// (2020). Timestamps from a clock that only snapshots advance follow Wei et al. (2021). Wound-wait
/// by age follows Rosenkrantz et al. (1978).
///
/// # Examples
/// ```
/// use latchwork::{VersionedCell, atomically};
///
/// let (from, to) = (VersionedCell::new(10), VersionedCell::new(0));
/// let amount = 4;
/// atomically(|tx| {
///     let balance = *tx.read(&from)?;
///     if balance < amount {
///         return tx.retry(); // sleeps until `from` changes
///     }
///     tx.set(&from, balance - amount)?;
///     tx.update(&to, |n| n + amount)
/// });
/// assert_eq!((from.get(), to.get()), (6, 4));
/// ```
///
/// The compiler rejects a cell that is created in the closure, because it would not live until the
/// commit:
/// ```compile_fail,E0597
/// use latchwork::{VersionedCell, atomically};
/// atomically(|tx| {
///     let cell = VersionedCell::new(0);
///     tx.set(&cell, 1)
/// });
/// ```
/// ```
/// use latchwork::{VersionedCell, atomically};
/// let cell = VersionedCell::new(0);
/// atomically(|tx| tx.set(&cell, 1));
/// ```
///
/// It also rejects a reference to a value that leaves the closure:
/// ```compile_fail
/// use latchwork::{VersionedCell, atomically};
/// let cell = VersionedCell::new(String::new());
/// let text: &String = atomically(|tx| tx.read(&cell));
/// ```
/// ```
/// use latchwork::{VersionedCell, atomically};
/// let cell = VersionedCell::new(String::new());
/// let text: String = atomically(|tx| Ok(tx.read(&cell)?.clone()));
/// ```
#[doc(alias = "STM")]
#[cfg_attr(debug_assertions, track_caller)]
pub fn atomically<'env, R>(f: impl for<'t> FnMut(&mut Tx<'t, 'env>) -> Result<R, Abort>) -> R {
    match Transaction::builder().run_without_limits(f) {
        Ok(result) => result,
        Err(error @ TxError::RetryWithoutReads) => panic!("{error}"),
        Err(_) => unreachable!("the transaction has no limits"),
    }
}

/// Accesses cells on behalf of one attempt of a transaction. See [`atomically`].
///
/// The references that it returns are valid until the attempt ends. Once one of its methods has
/// returned an [`Abort`], all further calls do, and the attempt cannot commit.
///
/// # Functions that work inside a transaction
/// A function that accesses a cell through a `Tx` has this signature:
///
/// ```
/// use latchwork::{Abort, Tx, VersionedCell, atomically};
///
/// fn take<'t, T: Default + Clone + Send + Sync + 'static>(
///     tx: &mut Tx<'t, '_>,
///     cell: &'t VersionedCell<T>,
/// ) -> Result<T, Abort> {
///     Ok(tx.swap(cell, T::default())?.clone())
/// }
///
/// let (a, b) = (VersionedCell::new(3), VersionedCell::new(4));
/// let sum = atomically(|tx| Ok(take(tx, &a)? + take(tx, &b)?));
/// assert_eq!((sum, a.get(), b.get()), (7, 0, 0));
/// ```
///
/// # What does not belong to the transaction
/// Only accesses through `Tx` belong to the transaction. A nested call of [`atomically`] commits
/// independently, and stays committed if the outer attempt aborts. To compose functions, pass the
/// `Tx`. A panic that the closure catches does not undo earlier writes. Make such writes inside
/// [`or_else`](Self::or_else), which undoes the writes of a part that panics.
///
/// # Other threads inside the closure
/// A `Tx` belongs to its thread. The closure of a transaction that has escalated owns cells while
/// it runs, and a direct write of such a cell on the same thread panics. The crate cannot detect
/// that another thread works for the closure.
///
/// A closure may wait for other threads: in [`std::thread::scope`], `rayon::join`, a parallel
/// iterator or on a channel. If one of these threads needs a cell that the transaction owns, both
/// wait indefinitely. This happens only after an escalation, so tests without contention pass. Such
/// threads may only read cells directly and use snapshots.
///
/// Read the inputs before the parallel part, return its results, and write them through the `Tx`.
/// Or run the parallel part outside of the transaction, and [`check`](Self::check) the versions of
/// its inputs.
///
/// # Examples
/// A `Tx` cannot leave the closure:
/// ```compile_fail
/// let mut leaked = None;
/// latchwork::atomically(|tx| {
///     leaked = Some(tx);
///     Ok(())
/// });
/// ```
/// ```
/// let mut seen = None;
/// let cell = latchwork::VersionedCell::new(1);
/// latchwork::atomically(|tx| {
///     seen = Some(*tx.read(&cell)?);
///     Ok(())
/// });
/// ```
pub struct Tx<'t, 'env: 't> {
    attempt: Attempt<'t>,
    scope: PhantomData<&'t mut &'t ()>,
    env: PhantomData<&'env mut &'env ()>,
}

impl<'t, 'env: 't> Tx<'t, 'env> {
    #[inline(always)]
    fn new(attempt: Attempt<'t>) -> Self {
        Tx {
            attempt,
            scope: PhantomData,
            env: PhantomData,
        }
    }

    /// Ends an attempt that has committed.
    #[inline(always)]
    fn conclude(self) {
        self.attempt.conclude();
    }

    /// Returns the value of a cell: the value that this attempt has written, or else the committed
    /// one.
    ///
    /// # Blocking
    /// Does not wait for other threads, unless the transaction has escalated: see [`atomically`].
    ///
    /// # Errors
    /// Returns an [`Abort`] if another thread has changed an earlier read of this attempt, so that
    /// no instant has both values.
    ///
    /// # Examples
    /// ```
    /// use latchwork::{VersionedCell, atomically};
    /// let (a, b) = (VersionedCell::new(1), VersionedCell::new(2));
    /// assert_eq!(atomically(|tx| Ok(tx.read(&a)? + tx.read(&b)?)), 3);
    /// ```
    #[inline]
    pub fn read<T: Send + Sync + 'static>(
        &mut self,
        cell: &'t VersionedCell<T>,
    ) -> Result<&'t T, Abort> {
        Ok(self.attempt.value(cell)?.1)
    }

    /// Records a value to write at the commit. The last value that is recorded for a cell is
    /// written.
    ///
    /// # Errors
    /// Returns an [`Abort`] if the attempt has already ended. The value is then dropped.
    ///
    /// # Examples
    /// ```
    /// use latchwork::{VersionedCell, atomically};
    /// let cell = VersionedCell::new(1);
    /// atomically(|tx| {
    ///     tx.set(&cell, 2)?;
    ///     assert_eq!(*tx.read(&cell)?, 2);
    ///     tx.set(&cell, 3)
    /// });
    /// assert_eq!((cell.get(), cell.version().get()), (3, 1));
    /// ```
    #[inline]
    pub fn set<T: Send + Sync + 'static>(
        &mut self,
        cell: &'t VersionedCell<T>,
        value: T,
    ) -> Result<(), Abort> {
        self.attempt.write(cell, value)
    }

    /// Records the result of `f`, which is called with the value that [`read`](Self::read) returns.
    ///
    /// # Errors
    /// Returns an [`Abort`] as [`read`](Self::read) does. `f` is not called then.
    ///
    /// # Panics
    /// Panics if `f` panics.
    ///
    /// # Examples
    /// ```
    /// use latchwork::{VersionedCell, atomically};
    /// let cell = VersionedCell::new(1);
    /// atomically(|tx| tx.update(&cell, |n| n + 1));
    /// assert_eq!(cell.get(), 2);
    /// ```
    #[inline]
    pub fn update<T: Send + Sync + 'static>(
        &mut self,
        cell: &'t VersionedCell<T>,
        f: impl FnOnce(&T) -> T,
    ) -> Result<(), Abort> {
        let (i, value) = self.attempt.value(cell)?;
        let value = f(value);
        self.attempt.write_at(i, value);
        Ok(())
    }

    /// Records a value to write, and returns the value that [`read`](Self::read) would have
    /// returned.
    ///
    /// # Errors
    /// Returns an [`Abort`] as [`read`](Self::read) does. The value is then dropped.
    ///
    /// # Examples
    /// ```
    /// use latchwork::{VersionedCell, atomically};
    /// let cell = VersionedCell::new("a".to_owned());
    /// let before = atomically(|tx| Ok(tx.swap(&cell, "b".to_owned())?.clone()));
    /// assert_eq!((before.as_str(), cell.get().as_str()), ("a", "b"));
    /// ```
    #[inline]
    pub fn swap<T: Send + Sync + 'static>(
        &mut self,
        cell: &'t VersionedCell<T>,
        value: T,
    ) -> Result<&'t T, Abort> {
        let (i, before) = self.attempt.value(cell)?;
        self.attempt.write_at(i, value);
        Ok(before)
    }

    /// Returns the version of the value that [`read`](Self::read) returns.
    ///
    /// If the transaction has written the cell, this is the version after the commit.
    ///
    /// # Errors
    /// Returns an [`Abort`] as [`read`](Self::read) does.
    ///
    /// # Examples
    /// ```
    /// use latchwork::{VersionedCell, atomically};
    /// let cell = VersionedCell::new(1);
    /// let version = atomically(|tx| {
    ///     tx.set(&cell, 2)?;
    ///     tx.version(&cell)
    /// });
    /// assert_eq!(version, cell.version());
    /// ```
    pub fn version<T: Send + Sync + 'static>(
        &mut self,
        cell: &'t VersionedCell<T>,
    ) -> Result<Version, Abort> {
        let i = self.attempt.observe(cell)?;
        Ok(self.attempt.version(i))
    }

    /// Returns whether a cell has this version. The answer holds until the commit.
    ///
    /// Writes of the transaction itself do not count.
    ///
    /// # Errors
    /// Returns an [`Abort`] as [`read`](Self::read) does.
    ///
    /// # Examples
    /// ```
    /// use latchwork::{VersionedCell, atomically};
    /// let (document, log) = (VersionedCell::new("draft"), VersionedCell::new(0));
    /// let etag = document.version();
    /// let updated = atomically(|tx| {
    ///     if !tx.check(&document, etag)? {
    ///         return Ok(false);
    ///     }
    ///     tx.set(&document, "final")?;
    ///     tx.update(&log, |n| n + 1)?;
    ///     Ok(true)
    /// });
    /// assert!(updated);
    /// ```
    pub fn check<T: Send + Sync + 'static>(
        &mut self,
        cell: &'t VersionedCell<T>,
        version: Version,
    ) -> Result<bool, Abort> {
        let i = self.attempt.observe(cell)?;
        Ok(self.attempt.seen(i).version() == version)
    }

    /// Ends the attempt, and runs the closure again once another thread has changed a cell of its
    /// read set.
    ///
    /// The closure must return the result of this call, and must check its condition again in each
    /// run. It may also run again without a change: if other code unparks the thread (by
    /// [`Thread::unpark`](std::thread::Thread::unpark)), or if a future is polled for another
    /// reason. Values that the attempt has recorded are dropped before the wait.
    ///
    /// In a closure of [`try_run`](Transaction::try_run), [`tx.abort(error)`](Self::abort) ends the
    /// transaction with an error, and [`tx.require(condition)?`](Self::require) or `tx.retry()?`
    /// waits for a change. One closure may do both: see [Refuse or
    /// wait](crate::docs::how_to::transfer#refuse-or-wait).
    ///
    /// # Blocking
    /// Blocks the thread, after the attempt, until another thread writes one of the cells. On a
    /// current-thread runtime it can hang indefinitely, because the task that writes never runs.
    /// Use [`run_async`](Transaction::run_async) in tasks. A [deadline](Transaction::deadline) ends
    /// the wait. While the thread sleeps, its pins hold back the replaced values of all cells;
    /// debug builds panic.
    ///
    /// # Errors
    /// Always returns an [`Abort`]. The transaction ends with [`TxError::RetryWithoutReads`], and
    /// [`atomically`] panics, if no other thread could end the wait. In this case the closure has
    /// read nothing, or only its own writes and cells inside of them. A cell that the closure only
    /// writes is not in its read set.
    ///
    /// A transaction waits for a cell at the address where the closure has read it. A destructor
    /// that moves a cell out of a buffered value, and keeps it, is not detected: the transaction
    /// then sleeps until its deadline. A cell behind an [`Arc`](std::sync::Arc) keeps its address.
    ///
    /// # Examples
    /// See [`atomically`].
    pub fn retry<R>(&mut self) -> Result<R, Abort> {
        Err(self.attempt.retry())
    }

    /// Returns `Ok` if the condition holds, and otherwise retries as [`retry`](Self::retry) does.
    ///
    /// Other libraries name this `check`; here [`check`](Self::check) compares a version.
    ///
    /// # Errors
    /// Returns an [`Abort`] if the condition does not hold, or if the attempt has ended already.
    ///
    /// # Examples
    /// ```
    /// use latchwork::{VersionedCell, atomically};
    /// let stock = VersionedCell::new(3);
    /// atomically(|tx| {
    ///     let n = *tx.read(&stock)?;
    ///     tx.require(n > 0)?; // sleeps until `stock` changes
    ///     tx.set(&stock, n - 1)
    /// });
    /// assert_eq!(stock.get(), 2);
    /// ```
    pub fn require(&mut self, condition: bool) -> Result<(), Abort> {
        self.attempt.check_running()?;
        match condition {
            true => Ok(()),
            false => self.retry(),
        }
    }

    /// Retries as [`retry`](Self::retry) does, and returns `Ok` once the transaction has waited for
    /// `timeout`.
    ///
    /// The time starts with the first wait of the transaction, and covers all its attempts. A later
    /// call in the same transaction uses the same start. Inside [`or_else`](Self::or_else), the
    /// shortest timeout of all alternatives that have retried counts. A timeout that overflows
    /// [`Instant`](std::time::Instant) waits indefinitely.
    ///
    /// # Blocking
    /// Blocks as [`retry`](Self::retry) does, at most for `timeout`. A future checks the time only
    /// when it is polled, and the timeout does not wake it. Use the timers of the runtime there.
    ///
    /// # Errors
    /// Returns an [`Abort`] as [`retry`](Self::retry) does, until the timeout expires.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use latchwork::{VersionedCell, atomically};
    /// let mailbox = VersionedCell::new(None::<&str>);
    /// let letter = atomically(|tx| {
    ///     let letter = *tx.read(&mailbox)?;
    ///     if letter.is_none() {
    ///         tx.retry_for(Duration::from_millis(2))?; // returns when there was no letter for so long
    ///     }
    ///     Ok(letter)
    /// });
    /// assert_eq!(letter, None);
    /// ```
    pub fn retry_for(&mut self, timeout: Duration) -> Result<(), Abort> {
        self.attempt.retry_for(timeout)
    }

    /// Checks that the whole read set of the attempt is still current.
    ///
    /// The closure sees a consistent state without this call, and the commit validates again. A
    /// closure that computes for long can call it, to end an attempt early that cannot commit.
    ///
    /// # Errors
    /// Returns an [`Abort`] if another thread has written a cell that the attempt has read, or has
    /// aborted the attempt.
    ///
    /// # Examples
    /// ```
    /// use latchwork::{VersionedCell, atomically};
    /// let (input, output) = (VersionedCell::new(10_u64), VersionedCell::new(0));
    /// atomically(|tx| {
    ///     let n = *tx.read(&input)?;
    ///     let mut sum = 0;
    ///     for i in 1..=n {
    ///         tx.validate()?;
    ///         sum += i;
    ///     }
    ///     tx.set(&output, sum)
    /// });
    /// assert_eq!(output.get(), 55);
    /// ```
    pub fn validate(&mut self) -> Result<(), Abort> {
        self.attempt.validate_now()
    }

    /// Ends the transaction with an error of the caller. The closure must return the result.
    ///
    /// # Errors
    /// Always returns [`TxAbort::Transaction`] with `error`.
    ///
    /// # Examples
    /// See [`Transaction::try_run`].
    pub fn abort<R, E>(&mut self, error: E) -> Result<R, TxAbort<E>> {
        Err(TxAbort::Transaction(error))
    }

    /// Runs `f`, and runs `g` instead if `f` ends in [`retry`](Self::retry).
    ///
    /// The writes of `f` are undone first. If `g` also retries, the transaction waits for a change
    /// of the cells that either has read.
    ///
    /// This method undoes the writes of an alternative that does not return `Ok`: after a retry, an
    /// error, or a panic that the closure catches. The reads of the alternative remain in the read
    /// set. So a closure can try a part, handle its error, and commit the rest. An error that is
    /// not a retry is returned, and `g` does not run.
    ///
    /// # Errors
    /// Returns the error of the alternative that ran last.
    ///
    /// # Examples
    /// ```
    /// use latchwork::{VersionedCell, atomically};
    /// let (a, b) = (VersionedCell::new(0), VersionedCell::new(5));
    /// let taken = atomically(|tx| {
    ///     tx.or_else(
    ///         |tx| if *tx.read(&a)? == 0 { tx.retry() } else { Ok("a") },
    ///         |tx| if *tx.read(&b)? == 0 { tx.retry() } else { Ok("b") },
    ///     )
    /// });
    /// assert_eq!(taken, "b");
    /// ```
    pub fn or_else<R, E: From<Abort>>(
        &mut self,
        f: impl FnOnce(&mut Self) -> Result<R, E>,
        g: impl FnOnce(&mut Self) -> Result<R, E>,
    ) -> Result<R, E> {
        // An `Abort` that was ignored before must not count as one of `f`.
        self.attempt.check_running()?;
        let result = self.alternative(f);
        if !self.attempt.resume_after_retry() {
            return result;
        }
        // This includes an `f` that has ignored the `Abort`.
        drop(result);
        self.alternative(g)
    }

    /// Runs `f` with each item in turn until it does not end in [`retry`](Self::retry), and returns
    /// its result.
    ///
    /// Each run is an alternative as in [`or_else`](Self::or_else). If all of them retry, or there
    /// is no item, the transaction waits for a change of the cells that any of them has read.
    ///
    /// # Errors
    /// Returns the error of the last run.
    ///
    /// # Examples
    /// ```
    /// use latchwork::{VersionedCell, atomically};
    /// let queues = [vec![], vec![1, 2], vec![3]].map(VersionedCell::new);
    /// let next = atomically(|tx| {
    ///     tx.first_of(&queues, |tx, queue| match tx.read(queue)?.split_first() {
    ///         None => tx.retry(),
    ///         Some((next, rest)) => {
    ///             tx.set(queue, rest.to_vec())?;
    ///             Ok(*next)
    ///         }
    ///     })
    /// });
    /// assert_eq!((next, queues[1].get()), (1, vec![2]));
    /// ```
    pub fn first_of<I, R, E: From<Abort>>(
        &mut self,
        items: impl IntoIterator<Item = I>,
        mut f: impl FnMut(&mut Self, I) -> Result<R, E>,
    ) -> Result<R, E> {
        self.attempt.check_running()?;
        for item in items {
            let result = self.alternative(|tx| f(tx, item));
            if !self.attempt.resume_after_retry() {
                return result;
            }
        }
        Ok(self.retry()?)
    }

    /// Runs a part of the closure whose writes are undone if it does not succeed, including when it
    /// panics.
    fn alternative<R, E>(&mut self, f: impl FnOnce(&mut Self) -> Result<R, E>) -> Result<R, E> {
        let before = self.attempt.begin_alternative();
        let undo = Undo { tx: self, before };
        let result = f(undo.tx);
        // This includes an alternative that has ignored an `Abort`.
        if result.is_ok() && undo.tx.attempt.check_running().is_ok() {
            undo.keep();
        }
        result
    }
}

/// Undoes the writes of an alternative when it is dropped.
struct Undo<'a, 't, 'env> {
    tx: &'a mut Tx<'t, 'env>,
    before: usize,
}

impl Undo<'_, '_, '_> {
    fn keep(self) {
        self.tx.attempt.end_alternative(None);
        core::mem::forget(self);
    }
}

impl Drop for Undo<'_, '_, '_> {
    fn drop(&mut self) {
        self.tx.attempt.end_alternative(Some(self.before));
    }
}

impl fmt::Debug for Tx<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tx")
            .field("cells", &self.attempt.log.entries.len())
            .finish_non_exhaustive()
    }
}
