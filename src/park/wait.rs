//! One wait of a thread or task: queued, then granted or cancelled.
//!
//! A [`Wait`] exists from the moment when its waiter is in the queue. A thread that changes the
//! object *grants* it, which is final [W2]. A wait that is dropped before is *cancelled*: its
//! waiter leaves the queue [W8]. So no caller needs code of its own for a timeout, for a future
//! that is dropped, or for a panic.
#![allow(unsafe_code)]

use core::task::{Context, Poll};
use std::sync::Arc;
use std::time::Instant;

use super::lot::Event;
use super::queue::Queue;
use super::waiter::{Notify, Signal, Waiter};
use crate::sync::Parker;

#[derive(Debug)]
#[must_use = "a wait that is dropped is cancelled"]
pub(crate) struct Wait {
    event: Event,
    /// `None` only while the wait is dropped.
    waiter: Option<Arc<Waiter>>,
}

impl Wait {
    /// Queues a waiter, unless `mark` returns an error. `mark` runs under the mutex of the queue.
    /// It leaves a mark in the word that changes, or finds that the word has changed already [W7].
    pub(crate) fn begin<E>(
        event: Event,
        waiter: Arc<Waiter>,
        mark: impl FnOnce() -> Result<(), E>,
    ) -> Result<Wait, E> {
        let marked = event.with_queue(|queue| mark().inspect(|()| queue.push(waiter.clone())));
        match marked {
            Ok(()) => Ok(Wait {
                event,
                waiter: Some(waiter),
            }),
            Err(error) => {
                // After the mutex is released: the drop of a waker is user code [W4].
                Waiter::recycle(waiter);
                Err(error)
            }
        }
    }

    fn waiter(&self) -> &Arc<Waiter> {
        self.waiter.as_ref().expect("there until the drop")
    }

    #[inline]
    fn is_granted(&self) -> bool {
        self.waiter().signal() == Signal::Granted
    }

    /// Blocks until the wait is granted. `false`: the deadline has passed, and the wait is still
    /// queued, or was granted just now.
    ///
    /// A head that is woken without a grant calls `recheck` under the mutex of the queue, which
    /// returns whether it has granted the wait. If not, it has set the signal to Waiting.
    pub(crate) fn block_on_with(
        &self,
        parker: &Parker,
        deadline: Option<Instant>,
        mut recheck: impl FnMut(&mut Queue, &Waiter) -> bool,
    ) -> bool {
        let waiter = self.waiter();
        park_until(parker, deadline, || match waiter.signal() {
            Signal::Granted => true,
            Signal::Waiting => false,
            Signal::Woken => self.event.with_queue(|queue| recheck(queue, waiter)),
            Signal::Killed => unreachable!("only sessions are killed, and none waits here"),
        })
    }

    /// Blocks until the wait is granted. `false`: the deadline has passed.
    pub(crate) fn block_on(&self, parker: &Parker, deadline: Option<Instant>) -> bool {
        park_until(parker, deadline, || self.is_granted())
    }

    /// Blocks until one of several waits is granted, or until the thread is unparked. `false`: the
    /// deadline has passed. The caller checks its condition, so it needs no second check here.
    pub(crate) fn block_on_any(waits: &[Wait], parker: &Parker, deadline: Option<Instant>) -> bool {
        waits.iter().any(Wait::is_granted) || parker.park_by(deadline)
    }

    /// Returns `Ready` once the wait is granted. Until then, the waker of the last poll is the one
    /// that is used [W4].
    pub(crate) fn poll(&self, context: &Context<'_>) -> Poll<()> {
        let (waiter, waker) = (self.waiter(), context.waker());
        let found = self.event.with_queue(|queue| match self.is_granted() {
            true => Some(Poll::Ready(())),
            // SAFETY: as in `renew`. To compare wakers runs no user code.
            false => unsafe { queue.would_wake(waiter, waker) }.then_some(Poll::Pending),
        });
        if let Some(found) = found {
            return found;
        }
        // Cloned before the mutex is locked again: to clone a waker is to run user code.
        match self.renew(Notify::Task(waker.clone())) {
            true => Poll::Pending,
            false => Poll::Ready(()),
        }
    }

    /// Replaces the notification. `false`: the wait is granted, and the previous notification is
    /// used.
    pub(crate) fn renew(&self, notify: Notify) -> bool {
        let waiter = self.waiter();
        // The unused notification leaves the closure, and is dropped after the mutex is released.
        let unused = self.event.with_queue(|queue| match self.is_granted() {
            true => Err(notify),
            // SAFETY: a waiter that is not granted is in the queue that it has joined, and the lot
            // returns the same queue as long as a waiter is in it [W2] [W6].
            false => Ok(unsafe { queue.renew(waiter, notify) }),
        });
        unused.is_ok()
    }
}

impl Drop for Wait {
    /// Cancels the wait, unless it is granted [W8].
    fn drop(&mut self) {
        let Some(waiter) = self.waiter.take() else {
            return;
        };
        // A grant is final, so a granted wait needs no mutex [W2].
        if waiter.signal() != Signal::Granted {
            self.event.with_queue(|queue| {
                if waiter.signal() != Signal::Granted {
                    // SAFETY: as in `renew`.
                    drop(unsafe { queue.remove(&waiter) });
                }
            });
        }
        // After the mutex is released: the drop of a waker is user code [W4].
        Waiter::recycle(waiter);
    }
}

/// Parks until `is_over`, or until the deadline has passed, and returns whether it is over. The
/// thread that ends the wait unparks this one after `is_over` has changed.
fn park_until(
    parker: &Parker,
    deadline: Option<Instant>,
    mut is_over: impl FnMut() -> bool,
) -> bool {
    while !is_over() {
        if !parker.park_by(deadline) {
            return false;
        }
    }
    true
}
