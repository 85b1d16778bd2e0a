//! The graph of waits between owners and keys, and the search for a cycle through one key.
//!
//! No code here waits, locks or uses a lock table. A [`Graph`] is plain data, which its user keeps
//! under a mutex. It contains the owners that were entered, and no others. PROTOCOL.md of `session`
//! states which code enters an owner, at which step, and why a cycle that is found here is a
//! deadlock.

mod cycle;
mod graph;
mod held;
mod numbers;
mod owner;
mod scratch;
mod search;
#[cfg(test)]
mod tests;

pub(crate) use cycle::{Cycle, Link};
pub(crate) use graph::{Graph, Want};
pub(crate) use numbers::{Numbers, Spread};
pub use owner::OwnerKind;
pub(crate) use owner::{At, Held, Owner};
