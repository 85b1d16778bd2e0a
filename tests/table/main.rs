//! The lock table by keys: threads and tasks, sets, holds, errors and hashers; and what is built on
//! it.

#[path = "../common/mod.rs"]
mod common;

mod bad_input;
mod fairness;
mod fenced_cell;
mod free_key;
mod future_faults;
mod future_wakes;
mod futures;
mod holds;
mod integer_hasher;
mod locks;
mod owned;
mod peer_bugs;
mod properties;
mod runtimes;
mod sets;
mod single_flight;
mod texts;
mod wakers;
