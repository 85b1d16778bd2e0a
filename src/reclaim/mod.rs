//! Reclamation: when memory that other threads may still read is freed or reused. A thin layer over
//! crossbeam-epoch.
//!
//! A thread that follows a pointer out of a shared word pins itself before it loads the word, and
//! keeps the pin until after its last access. The thread that unlinks an object retires it, once.
//! No thread touches it before every pin that could have seen it has ended.
//!
//! There are two domains, because a retired object waits for every pin of its domain:
//! - [`Domain`], of the lock table. No retired object runs user code, and no thread spins, parks or
//!   runs user code while it is pinned. So garbage waits for running threads only.
//! - [`Local`], of cells. Users hold pins as long as they need, and values have destructors. The
//!   retired nodes return to the thread that retired them, which reuses them. PROTOCOL.md has the
//!   rules.

mod blocks;
mod chain;
pub(crate) mod inside;
mod limbo;
mod local;
mod nodes;
mod participant;
mod pin;
mod shared;

pub(crate) use limbo::{Destructor, Kind};
#[cfg(latchwork_loom)]
pub(crate) use local::reclaim_in_model;
pub(crate) use local::{Local, census, with};
pub(crate) use participant::CellPin;
use participant::Epochs;
pub(crate) use pin::{Domain, Pin};

use crate::sync::tuning::{
    GARBAGE_BATCH as BATCH, GARBAGE_BATCH_BYTES as BATCH_BYTES, GARBAGE_LIMIT as LIMIT,
    RELEASE_AFTER, RELEASES_PER_RETIRE,
};
