//! The room of an entry of a map: memory for one node behind the entry, and who uses it [V16].
//!
//! # Word
//! | bit | meaning |
//! |---|---|
//! | 0 | the entry is in use: it was not released |
//! | 1 | a node is in the room |
//!
//! # Orderings
//! A tenant leaves with Release, after its last access to the memory. The next node enters with
//! Acquire, and so does the tenant that leaves last, which frees the memory.

use crate::sync::{AtomicU16, Ordering, UnsafeCell};

/// The place of the memory of a node.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room(u8);

impl Room {
    /// The node has memory of its own.
    pub(crate) const NONE: Room = Room(0);

    /// The unit of sizes.
    const WORD: usize = size_of::<u64>();

    /// The room behind an entry of this size, unless the size cannot be represented.
    pub(crate) const fn behind(bytes: usize) -> Option<Self> {
        let words = bytes / Self::WORD;
        if bytes % Self::WORD == 0 && 0 < words && words <= u8::MAX as usize {
            Some(Room(words as u8))
        } else {
            None
        }
    }

    /// The size of the entry before the room.
    #[inline]
    pub(crate) fn offset(self) -> usize {
        self.0 as usize * Self::WORD
    }
}

/// The tenants of the memory of an entry. Lies directly before the room.
pub(crate) struct Tenants {
    word: AtomicU16,
    /// Stands for the memory: a checker sees each use. In a real build it has no size.
    memory: UnsafeCell<()>,
}

/// One of the two tenants.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Tenant {
    Entry = 1,
    Node = 2,
}

impl Tenants {
    /// Those of a new entry.
    pub(crate) fn new(has_node: bool) -> Self {
        let node = if has_node { Tenant::Node as u16 } else { 0 };
        Tenants {
            word: AtomicU16::new(Tenant::Entry as u16 | node),
            memory: UnsafeCell::new(()),
        }
    }

    /// Enters a node, if the room is free. `true`: the room is the caller's, until its node leaves.
    /// The caller is pinned, and so the entry does not leave.
    #[inline]
    pub(crate) fn enter(&self) -> bool {
        let (free, used) = (
            Tenant::Entry as u16,
            Tenant::Entry as u16 | Tenant::Node as u16,
        );
        // Relaxed: the exchange decides.
        if self.word.load(Ordering::Relaxed) != free {
            return false;
        }
        // Acquire: the uses of the earlier node happen before the new one is written. Pairs with
        // the Release in `leave` [V16]. Relaxed on failure: another node has entered.
        let entered = self
            .word
            .compare_exchange(free, used, Ordering::Acquire, Ordering::Relaxed);
        if entered.is_ok() {
            self.memory.with_mut(|_| ());
        }
        entered.is_ok()
    }

    /// Leaves. `true`: the other tenant has left before, and the memory is the caller's.
    ///
    /// The caller does not use the memory again otherwise.
    #[inline]
    pub(crate) fn leave(&self, tenant: Tenant) -> bool {
        self.memory.with(|_| ());
        // Acquire: the last uses by the other tenant happen before the memory is freed. Pairs with
        // the Release below [V16]. No tenant enters any more: a node does so only while the entry
        // can be found.
        if self.word.load(Ordering::Acquire) != tenant as u16 {
            // Release: the uses by this tenant happen before another node enters, or before the
            // memory is freed [V16].
            let before = self.word.fetch_sub(tenant as u16, Ordering::Release);
            debug_assert!(before & tenant as u16 != 0, "a tenant leaves twice");
            if before != tenant as u16 {
                return false;
            }
            // Acquire: as above.
            self.word.load(Ordering::Acquire);
        }
        self.memory.with_mut(|_| ());
        true
    }
}

#[cfg(all(test, not(any(latchwork_loom, latchwork_shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn a_room_has_one_node_and_the_last_tenant_frees_it() {
        let tenants = Tenants::new(true);
        assert!(!tenants.enter());
        assert!(!tenants.leave(Tenant::Node));
        assert!(tenants.enter() && !tenants.enter());
        assert!(!tenants.leave(Tenant::Entry));
        assert!(tenants.leave(Tenant::Node));
        let tenants = Tenants::new(true);
        assert!(!tenants.leave(Tenant::Node));
        assert!(tenants.leave(Tenant::Entry));
    }

    #[test]
    fn a_room_is_behind_whole_words() {
        assert!(Room::behind(24).is_some_and(|room| room.offset() == 24 && room != Room::NONE));
        assert!(Room::behind(8 * 255).is_some());
        for bytes in [0, 4, 20, 8 * 256] {
            assert!(Room::behind(bytes).is_none());
        }
    }
}
