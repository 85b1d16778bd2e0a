//! Locks by key: [`LockTable`] with its guards, futures and sets, [`SingleFlight`], and fencing.
//!
//! Locks that an owner acquires one by one, with deadlock detection, are in
//! [`session`](crate::session).

pub use crate::deadlock::OwnerKind;
pub use crate::fenced::{FencedCell, FencedRef, StaleFence};
pub use crate::hash::{IntegerHasher, KeyHasher, RandomState};
pub use crate::lock_table::{
    ExclusiveGuard, Fairness, Fence, FencingToken, KeyId, LockAllFuture, LockFuture, LockInfo,
    LockSet, LockTable, LockTableBuilder, OwnedExclusiveGuard, OwnedLockAllFuture, OwnedLockFuture,
    OwnedLockSet, OwnedSharedGuard, OwnedSharedLockFuture, OwnerInfo, ParseFencingTokenError,
    SharedGuard, SharedLockFuture, TableStats, WaiterInfo,
};
pub use crate::single_flight::SingleFlight;
pub use crate::word::Mode;
