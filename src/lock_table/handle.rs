//! How a guard or a future keeps its table: by reference, or by a share of it.

use std::sync::Arc;

use super::LockTable;
use super::index::RawTable;

pub(super) trait Handle {
    fn raw(&self) -> &RawTable;
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
