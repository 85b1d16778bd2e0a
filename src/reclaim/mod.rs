//! Reclamation: when memory that other threads may still read is freed or reused.
//!
//! A thread that follows a pointer out of a shared word pins itself before it loads the word, and
//! keeps the pin until after its last access. The thread that unlinks an object retires it, once.
//! No thread touches it before every pin that could have seen it has ended.
//!
//! There are two domains, because a retired object waits for every pin of its domain:
//! - [`Domain`], of the lock table, is a thin layer over crossbeam-epoch. No retired object runs
//!   user code, and no thread spins, parks or runs user code while it is pinned. So garbage waits
//!   for running threads only.
//! - [`Local`], of cells, has epochs of its own. Users hold pins as long as they need, and values
//!   have destructors. PROTOCOL.md has the rules.

mod alloc;
mod domain;
mod drops;
mod epoch;
mod hand;
mod in_hand;
pub(crate) mod inside;
mod kind;
mod limbo;
mod local;
mod members;
mod participant;
mod quota;
mod registry;
mod rescue;
mod slot;
mod table_domain;
mod thread;

pub(crate) use alloc::Pool;
#[cfg(latchwork_loom)]
pub(crate) use domain::{reclaim_in_model, reclaim_with_dormant_slots_in_model};
pub(crate) use kind::{Destructor, Kind, Retired, Share};
pub(crate) use local::{GracePeriod, Local, census, with};
pub(crate) use participant::CellPin;
pub(crate) use table_domain::{Domain, Pin};
