//! Fast paths for the most frequent cases that the root slot does not decide.
//!
//! - In a crowded table, only children lie between the root and the slot. The slot is empty to
//!   lock, or contains the holder's own word to unlock.
//! - The root contains the monitor of the key, to queue in or to unlock.
//!
//! In any other case a fast path changes nothing, and the general walk follows.
//!
//! They are the walk of `index.rs` in registers. With a million locks held this is a third faster
//! (benchmark `crowded`). A key that alternates between two tasks saves an eighth of the time
//! (report, `async`).
#![allow(unsafe_code)]

use std::sync::Arc;

use super::acquire::Acquired;
use super::fold::is_crowded;
use super::index::{Child, RawTable, Walk, child_ref, monitor_at};
use super::monitor::{Entered, Monitor};
use super::slot::Slot;
use crate::reclaim::Pin;
use crate::sync::store_load_fence;
use crate::wait::{Waiter, Wakeup};
use crate::word::{Kind, Mode, SlotWord};

/// The end of the children: its content, its slot, and the child that contains the slot.
struct Bottom<'p> {
    slot: &'p Slot,
    word: SlotWord,
    child: &'p Child,
}

impl RawTable {
    /// Pins if the root slot of `hash` has a child.
    #[inline(always)]
    fn pin_below(&self, hash: u64) -> Option<Pin> {
        // A hint; the word is loaded again under the pin.
        let word = self.root_slot(hash).peek();
        (word.kind() == Kind::Child).then(|| self.domain.pin())
    }

    #[inline(always)]
    fn descend<'p>(&'p self, hash: u64, pin: &'p Pin) -> Option<Bottom<'p>> {
        let mut slot = self.root_slot(hash);
        let mut depth = 0;
        let mut above = None;
        loop {
            let word = slot.load();
            if word.kind() != Kind::Child || word.is_frozen() {
                return above.map(|child| Bottom { slot, word, child });
            }
            // SAFETY: loaded under the pin.
            let child = unsafe { child_ref(word, pin) };
            slot = &child.slots[self.child_index(hash, depth)];
            depth += 1;
            above = Some(child);
        }
    }

    /// Pins if the root slot of `hash` has a monitor, and calls `f` with it if it is this key's.
    #[inline(always)]
    fn at_root_monitor<R>(
        &self,
        hash: u64,
        f: impl FnOnce(&Monitor, SlotWord, Pin) -> R,
    ) -> Option<R> {
        // A hint; the word is loaded again under the pin.
        let hint = self.root_slot(hash).peek();
        if hint.kind() != Kind::Monitor {
            return None;
        }
        let pin = self.domain.pin();
        let word = self.root_slot(hash).load();
        if word.kind() != Kind::Monitor {
            return None;
        }
        // SAFETY: loaded under the pin, which `f` receives and must keep as long as it needs the
        // monitor [S5].
        let monitor = unsafe { &*monitor_at(word).cast_const() };
        (monitor.hash() == hash).then(|| f(monitor, word, pin))
    }

    /// Queues `waiter`, or admits it, if the key has a monitor in the root. Otherwise it does
    /// nothing.
    #[inline]
    pub(super) fn queue_at_root(
        &self,
        hash: u64,
        mode: Mode,
        waiter: &Arc<Waiter>,
    ) -> Option<Acquired> {
        self.at_root_monitor(hash, |monitor, _, _pin| {
            match monitor.enter(mode, Some(&mut || waiter.clone())) {
                Entered::Holds => Some(Acquired::Holds),
                Entered::Queued => Some(self.queued(monitor)),
                // The general walk unlinks it.
                Entered::Dead | Entered::Busy => None,
            }
        })
        .flatten()
    }

    /// Unlocks the key if it has a monitor in the root. Returns whether it did.
    #[inline]
    pub(super) fn unlock_at_root(&self, hash: u64, mode: Mode) -> bool {
        self.at_root_monitor(hash, |monitor, word, pin| {
            self.observe_release(monitor);
            let mut wakeup = Wakeup::default();
            let left = monitor.release(mode, self.fairness, &mut wakeup);
            self.settle(hash, word, left, pin, &mut wakeup);
        })
        .is_some()
    }

    /// Joins the readers of the key whose word was just `found` in the root slot. Returns whether
    /// it did.
    ///
    /// It runs while the cache line, which a failed compare-and-swap has loaded, is still here.
    #[inline(always)]
    pub(super) fn join_root(&self, hash: u64, mode: Mode, mut found: SlotWord) -> bool {
        while found.kind() == Kind::Inline
            && found.names(hash)
            && mode.admits(found.mode())
            && !found.is_full()
        {
            match self.root_slot(hash).join(found) {
                Ok(()) => return true,
                Err(other) => found = other,
            }
        }
        false
    }

    /// Leaves the readers of the key whose word was just `found` in the root slot. Returns whether
    /// it did.
    #[inline(always)]
    pub(super) fn leave_root(&self, hash: u64, mut found: SlotWord) -> bool {
        while found.kind() == Kind::Inline {
            debug_assert!(found.names(hash), "a held key has its word [S1]");
            match self.root_slot(hash).leave(found) {
                Ok(()) => return true,
                Err(other) => found = other,
            }
        }
        false
    }

    /// Locks the key if its slot below the root is empty. Returns whether it did.
    #[inline(always)]
    pub(super) fn lock_below(&self, hash: u64, mode: Mode) -> bool {
        let Some(pin) = self.pin_below(hash) else {
            return false;
        };
        let Some(Bottom { slot, word, .. }) = self.descend(hash, &pin) else {
            return false;
        };
        word == SlotWord::EMPTY && slot.claim(hash, mode).is_ok()
    }

    /// Unlocks the key if its slot below the root has its word with this one holder. Returns
    /// whether it did.
    #[inline(always)]
    pub(super) fn unlock_below(&self, hash: u64, mode: Mode) -> bool {
        let Some(pin) = self.pin_below(hash) else {
            return false;
        };
        let Some(Bottom { slot, word, child }) = self.descend(hash, &pin) else {
            return false;
        };
        let own = SlotWord::inline(hash, mode);
        let unlocked = word == own && slot.leave(own).is_ok();
        if unlocked {
            // A thread that empties a slot checks the whole child afterwards [F3].
            store_load_fence();
            if !is_crowded(child) {
                let mut walk = Walk::pinned(self, hash, pin);
                walk.deepest_child();
                self.prune(&mut walk, hash);
            }
        }
        unlocked
    }
}
