//! The handles by which a guard or a future keeps its table: a reference, or shared ownership.

use std::sync::Arc;

use super::raw::{RawTable, Seat, TableRef};
use super::table::LockTable;
use crate::deadlock::Detector;

/// A handle of a whole table, including its state for detection.
pub(super) trait SetHandle: TableRef + Clone {
    fn detector(&self) -> &Detector<Seat>;
}

/// A handle that can be moved out of a guard, which is forgotten then.
pub(super) trait TakeOver: TableRef {
    fn take_over(&mut self) -> Self;
}

impl TakeOver for &RawTable {
    #[inline(always)]
    fn take_over(&mut self) -> Self {
        self
    }
}

/// Shared ownership, in a guard: it is `None` only in a guard that is being forgotten.
impl<K: ?Sized, S> TableRef for Option<Arc<LockTable<K, S>>> {
    #[inline(always)]
    fn raw(&self) -> &RawTable {
        &self.as_ref().expect("the guard is not forgotten").raw
    }
}

impl<K: ?Sized, S> TakeOver for Option<Arc<LockTable<K, S>>> {
    #[inline(always)]
    fn take_over(&mut self) -> Self {
        self.take()
    }
}

impl<K: ?Sized, S> SetHandle for Arc<LockTable<K, S>> {
    fn detector(&self) -> &Detector<Seat> {
        &self.detector
    }
}

impl<K: ?Sized, S> SetHandle for &LockTable<K, S> {
    fn detector(&self) -> &Detector<Seat> {
        &self.detector
    }
}

impl<K: ?Sized, S> TableRef for Arc<LockTable<K, S>> {
    #[inline(always)]
    fn raw(&self) -> &RawTable {
        &self.raw
    }
}

impl<K: ?Sized, S> TableRef for &LockTable<K, S> {
    #[inline(always)]
    fn raw(&self) -> &RawTable {
        &self.raw
    }
}
