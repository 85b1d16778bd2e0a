//! The link from an entry in the log of an attempt to the map that has it.

use core::ptr::NonNull;

use crate::mvcc::{Head, Header, Version};
use crate::reclaim::{CellPin, Local};

/// A map whose entry a transaction has written.
pub(crate) trait Keeper {
    /// The entry with this head was written by a transaction that has committed. The thread is
    /// pinned, since before it has found the entry.
    fn note_commit(&self, local: &Local, pin: &CellPin, head: &Head, write: Committed);
}

/// The write of an entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Committed {
    pub(crate) version: Version,
    pub(crate) was_vacant: bool,
    pub(crate) is_vacant: bool,
}

/// A value that the closure has written, and that returns to its owner unless the attempt commits.
pub(super) struct Lent {
    /// The number of the log entry.
    pub(super) i: u32,
    /// A `Cell<Option<T>>`, which outlives the attempt.
    pub(super) place: NonNull<()>,
    /// Returns the value of a draft, which was installed in its cell or not.
    pub(super) give_back: unsafe fn(&Local, NonNull<Header>, Installed, NonNull<()>),
}

/// Whether a draft was installed in its cell.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Installed {
    No,
    /// By an owner, which was aborted.
    Yes,
}
