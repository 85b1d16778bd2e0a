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
//!
//! `ending` is Relaxed. Fences order it: those of the pin under which a node leaves, and of the
//! grace period that begins after the mark [R2].

use crate::sync::{AtomicU8, Ordering, UnsafeCell};

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
    word: AtomicU8,
    /// Not 0: the entry ends, and may have left.
    ending: AtomicU8,
    /// Stands for the memory: a checker sees each use. In a real build it has no size.
    memory: UnsafeCell<()>,
}

/// One of the two tenants.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Tenant {
    Entry = 1,
    Node = 2,
}

impl Tenants {
    /// Those of a new entry.
    pub(crate) fn new(has_node: bool) -> Self {
        let node = if has_node { Tenant::Node as u8 } else { 0 };
        Tenants {
            word: AtomicU8::new(Tenant::Entry as u8 | node),
            ending: AtomicU8::new(0),
            memory: UnsafeCell::new(()),
        }
    }

    /// Enters a node, if the room is free. `true`: the room is the caller's, until its node leaves.
    /// The caller is pinned, and so the entry does not leave.
    #[inline]
    pub(crate) fn enter(&self) -> bool {
        let (free, used) = (
            Tenant::Entry as u8,
            Tenant::Entry as u8 | Tenant::Node as u8,
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

    /// Marks that the entry ends. It leaves after a grace period that begins later, or the caller
    /// has checked that no thread is releasing a node of the room.
    #[inline]
    pub(crate) fn end(&self) {
        // Relaxed: a node whose pin is older leaves before the entry, and one whose pin is newer
        // finds the mark [R2] [V16].
        self.ending.store(1, Ordering::Relaxed);
    }

    /// Whether a node is in the room. If not, no thread releases one, unless another node enters.
    #[inline]
    pub(crate) fn has_node(&self) -> bool {
        // Acquire: the uses of the node that has left happen before the memory is freed. Pairs with
        // the Release in `leave_pinned` [V16].
        self.word.load(Ordering::Acquire) & Tenant::Node as u8 != 0
    }

    /// As [`leave`](Self::leave), of the node. The calling thread is pinned: unless the entry ends,
    /// it does not leave before the pin ends, and no other thread changes the word.
    #[inline]
    pub(crate) fn leave_pinned(&self) -> bool {
        // Relaxed: see `end`.
        if self.ending.load(Ordering::Relaxed) != 0 {
            return self.leave(Tenant::Node);
        }
        self.memory.with(|_| ());
        // Release: the uses of this node happen before another node enters, or before the memory is
        // freed [V16]. A store: an exchange would wait for the line, which may be in no cache.
        self.word.store(Tenant::Entry as u8, Ordering::Release);
        false
    }

    /// Leaves. `true`: the other tenant has left before, and the memory is the caller's.
    ///
    /// The caller does not use the memory again otherwise. The entry leaves after its
    /// [`end`](Self::end).
    #[inline]
    pub(crate) fn leave(&self, tenant: Tenant) -> bool {
        self.memory.with(|_| ());
        // Acquire: the last uses by the other tenant happen before the memory is freed. Pairs with
        // the Release below [V16]. No tenant enters any more: a node does so only while the entry
        // can be found.
        if self.word.load(Ordering::Acquire) != tenant as u8 {
            // Release: the uses by this tenant happen before another node enters, or before the
            // memory is freed [V16].
            let before = self.word.fetch_sub(tenant as u8, Ordering::Release);
            debug_assert!(before & tenant as u8 != 0, "a tenant leaves twice");
            if before != tenant as u8 {
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
        tenants.end();
        assert!(!tenants.leave(Tenant::Entry));
        assert!(tenants.leave(Tenant::Node));
        let tenants = Tenants::new(true);
        assert!(!tenants.leave(Tenant::Node));
        tenants.end();
        assert!(tenants.leave(Tenant::Entry));
    }

    #[test]
    fn a_node_that_leaves_under_a_pin_checks_whether_the_entry_ends() {
        let tenants = Tenants::new(true);
        assert!(tenants.has_node() && !tenants.leave_pinned());
        assert!(!tenants.has_node() && tenants.enter());
        tenants.end();
        assert!(!tenants.leave(Tenant::Entry));
        assert!(tenants.leave_pinned());
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
