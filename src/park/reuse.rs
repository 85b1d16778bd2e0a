//! Waiters that are reused for one wait after another, so that a wait allocates nothing.
//!
//! Each thread keeps at most one, to which no other reference exists: for other threads it is a new
//! waiter.

use std::sync::Arc;

use super::waiter::{Notify, Waiter};
use crate::deadlock::Owner;
use crate::word::Mode;

impl Waiter {
    /// Returns a waiter for one wait, of an owner if there is one.
    #[inline(always)]
    pub(crate) fn take_for(owner: Option<Owner>, mode: Mode, notify: Notify) -> Arc<Self> {
        let mut waiter = Self::take(mode, notify);
        if let Some(owner) = owner {
            let new = Arc::get_mut(&mut waiter).expect("no queue has it yet");
            new.set_owner(owner);
        }
        waiter
    }

    /// Returns a waiter for a change of a cell that has another version than `seen`. All waiters of
    /// a cell are woken at once.
    pub(crate) fn take_for_change(seen: u64, notify: Notify) -> Arc<Self> {
        let mut waiter = Self::take(Mode::Shared, notify);
        let new = Arc::get_mut(&mut waiter).expect("no queue has it yet");
        new.set_seen(seen);
        waiter
    }
}

#[cfg(not(any(latchwork_loom, latchwork_shuttle)))]
mod imp {
    use core::cell::Cell;
    use std::sync::Arc;

    use crate::park::waiter::{Notify, Waiter};
    use crate::word::Mode;

    thread_local! {
        static SPARE: Cell<Option<Arc<Waiter>>> = const { Cell::new(None) };
    }

    impl Waiter {
        /// Returns a waiter for one wait.
        pub(crate) fn take(mode: Mode, notify: Notify) -> Arc<Self> {
            // A thread that is ending has none to reuse.
            let Some(mut waiter) = SPARE.try_with(Cell::take).unwrap_or(None) else {
                return Arc::new(Waiter::new(mode, notify));
            };
            let spare = Arc::get_mut(&mut waiter).expect("no other reference was left to it");
            spare.renew(mode, notify);
            waiter
        }

        /// Ends the wait. Drops the notification, which may be user code.
        pub(crate) fn recycle(mut waiter: Arc<Self>) {
            // A granter may still have its reference; then the waiter is not reused.
            if let Some(spare) = Arc::get_mut(&mut waiter) {
                spare.clear_owner();
                spare.clear_notify();
                let _ = SPARE.try_with(|place| place.set(Some(waiter)));
            }
        }
    }
}

/// A checker distinguishes objects by their allocation: there each wait has its own.
#[cfg(any(latchwork_loom, latchwork_shuttle))]
mod imp {
    use std::sync::Arc;

    use crate::park::waiter::{Notify, Waiter};
    use crate::word::Mode;

    impl Waiter {
        pub(crate) fn take(mode: Mode, notify: Notify) -> Arc<Self> {
            Arc::new(Waiter::new(mode, notify))
        }

        pub(crate) fn recycle(_: Arc<Self>) {}
    }
}
