//! Deadlock detection: the graph of waits between owners and keys, and the search for a cycle.
//!
//! | file | owns |
//! |---|---|
//! | `numbers.rs`, `scratch.rs` | maps by numbers, and the memory of a search |
//! | `owner.rs`, `held.rs`, `cycle.rs` | the owners of keys, their keys, a cycle of waits |
//! | `graph.rs`, `search.rs` | the graph, and the search for a cycle through one key |
//! | `waits.rs` | the graph with its history; ends each cycle that a search finds |
//! | `turns.rs` | the order in which victims retry |
//! | `detector.rs` | all of it for one table, behind mutexes |
//!
//! No code here uses a lock table. A [`Graph`] is plain data. It contains the owners that were
//! entered, and no others. The lock table passes an [`EndWaits`], which ends the waits of other
//! threads. PROTOCOL.md of `session` states which code enters an owner, at which step, and why a
//! cycle that is found here is a deadlock.

mod cycle;
mod detector;
mod graph;
mod held;
mod numbers;
mod owner;
mod scratch;
mod search;
#[cfg(test)]
mod tests;
mod turns;
mod waits;

pub(crate) use cycle::{Cycle, Link};
pub(crate) use detector::{Detector, KEPT, Labels, discard};
#[cfg(any(doc, test))]
use graph::Graph;
pub(crate) use graph::Want;
pub(crate) use numbers::{Numbers, Spread};
pub use owner::OwnerKind;
pub(crate) use owner::{At, Held, Owner};
pub(crate) use waits::{EndWaits, Found, Search, Waiting, Waits};
