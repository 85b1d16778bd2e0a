//! Transactions over many cells: [`atomically`].
//!
//! A transaction reads cells at one moment, buffers what it is to write, and commits it all in one
//! compare-and-swap. PROTOCOL.md beside this file has the steps and the rules that are cited here in
//! brackets.

mod aftermath;
mod attempt;
mod commit;
mod error;
mod future;
mod ladder;
mod leave;
mod log;
mod retry;
mod run;
mod snapshot;
pub(crate) mod stats;

use core::fmt;
use core::marker::PhantomData;
use std::time::Duration;

use attempt::Attempt;
pub use error::{Abort, AbortReasons, OrAbort, TxAbort, TxError};
pub use future::{TransactionFuture, TryTransactionFuture};
pub use run::Transaction;
pub use snapshot::{View, snapshot};
pub use stats::LabelStats;

use crate::cell::{Version, VersionedCell};

/// Runs a closure as one transaction, again and again until it commits, and returns what it returns.
///
/// All that the closure reads was so at one moment, and all that it writes becomes visible in one other, at which what it has
/// read is still so: transactions are strictly serialisable. Whatever else the closure does is done once for each attempt: leave
/// side effects to after the commit.
///
/// # Blocking
/// Reads wait for no other thread. A transaction that repeatedly loses escalates: after three losses it owns the cells that it
/// lost at, after eight all cells that it encounters, and the oldest of such transactions is never aborted. Others that write or
/// commit one of those cells wait until it has ended, including while its closure sleeps. [`Transaction::timeout`] bounds
/// that wait, and [`Transaction::run_async`] waits without a thread. After [`Tx::retry`] the thread sleeps until another
/// thread changes a cell that the closure has read.
///
/// # Panics
/// Panics if the closure panics: then every cell is as it was. Panics if the closure retries and no other thread could end
/// the wait ([`TxError::RetryWithoutReads`]). Inside the closure, to write or wait for a cell directly, or in another
/// transaction, panics if this one owns the cell, including in the destructors of thread-locals. After 2⁶¹ snapshots, panics
/// to read more cells than are checked one by one.
///
/// # Deadlocks
/// Writes and transactions that the closure runs besides its own go by the age of the outer transaction: older ones are
/// waited for, others are aborted. So closures that write cells of each other do not deadlock. Threads that the closure waits
/// for do not inherit that age: see [Other threads inside the closure](Tx#other-threads-inside-the-closure). A nested
/// transaction commits by itself, even if the outer one does not.
///
/// # Direct access
/// In debug builds, panics when the closure reads, writes or waits for a cell directly that this attempt has read or written. Such an
/// access bypasses the transaction: a read returns the value of another moment, and a write makes the attempt lose. The message
/// names the type of the value, the label of the transaction and the place. Other cells, other threads, nested transactions and
/// [`snapshot`] are not affected, and neither are destructors and wakers that run after the attempt. In debug builds, panics if the
/// transaction would sleep in [`Tx::retry`] while its thread keeps a [`Versioned`](crate::cell::Versioned) or a
/// [`ReadPin`](crate::cell::ReadPin): these hold back the replaced values of all cells.
///
/// # Memory ordering
/// A transaction synchronises with those whose writes it has read, and with all that committed before it began.
///
/// # Source
/// Descriptors that owners alone install, after Harris, Fraser and Pratt (2002) and Guerraoui et al. (2020); stamps from a clock that
/// only snapshots advance, after Wei et al. (2021); wound-wait by age, after Rosenkrantz et al. (1978).
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
/// A cell that is made in the closure would be gone before the commit, and is not accepted:
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
/// Nor does what was read leave it:
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
pub fn atomically<'env, R>(f: impl for<'t> FnMut(&mut Tx<'t, 'env>) -> Result<R, Abort>) -> R {
    match Transaction::builder().run_without_limits(f) {
        Ok(result) => result,
        Err(error @ TxError::RetryWithoutReads) => panic!("{error}"),
        Err(_) => unreachable!("it goes on for ever"),
    }
}

/// One attempt of a transaction, as its closure sees it. See [`atomically`].
///
/// What it returns is valid to the end of the attempt. Once one of its methods has returned an [`Abort`], all do, and the attempt
/// will not commit.
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
/// Only accesses through `Tx` belong to it. A transaction that the closure runs by another call of [`atomically`] commits by
/// itself, and stays committed if the outer attempt is lost or aborted: pass the `Tx` to compose. A panic that
/// the closure catches does not undo the writes that were made before it: make them inside of
/// [`or_else`](Self::or_else), which undoes those of a part that panics.
///
/// # Other threads inside the closure
/// A `Tx` belongs to its thread. The closure of a transaction that has lost several attempts owns cells while it runs, and a
/// write of such a cell on the same thread panics. The crate cannot recognise that another thread works for the closure. So if
/// the closure waits for other threads (in [`std::thread::scope`], `rayon::join`, a parallel iterator or on a channel), and
/// one of them writes a cell that the transaction owns, or runs a transaction that needs it, then both wait
/// indefinitely. This does not show until the transaction has lost, so tests without contention pass. Such threads may only read
/// cells directly and take snapshots. Read the inputs before the parallel part, return its results, and write them
/// through the `Tx`, or run the parallel part outside of the transaction and use [`check`](Self::check) on
/// the versions of its inputs.
///
/// # Examples
/// It does not leave the closure:
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

    /// Returns the value of a cell: the one that this attempt has written, or the one that was current when the attempt read.
    ///
    /// # Errors
    /// If somebody has written what the attempt has read before, so that no moment has both.
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

    /// Has the transaction write a value. The last one that it is given is written.
    ///
    /// # Errors
    /// If the attempt is lost already; the value is dropped.
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

    /// Has the transaction write what `f` makes of the value that [`read`](Self::read) would return.
    ///
    /// # Errors
    /// As `read`; then `f` is not called.
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

    /// Has the transaction write a value, and returns the value that [`read`](Self::read) would have returned.
    ///
    /// # Errors
    /// As `read`; then the value is dropped.
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

    /// Returns the version of what [`read`](Self::read) would return, the next one if the transaction writes the cell.
    ///
    /// # Errors
    /// As `read`.
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

    /// Returns whether a cell has had a version, and still has when the transaction commits, but for what it writes itself.
    ///
    /// # Errors
    /// As [`read`](Self::read).
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

    /// Ends the attempt, and runs the closure again once a cell that it has read has changed. Return what this returns.
    ///
    /// The closure must check its condition again each time: it also runs again if the thread is unparked by other code
    /// (through [`Thread::unpark`](std::thread::Thread::unpark)) or if a future is polled for another reason. Values that the
    /// attempt was to write are dropped before it waits.
    ///
    /// # Blocking
    /// Blocks the thread until another thread writes one of the cells. A [deadline](Transaction::deadline) ends the wait,
    /// and [`run_async`](Transaction::run_async) waits without a thread.
    ///
    /// # Blocking
    /// The thread sleeps after the attempt. Snapshots and pins of this thread hold back the replaced values of all cells
    /// meanwhile; debug builds panic.
    ///
    /// # Errors
    /// Always returns an [`Abort`]. The transaction ends with [`TxError::RetryWithoutReads`] (and
    /// [`atomically`] panics) if no other thread could end the wait: the closure has read nothing, or only values that the
    /// attempt itself was to write and cells inside of those. A cell that the closure only writes was not read.
    ///
    /// A transaction waits for a cell at the place where the closure has read it. A destructor that moves a cell out of a
    /// value that the attempt was to write, and keeps it, is not noticed: the transaction then sleeps until its deadline.
    /// A cell behind an [`Arc`](std::sync::Arc) keeps its place.
    ///
    /// # Examples
    /// See [`atomically`].
    pub fn retry<R>(&mut self) -> Result<R, Abort> {
        Err(self.attempt.retry())
    }

    /// Returns if the condition holds, and otherwise does what [`retry`](Self::retry) does.
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

    /// As [`retry`](Self::retry), but returns normally once the transaction has waited for `timeout`.
    ///
    /// The time counts from the call that first made the transaction wait, over all its attempts. A later call in the
    /// same transaction uses the same start. Inside [`or_else`](Self::or_else), the shortest such wait of all alternatives
    /// that have retried counts. A timeout that overflows [`Instant`](std::time::Instant) waits indefinitely.
    ///
    /// In a future the time is checked when the future is polled, and does not wake it: use the timers of the runtime.
    ///
    /// # Errors
    /// Returns an [`Abort`] as [`retry`](Self::retry) does, until the time is over.
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

    /// Checks that all that the attempt has read is still current.
    ///
    /// What the closure sees is consistent without this call, and the commit checks again. A closure that computes for long
    /// can call it to end early an attempt that could not commit.
    ///
    /// # Errors
    /// Returns an [`Abort`] if another thread has written a cell that the attempt has read, or has aborted the attempt.
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

    /// Ends the transaction with an error of the caller's. Return what this returns.
    ///
    /// # Errors
    /// Always.
    ///
    /// # Examples
    /// See [`Transaction::try_run`].
    pub fn abort<R, E>(&mut self, error: E) -> Result<R, TxAbort<E>> {
        Err(TxAbort::Transaction(error))
    }

    /// Runs `f`; if it ends in [`retry`](Self::retry), undoes its writes and runs `g` instead. If `g` retries too, the
    /// transaction waits for a change of the cells that either has read.
    ///
    /// Writes of an alternative that does not return `Ok` are undone before this returns: after a retry, after any error,
    /// and after a panic that the closure catches around this call. Its reads stay part of what the transaction relies on.
    /// So a closure can try a part with an error of its own, handle the error, and commit the rest. An error that is not a
    /// retry is returned, and `g` does not run.
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
        // An `Abort` that was ignored before is not to be taken for one of `f`.
        self.attempt.check_running()?;
        let result = self.alternative(f);
        if !self.attempt.resume_after_retry() {
            return result;
        }
        // Also if `f` has ignored it.
        drop(result);
        self.alternative(g)
    }

    /// Runs `f` with each item in turn until it does not end in [`retry`](Self::retry), and returns its result.
    ///
    /// Each run is an alternative as in [`or_else`](Self::or_else). If all of them retry, or there is no item, the
    /// transaction waits for a change of the cells that any of them has read.
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

    /// Runs a part of the closure whose writes are undone if it does not succeed, including when it panics.
    fn alternative<R, E>(&mut self, f: impl FnOnce(&mut Self) -> Result<R, E>) -> Result<R, E> {
        let before = self.attempt.begin_alternative();
        let undo = Undo { tx: self, before };
        let result = f(undo.tx);
        // Also if it has ignored an `Abort`.
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
