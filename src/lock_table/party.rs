//! Adds the waits of sets to detection. A set of several keys takes part once it has waited for a
//! threshold; a plain lock does not.
//!
//! A set publishes its acquired keys and the requested key, as a session does. It leaves the graph
//! before its wait ends in any way [D2]. It is never the victim of a cycle, because it cannot fail.
//! Other threads can therefore do only one thing to its wait: grant the key out of order [D13].

use std::time::Instant;

use super::keys::Keys;
use super::raw::{KeyWait, Notices, Party, Seat, TableRef};
use crate::deadlock::{At, Detector, Found, Held, Owner, Search, Want};
use crate::sync::now;
use crate::sync::tuning::DETECT_AFTER;

/// One wait of a set: its owner, and whether it is in the graph.
#[derive(Debug, Default)]
pub(super) struct SetWait {
    owner: Option<Owner>,
    /// The time at which it publishes, and whether that is before its threshold [D10].
    due: Option<(Instant, Search)>,
    is_published: bool,
}

/// A set that waits for one of its keys.
pub(super) struct SetParty<'a> {
    detector: &'a Detector<Seat>,
    keys: &'a Keys,
    /// The number of locked keys, which are the first ones.
    locked: usize,
    at: At,
    wait: &'a mut SetWait,
}

impl<'a> SetParty<'a> {
    #[inline]
    pub(super) fn new(
        detector: &'a Detector<Seat>,
        keys: &'a Keys,
        locked: usize,
        at: At,
        wait: &'a mut SetWait,
    ) -> Self {
        SetParty {
            detector,
            keys,
            locked,
            at,
            wait,
        }
    }
}

impl Party for SetParty<'_> {
    #[cold]
    fn owner(&mut self) -> Option<Owner> {
        let owner = &mut self.wait.owner;
        let owner = owner.get_or_insert_with(|| self.detector.set(self.keys.len()));
        Some(owner.clone())
    }

    fn due(&mut self) -> Option<Instant> {
        if self.wait.is_published {
            return None;
        }
        let due = self.wait.due.get_or_insert_with(|| {
            let now = now();
            if self.detector.may_search_early() {
                return (now, Search::Early);
            }
            // Beyond the range of the clock: it publishes now.
            let due = now.checked_add(DETECT_AFTER).unwrap_or(now);
            (due, Search::Due)
        });
        Some(due.0)
    }

    #[cold]
    fn publish<T: TableRef>(&mut self, wait: &KeyWait<T>) -> Notices {
        let mut notices = Notices::default();
        // A task has no clock, and publishes at once.
        let search = self.wait.due.map_or(Search::Due, |(_, search)| search);
        let Some(owner) = self.wait.owner.as_ref().filter(|_| !self.wait.is_published) else {
            return notices;
        };
        let at = self.at;
        let held = |(hash, mode)| Held { hash, mode, at };
        let want = Want {
            held: held(self.keys.get(self.locked)),
            upgrade: false,
            place: wait.seat(),
        };
        let (id, hash) = (owner.id, want.held.hash);
        let all = self.keys.iter().take(self.locked).map(held).collect();
        let raw = wait.awaited().table().raw();
        self.detector.with(|waits| {
            waits.publish(owner, all, want);
            // Keys are in ascending order, and the first ones are locked.
            let holds = |key| key < hash && self.keys.mode(key).is_some();
            // If not, its wait closes no cycle [D9].
            let found = if waits.graph.is_waited_for(id, holds) {
                waits.resolve(&mut raw.ends(&mut notices), id, hash)
            } else {
                Found::Nothing
            };
            self.detector.searched(search, found);
        });
        self.wait.is_published = true;
        notices
    }

    #[inline]
    fn leave(&mut self) {
        self.wait.leave(self.detector);
    }
}

impl SetWait {
    /// Leaves the graph if it is in the graph.
    #[inline]
    pub(super) fn leave(&mut self, detector: &Detector<Seat>) {
        self.due = None;
        let owner = self.owner.take();
        if let Some(owner) = owner.filter(|_| core::mem::take(&mut self.is_published)) {
            detector.forget(&owner);
        }
    }
}
