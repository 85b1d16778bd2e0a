//! One thread or task that waits.

use core::ptr::NonNull;
use std::task::Waker;

use super::nested;
use crate::deadlock::Owner;
use crate::sync::{AtomicU32, Ordering, Parker, Unparker, UnsafeCell, recently};
use crate::word::Mode;

/// The state of a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// The waiter must wait.
    Waiting,
    /// The key became free: the waiter must re-check it.
    Woken,
    /// The waiter holds the key.
    Granted,
    /// The waiter was removed from the queue and will not get the key.
    Killed,
}

/// How to make a waiter check its signal.
#[derive(Debug)]
pub(crate) enum Notify {
    Thread(Unparker),
    /// Valid for one notification: the task installs a new one at its next check.
    Task(Waker),
}

impl Notify {
    /// Makes a notification of the calling thread, which parks by the parker.
    pub(crate) fn this_thread() -> (Parker, Self) {
        let (parker, unparker) = Parker::new();
        (parker, Notify::Thread(unparker))
    }

    pub(crate) fn notify(self) {
        match self {
            Notify::Thread(unparker) => unparker.unpark(),
            Notify::Task(waker) => nested::wake(waker),
        }
    }

    /// Removes a notification from `slot` for one use, under the queue's mutex. That of a thread
    /// also remains there. That of a task does not, because to clone a waker is to run user code.
    pub(super) fn for_one_use(slot: &mut Option<Notify>) -> Option<Notify> {
        match slot {
            Some(Notify::Thread(unparker)) => Some(Notify::Thread(unparker.clone())),
            _ => slot.take(),
        }
    }
}

/// The part of a waiter that belongs to the queue's mutex [W1].
#[derive(Debug)]
pub(super) struct Links {
    pub(super) prev: Option<NonNull<Waiter>>,
    pub(super) next: Option<NonNull<Waiter>>,
    pub(super) notify: Option<Notify>,
}

#[derive(Debug)]
pub(crate) struct Waiter {
    mode: Mode,
    /// The version that it has seen, if it waits for a write of a cell. Other queues ignore it.
    seen: u64,
    /// The session or the set that waits, for inspection of the queue; `None` for a lock of one
    /// key.
    owner: Option<Owner>,
    since: u64,
    signal: AtomicU32,
    pub(super) links: UnsafeCell<Links>,
}

impl Waiter {
    pub(super) fn new(mode: Mode, notify: Notify) -> Self {
        Waiter {
            mode,
            seen: 0,
            owner: None,
            since: recently(),
            signal: AtomicU32::new(Signal::Waiting as u32),
            links: UnsafeCell::new(Links {
                prev: None,
                next: None,
                notify: Some(notify),
            }),
        }
    }

    /// As [`new`](Self::new), in the place of a waiter without other references.
    #[cfg(not(any(latchwork_loom, latchwork_shuttle)))]
    pub(super) fn renew(&mut self, mode: Mode, notify: Notify) {
        // Field by field, because to build it elsewhere and to move it costs more than the rest.
        self.mode = mode;
        self.since = recently();
        // Relaxed: no other thread has it.
        self.signal.store(Signal::Waiting as u32, Ordering::Relaxed);
        self.links.get_mut().notify = Some(notify);
    }

    /// Drops the notification of a waiter that is in no queue any more.
    #[cfg(not(any(latchwork_loom, latchwork_shuttle)))]
    pub(super) fn clear_notify(&mut self) {
        self.links.get_mut().notify = None;
    }

    /// Sets the version that a waiter has seen, which is in no queue yet.
    pub(super) fn set_seen(&mut self, version: u64) {
        self.seen = version;
    }

    /// Sets the owner of a waiter that is in no queue yet.
    pub(super) fn set_owner(&mut self, owner: Owner) {
        self.owner = Some(owner);
    }

    /// Clears the owner of a waiter that is in no queue any more.
    #[cfg(not(any(latchwork_loom, latchwork_shuttle)))]
    #[inline]
    pub(super) fn clear_owner(&mut self) {
        // Most waiters have none: then the drop of one is not part of the path.
        if self.owner.is_some() {
            self.drop_owner();
        }
    }

    #[cfg(not(any(latchwork_loom, latchwork_shuttle)))]
    #[cold]
    #[inline(never)]
    fn drop_owner(&mut self) {
        self.owner = None;
    }

    pub(crate) fn owner(&self) -> Option<&Owner> {
        self.owner.as_ref()
    }

    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    #[inline]
    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    /// The time at which it began to wait, by [`recently`].
    pub(crate) fn since(&self) -> u64 {
        self.since
    }

    #[inline]
    pub(crate) fn signal(&self) -> Signal {
        // Acquire: a granted waiter holds the key and must see the accesses of its holders. Pairs
        // with the Release in `set_signal` [M6].
        match self.signal.load(Ordering::Acquire) {
            0 => Signal::Waiting,
            1 => Signal::Woken,
            2 => Signal::Granted,
            _ => Signal::Killed,
        }
    }

    /// Sets the signal, under the queue's mutex only [W2].
    pub(crate) fn set_signal(&self, signal: Signal) {
        // Release: publishes the accesses that the granter acquired from the state. Pairs with the
        // Acquire in `signal` [M6].
        self.signal.store(signal as u32, Ordering::Release);
    }
}
