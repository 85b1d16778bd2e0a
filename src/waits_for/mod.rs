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

/// What tells an owner from others. The greater the number, the younger.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    pub(crate) id: u64,
    pub(crate) name: Option<Arc<str>>,
    pub(crate) priority: i32,
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

    /// Who is to be the victim: of those of the lowest priority, the youngest.
    pub(crate) fn choose(&self) -> usize {
        let rank = |link: &Link| (core::cmp::Reverse(link.owner.priority), link.owner.id);
        let all = self.links.iter().enumerate();
        all.max_by_key(|(_, link)| rank(link))
            .expect("a cycle has links")
            .0
    }
}
