//! In-process concurrency control: locks by key at the price of a bare mutex.
//!
//! [`LockTable`] locks any key of a type without registering it first, and stores nothing for a
//! key that nobody holds or waits for. An uncontended lock and unlock is one compare-and-swap
//! each: no allocation, no fence, no second look-up.
//!
//! ```
//! use latchwork::{LockTable, Mode};
//!
//! let table: LockTable<str> = LockTable::new();
//! let guard = table.lock("user:42"); // blocks until nobody else holds this key
//! assert!(table.try_lock("user:42").is_none());
//! let set = table.lock_all([("user:1", Mode::Exclusive), ("user:2", Mode::Shared)]);
//! assert_eq!(table.held(), 3);
//! drop((guard, set));
//! assert_eq!(table.held(), 0);
//! ```
//!
//! How it works, and why it is right, stands in `src/lock_table/PROTOCOL.md`; each rule there
//! names the model or test that checks it.

#[cfg(not(target_has_atomic = "64"))]
compile_error!("latchwork needs 64-bit atomics");

// Layers, lowest first: a module imports only from those above it in this list.
mod sync;
mod word;

mod reclaim;
mod wait;

mod hash;
mod lock_table;

mod cell;
mod txn;

mod stats;

#[cfg(latchwork_loom)]
#[doc(hidden)]
pub use cell::model;
pub use cell::{
    Changed, Conflict, OwnedSnapshot, ParseVersionError, ReadPin, RetryPolicy, Snapshot,
    SnapshotRef, UpdateError, Version, VersionedCell, pin,
};
pub use hash::{KeyHasher, RandomState};
pub use lock_table::{
    ExclusiveGuard, Fairness, FencingToken, KeyId, LockAllFuture, LockFuture, LockInfo, LockSet,
    LockTable, LockTableBuilder, OwnedExclusiveGuard, OwnedLockAllFuture, OwnedLockFuture,
    OwnedLockSet, OwnedSharedGuard, OwnedSharedLockFuture, SharedGuard, SharedLockFuture,
    TableStats, WaiterInfo,
};
pub use stats::{Stats, flush, stats};
pub use txn::{
    Abort, AbortReasons, LabelStats, RunAsync, Transaction, Tx, TxAbort, TxError, View, atomically,
    snapshot,
};
pub use word::Mode;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
