//! What cells, transactions and maps share: versions of a value, and how one replaces another.
//!
//! | file | owns |
//! |---|---|
//! | `clock.rs` | the timestamps of writes |
//! | `version.rs` | the version of a cell, which counts its writes |
//! | `stamp.rs` | the word of a node that orders its write among snapshots |
//! | `node.rs`, `head.rs` | a value with its version; the address of the current node |
//! | `typed.rs` | a head and its values, if they have one type |
//! | `room.rs` | the memory for one node in the entry of a map |
//! | `owner.rs` | a transaction that owns cells: its status and its age |
//! | `resolve.rs` | the value that a cell has while a transaction owns it |
//! | `contention.rs` | the reaction of a write to an owner |
//! | `enlist.rs`, `waiters.rs` | waits for changes, and their wake-ups |
//! | `dropped.rs` | the cells that end with a draft |
//!
//! [The protocol of cells](crate::docs::internals::cells) has the rules C, and [that of
//! transactions](crate::docs::internals::transactions) the rules X.

pub(crate) mod clock;
pub(crate) mod contention;
pub(crate) mod dropped;
pub(crate) mod enlist;
mod head;
mod node;
mod owner;
mod resolve;
mod room;
mod stamp;
mod typed;
mod version;
pub(crate) mod waiters;

pub(crate) use head::{Head, Word};
pub(crate) use node::{Header, Node, NodeRef, dead};
pub(crate) use owner::{Owner, OwnerSlot, Rank, Status};
pub(crate) use resolve::{Current, Moment, Owned};
pub(crate) use room::{Room, Tenant, Tenants};
pub(crate) use stamp::When;
pub(crate) use typed::{Pinned, Published, Shared, ValueHead, ValueRef};
pub use version::{ParseVersionError, Version};
