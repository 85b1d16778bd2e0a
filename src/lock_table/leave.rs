//! How a waiter leaves the queue of a monitor before its turn: it gives up, is told to, or is let past.
#![allow(unsafe_code)]

use std::sync::Arc;

use super::monitor::{Cancelled, Left, Monitor};
use crate::sync::Ordering;
use crate::wait::{Signal, Waiter, Wakeup};
use crate::word::{Mode, Queued, State};

/// Whose wish it is that a wait ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// The waiter's.
    Own,
    /// Somebody else's: the waiter is to be told.
    Other,
}

impl Monitor {
    /// A waiter gives up, or is told to: then it is in `wakeup`. Pinned: without it, nothing may keep the
    /// monitor [M2].
    pub(super) fn cancel(
        &self,
        waiter: &Arc<Waiter>,
        wish: Wish,
        wakeup: &mut Wakeup,
    ) -> Cancelled {
        let mut queue = self.queue.lock();
        if waiter.signal() == Signal::Granted {
            return Cancelled::Granted;
        }
        let was_head = queue.is_head(waiter);
        match wish {
            // SAFETY: not granted, so still in the queue [W2].
            Wish::Own => drop(unsafe { queue.remove(waiter) }),
            // SAFETY: as above.
            Wish::Other => unsafe { queue.end(waiter, Signal::Killed, wakeup) },
        }
        loop {
            let mut state = self.load();
            if was_head && state.has_upgrader() {
                // It was the upgrader, who goes on to read. Relaxed: the mark carries nothing.
                let plain = state.without_upgrader();
                if !self.cas(state, plain, Ordering::Relaxed) {
                    continue;
                }
                state = plain;
            }
            let marked = state.with_queue(queue.queued());
            if queue.queued() == Queued::Nobody && !state.is_held() {
                // Acquire: it passes on the work of those who left, by unlinking [M3].
                if self.cas(state, State::DEAD, Ordering::Acquire) {
                    return Cancelled::Left(Left::Dead);
                }
                continue;
            }
            if !was_head || queue.queued() == Queued::Nobody {
                // Relaxed: the mark carries nothing.
                if marked == state || self.cas(state, marked, Ordering::Relaxed) {
                    break;
                }
                continue;
            }
            // There is a new head. It is owed what the old one was: admission if it fits.
            let head = queue.head().expect("somebody waits").mode();
            if head == Mode::Shared && state.fits(Mode::Shared) {
                if self.admit_run(state, &mut queue, None, wakeup) {
                    break;
                }
            } else if state.is_held() {
                // Relaxed: the next release wakes the new head [M5].
                if self.cas(state, marked.not_woken(), Ordering::Relaxed) {
                    break;
                }
            } else if marked == state || self.cas(state, marked, Ordering::Relaxed) {
                // Relaxed: the mark carries nothing. Free, so the old head had been woken: the new one is instead [M5].
                queue.wake_head(wakeup);
                break;
            }
        }
        drop(queue);
        // Unlocking touched it last.
        self.canary.check();
        Cancelled::Left(Left::Alive)
    }
    /// Lets a reader in past the writers that it waits behind, because a holder waits for it. Pinned, or
    /// the key is held by somebody who does not let go meanwhile. Returns whether that was still to do.
    pub(super) fn let_past(&self, waiter: &Arc<Waiter>, wakeup: &mut Wakeup) -> bool {
        let mut queue = self.queue.lock();
        if matches!(waiter.signal(), Signal::Granted | Signal::Killed) {
            return false;
        }
        loop {
            let state = self.load();
            if !state.fits(waiter.mode()) {
                return false;
            }
            if queue.is_head(waiter) {
                // It is on its way in; those who read behind it come along.
                if self.admit_run(state, &mut queue, None, wakeup) {
                    break;
                }
                continue;
            }
            // Somebody is before it in the queue, so who is left says all [M14].
            let next = state.with_holders(waiter.mode(), 1);
            let next = next.with_queue(queue.queued_without(waiter.mode()));
            // Acquire: it follows every release of this key [S3], and learns of it by its signal [M6].
            if self.cas(state, next, Ordering::Acquire) {
                // SAFETY: neither granted nor killed, so still in the queue [W2].
                unsafe { queue.end(waiter, Signal::Granted, wakeup) };
                break;
            }
        }
        drop(queue);
        // Unlocking touched it last.
        self.canary.check();
        true
    }
}
