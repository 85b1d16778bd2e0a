//! The graph of waits between owners and keys, and the search for a cycle through one key.
//!
//! No code here waits, locks or uses a lock table. A [`Graph`] is plain data, which its user keeps
//! under a mutex. It contains the owners that were entered, and no others. PROTOCOL.md of `session`
//! states which code enters an owner, at which step, and why a cycle that is found here is a
//! deadlock.

mod graph;
mod held;
mod search;
#[cfg(test)]
mod tests;

use core::panic::Location;
use std::sync::Arc;

pub(crate) use graph::{Graph, Numbers, Want};

use crate::word::Mode;

/// A place in the caller's program; empty without the feature `lock-places`.
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

/// A key that an owner holds or requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub(crate) hash: u64,
    pub(crate) mode: Mode,
    pub(crate) at: At,
}

/// The kind of an owner of locks, as in a [`DeadlockParty`](crate::session::DeadlockParty).
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
    /// A call of [`LockTable::lock_all`](crate::LockTable::lock_all), or of one of its timed and
    /// async forms.
    Set {
        /// The number of distinct keys that it locks.
        keys: usize,
    },
}

/// Identifies an owner. The greater the number, the newer the owner.
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

/// An owner in a cycle: the key that the previous owner waits for, and the key that it waits for
/// itself.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) owner: Owner,
    pub(crate) holds: Held,
    pub(crate) wants: Held,
}

impl Link {
    /// Whether the wait is for the lock of the next owner itself, and not only for another waiter
    /// in the queue.
    pub(crate) fn is_hard(&self, next: &Link) -> bool {
        !next.holds.mode.admits(self.wants.mode)
    }
}

/// Owners that wait for each other: each for the next one, and the last for the first.
#[derive(Clone, Debug)]
pub(crate) struct Cycle {
    pub(crate) links: Vec<Link>,
    /// The index of the owner whose wait was ended.
    pub(crate) victim: usize,
}

impl Cycle {
    /// The first wait that ends if its waiter overtakes others in the queue.
    pub(crate) fn soft(&self) -> Option<&Link> {
        let next = self.links.iter().cycle().skip(1);
        let mut pairs = self.links.iter().zip(next);
        pairs
            .find(|(link, next)| !link.is_hard(next))
            .map(|(link, _)| link)
    }

    /// The victim: the newest of the sessions with the lowest priority. `None` if there is no
    /// session, for a set cannot fail.
    pub(crate) fn choose(&self) -> Option<usize> {
        let rank = |link: &Link| (core::cmp::Reverse(link.owner.priority), link.owner.id);
        let all = self.links.iter().enumerate();
        let sessions = all.filter(|(_, link)| link.owner.kind == OwnerKind::Session);
        sessions.max_by_key(|(_, link)| rank(link)).map(|(i, _)| i)
    }
}
