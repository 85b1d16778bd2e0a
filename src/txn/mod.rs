//! Transactions over many cells: [`atomically`].
//!
//! A transaction reads cells at one moment, buffers what it is to write, and commits it all in one
//! compare-and-swap. PROTOCOL.md beside this file has the steps and the rules that are cited here in
//! brackets.

mod aftermath;
mod attempt;
mod commit;
mod error;
mod ladder;
mod leave;
mod log;
mod retry;
mod run;
mod snapshot;
pub(crate) mod stats;

use core::fmt;
use core::marker::PhantomData;

use attempt::{Attempt, Outlook};
pub use error::{Abort, AbortReasons, TxAbort, TxError};
pub use run::{RunAsync, Transaction};
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
/// Nothing waits for a thread that is stalled, except that a transaction which keeps losing comes to own what it reads and
/// writes, and others then wait for it. It owns the cells that it lost at after three losses, all that it meets after eight, and the
/// eldest of those that do is never aborted. After [`Tx::retry`] it sleeps until something that it has read changes.
///
/// # Panics
/// If the closure does: then every cell is as it was. If the closure asks to wait for a change and has read nothing.
/// Inside the closure, to write or wait for a cell directly, or in another transaction, if this one owns it. This holds in the
/// destructors of thread-locals too. After 2⁶¹ moments, to read more cells than are looked through one by one.
///
/// In debug builds, panics when the closure reads, writes or waits for a cell directly that this attempt has read or written. Such an
/// access bypasses the transaction: a read returns the value of another moment, and a write makes the attempt lose. The message
/// names the type of the value, the label of the transaction and the place. Other cells, other threads, nested transactions and
/// [`snapshot`] are not affected, and neither are destructors and wakers that run after the attempt. In debug builds, panics if the
/// transaction would sleep in [`Tx::retry`] while its thread keeps a [`Snapshot`](crate::Snapshot) or a
/// [`ReadPin`](crate::ReadPin): these hold back the replaced values of all cells.
///
/// Whoever the closure meets while it writes cells directly or runs another transaction is dealt with by the age of this one: elder ones are waited for,
/// others give way. So no ring of such closures waits for itself.
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
pub fn atomically<'env, R>(f: impl for<'t> FnMut(&mut Tx<'t, 'env>) -> Result<R, Abort>) -> R {
    match Transaction::builder().run(f) {
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

    /// Ends the attempt, to try again once a cell that it has read has changed. Return what this returns.
    ///
    /// # Blocking
    /// The thread sleeps after the attempt. Snapshots and pins of this thread hold back the replaced values of all cells
    /// meanwhile; debug builds panic.
    ///
    /// # Errors
    /// Always.
    ///
    /// # Examples
    /// See [`atomically`].
    pub fn retry<R>(&mut self) -> Result<R, Abort> {
        self.attempt.check_running()?;
        self.attempt.outlook = Outlook::Retry;
        Err(Abort(()))
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

    /// Runs `f`; if it ends in [`retry`](Self::retry), forgets what it has written and runs `g` instead. If that does too, the
    /// transaction waits for a change of what either has read.
    ///
    /// # Errors
    /// Those of whichever was last.
    ///
    /// # Examples
    /// ```
    /// use latchwork::{VersionedCell, atomically};
    /// let (a, b) = (VersionedCell::new(0), VersionedCell::new(5));
    /// let take = |tx: &mut latchwork::Tx<'_, '_>| -> Result<(), latchwork::Abort> { tx.retry() };
    /// # let _ = take;
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
        let before = self.attempt.begin_alternative();
        let result = f(self);
        if !self.attempt.end_alternative(before) {
            return result;
        }
        // Also if `f` has ignored it.
        drop(result);
        g(self)
    }
}

impl fmt::Debug for Tx<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tx")
            .field("cells", &self.attempt.log.entries.len())
            .finish_non_exhaustive()
    }
}
