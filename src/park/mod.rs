//! How a thread or task waits: it spins a little, then queues and parks.
//!
//! | file | owns |
//! |---|---|
//! | `waiter.rs`, `reuse.rs` | [`Waiter`]: one thread or task in one queue |
//! | `queue.rs` | [`Queue`]: the list of waiters; [`WakeList`]: those that must be notified |
//! | `lot.rs` | [`Event`]: the queues of words that have no room for one |
//! | `wait.rs` | [`Wait`]: one wait, which is queued, granted or cancelled |
//! | `nested.rs`, `spin.rs` | wakers that poll inline; the checks before a thread queues |
//!
//! [The protocol](crate::docs::internals::waiting) states which thread may access which part of a
//! waiter, and when.

mod lot;
mod nested;
mod queue;
mod reuse;
mod spin;
mod wait;
mod waiter;

pub(crate) use lot::Event;
pub(crate) use queue::{Queue, WakeList, Wakeup};
pub(crate) use spin::Spin;
pub(crate) use wait::Wait;
pub(crate) use waiter::{Notify, Signal, Waiter};

/// Panics on behalf of a future that has ended. `future` names it.
#[cold]
#[track_caller]
pub(crate) fn polled_again(future: &str) -> ! {
    panic!("{future} polled after it was ready, or after a poll that panicked; create a new future")
}
