//! Releases a key.
#![allow(unsafe_code)]

use super::Fairness;
use super::index::{Leaf, RawTable, Walk, monitor_at};
use crate::wait::Wakeup;
use crate::word::{Mode, SlotWord};

impl RawTable {
    /// Removes one holder of the key.
    #[inline]
    pub(crate) fn unlock(&self, hash: u64, mode: Mode) {
        if let Err(found) = self.root_slot(hash).leave(SlotWord::inline(hash, mode)) {
            // The word has moved, or there are other holders.
            self.unlock_slow(hash, mode, found);
        }
    }

    /// Removes one holder, and hands the key to the head of the queue if there is one.
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
                    if walk.slot().leave(word).is_ok() {
                        if word.without_holder() == SlotWord::EMPTY {
                            self.prune(&mut walk, hash);
                        }
                        return;
                    }
                }
                Leaf::Monitor(word) => {
                    let monitor = walk.monitor(word);
                    debug_assert_eq!(monitor.hash(), hash, "the key is held");
                    self.observe_release(monitor);
                    let mut wakeup = Wakeup::default();
                    let left = monitor.release(mode, fairness, &mut wakeup);
                    self.settle(hash, word, left, walk.into_pin(), &mut wakeup);
                    return;
                }
                Leaf::Empty | Leaf::Other(_) => unreachable!("a held key has its word [S1]"),
            }
        }
    }

    /// Returns whether a waiter is queued for a key that the caller holds.
    pub(super) fn is_waited_for(&self, hash: u64) -> bool {
        let mut walk = Walk::new(self, hash);
        match walk.leaf() {
            Leaf::Monitor(word) => walk.monitor(word).peek().is_queued(),
            _ => false,
        }
    }

    /// Converts the caller's exclusive lock to a shared one, and admits the readers that are queued
    /// before any writer.
    pub(crate) fn downgrade(&self, hash: u64) {
        let mut walk = Walk::new(self, hash);
        loop {
            match walk.leaf() {
                Leaf::Own(word) => {
                    if walk.slot().downgrade(word, hash).is_ok() {
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

    /// Converts the caller's shared lock to an exclusive one, unless other readers share the key.
    pub(crate) fn try_upgrade(&self, hash: u64) -> bool {
        let mut walk = Walk::new(self, hash);
        loop {
            match walk.leaf() {
                Leaf::Own(word) if word.readers() > 1 => return false,
                Leaf::Own(word) => {
                    if walk.slot().upgrade(word, hash).is_ok() {
                        return true;
                    }
                }
                Leaf::Monitor(word) => return walk.monitor(word).try_upgrade(),
                Leaf::Empty | Leaf::Other(_) => unreachable!("a held key has its word [S1]"),
            }
        }
    }

    /// Removes a dead monitor from the index, wherever it has moved, and retires it, or finds that
    /// another thread has done so. Returns to the root.
    pub(super) fn unlink<'t>(&'t self, hash: u64, monitor: SlotWord, walk: Walk<'t>) -> Walk<'t> {
        let mut walk = walk;
        walk.restart();
        while walk.leaf() == Leaf::Monitor(monitor) {
            if walk.slot().unlink(monitor).is_ok() {
                // SAFETY: unlinked by this compare-and-swap and no other: a dead monitor is not
                // linked again, and its address is not reused while the walk is pinned [M2].
                unsafe { walk.pin().retire(monitor_at(monitor)) };
                self.prune(&mut walk, hash);
                return Walk::new(self, hash);
            }
        }
        walk.restart();
        walk
    }
}
