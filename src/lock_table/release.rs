//! Giving a key back.
#![allow(unsafe_code)]

use super::index::{Leaf, RawTable, Walk, monitor_at};
use crate::sync::Ordering;
use crate::word::{Mode, SlotWord};

impl RawTable {
    /// Gives back one hold of the key.
    #[inline]
    pub(super) fn unlock(&self, hash: u64, mode: Mode) {
        // Release: what the holder did comes before the next claim of this slot [S2].
        // Relaxed on failure: the word has moved, or there are others; the slow path looks again.
        let unlocked = self.root_slot(hash).compare_exchange(
            SlotWord::inline(hash, mode).bits(),
            SlotWord::EMPTY.bits(),
            Ordering::Release,
            Ordering::Relaxed,
        );
        if unlocked.is_err() {
            self.unlock_slow(hash, mode);
        }
    }

    #[cold]
    fn unlock_slow(&self, hash: u64, mode: Mode) {
        let mut walk = Walk::new(self, hash);
        loop {
            match walk.leaf() {
                Leaf::Own(word) => {
                    debug_assert_eq!(word.mode(), mode, "held in another mode");
                    if walk.leave(word) {
                        if word.without_holder() == SlotWord::EMPTY {
                            self.prune(&mut walk, hash);
                        }
                        return;
                    }
                }
                Leaf::Monitor(word) => {
                    let monitor = walk.monitor(word);
                    debug_assert_eq!(monitor.hash(), hash, "the key is held");
                    let left = monitor.release(mode, self.fairness);
                    self.settle(hash, word, left, walk.into_pin());
                    return;
                }
                Leaf::Empty | Leaf::Other(_) => unreachable!("a held key has its word [S1]"),
            }
        }
    }

    /// Takes a dead monitor out of the index, wherever it has moved to, and retires it; or finds
    /// that somebody else has. Goes back to the root.
    pub(super) fn unlink<'t>(&'t self, hash: u64, monitor: SlotWord, walk: Walk<'t>) -> Walk<'t> {
        let mut walk = walk;
        walk.restart();
        while walk.leaf() == Leaf::Monitor(monitor) {
            if walk.unlink(monitor) {
                // SAFETY: unlinked by this compare-and-swap and no other: a dead monitor is not
                // linked again, and its address is not used again while the walk is pinned [M2].
                unsafe { walk.pin().retire(monitor_at(monitor)) };
                self.prune(&mut walk, hash);
                return Walk::new(self, hash);
            }
        }
        walk.restart();
        walk
    }
}
