//! When memory that others may still read is freed or used again: a thin layer over
//! crossbeam-epoch.
//!
//! A thread that follows a pointer out of a shared word holds a pin from before it loads the
//! word until after its last access. Whoever unlinks an object retires it, once; nobody
//! touches it before every pin that could have seen it is gone.
//!
//! There are two domains, since whatever is retired waits for every pin of its domain:
//! - [`Domain`], of the lock table, where nothing that is retired runs user code, and no pin is
//!   held while a thread spins, parks or runs user code: garbage waits for running threads only.
//! - [`Local`], of cells, whose pins users hold as long as they please, and whose values have
//!   destructors. What a thread retires comes back to it and is used again. PROTOCOL.md has the
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
