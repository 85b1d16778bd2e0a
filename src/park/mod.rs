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
//!
//! # Which waits are here
//! Latches, changes of cells and keys of maps, `retry`, and waits for the end of a transaction or a
//! lock of a map are a [`Wait`] in the parking lot. Keys of a lock table are not yet: their threads
//! (`lock_table/raw/acquire.rs`), tasks (`future.rs`) and sessions (`raw/claim.rs`) share the
//! waiters, the queue and the signal, and each ends a wait by code of its own. They differ from the
//! lot in four points, which a port makes the methods of a trait in the place of [`Event`]:
//!
//! - `with_queue(f)`: the lot locks a shard and finds the queue by its event; a monitor locks its
//!   mutex.
//! - `recheck(queue, waiter)`, for a waiter that is woken: `RawLatch::look` for a latch, and
//!   `Monitor::look` for a key. A monitor also calls it at each poll, and at a deadline, since a
//!   waiter may be granted out of order.
//! - `left(queue, waiter)`, after a cancelled waiter has left: nothing in the lot. A monitor sets
//!   its state. It may die then, so the caller has pinned it, and unlinks it.
//! - `undo(mode)`, for a wait that is dropped after its grant: nothing in the lot. A monitor
//!   releases the key.
//!
//! A thread then calls `block_on` with its deadline, after it has spun; a timeout is a drop. A task
//! keeps the wait and polls it. `Ticket`, `Place`, both `Pending` and `Acquiring` become the wait,
//! and `Undo` its drop. A wait that holds a key must not be dropped while wakers of other waiters
//! run, or it releases the key: `got` disarms it first. The trait is `unsafe`: `with_queue` must
//! return the queue that the waiter has joined.

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
