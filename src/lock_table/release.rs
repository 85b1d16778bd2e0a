//! Giving a key back.
#![allow(unsafe_code)]

use super::Fairness;
use super::index::{Leaf, RawTable, Walk, monitor_at};
use crate::sync::{Ordering, planted};
use crate::wait::Wakeup;
use crate::word::{Mode, SlotWord};

impl RawTable {
    /// Gives back one hold of the key.
    #[inline]
    pub(crate) fn unlock(&self, hash: u64, mode: Mode) {
        // Release: what the holder did comes before the next claim of this slot [S2].
        let mut success = Ordering::Release;
        if planted("unlock that releases nothing") {
            // Relaxed: a bug on purpose.
            success = Ordering::Relaxed;
        }
        // Relaxed on failure: the word has moved, or there are others: nothing is followed before it is loaded again.
        let unlocked = self.root_slot(hash).compare_exchange(
            SlotWord::inline(hash, mode).bits(),
            SlotWord::EMPTY.bits(),
            success,
            Ordering::Relaxed,
        );
        if let Err(found) = unlocked {
            self.unlock_slow(hash, mode, SlotWord::from_bits(found));
        }
    }

    /// Gives back one hold, to the head of the queue if there is one.
    pub(crate) fn unlock_fair(&self, hash: u64, mode: Mode) {
        self.unlock_slower(hash, mode, Fairness::Fifo);
    }

    #[cold]
    fn unlock_slow(&self, hash: u64, mode: Mode, found: SlotWord) {
        if !self.leave_root(hash, found)
            && !self.unlock_below(hash, mode)
            && !self.unlock_at_root(hash, mode)
        {
            self.unlock_slower(hash, mode, self.fairness);
        }
    }

    #[cold]
    #[inline(never)]
    fn unlock_slower(&self, hash: u64, mode: Mode, fairness: Fairness) {
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
                    let mut wakeup = Wakeup::default();
                    let left = monitor.release(mode, fairness, &mut wakeup);
                    self.settle(hash, word, left, walk.into_pin(), &mut wakeup);
                    return;
                }
                Leaf::Empty | Leaf::Other(_) => unreachable!("a held key has its word [S1]"),
            }
        }
    }

    /// Whether somebody is queued for a key that the caller holds.
    pub(super) fn is_waited_for(&self, hash: u64) -> bool {
        let mut walk = Walk::new(self, hash);
        match walk.leaf() {
            Leaf::Monitor(word) => walk.monitor(word).peek().is_queued(),
            _ => false,
        }
    }

    /// Makes the caller's exclusive hold a shared one, and lets the readers in that are queued
    /// before any writer.
    pub(crate) fn downgrade(&self, hash: u64) {
        let mut walk = Walk::new(self, hash);
        loop {
            match walk.leaf() {
                Leaf::Own(word) => {
                    if walk.downgrade(word) {
                        return;
                    }
                }
                Leaf::Monitor(word) => {
                    let mut wakeup = walk.monitor(word).downgrade();
                    drop(walk);
                    wakeup.run();
                    return;
                }
                Leaf::Empty | Leaf::Other(_) => unreachable!("a held key has its word [S1]"),
            }
        }
    }

    /// Makes the caller's shared hold an exclusive one, unless others share it.
    pub(crate) fn try_upgrade(&self, hash: u64) -> bool {
        let mut walk = Walk::new(self, hash);
        loop {
            match walk.leaf() {
                Leaf::Own(word) if word.readers() > 1 => return false,
                Leaf::Own(word) => {
                    if walk.upgrade(word) {
                        return true;
                    }
                }
                Leaf::Monitor(word) => return walk.monitor(word).try_upgrade(),
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
                if planted("monitor freed under a pin") {
                    // SAFETY: there is none: a bug on purpose.
                    drop(unsafe { Box::from_raw(monitor_at(monitor)) });
                } else if !planted("monitor that is kept") {
                    // SAFETY: unlinked by this compare-and-swap and no other: a dead monitor is not
                    // linked again, and its address is not used again while the walk is pinned [M2].
                    unsafe { walk.pin().retire(monitor_at(monitor)) };
                }
                self.prune(&mut walk, hash);
                return Walk::new(self, hash);
            }
        }
        walk.restart();
        walk
    }
}
