//! The handles by which a guard or a future keeps its table: a reference, or shared ownership.

use std::sync::Arc;

use super::index::RawTable;
use super::sessions::Sessions;
use super::table::LockTable;

pub(super) trait Handle {
    fn raw(&self) -> &RawTable;
}

/// A handle of a whole table, including its state for detection.
pub(super) trait SetHandle: Handle {
    fn sessions(&self) -> &Sessions;
}

impl<K: ?Sized, S> SetHandle for Arc<LockTable<K, S>> {
    fn sessions(&self) -> &Sessions {
        &self.sessions
    }
}

impl<K: ?Sized, S> SetHandle for &LockTable<K, S> {
    fn sessions(&self) -> &Sessions {
        &self.sessions
    }
}

impl Handle for &RawTable {
    #[inline(always)]
    fn raw(&self) -> &RawTable {
        self
    }
}

impl<K: ?Sized, S> Handle for Arc<LockTable<K, S>> {
    #[inline(always)]
    fn raw(&self) -> &RawTable {
        &self.raw
    }
}

impl<K: ?Sized, S> Handle for &LockTable<K, S> {
    #[inline(always)]
    fn raw(&self) -> &RawTable {
        &self.raw
    }
}
