//! Removes child arrays: freezes each slot, then replaces the child in its parent by the remaining
//! word.
#![allow(unsafe_code)]

use super::index::{Child, FAN, RawTable, Walk, child_at, child_ref};
use super::slot::Slot;
use crate::reclaim::Pin;
use crate::sync::store_load_fence;
use crate::sync::tuning::fold_now;
use crate::word::{Kind, SlotWord};

impl RawTable {
    /// Folds the children on the path to `hash`, deepest first.
    ///
    /// A child is folded as long as it is empty or contains one inline word that may move up. A
    /// thread that has emptied a slot below the root calls it [F3].
    pub(super) fn prune(&self, walk: &mut Walk<'_>, hash: u64) {
        let mut fold_single = None;
        loop {
            let Some((slot, child)) = walk.parent() else {
                return;
            };
            // If two threads each empty a slot and then load the other's, one of them sees the
            // other slot empty [F3].
            store_load_fence();
            // SAFETY: loaded under the pin of this walk.
            let slots = &unsafe { child_ref(child, walk.pin()) }.slots;
            let foldable = match occupancy(slots) {
                Occupancy::Empty => true,
                Occupancy::Single => *fold_single.get_or_insert_with(|| fold_now(hash)),
                Occupancy::More => false,
            };
            if !foldable {
                return;
            }
            // SAFETY: in the root or in a child that the pin keeps [S5].
            let slot = unsafe { &*slot };
            self.fold(walk.pin(), slot, child);
            if !walk.deepest_child() {
                return;
            }
        }
    }

    /// Replaces the child `word` in `parent` by nothing, by its one remaining word, or by a copy.
    ///
    /// Any number of threads may do it at once: one of them succeeds.
    pub(super) fn fold(&self, pin: &Pin, parent: &Slot, word: SlotWord) {
        // SAFETY: the caller loaded `word` under `pin`.
        let child = unsafe { child_ref(word, pin) };
        let words: [SlotWord; FAN] = core::array::from_fn(|i| child.slots[i].freeze());
        let mut left = words.iter().copied().filter(|w| *w != SlotWord::EMPTY);
        let (new, copy) = match (left.next(), left.next()) {
            (None, _) => (SlotWord::EMPTY, None),
            // A child means other index bits one level up.
            (Some(single), None) if single.kind() != Kind::Child => (single, None),
            _ => {
                let copy = Box::into_raw(Box::new(Child::new(|i| words[i])));
                (SlotWord::child(copy.expose_provenance()), Some(copy))
            }
        };
        // On failure another thread has folded it, or has frozen the parent; the caller walks
        // again.
        let won = parent.fold(word, new).is_ok();
        if won {
            // SAFETY: unlinked by this compare-and-swap and no other, because a word is not stored
            // again while a pin could mistake it for itself [S5].
            unsafe { pin.retire(child_at(word)) };
        } else if let Some(copy) = copy {
            // SAFETY: made above and never published.
            drop(unsafe { Box::from_raw(copy) });
        }
    }
}

/// Returns whether `child` contains more than a fold may move.
#[inline]
pub(super) fn is_crowded(child: &Child) -> bool {
    matches!(occupancy(&child.slots), Occupancy::More)
}

enum Occupancy {
    Empty,
    /// One inline word.
    Single,
    More,
}

fn occupancy(slots: &[Slot; FAN]) -> Occupancy {
    let mut seen = Occupancy::Empty;
    for slot in slots {
        // The fence before it gives what order it needs [F3].
        let word = slot.peek();
        if word == SlotWord::EMPTY {
            continue;
        }
        if word.kind() != Kind::Inline || matches!(seen, Occupancy::Single) {
            return Occupancy::More;
        }
        seen = Occupancy::Single;
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock_table::Fairness;
    use crate::reclaim::Domain;
    use crate::word::Mode;

    /// The single word of a child may be a child by the time it is frozen. Such a child must not
    /// move up, because one level higher its keys are searched by other bits of their hashes [F1].
    #[test]
    fn a_child_alone_in_a_child_stays_where_its_keys_are_looked_for() {
        let table = RawTable::new(1, Fairness::Eventual, Domain::default());
        // The two differ in their uppermost bits only.
        let hashes = [1_u64 << 62, 1 << 63];
        for hash in hashes {
            assert!(table.try_lock(hash, Mode::Exclusive));
        }
        let pin = table.domain.pin();
        let root = table.root_slot(hashes[0]);
        let before = root.peek();
        table.fold(&pin, root, before);
        let after = root.peek();
        assert!(after != before && after.kind() == Kind::Child);
        for hash in hashes {
            assert!(!table.try_lock(hash, Mode::Exclusive));
            table.unlock(hash, Mode::Exclusive);
        }
        assert_eq!(table.locked_count(), 0);
    }
}
