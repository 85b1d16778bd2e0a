//! Who waits for whom: a graph of owners and keys, and the search for a cycle through one key.
//!
//! Nothing in here waits, locks or knows of a lock table; a [`Graph`] is plain data, to be kept under a mutex. It
//! knows those owners only that were made known to it. PROTOCOL.md of `session` says who makes what known
//! when, and why a cycle that is found here is a deadlock.

mod graph;
mod held;
mod search;
#[cfg(test)]
mod tests;

use core::panic::Location;
use std::sync::Arc;

pub(crate) use graph::{Graph, Numbers, Want};

use crate::word::Mode;

/// Where in the caller's program something was done; nothing, without the feature `lock-places`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    #[cfg(feature = "lock-places")]
    place: &'static Location<'static>,
}

impl At {
    #[cfg_attr(feature = "lock-places", track_caller)]
    #[inline(always)]
    pub(crate) fn here() -> Self {
        At {
            #[cfg(feature = "lock-places")]
            place: Location::caller(),
        }
    }

    pub(crate) fn place(self) -> Option<&'static Location<'static>> {
        #[cfg(feature = "lock-places")]
        return Some(self.place);
        #[cfg(not(feature = "lock-places"))]
        None
    }
}

/// A key that an owner has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub(crate) hash: u64,
    pub(crate) mode: Mode,
    pub(crate) at: At,
}

/// What an owner of locks is. Part of a [`DeadlockParty`](crate::session::DeadlockParty).
///
/// # Examples
/// ```
/// use latchwork::{LockTable, table::OwnerKind};
/// let table: LockTable<str> = LockTable::new();
/// for report in table.deadlocks() {
///     // The victim of a deadlock is always a session.
///     assert_eq!(report.victim().kind, OwnerKind::Session);
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OwnerKind {
    /// A [`Session`](crate::Session).
    Session,
    /// A call of [`LockTable::lock_all`](crate::LockTable::lock_all) or of one of its timed and async forms.
    Set {
        /// The number of distinct keys that it locks.
        keys: usize,
    },
}

/// What tells an owner from others. The greater the number, the younger.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    pub(crate) id: u64,
    pub(crate) kind: OwnerKind,
    pub(crate) name: Option<Arc<str>>,
    pub(crate) priority: i32,
}

impl Owner {
    /// Set in the ids of sets, so that no session counts one as older than itself.
    pub(crate) const SET: u64 = 1 << 63;

    /// The number of the session or the set, unique in its table.
    pub(crate) fn number(&self) -> u64 {
        self.id & !Self::SET
    }
}

/// An owner in a cycle: what the one before it waits for, and what it waits for itself.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) owner: Owner,
    pub(crate) holds: Held,
    pub(crate) wants: Held,
}

impl Link {
    /// Whether the wait is for the next owner's hold itself, and not only for somebody in the queue.
    pub(crate) fn is_hard(&self, next: &Link) -> bool {
        !next.holds.mode.admits(self.wants.mode)
    }
}

/// Owners each of whom waits for the next, and the last for the first.
#[derive(Clone, Debug)]
pub(crate) struct Cycle {
    pub(crate) links: Vec<Link>,
    /// Whose wait was ended.
    pub(crate) victim: usize,
}

impl Cycle {
    /// The first wait that ends if its waiter is let past others in the queue.
    pub(crate) fn soft(&self) -> Option<&Link> {
        let next = self.links.iter().cycle().skip(1);
        let mut pairs = self.links.iter().zip(next);
        pairs
            .find(|(link, next)| !link.is_hard(next))
            .map(|(link, _)| link)
    }

    /// The victim: of the sessions of the lowest priority, the youngest. `None` if there is no session, for a set cannot
    /// fail.
    pub(crate) fn choose(&self) -> Option<usize> {
        let rank = |link: &Link| (core::cmp::Reverse(link.owner.priority), link.owner.id);
        let all = self.links.iter().enumerate();
        let sessions = all.filter(|(_, link)| link.owner.kind == OwnerKind::Session);
        sessions.max_by_key(|(_, link)| rank(link)).map(|(i, _)| i)
    }
}
