//! Locks by key: [`LockTable`].
//!
//! A table stores only keys that are held or waited for, so most of its slots are empty. The low
//! bits of a key's hash choose a slot. The slot stores the rest of the hash and the state of the
//! lock in one word. This word is the lock until a thread must wait. [The
//! protocol](crate::docs::internals::lock_table) defines the states, the steps and the rules that
//! are cited here in brackets.

mod acquire;
mod builder;
mod claim;
mod descent;
mod detect;
mod fairness;
mod fence;
mod fold;
mod future;
mod guard;
mod handle;
mod index;
mod inspect;
mod key;
mod keys;
mod leave;
mod lock;
mod many;
#[cfg(any(latchwork_loom, latchwork_shuttle))]
mod model;
mod monitor;
mod observe;
mod owned;
mod party;
mod release;
mod sessions;
mod set;
mod slot;
mod stats;
mod table;
mod turns;

pub use builder::LockTableBuilder;
pub(crate) use claim::{Claim, Claiming, Notices, Told};
pub use fairness::Fairness;
pub use fence::{Fence, FencingToken, ParseFencingTokenError};
pub use future::{LockFuture, OwnedLockFuture, OwnedSharedLockFuture, SharedLockFuture};
pub use guard::{ExclusiveGuard, OwnedExclusiveGuard, OwnedSharedGuard, SharedGuard};
pub(crate) use index::RawTable;
pub use inspect::{LockInfo, OwnerInfo, SessionId, WaiterInfo};
pub use key::KeyId;
pub use many::{LockAllFuture, OwnedLockAllFuture};
pub(crate) use sessions::{Found, Search, Sessions, Waits, discard};
pub use set::{LockSet, OwnedLockSet};
pub use stats::TableStats;
pub use table::LockTable;
