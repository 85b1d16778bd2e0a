//! One wait of a thread or task: queued, then granted or cancelled.
//!
//! A [`Wait`] exists from the moment when its waiter is in the queue. A thread that changes the
//! object *grants* it, which is final [W2]. A wait that is dropped before is *cancelled*: its
//! waiter leaves the queue [W8]. So no caller needs code of its own for a timeout, for a future
//! that is dropped, or for a panic.
//!
//! An [`Event`] of the parking lot hands nothing over. Other objects do, such as a key: a wait that
//! is dropped after its grant undoes the grant, unless its caller has [taken it
//! over](Wait::take_over).
#![allow(unsafe_code)]

use core::mem::ManuallyDrop;
use core::task::{Context, Poll};
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use super::lot::Event;
use super::queue::{Queue, Wakeup};
use super::spin::Spin;
use super::waiter::{Notify, Signal, Waiter};
use crate::sync::Parker;
use crate::word::Mode;

/// The object that a thread or task waits for. It has the queue that the waiter is in.
pub(crate) trait Awaited {
    /// Checks the object for a waiter that is not granted, and returns whether the waiter is
    /// granted now. If so, the waiters in `wakeup` are granted also. If not, a `renewal` is
    /// exchanged for the present notification.
    ///
    /// # Safety
    /// `waiter` has joined the queue of this object, and has not been cancelled. If another thread
    /// may kill it, the caller was pinned before it loaded the signal [M13].
    unsafe fn recheck(
        &self,
        waiter: &Arc<Waiter>,
        renewal: &mut Option<Notify>,
        wakeup: &mut Wakeup,
    ) -> bool;

    /// Returns whether the waiter is not granted, and its notification wakes the task of `waker`.
    /// `false` if the object must be checked in any case.
    ///
    /// # Safety
    /// The contract is that of [`recheck`](Self::recheck).
    unsafe fn would_wake(&self, _waiter: &Waiter, _waker: &Waker) -> bool {
        false
    }

    /// Removes the waiter from the queue. Returns `true` if it has been granted instead.
    ///
    /// # Safety
    /// `waiter` has joined the queue of this object, and has been neither cancelled nor killed.
    unsafe fn cancel(&self, waiter: &Arc<Waiter>) -> bool;

    /// Undoes the grant of a wait that is dropped.
    fn undo(&self, _mode: Mode) {}

    /// Records that a waiter has left without a grant.
    fn left(&self, _waiter: &Waiter) {}
}

#[derive(Debug)]
#[must_use = "a wait that is dropped is cancelled"]
pub(crate) struct Wait<A: Awaited = Event> {
    awaited: ManuallyDrop<A>,
    waiter: ManuallyDrop<Arc<Waiter>>,
}

impl<A: Awaited> Wait<A> {
    /// Makes the wait of a waiter that is queued.
    ///
    /// # Safety
    /// `waiter` has joined the queue of `awaited`, and no other wait has this waiter.
    #[inline]
    pub(crate) unsafe fn queued(awaited: A, waiter: Arc<Waiter>) -> Self {
        Wait {
            awaited: ManuallyDrop::new(awaited),
            waiter: ManuallyDrop::new(waiter),
        }
    }

    #[inline]
    pub(crate) fn awaited(&self) -> &A {
        &self.awaited
    }

    #[inline]
    pub(crate) fn awaited_mut(&mut self) -> &mut A {
        &mut self.awaited
    }

    #[inline]
    pub(crate) fn waiter(&self) -> &Arc<Waiter> {
        &self.waiter
    }

    #[inline]
    fn is_granted(&self) -> bool {
        self.waiter().signal() == Signal::Granted
    }

    /// Checks the signal, and the object if the waiter was woken. Returns whether the wait is
    /// granted.
    ///
    /// With a `renewal`, which every poll has, it checks the object in any case, and leaves
    /// `renewal` with a waiter that keeps waiting. If another thread may kill the wait, the caller
    /// is pinned [M13].
    #[inline]
    pub(crate) fn check(&self, renewal: &mut Option<Notify>, wakeup: &mut Wakeup) -> bool {
        match self.waiter().signal() {
            Signal::Granted => true,
            Signal::Killed => false,
            Signal::Waiting if renewal.is_none() => false,
            Signal::Waiting | Signal::Woken => self.recheck(renewal, wakeup),
        }
    }

    /// Checks the object, whatever the signal is: at a deadline, a late waiter is not refused what
    /// is free [M15].
    pub(crate) fn recheck(&self, renewal: &mut Option<Notify>, wakeup: &mut Wakeup) -> bool {
        // SAFETY: queued since the wait was made, and to cancel a wait consumes it. Waits that may
        // be killed are pinned by their caller.
        unsafe { self.awaited.recheck(&self.waiter, renewal, wakeup) }
    }

    /// Returns `Ready` once the wait is granted. Until then, the waker of the last poll is the one
    /// that is used [W4].
    ///
    /// A waker that is not needed is returned, because its drop is user code: the caller first
    /// records what it was granted.
    #[inline]
    pub(crate) fn poll_by(
        &self,
        context: &Context<'_>,
        wakeup: &mut Wakeup,
    ) -> Poll<Option<Notify>> {
        // Most polls are the one that is granted, and then no waker is cloned.
        if self.waiter.signal() != Signal::Waiting && self.check(&mut None, wakeup) {
            return Poll::Ready(None);
        }
        let waker = context.waker();
        // SAFETY: as in `recheck`. To compare wakers runs no user code.
        if unsafe { self.awaited.would_wake(&self.waiter, waker) } {
            return Poll::Pending;
        }
        // Cloned before a mutex is locked: the clone of a waker is user code, which may panic.
        let mut renewal = Some(Notify::Task(waker.clone()));
        match self.check(&mut renewal, wakeup) {
            true => Poll::Ready(renewal),
            false => Poll::Pending,
        }
    }

    /// Ends a wait that is granted. What was granted is the caller's from now on, and so is the
    /// waiter.
    #[inline]
    pub(crate) fn take_over(self) -> (A, Arc<Waiter>) {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: the wait is not dropped, so both are moved once.
        unsafe { this.take_parts() }
    }

    /// Cancels the wait. If it was granted before, this returns as
    /// [`take_over`](Self::take_over) does.
    pub(crate) fn cancel(self) -> Option<(A, Arc<Waiter>)> {
        // If a waker panics, the wait has ended.
        let (awaited, waiter) = self.take_over();
        // SAFETY: these were the parts of a wait.
        if unsafe { Self::end(&awaited, &waiter) } {
            return Some((awaited, waiter));
        }
        // After the mutex is released: the drop of a waker is user code [W4].
        Waiter::recycle(waiter);
        None
    }

    /// Moves the parts out.
    ///
    /// # Safety
    /// The wait must not be used or dropped after this.
    #[inline]
    unsafe fn take_parts(&mut self) -> (A, Arc<Waiter>) {
        // SAFETY: it is not used again, by the caller's contract.
        let awaited = unsafe { ManuallyDrop::take(&mut self.awaited) };
        // SAFETY: as above.
        let waiter = unsafe { ManuallyDrop::take(&mut self.waiter) };
        (awaited, waiter)
    }

    /// Cancels the wait that had these parts, unless it was granted before. Returns whether it was.
    ///
    /// # Safety
    /// They were the parts of one wait.
    #[inline]
    unsafe fn end(awaited: &A, waiter: &Arc<Waiter>) -> bool {
        let granted = match waiter.signal() {
            // A grant is final, so no mutex is needed [W2].
            Signal::Granted => true,
            Signal::Killed => false,
            // SAFETY: as in `recheck`. A wait that could still be killed is not ended [D2].
            Signal::Waiting | Signal::Woken => unsafe { awaited.cancel(waiter) },
        };
        if !granted {
            awaited.left(waiter);
        }
        granted
    }
}

impl<A: Awaited> Drop for Wait<A> {
    /// Cancels the wait, or undoes its grant [W8].
    // Not part of the code that waits for nothing, where most drops find no wait.
    #[inline(never)]
    fn drop(&mut self) {
        // SAFETY: a wait is dropped once, and not used afterwards.
        let (awaited, waiter) = unsafe { self.take_parts() };
        // SAFETY: these were the parts of a wait.
        if unsafe { Self::end(&awaited, &waiter) } {
            awaited.undo(waiter.mode());
        }
        // After the mutex is released: the drop of a waker is user code [W4].
        Waiter::recycle(waiter);
    }
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
            // SAFETY: it has joined the queue of the event.
            Ok(()) => Ok(unsafe { Wait::queued(event, waiter) }),
            Err(error) => {
                // After the mutex is released: the drop of a waker is user code [W4].
                Waiter::recycle(waiter);
                Err(error)
            }
        }
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
            Signal::Woken => self.awaited.with_queue(|queue| recheck(queue, waiter)),
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
        // A grant of the lot is no other waiter's.
        self.poll_by(context, &mut Wakeup::default()).map(drop)
    }

    /// Replaces the notification. `false`: the wait is granted, and the previous notification is
    /// used.
    pub(crate) fn renew(&self, notify: Notify) -> bool {
        // The unused notification is dropped after the mutex is released.
        !self.recheck(&mut Some(notify), &mut Wakeup::default())
    }
}

impl Awaited for Event {
    unsafe fn recheck(
        &self,
        waiter: &Arc<Waiter>,
        renewal: &mut Option<Notify>,
        _: &mut Wakeup,
    ) -> bool {
        self.with_queue(|queue| {
            let granted = waiter.signal() == Signal::Granted;
            if let Some(notify) = renewal.take_if(|_| !granted) {
                // SAFETY: a waiter that is not granted is in the queue that it has joined, and the
                // lot returns the same queue as long as a waiter is in it [W2] [W6].
                *renewal = unsafe { queue.renew(waiter, notify) };
            }
            granted
        })
    }

    unsafe fn would_wake(&self, waiter: &Waiter, waker: &Waker) -> bool {
        self.with_queue(|queue| {
            // SAFETY: as in `recheck`.
            waiter.signal() != Signal::Granted && unsafe { queue.would_wake(waiter, waker) }
        })
    }

    unsafe fn cancel(&self, waiter: &Arc<Waiter>) -> bool {
        self.with_queue(|queue| {
            let granted = waiter.signal() == Signal::Granted;
            if !granted {
                // SAFETY: as in `recheck`.
                drop(unsafe { queue.remove(waiter) });
            }
            granted
        })
    }
}

/// Spins, or parks once the spins are used up. `false`: the deadline has passed.
#[inline]
pub(crate) fn spin_or_park(parker: &Parker, spin: &mut Spin, deadline: Option<Instant>) -> bool {
    if spin.may_spin() {
        spin.spin();
        return true;
    }
    parker.park_by(deadline)
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
