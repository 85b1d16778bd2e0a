//! Releases a key, or changes the mode in which it is held.

use super::monitor::Left;
use super::table::RawTable;
use super::trie::Leaf;
use crate::lock_table::fairness::Fairness;
use crate::park::Wakeup;
use crate::reclaim::Pin;
use crate::word::{Mode, SlotWord};

impl RawTable {
    /// Removes one holder of the key.
    #[inline]
    pub(crate) fn unlock(&self, hash: u64, mode: Mode) {
        if let Err(found) = self.trie.release_root(hash, mode) {
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
        if !self.trie.leave_root(hash, found)
            && !self.trie.unlock_below(hash, mode)
            && !self.unlock_at_root(hash, mode)
        {
            self.unlock_slower(hash, mode, self.fairness);
        }
    }

    /// Unlocks the key if it has a monitor in the root. Returns whether it did.
    #[inline]
    fn unlock_at_root(&self, hash: u64, mode: Mode) -> bool {
        let unlocked = self.trie.at_root_monitor(hash, |monitor, word, pin| {
            self.statistics.releases(monitor);
            let mut wakeup = Wakeup::default();
            let left = monitor.release(mode, self.fairness, &mut wakeup);
            self.settle(hash, word, left, pin, &mut wakeup);
        });
        unlocked.is_some()
    }

    #[cold]
    #[inline(never)]
    fn unlock_slower(&self, hash: u64, mode: Mode, fairness: Fairness) {
        let mut walk = self.trie.walk(hash);
        loop {
            match walk.leaf() {
                Leaf::Own(word) => {
                    debug_assert_eq!(word.mode(), mode, "held in another mode");
                    if walk.slot().leave(word).is_ok() {
                        if word.without_holder() == SlotWord::EMPTY {
                            walk.prune();
                        }
                        return;
                    }
                }
                Leaf::Monitor(word) => {
                    let monitor = walk.monitor(word);
                    debug_assert_eq!(monitor.hash(), hash, "the key is held");
                    self.statistics.releases(monitor);
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
    pub(crate) fn is_waited_for(&self, hash: u64) -> bool {
        let mut walk = self.trie.walk(hash);
        match walk.leaf() {
            Leaf::Monitor(word) => walk.monitor(word).peek().is_queued(),
            _ => false,
        }
    }

    /// Converts the caller's exclusive lock to a shared one, and admits the readers that are queued
    /// before any writer.
    pub(crate) fn downgrade(&self, hash: u64) {
        let mut walk = self.trie.walk(hash);
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
        let mut walk = self.trie.walk(hash);
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

    /// Does the work that a departure from a monitor leaves to the table.
    pub(super) fn settle(
        &self,
        hash: u64,
        monitor: SlotWord,
        left: Left,
        pin: Pin,
        wakeup: &mut Wakeup,
    ) {
        match left {
            Left::Dead => drop(self.trie.walk_pinned(hash, pin).unlink(monitor)),
            Left::Alive => {
                drop(pin);
                wakeup.run();
            }
        }
    }
}
