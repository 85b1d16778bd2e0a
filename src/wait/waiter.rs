//! One thread or task that waits.

use super::queue::Links;
use crate::sync::{AtomicU32, Ordering, Unparker, UnsafeCell};
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
}

/// How to make a waiter look at its signal.
#[derive(Debug)]
pub(crate) enum Notify {
    Thread(Unparker),
}

impl Notify {
    pub(super) fn notify(self) {
        match self {
            Notify::Thread(unparker) => unparker.unpark(),
        }
    }

    /// A notification for now, while this one stays for later.
    pub(super) fn again(&mut self) -> Notify {
        match self {
            Notify::Thread(unparker) => Notify::Thread(unparker.clone()),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Waiter {
    mode: Mode,
    signal: AtomicU32,
    pub(super) links: UnsafeCell<Links>,
}

impl Waiter {
    pub(crate) fn new(mode: Mode, notify: Notify) -> Self {
        Waiter {
            mode,
            signal: AtomicU32::new(Signal::Waiting as u32),
            links: UnsafeCell::new(Links::new(notify)),
        }
    }

    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    pub(crate) fn signal(&self) -> Signal {
        // Acquire: a granted waiter holds the key and must see what its holders did. Pairs with
        // the Release in `set_signal` [M6].
        match self.signal.load(Ordering::Acquire) {
            0 => Signal::Waiting,
            1 => Signal::Woken,
            _ => Signal::Granted,
        }
    }

    /// Only under the queue's mutex [W2].
    pub(crate) fn set_signal(&self, signal: Signal) {
        // Release: publishes what the granter acquired from the state. Pairs with the Acquire in
        // `signal` [M6].
        self.signal.store(signal as u32, Ordering::Release);
    }
}
