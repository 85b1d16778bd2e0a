//! The reasons for which a transaction ends without a commit.

use core::error::Error;
use core::fmt;

/// Ends the current attempt of a transaction when the closure returns it, by `?`.
///
/// A closure that ignores it continues, but none of its further writes commits.
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

/// Ends an attempt, or the whole transaction with an error of the caller.
///
/// The closure of [`Transaction::try_run`](crate::Transaction::try_run) returns it.
///
/// # Examples
/// See [`Transaction::try_run`](crate::Transaction::try_run).
#[derive(Debug)]
pub enum TxAbort<E> {
    /// The attempt has ended; the transaction may try again.
    Attempt(Abort),
    /// The transaction ends with this error.
    Transaction(E),
}

impl<E> From<Abort> for TxAbort<E> {
    fn from(abort: Abort) -> Self {
        TxAbort::Attempt(abort)
    }
}

/// Converts an error of the caller into the end of a transaction.
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
    /// An [`Abort`] needs no such call: `?` converts it into [`TxAbort::Attempt`].
    ///
    /// # Errors
    /// Returns [`TxAbort::Transaction`] with the error, if `self` is an error.
    fn or_abort(self) -> Result<R, TxAbort<E>>;
}

impl<R, E> OrAbort<R, E> for Result<R, E> {
    fn or_abort(self) -> Result<R, TxAbort<E>> {
        self.map_err(TxAbort::Transaction)
    }
}

/// Counts the attempts that aborted, by reason.
///
/// # Examples
/// See [`TxError`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AbortReasons {
    /// Another transaction or write changed a cell of the read set.
    pub read_conflicts: u64,
    /// Another transaction or write changed a cell that this transaction had read and would have
    /// written.
    pub write_conflicts: u64,
    /// Another transaction, or a write of one cell, that had waited long enough aborted the
    /// attempt. Also counts attempts that needed a cell of another transaction and could not wait
    /// for it.
    pub overtaken: u64,
}

impl AbortReasons {
    /// Returns the sum of all reasons.
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

/// Describes why a transaction did not commit. No cell has been written.
///
/// # Examples
/// ```
/// use latchwork::{Transaction, TxError, VersionedCell, atomically};
///
/// let cell = VersionedCell::new(0);
/// let result = Transaction::builder().max_attempts(3).run(|tx| {
///     let n = *tx.read(&cell)?;
///     atomically(|other| other.set(&cell, n + 1)); // a conflicting write in every attempt
///     tx.set(&cell, n)
/// });
/// let Err(TxError::Contended { attempts, reasons }) = result else { panic!() };
/// assert_eq!((attempts, reasons.total()), (3, 3));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TxError<E = core::convert::Infallible> {
    /// All allowed attempts aborted.
    Contended {
        /// The number of attempts.
        attempts: u32,
        /// The reasons of the aborts.
        reasons: AbortReasons,
    },
    /// The deadline passed after an aborted attempt, while the transaction waited for a change, or
    /// while another transaction owned a cell that it needed.
    TimedOut,
    /// The closure returned this error.
    Aborted(E),
    /// The closure retried, and no other thread could end the wait. The closure had read nothing,
    /// or only its own writes and cells inside of them. Read a cell of the condition first.
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
