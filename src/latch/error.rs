//! Why a latch was not got.

use core::error::Error;
use core::fmt;

/// The latch was taken out of use: what it belongs to is no longer part of its structure.
///
/// Whoever gets this has come by a path that is no longer there, and begins again where the structure begins. A latch that
/// is obsolete stays so.
///
/// # Examples
/// ```
/// use latchwork::latch::{ExclusiveGuard, Obsolete, OptimisticLatch};
/// let latch = OptimisticLatch::new(());
/// ExclusiveGuard::mark_obsolete(latch.exclusive().unwrap());
/// assert_eq!(latch.exclusive().unwrap_err(), Obsolete);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Obsolete;

impl fmt::Display for Obsolete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the latch is obsolete: begin again where the structure begins")
    }
}

impl Error for Obsolete {}

/// Why an optimistic step does not hold. The remedy is the same: begin again.
///
/// # Examples
/// ```
/// use latchwork::latch::{OptimisticLatch, Restart};
/// let latch = OptimisticLatch::new(());
/// let version = latch.version().unwrap();
/// drop(latch.exclusive().unwrap()); // somebody writes
/// assert_eq!(latch.upgrade(version).unwrap_err(), Restart::Changed);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Restart {
    /// Somebody has had the latch exclusively since, has it now, or shares it with one who wants it exclusively.
    Changed,
    /// It is out of use.
    Obsolete,
}

impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Restart::Changed => f.write_str("what was read has changed: begin again"),
            Restart::Obsolete => Obsolete.fmt(f),
        }
    }
}

impl Error for Restart {}

impl From<Obsolete> for Restart {
    fn from(_: Obsolete) -> Self {
        Restart::Obsolete
    }
}
