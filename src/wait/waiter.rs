//! One thread or task that waits.

use std::task::Waker;

use super::nested;
use super::queue::Links;
use crate::sync::{AtomicU32, Ordering, Unparker, UnsafeCell, recently};
use crate::waits_for::Owner;
use crate::word::Mode;

/// What a waiter was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Nothing yet.
    Waiting,
    /// The key was free a moment ago: look.
    Woken,
    /// It holds the key.
    Granted,
    /// It was taken out of the queue and will not get the key.
    Killed,
}

/// How to make a waiter look at its signal.
#[derive(Debug)]
pub(crate) enum Notify {
    Thread(Unparker),
    /// Used up by one notification: the task brings a new one when it looks.
    Task(Waker),
}

impl Notify {
    pub(crate) fn notify(self) {
        match self {
            Notify::Thread(unparker) => unparker.unpark(),
            Notify::Task(waker) => nested::wake(waker),
        }
    }

    /// Takes a notification out of `slot` for one use, under the queue's mutex. A thread's stays there too; a
    /// task's does not, because to clone a waker is to run user code.
    pub(super) fn for_one_use(slot: &mut Option<Notify>) -> Option<Notify> {
        match slot {
            Some(Notify::Thread(unparker)) => Some(Notify::Thread(unparker.clone())),
            _ => slot.take(),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Waiter {
    mode: Mode,
    /// The session or the set that waits, for whoever inspects the queue; `None` for a lock of one key.
    owner: Option<Owner>,
    since: u64,
    signal: AtomicU32,
    pub(super) links: UnsafeCell<Links>,
}

impl Waiter {
    pub(super) fn new(mode: Mode, notify: Notify) -> Self {
        Waiter {
            mode,
            owner: None,
            since: recently(),
            signal: AtomicU32::new(Signal::Waiting as u32),
            links: UnsafeCell::new(Links::new(notify)),
        }
    }

    /// As [`new`](Self::new), in the place of one that nobody else has.
    #[cfg(not(any(latchwork_loom, latchwork_shuttle)))]
    pub(super) fn renew(&mut self, mode: Mode, notify: Notify) {
        // One after the other, because to build it elsewhere and to move it costs more than all the rest.
        self.mode = mode;
        self.since = recently();
        // Relaxed: nobody else has it.
        self.signal.store(Signal::Waiting as u32, Ordering::Relaxed);
        self.links.get_mut().notify_by(Some(notify));
    }

    /// Records the owner, of a waiter that is in no queue yet; or forgets it.
    pub(super) fn set_owner(&mut self, owner: Option<Owner>) {
        self.owner = owner;
    }

    pub(crate) fn owner(&self) -> Option<&Owner> {
        self.owner.as_ref()
    }

    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    /// When it began to wait, by [`recently`].
    pub(crate) fn since(&self) -> u64 {
        self.since
    }

    pub(crate) fn signal(&self) -> Signal {
        // Acquire: a granted waiter holds the key and must see what its holders did. Pairs with
        // the Release in `set_signal` [M6].
        match self.signal.load(Ordering::Acquire) {
            0 => Signal::Waiting,
            1 => Signal::Woken,
            2 => Signal::Granted,
            _ => Signal::Killed,
        }
    }

    /// Only under the queue's mutex [W2].
    pub(crate) fn set_signal(&self, signal: Signal) {
        // Release: publishes what the granter acquired from the state. Pairs with the Acquire in
        // `signal` [M6].
        self.signal.store(signal as u32, Ordering::Release);
    }
}
