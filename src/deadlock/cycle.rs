//! Owners that wait for each other in a cycle.

use super::owner::{Held, Owner, OwnerKind};

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
