//! Removes a waiter from the queue of a monitor before its turn: by its own wish, by a kill, or by
//! a grant out of order.
#![allow(unsafe_code)]

use std::sync::Arc;

use super::monitor::{Cancelled, Left, Monitor};
use crate::sync::Ordering;
use crate::wait::{Signal, Waiter, Wakeup};
use crate::word::{Mode, Queued, State};

/// The party that ends a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// The waiter.
    Own,
    /// Another thread: the waiter must be notified.
    Other,
}

impl Monitor {
    /// Removes a waiter that stops waiting, or that another thread ends: then it is in `wakeup`.
    ///
    /// The caller must be pinned: without a pin, nothing may keep the monitor alive [M2].
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
                // It was the upgrader, which remains a reader. Relaxed: the mark publishes nothing.
                let plain = state.without_upgrader();
                if !self.cas(state, plain, Ordering::Relaxed) {
                    continue;
                }
                state = plain;
            }
            let marked = state.with_queue(queue.queued());
            if queue.queued() == Queued::Nobody && !state.is_held() {
                // Acquire: the unlink passes on the critical sections of earlier holders [M3].
                if self.cas(state, State::DEAD, Ordering::Acquire) {
                    return Cancelled::Left(Left::Dead);
                }
                continue;
            }
            if !was_head || queue.queued() == Queued::Nobody {
                // Relaxed: the mark publishes nothing.
                if marked == state || self.cas(state, marked, Ordering::Relaxed) {
                    break;
                }
                continue;
            }
            // The new head has the right of the old one: admission if it fits.
            let head = queue.head().expect("a waiter is queued").mode();
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
                // Relaxed: the mark publishes nothing. The key is free, so the old head had been
                // woken: the new one is woken instead [M5].
                queue.wake_head(wakeup);
                break;
            }
        }
        drop(queue);
        // The unlock was the last access.
        self.canary.check();
        Cancelled::Left(Left::Alive)
    }
    /// Grants the key to a reader ahead of the writers before it, because a holder waits for the
    /// reader.
    ///
    /// The caller is pinned, or the key has a holder that does not release it concurrently. Returns
    /// whether the reader was still waiting.
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
                // It is about to be admitted, together with the readers behind it.
                if self.admit_run(state, &mut queue, None, wakeup) {
                    break;
                }
                continue;
            }
            // Another waiter is before it in the queue, so the mark depends on the remaining ones
            // alone [M14].
            let next = state.with_holders(waiter.mode(), 1);
            let next = next.with_queue(queue.queued_without(waiter.mode()));
            // Acquire: it follows every release of this key [S3], and the reader observes it by its
            // signal [M6].
            if self.cas(state, next, Ordering::Acquire) {
                // SAFETY: neither granted nor killed, so still in the queue [W2].
                unsafe { queue.end(waiter, Signal::Granted, wakeup) };
                break;
            }
        }
        drop(queue);
        // The unlock was the last access.
        self.canary.check();
        true
    }
}
