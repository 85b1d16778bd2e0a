//! Locks by key: [`LockTable`].
//!
//! A table stores only keys that are held or waited for, so most of its slots are empty. The low
//! bits of a key's hash choose a slot. The slot stores the rest of the hash and the state of the
//! lock in one word. This word is the lock until a thread must wait. [The
//! protocol](crate::docs::internals::lock_table) defines the states, the steps and the rules that
//! are cited here in brackets.

mod builder;
mod fairness;
mod fence;
mod future;
mod guard;
mod handle;
mod inspect;
mod key;
mod keys;
mod lock;
mod many;
#[cfg(any(latchwork_loom, latchwork_shuttle))]
mod model;
mod owned;
mod party;
mod raw;
mod set;
mod stats;
#[cfg(feature = "console")]
mod survey;
mod table;

pub use builder::LockTableBuilder;
pub use fairness::Fairness;
pub use fence::{Fence, FencingToken, ParseFencingTokenError};
pub use future::{LockFuture, OwnedLockFuture, OwnedSharedLockFuture, SharedLockFuture};
pub use guard::{ExclusiveGuard, OwnedExclusiveGuard, OwnedSharedGuard, SharedGuard};
#[cfg(feature = "console")]
pub(crate) use inspect::Names;
pub use inspect::{LockInfo, OwnerInfo, SessionId, WaiterInfo};
pub use key::KeyId;
pub use many::{LockAllFuture, OwnedLockAllFuture};
pub(crate) use raw::{Acquired, KeyWait, Notices, Patience, RawTable, Seat};
pub use set::{LockSet, OwnedLockSet};
pub use stats::TableStats;
#[cfg(feature = "console")]
pub(crate) use survey::Survey;
pub use table::LockTable;
