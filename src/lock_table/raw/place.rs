//! A place in the queue of a key: a [`Ticket`] for the waiter, a [`Seat`] for other threads.
#![allow(unsafe_code)]

use core::ptr::NonNull;
use std::sync::Arc;

use super::monitor::Monitor;
use crate::park::{Waiter, Wakeup};
use crate::word::SlotWord;

/// The place where a waiter was queued: a ticket without the waiter.
#[must_use]
pub(crate) struct Place(NonNull<Monitor>);

/// A place in the queue of a key's monitor, which it keeps alive [M1].
///
/// It must be spent: by [`RawTable::cancel`](super::RawTable), or by an acquisition of the key.
#[derive(Debug)]
#[must_use]
pub(crate) struct Ticket {
    pub(super) hash: u64,
    monitor: NonNull<Monitor>,
    pub(crate) waiter: Arc<Waiter>,
}

// SAFETY: a monitor may be used from any thread, and so may the waiter.
unsafe impl Send for Ticket {}
// SAFETY: as above; a shared ticket gives access to neither.
unsafe impl Sync for Ticket {}

/// The place of a ticket, for other threads. Through it they may kill the wait or grant it out of
/// order, as long as the wait is known not to have ended.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(super) hash: u64,
    monitor: NonNull<Monitor>,
    pub(super) waiter: Arc<Waiter>,
}

// SAFETY: a monitor may be used from any thread, and so may the waiter.
unsafe impl Send for Seat {}
// SAFETY: as above; a shared seat gives access to neither.
unsafe impl Sync for Seat {}

/// The threads and tasks to notify of changes that were made through seats, once no mutex is held.
#[derive(Debug, Default)]
#[must_use]
pub(crate) struct Notices(Vec<Wakeup>);

impl Place {
    pub(super) fn new(monitor: &Monitor) -> Self {
        Place(NonNull::from(monitor))
    }
}

fn word_of(monitor: NonNull<Monitor>) -> SlotWord {
    SlotWord::monitor(monitor.as_ptr().expose_provenance())
}

impl Ticket {
    /// Makes the ticket of the waiter that was queued at `place`.
    pub(crate) fn new(hash: u64, place: Place, waiter: Arc<Waiter>) -> Self {
        Ticket {
            hash,
            monitor: place.0,
            waiter,
        }
    }

    /// Returns the same place for other threads.
    pub(crate) fn seat(&self) -> Seat {
        Seat {
            hash: self.hash,
            monitor: self.monitor,
            waiter: self.waiter.clone(),
        }
    }

    pub(super) fn monitor(&self) -> &Monitor {
        // SAFETY: while its waiter is queued, or holds the key without having released it, the
        // monitor is not retired [M1]. If another thread may remove it from the queue, its owner
        // was pinned before [M13].
        unsafe { self.monitor.as_ref() }
    }

    /// Returns the slot word of the monitor.
    pub(super) fn word(&self) -> SlotWord {
        word_of(self.monitor)
    }
}

impl Seat {
    /// Returns the monitor in whose queue the seat is.
    ///
    /// # Safety
    /// The wait has not ended, and does not end while the reference is used, unless by a call of
    /// the caller under a pin.
    pub(super) unsafe fn monitor(&self) -> &Monitor {
        // SAFETY: its waiter is queued or holds the key, by the caller's contract [M1].
        unsafe { self.monitor.as_ref() }
    }

    /// Returns the slot word of the monitor.
    pub(super) fn word(&self) -> SlotWord {
        word_of(self.monitor)
    }
}

impl Notices {
    pub(super) fn add(&mut self, wakeup: Wakeup) {
        self.0.push(wakeup);
    }

    /// Notifies all of them, even if a notification panics.
    pub(crate) fn run(mut self) {
        self.0.iter_mut().for_each(Wakeup::run);
    }
}
