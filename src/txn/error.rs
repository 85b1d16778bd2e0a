//! Why a transaction ends without a commit.

use core::error::Error;
use core::fmt;

/// The current attempt of a transaction is over: return it from the closure, with `?`.
///
/// A closure that ignores it runs on, but what it does is not committed.
///
/// # Examples
/// ```
/// use latchwork::{VersionedCell, atomically};
/// let cell = VersionedCell::new(1);
/// let n = atomically(|tx| Ok(*tx.read(&cell)?)); // `?` passes an `Abort` on
/// assert_eq!(n, 1);
/// ```
#[derive(Debug)]
#[must_use = "the attempt has ended: return this error from the closure"]
pub struct Abort(pub(super) ());

impl fmt::Display for Abort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the attempt of the transaction has ended; return this error from the closure")
    }
}

impl Error for Abort {}

/// What the closure of [`Transaction::try_run`](crate::Transaction::try_run) ends with when it does not commit: the attempt is over, or the
/// transaction is, for a reason of the caller's.
///
/// # Examples
/// See [`Transaction::try_run`](crate::Transaction::try_run).
#[derive(Debug)]
pub enum TxAbort<E> {
    /// The attempt is over; the transaction may be tried again.
    Attempt(Abort),
    /// The transaction is to end with this error.
    Transaction(E),
}

impl<E> From<Abort> for TxAbort<E> {
    fn from(abort: Abort) -> Self {
        TxAbort::Attempt(abort)
    }
}

/// Turns an error of the caller's into the end of a transaction.
///
/// # Examples
/// ```
/// use latchwork::{Transaction, TxError, VersionedCell, txn::OrAbort};
///
/// let account = VersionedCell::new(10_u32);
/// let result = Transaction::builder().try_run(|tx| {
///     let text = "eleven";
///     let amount: u32 = text.parse().map_err(|_| "not a number").or_abort()?;
///     Ok(tx.update(&account, |balance| balance + amount)?)
/// });
/// assert_eq!(result, Err(TxError::Aborted("not a number")));
/// ```
pub trait OrAbort<R, E> {
    /// Returns the value, or the error as [`TxAbort::Transaction`].
    ///
    /// An [`Abort`] needs no such call: `?` turns it into [`TxAbort::Attempt`].
    ///
    /// # Errors
    /// Returns the error.
    fn or_abort(self) -> Result<R, TxAbort<E>>;
}

impl<R, E> OrAbort<R, E> for Result<R, E> {
    fn or_abort(self) -> Result<R, TxAbort<E>> {
        self.map_err(TxAbort::Transaction)
    }
}

/// How often attempts were lost, and to what.
///
/// # Examples
/// See [`TxError`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AbortReasons {
    /// Something that was read had been written by others.
    pub read_conflicts: u64,
    /// Something that was to be written after it had been read had been written by others.
    pub write_conflicts: u64,
    /// Another transaction, or a write of one cell, that had waited long enough went first; or another transaction owned
    /// a cell, and the attempt could not wait for it.
    pub overtaken: u64,
}

impl AbortReasons {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.read_conflicts + self.write_conflicts + self.overtaken
    }
}

impl fmt::Display for AbortReasons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AbortReasons {
            read_conflicts,
            write_conflicts,
            overtaken,
        } = self;
        write!(
            f,
            "{read_conflicts} read conflicts, {write_conflicts} write conflicts, overtaken {overtaken} times"
        )
    }
}

/// Why a transaction did not commit.
///
/// # Examples
/// ```
/// use latchwork::{Transaction, TxError, VersionedCell};
///
/// let cell = VersionedCell::new(0);
/// let result = Transaction::builder().max_attempts(3).run(|tx| {
///     let n = *tx.read(&cell)?;
///     cell.set(n + 1); // somebody always writes in between
///     tx.set(&cell, n)
/// });
/// let Err(TxError::Contended { attempts, reasons }) = result else { panic!() };
/// assert_eq!((attempts, reasons.total()), (3, 3));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TxError<E = core::convert::Infallible> {
    /// As many attempts as were allowed were lost to others.
    Contended {
        /// How many.
        attempts: u32,
        /// To what.
        reasons: AbortReasons,
    },
    /// The deadline passed after an attempt was lost, while the transaction waited for a change, or while another
    /// transaction owned a cell that it needed.
    TimedOut,
    /// The closure said so.
    Aborted(E),
    /// The closure retried, and no other thread could end the wait: it had read nothing, or only its own writes and
    /// cells inside of them.
    RetryWithoutReads,
}

impl<E: fmt::Display> fmt::Display for TxError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TxError::Contended { attempts, reasons } => {
                write!(
                    f,
                    "all {attempts} attempts of the transaction aborted: {reasons}; allow more attempts"
                )
            }
            TxError::TimedOut => f.write_str("the transaction timed out before it committed; retry, or allow more time"),
            TxError::Aborted(error) => write!(f, "the transaction was aborted: {error}"),
            TxError::RetryWithoutReads => {
                f.write_str("`retry` would block indefinitely: the closure has read no cell that another thread can write")
            }
        }
    }
}

impl<E: Error + 'static> Error for TxError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            TxError::Aborted(error) => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_they_are_and_where_they_come_from() {
        let abort = TxAbort::<fmt::Error>::from(Abort(()));
        let TxAbort::Attempt(abort) = abort else {
            panic!("{abort:?}")
        };
        assert!(abort.to_string().contains("attempt"));
        let of_the_caller = TxError::Aborted(fmt::Error);
        let source = of_the_caller.source().expect("the caller's own");
        assert!(source.is::<fmt::Error>());
        assert!(TxError::<fmt::Error>::TimedOut.source().is_none());
    }
}
