//! How a wait of the lock table takes part in detection: a plain lock does not, and a set of several keys does once it
//! has waited for a while.
//!
//! A set publishes what it holds and what it wants, as a session does, and leaves the graph before its wait ends in any way
//! [D2]. It is never the victim of a cycle, because it cannot fail; so all that can happen to its wait from outside is
//! that it is granted the key out of order [D13].

use std::time::{Duration, Instant};

use super::acquire::Ticket;
use super::claim::Notices;
use super::index::RawTable;
use super::keys::Keys;
use super::sessions::{Found, Search, Sessions};
use crate::sync::now;
use crate::waits_for::{At, Held, Owner, Want};

/// How long a set waits for one key before it publishes. That of a session, unless it is told otherwise.
/// Not found by measurement.
const DETECT_AFTER: Duration = Duration::from_millis(1);

/// What waits for a key, as the graph of waits sees it.
pub(super) trait Party {
    /// What waits, for whoever inspects the queue; called before it queues.
    fn owner(&mut self) -> Option<Owner>;

    /// When it publishes, if it still waits then; called as the thread is about to park.
    fn due(&mut self) -> Option<Instant>;

    /// Publishes the wait, and ends cycles through it. The notifications are user code, and are for the caller to run.
    fn publish(&mut self, table: &RawTable, ticket: &Ticket) -> Notices;

    /// Leaves the graph, before the wait ends.
    fn leave(&mut self);
}

/// A lock of one key, which the graph does not see.
impl Party for () {
    #[inline(always)]
    fn owner(&mut self) -> Option<Owner> {
        None
    }

    #[inline(always)]
    fn due(&mut self) -> Option<Instant> {
        None
    }

    fn publish(&mut self, _: &RawTable, _: &Ticket) -> Notices {
        Notices::default()
    }

    #[inline(always)]
    fn leave(&mut self) {}
}

/// One wait of a set: as what, and whether it is in the graph.
#[derive(Debug, Default)]
pub(super) struct SetWait {
    owner: Option<Owner>,
    /// When it publishes, and whether that is before its threshold [D10].
    due: Option<(Instant, Search)>,
    is_published: bool,
}

/// A set that waits for one of its keys.
pub(super) struct SetParty<'a> {
    pub(super) sessions: &'a Sessions,
    pub(super) keys: &'a Keys,
    /// How many of the keys it has locked, the first ones.
    pub(super) locked: usize,
    pub(super) at: At,
    pub(super) wait: &'a mut SetWait,
}

impl Party for SetParty<'_> {
    #[cold]
    fn owner(&mut self) -> Option<Owner> {
        let owner = &mut self.wait.owner;
        let owner = owner.get_or_insert_with(|| self.sessions.set(self.keys.len()));
        Some(owner.clone())
    }

    fn due(&mut self) -> Option<Instant> {
        if self.wait.is_published {
            return None;
        }
        let due = self.wait.due.get_or_insert_with(|| {
            let now = now();
            if self.sessions.may_search_early() {
                return (now, Search::Early);
            }
            // Past the range of the clock: it is due now.
            let due = now.checked_add(DETECT_AFTER).unwrap_or(now);
            (due, Search::Due)
        });
        Some(due.0)
    }

    #[cold]
    fn publish(&mut self, table: &RawTable, ticket: &Ticket) -> Notices {
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
            place: ticket.seat(),
        };
        let (id, hash) = (owner.id, want.held.hash);
        let all = self.keys.iter().take(self.locked).map(held).collect();
        self.sessions.with(|waits| {
            waits.publish(owner, all, want);
            // Keys are in ascending order, and the first ones are locked.
            let holds = |key| key < hash && self.keys.mode(key).is_some();
            // If not, its wait closes no cycle [D9].
            let found = if waits.graph.is_waited_for(id, holds) {
                waits.resolve(table, id, hash, &mut notices)
            } else {
                Found::Nothing
            };
            self.sessions.searched(search, found);
        });
        self.wait.is_published = true;
        notices
    }

    #[inline]
    fn leave(&mut self) {
        self.wait.leave(self.sessions);
    }
}

impl SetWait {
    /// Leaves the graph, if it is in it.
    #[inline]
    pub(super) fn leave(&mut self, sessions: &Sessions) {
        self.due = None;
        let owner = self.owner.take();
        if let Some(owner) = owner.filter(|_| core::mem::take(&mut self.is_published)) {
            sessions.forget(&owner);
        }
    }
}
