//! How a thread or task waits: it spins a little, then queues and parks.
//!
//! | file | owns |
//! |---|---|
//! | `waiter.rs`, `reuse.rs` | [`Waiter`]: one thread or task in one queue |
//! | `queue.rs` | [`Queue`]: the list of waiters; [`WakeList`]: those that must be notified |
//! | `lot.rs` | [`Event`]: the queues of words that have no room for one |
//! | `wait.rs` | [`Wait`]: a wait, which is queued, granted or cancelled; [`Awaited`]: its object |
//! | `nested.rs`, `spin.rs` | wakers that poll inline; the checks before a thread queues |
//!
//! [The protocol](crate::docs::internals::waiting) states which thread may access which part of a
//! waiter, and when.
//!
//! # Which waits are here
//! All waits of threads and tasks are a [`Wait`]. Its object is an [`Event`] of the parking lot for
//! latches, changes of cells and keys of maps, `retry`, the end of a transaction and the end of a
//! lock of a map. It is a key of a lock table (`lock_table/raw/place.rs`) for threads, tasks, sets
//! and sessions. An object states in the methods of [`Awaited`] how a waiter checks it, leaves its
//! queue, and undoes a grant.
//!
//! A thread calls `block_on` with its deadline; a timeout is a drop. A task keeps the wait, and
//! polls it. A wait that is granted a key owns the key: its drop releases it. So
//! [`Wait::take_over`] ends the wait before a guard exists, or before wakers of other waiters run.

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
pub(crate) use wait::{Awaited, Wait, spin_or_park};
pub(crate) use waiter::{Notify, Signal, Waiter};

/// Panics on behalf of a future that has ended. `future` names it.
#[cold]
#[track_caller]
pub(crate) fn polled_again(future: &str) -> ! {
    panic!("{future} polled after it was ready, or after a poll that panicked; create a new future")
}
