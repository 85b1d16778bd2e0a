//! The link from an entry in the log of an attempt to the map that has it.

use crate::mvcc::{Head, Version};
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
