//! How a victim of a deadlock avoids closing the same cycle again: it passes its keys to their
//! waiters, and it waits for its turn before it retries.

use std::time::Instant;

use super::{Policy, Session};
use crate::sync::{Parker, now};
use crate::word::Mode;

impl<K: ?Sized, S> Session<'_, K, S> {
    /// Releases one hold, `taken` at that moment of the session. If the session has lost since, the
    /// key is handed over: left free, it would be locked again by the victim before the thread of
    /// the first waiter runs [D11].
    #[inline]
    pub(super) fn pass_on(&self, hash: u64, mode: Mode, taken: u64) {
        if taken > self.lost_at {
            self.table.raw().unlock(hash, mode);
        } else {
            self.table.raw().unlock_fair(hash, mode);
        }
    }

    /// Waits for the turn of a session that has lost, if it holds no key and can wait. Returns when
    /// the wait has begun, and at the deadline of the session at the latest, then without a turn
    /// [D12].
    #[cold]
    pub(super) fn await_turn(&mut self) -> Option<Instant> {
        if !self.is_empty() || self.policy == Policy::NoWait {
            return None;
        }
        // It released key after key, and not everything at once.
        if self.turn {
            self.end_turn();
        }
        let id = self.owner.id;
        let sessions = &self.table.detector;
        let (parker, notify) = Parker::new();
        let begun = now();
        let Some(begins) = sessions.with_turns(|turns| turns.enter(id, notify, begun)) else {
            self.turn = true;
            return Some(begun);
        };
        let until = self
            .deadline(begun)
            .map_or(begins, |deadline| deadline.min(begins));
        self.turn = loop {
            let is_over = !parker.park_until(until);
            let turn = sessions.with_turns(|turns| {
                if !turns.is_queued(id) {
                    return Some(true);
                }
                if !is_over {
                    return None;
                }
                if until < begins {
                    turns.cancel(id);
                } else {
                    turns.overtake(id, now());
                }
                Some(until == begins)
            });
            if let Some(turn) = turn {
                break turn;
            }
        };
        Some(begun)
    }

    /// Passes the turn of the session on, which waits for a key [D12].
    #[cold]
    pub(super) fn pass_turn(&self) {
        let id = self.owner.id;
        let next = self
            .table
            .detector
            .with_turns(|turns| turns.pass(id, now()));
        if let Some(next) = next {
            next.unpark();
        }
    }

    /// Ends the turn of the session, and notifies the next one.
    #[cold]
    pub(super) fn end_turn(&mut self) {
        self.turn = false;
        let id = self.owner.id;
        let next = self.table.detector.with_turns(|turns| turns.end(id, now()));
        if let Some(next) = next {
            next.unpark();
        }
    }
}
