//! How to wait: spin a little, then queue and sleep.
//!
//! A [`Waiter`] is one thread or task in one [`Queue`]; who may touch what of it, and when, is in
//! PROTOCOL.md beside this file.

mod nested;
mod queue;
mod reuse;
mod spin;
mod waiter;

pub(crate) use queue::{Queue, Wakeup};
pub(crate) use spin::Spin;
pub(crate) use waiter::{Notify, Signal, Waiter};
