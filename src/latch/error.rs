//! The reasons why a latch could not be acquired.

use core::error::Error;
use core::fmt;

/// The error of a latch whose node was removed from its structure.
///
/// A traversal that gets it has followed a link that no longer exists, and must restart at the root
/// of the structure. An obsolete latch stays obsolete.
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
        f.write_str("the latch is obsolete because its node was removed: restart at the root")
    }
}

impl Error for Obsolete {}

/// Why an optimistic step failed. The operation must restart in each case.
///
/// # Examples
/// ```
/// use latchwork::latch::{OptimisticLatch, Restart};
/// let latch = OptimisticLatch::new(());
/// let version = latch.version().unwrap();
/// drop(latch.exclusive().unwrap()); // a write
/// assert_eq!(latch.upgrade(version).unwrap_err(), Restart::Changed);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Restart {
    /// Another thread has acquired the latch exclusively since, or holds it in a mode that
    /// conflicts.
    Changed,
    /// The latch is obsolete: its node was removed from the structure.
    Obsolete,
}

impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Restart::Changed => f.write_str(
                "the latch was written since its version was read, or is held by another thread: restart",
            ),
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
