//! How to wait: spin a little, then queue and sleep.
//!
//! A [`Waiter`] is one thread or task in one [`Queue`]. A queue lives under a mutex, and everything
//! in a waiter but its signal belongs to whoever has that mutex:
//!
//! - **[W1]** The links and the notification of a waiter are touched only under the mutex of the
//!   queue that it is in, or by the one [`Wakeup`] that it was popped into.
//! - **[W2]** A signal goes from `Waiting` to `Woken` and back under the mutex, and from either to
//!   `Granted` once, under the mutex, by whoever pops the waiter. After that its owner touches neither
//!   links nor notification.
//! - **[W3]** A notification is used after the mutex and the pin are released: it may run user
//!   code, which may come back.

mod queue;
mod spin;
mod waiter;

pub(crate) use queue::{Queue, Wakeup};
pub(crate) use spin::Spin;
pub(crate) use waiter::{Notify, Signal, Waiter};
