//! Packed words as plain values: no atomics and no `unsafe`, so that all of it is unit-tested.

mod mode;
mod phase;
mod slot;
mod state;
#[cfg(test)]
mod tests;

pub use mode::Mode;
pub(crate) use phase::{Move, Phase};
pub(crate) use slot::{Kind, STATE_BITS, SlotWord};
pub(crate) use state::{Entry, Queued, Release, State};
