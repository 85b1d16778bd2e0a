//! How a thread or task waits: it spins a little, then queues and parks.
//!
//! A [`Waiter`] is one thread or task in one [`Queue`]. [The
//! protocol](crate::docs::internals::waiting) states which thread may access which part of it, and
//! when.

mod nested;
mod queue;
mod reuse;
mod spin;
mod waiter;

pub(crate) use queue::{Queue, Wakeup};
pub(crate) use spin::Spin;
pub(crate) use waiter::{Notify, Signal, Waiter};

/// Panics on behalf of a future that has ended. `future` names it.
#[cold]
#[track_caller]
pub(crate) fn polled_again(future: &str) -> ! {
    panic!("{future} polled after it was ready, or after a poll that panicked; create a new future")
}
