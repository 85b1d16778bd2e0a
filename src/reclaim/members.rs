//! The slots that a scan visits before the epoch advances [R13].
//!
//! A slot whose owner has not pinned itself for long is dormant, and leaves. The owner joins again
//! when it finds its state dormant. Both change one word.
//!
//! # Word
//! | bits | meaning |
//! |---|---|
//! | 0 to 15 | the slot of this number is a member |
//! | 16 to 63 | how often a slot has joined |
//!
//! The number of joins makes each word different from all earlier ones that a thread may still
//! hold: 2^48 joins take longer than any thread is preempted.

use crate::sync::{AtomicU64, Ordering};

/// The number of slots that have a word in common.
pub(super) const GROUP: usize = 16;

/// One join.
const JOIN: u64 = 1 << GROUP;

/// The members among the slots of a group.
#[derive(Debug)]
pub(super) struct Members(AtomicU64);

/// The former contents of the word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen(u64);

impl Seen {
    /// The numbers of the members.
    #[inline]
    pub(super) fn each(self) -> impl Iterator<Item = usize> {
        let mut members = self.0 & (JOIN - 1);
        core::iter::from_fn(move || {
            if members == 0 {
                return None;
            }
            let first = members.trailing_zeros() as usize;
            members &= members - 1;
            Some(first)
        })
    }

    fn with(self, slot: usize) -> Self {
        Seen(self.0.wrapping_add(JOIN) | 1 << slot)
    }

    fn without(self, slot: usize) -> Self {
        Seen(self.0 & !(1 << slot))
    }
}

impl Members {
    pub(super) fn new() -> Self {
        Members(AtomicU64::new(0))
    }

    #[inline]
    pub(super) fn load(&self) -> Seen {
        // Acquire: the state with which a slot joined is found, or a later one. Pairs with the
        // Release in `join`. The accesses of a slot that has left happened before. Pairs with the
        // Release in `leave` [R13].
        Seen(self.0.load(Ordering::Acquire))
    }

    /// The owner of the slot has published its state, and a full fence follows.
    #[cold]
    pub(super) fn join(&self, slot: usize) {
        // Relaxed: only the value matters, and the compare-and-swap checks it.
        let mut seen = self.0.load(Ordering::Relaxed);
        // Release: the state happens before. Pairs with the Acquire in `load` [R13]. Relaxed on
        // failure: as above.
        while let Err(now) = self.0.compare_exchange(
            seen,
            Seen(seen).with(slot).0,
            Ordering::Release,
            Ordering::Relaxed,
        ) {
            seen = now;
        }
    }

    /// Removes a slot that was found dormant after `seen` was loaded, unless a slot has joined or
    /// left since. Returns what the word is, as far as the caller knows.
    pub(super) fn leave(&self, seen: Seen, slot: usize) -> Seen {
        let without = seen.without(slot);
        // Release: the accesses under the pins of its owner happen before. Pairs with the Acquire
        // in `load` [R13]. Relaxed on failure: the slot stays a member until the next time.
        let left = self
            .0
            .compare_exchange(seen.0, without.0, Ordering::Release, Ordering::Relaxed);
        if left.is_ok() { without } else { seen }
    }
}

#[cfg(all(test, not(any(latchwork_loom, latchwork_shuttle))))]
mod tests {
    use super::*;

    fn members(members: &Members) -> Vec<usize> {
        members.load().each().collect()
    }

    #[test]
    fn slots_join_and_leave() {
        let word = Members::new();
        assert_eq!(members(&word), [0; 0]);
        (0..GROUP).rev().for_each(|slot| word.join(slot));
        assert_eq!(members(&word), (0..GROUP).collect::<Vec<_>>());
        let mut seen = word.load();
        (1..GROUP).for_each(|slot| seen = word.leave(seen, slot));
        assert_eq!(members(&word), [0]);
        word.join(5);
        assert_eq!(members(&word), [0, 5]);
    }

    /// A slot joins again after it was found dormant: it stays.
    #[test]
    fn a_slot_that_has_joined_since_does_not_leave() {
        let word = Members::new();
        word.join(3);
        let seen = word.load();
        word.join(3);
        assert_eq!(word.leave(seen, 3), seen);
        assert_eq!(members(&word), [3]);
        // Nor because of another slot of the group: the word has changed.
        let seen = word.load();
        word.join(4);
        word.leave(seen, 3);
        assert_eq!(members(&word), [3, 4]);
    }
}
