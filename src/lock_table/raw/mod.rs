//! The lock table of hashes, below keys and guards.
//!
//! All `unsafe` code of the lock table is in this folder. Its files name neither `K` nor `S`, and
//! none of them but `Fairness` is part of the public interface.
//!
//! | file | owns |
//! |---|---|
//! | `slot.rs` | a slot: each transition of its word, with its ordering |
//! | `child.rs` | the array of slots below a slot, and how it is folded |
//! | `busiest.rs` | hold times, and the keys that are waited for most, for the console |
//! | `monitor.rs` | the state and the queue of a key that a waiter waits for |
//! | `root.rs` | the memory of a root |
//! | `grow.rs` | the roots, and the move of keys to a larger or a smaller one |
//! | `trie.rs` | the walk to the slot of a key, and its fast paths |
//! | `observe.rs` | statistics, metrics and spans of waits |
//! | `table.rs` | [`RawTable`]: a trie, a policy, statistics and tokens |
//! | `release.rs` | unlock, downgrade and upgrade |
//! | `place.rs` | a place in a queue, for the waiter and for other threads: check, end, cancel |
//! | `acquire.rs` | lock, queue, and wait as a thread |
//! | `waits.rs` | ends the waits of other threads, for the detector of deadlocks |
//!
//! A file imports only from those above it.

mod acquire;
mod busiest;
mod child;
mod grow;
mod monitor;
mod observe;
mod place;
mod release;
mod root;
mod slot;
mod table;
mod trie;
mod waits;

pub(super) use acquire::Party;
pub(crate) use acquire::{Acquired, Patience};
#[cfg(feature = "console")]
pub(crate) use busiest::Busy;
pub(super) use monitor::Monitor;
pub(crate) use place::{KeyWait, Notices, Seat};
pub(crate) use table::{RawTable, TableRef};
pub(super) use trie::Content;
