//! The trie: finds the slot of a hash in a root, and in child arrays where keys collide.
//!
//! The order of every access is argued in PROTOCOL.md; the transitions of a slot are those of
//! [`Slot`].
//!
//! Most operations end in the root, and need no pin. The methods of [`Trie`] with `below` or `root`
//! in their names are fast paths for the most frequent cases that the first compare-and-swap in the
//! root does not decide:
//! - In a crowded table, only children lie between the root and the slot. The slot is empty to
//!   lock, or contains the holder's own word to unlock.
//! - The root contains the monitor of the key, to queue in or to unlock.
//!
//! In any other case a fast path changes nothing, and a [`Walk`] follows. They are the walk in
//! registers. With a million locks held this is a third faster (benchmark `crowded`). A key that
//! alternates between two tasks saves an eighth of the time (report, `async`).
#![allow(unsafe_code)]

use super::child::{Child, Occupancy, child_of_dropped, child_ref, expand, fold};
use super::grow::Roots;
use super::monitor::{Monitor, monitor_at, monitor_ref};
use super::root::Root;
use super::slot::{Moved, Slot};
use crate::reclaim::{Domain, Pin};
use crate::sync::store_load_fence;
use crate::sync::tuning::{MAX_ROOT_BITS, MIN_ROOT_BITS, fold_now, locked_below};
use crate::word::{Kind, Mode, SlotWord};

/// The slots of all keys of a table.
pub(super) struct Trie {
    roots: Roots,
    domain: Domain,
}

/// The content of the slot of a key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaf {
    Empty,
    /// This key's own inline word.
    Own(SlotWord),
    /// Another key's inline word.
    Other(SlotWord),
    /// A monitor, of this key or of another: the monitor records its key.
    Monitor(SlotWord),
}

/// The content of a slot in use, without the words of the child.
pub(crate) enum Content<'p> {
    /// An inline word, and the hash of its key.
    Inline(SlotWord, u64),
    Monitor(&'p Monitor),
    Child,
}

impl Content<'_> {
    /// Returns the size in bytes of what the slot points to.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Content::Inline(..) => 0,
            Content::Monitor(_) => size_of::<Monitor>(),
            Content::Child => size_of::<Child>(),
        }
    }
}

/// The end of the children: its content, its slot, and the child that contains the slot.
struct Bottom<'p> {
    slot: &'p Slot,
    word: SlotWord,
    child: &'p Child,
}

impl Trie {
    /// Makes a trie. The root has two slots for each of the `expected_locks`.
    pub(super) fn new(expected_locks: usize, domain: Domain) -> Self {
        let wanted = expected_locks.saturating_mul(2).max(2).ilog2()
            + u32::from(!expected_locks.saturating_mul(2).max(2).is_power_of_two());
        let bits = wanted.clamp(MIN_ROOT_BITS, MAX_ROOT_BITS);
        Trie {
            roots: Roots::new(bits),
            domain,
        }
    }

    #[inline]
    pub(super) fn pin(&self) -> Pin {
        self.domain.pin()
    }

    /// Returns the root with which the table was made.
    pub(super) fn first(&self) -> Root<'_> {
        self.roots.first()
    }

    /// Returns the size in bytes of the roots that may have words.
    pub(super) fn root_bytes(&self) -> usize {
        self.roots.in_use().map(Root::bytes).sum()
    }

    /// Returns the roots.
    pub(super) fn roots(&self) -> &Roots {
        &self.roots
    }

    #[inline(always)]
    fn root_slot(&self, hash: u64) -> &Slot {
        self.roots.current().slot(hash)
    }

    /// Starts a walk to the slot of `hash`.
    pub(super) fn walk(&self, hash: u64) -> Walk<'_> {
        let root = self.roots.current();
        Walk {
            trie: self,
            hash,
            pin: None,
            root,
            slot: root.slot(hash),
            depth: 0,
            parent: None,
        }
    }

    /// Starts a walk that is pinned from the start, with the caller's pin.
    pub(super) fn walk_pinned(&self, hash: u64, pin: Pin) -> Walk<'_> {
        Walk {
            pin: Some(pin),
            ..self.walk(hash)
        }
    }

    /// Loads the root slot of `hash` as a hint.
    #[inline(always)]
    pub(super) fn peek_root(&self, hash: u64) -> SlotWord {
        self.root_slot(hash).peek()
    }

    /// Locks the key if its root slot is empty, or returns the word that it contains.
    #[inline(always)]
    pub(super) fn claim_root(&self, hash: u64, mode: Mode) -> Moved {
        self.root_slot(hash).claim(hash, mode)
    }

    /// Unlocks the key if its root slot has its word with this one holder, or returns the word that
    /// it contains.
    #[inline(always)]
    pub(super) fn release_root(&self, hash: u64, mode: Mode) -> Moved {
        let root = self.roots.current();
        let own = SlotWord::inline(hash, mode);
        root.slot(hash).unlock(own, root.empty())
    }

    /// Joins the readers of the key whose word was just `found` in the root slot. Returns whether
    /// it did.
    ///
    /// It runs while the cache line, which a failed compare-and-swap has loaded, is still here.
    #[inline(always)]
    pub(super) fn join_root(&self, hash: u64, mode: Mode, mut found: SlotWord) -> bool {
        while found.is_lock() && found.names(hash) && mode.admits(found.mode()) && !found.is_full()
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
        while found.is_lock() {
            debug_assert!(found.names(hash), "a held key has its word [S1]");
            match self.root_slot(hash).leave(found) {
                Ok(()) => return true,
                Err(other) => found = other,
            }
        }
        false
    }

    /// Pins if the root slot of `hash` has a child.
    #[inline(always)]
    fn pin_below(&self, hash: u64) -> Option<Pin> {
        // A hint; the word is loaded again under the pin.
        let word = self.peek_root(hash);
        (word.kind() == Kind::Child).then(|| self.domain.pin())
    }

    #[inline(always)]
    fn descend<'p>(&'p self, hash: u64, pin: &'p Pin) -> Option<Bottom<'p>> {
        let root = self.roots.current();
        let mut slot = root.slot(hash);
        let mut depth = 0;
        let mut above = None;
        loop {
            let word = slot.load();
            if word.kind() != Kind::Child || word.is_frozen() {
                return above.map(|child| Bottom { slot, word, child });
            }
            // SAFETY: loaded under the pin.
            let child = unsafe { child_ref(word, pin) };
            slot = &child.slots()[root.child_index(hash, depth)];
            depth += 1;
            above = Some(child);
        }
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
        let locked = word == SlotWord::EMPTY && slot.claim(hash, mode).is_ok();
        if locked {
            locked_below();
        }
        locked
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
            if !matches!(child.occupancy(), Occupancy::More) {
                let mut walk = self.walk_pinned(hash, pin);
                walk.deepest_child();
                walk.prune();
            }
        }
        unlocked
    }

    /// Pins if the root slot of `hash` has a monitor, and calls `f` with it if it is this key's.
    #[inline(always)]
    pub(super) fn at_root_monitor<R>(
        &self,
        hash: u64,
        f: impl FnOnce(&Monitor, SlotWord, Pin) -> R,
    ) -> Option<R> {
        // A hint; the word is loaded again under the pin.
        let hint = self.peek_root(hash);
        if hint.kind() != Kind::Monitor {
            return None;
        }
        let pin = self.domain.pin();
        let word = self.root_slot(hash).load();
        if word.kind() != Kind::Monitor || word.is_frozen() {
            return None;
        }
        // SAFETY: loaded under the pin, which `f` receives and must keep as long as it needs the
        // monitor [S5].
        let monitor = unsafe { &*monitor_at(word).cast_const() };
        (monitor.hash() == hash).then(|| f(monitor, word, pin))
    }

    /// Calls `f` with the content of each slot in use. It calls `f` exactly once for each key that
    /// is held until it returns [G7].
    pub(super) fn visit(&self, mut f: impl FnMut(Content<'_>)) {
        /// `beside` has the hash bits of the root slot.
        fn each(word: SlotWord, beside: u64, pin: &Pin, f: &mut impl FnMut(Content<'_>)) {
            match word.kind() {
                Kind::Empty => {}
                Kind::Inline => f(Content::Inline(word, word.hash_beside(beside))),
                // SAFETY: loaded under the pin.
                Kind::Monitor => f(Content::Monitor(unsafe { monitor_ref(word, pin) })),
                Kind::Child => {
                    f(Content::Child);
                    // SAFETY: loaded under the pin.
                    let slots = unsafe { child_ref(word, pin) }.slots();
                    slots
                        .iter()
                        .for_each(|slot| each(slot.load().thawed(), beside, pin, f));
                }
            }
        }
        let pin = self.domain.pin();
        let root = self.roots.source();
        for place in 0..root.len() {
            let beside = root.hash_of(place);
            let word = root.at(place).load().thawed();
            if !word.is_void() {
                each(word, beside, &pin, &mut f);
                continue;
            }
            // The keys of the slot have moved, and do not move again before the pin ends [G5].
            let target = self.roots.target();
            if target.len() > root.len() {
                for part in (place..target.len()).step_by(root.len()) {
                    each(target.at(part).load().thawed(), beside, &pin, &mut f);
                }
                continue;
            }
            // Their slot is shared with the other slots of their group.
            let word = target.at(place).load().thawed();
            let is_here = match word.kind() {
                Kind::Empty => false,
                Kind::Inline => root.index(word.hash_beside(beside)) == place,
                // SAFETY: loaded under the pin.
                Kind::Monitor => root.index(unsafe { monitor_ref(word, &pin) }.hash()) == place,
                Kind::Child => {
                    let part = place / target.len();
                    if part == 0 {
                        f(Content::Child);
                    }
                    // SAFETY: loaded under the pin.
                    let slots = unsafe { child_ref(word, &pin) }.slots();
                    each(slots[part].load().thawed(), beside, &pin, &mut f);
                    false
                }
            };
            if is_here {
                each(word, beside, &pin, &mut f);
            }
        }
    }
}

impl Drop for Trie {
    fn drop(&mut self) {
        fn free(slot: &Slot) {
            // The table is borrowed mutably, so all other accesses happened before.
            let word = slot.peek();
            match word.kind() {
                Kind::Empty | Kind::Inline => {}
                Kind::Monitor => {
                    let monitor = monitor_at(word);
                    // SAFETY: linked, so not retired [S5], and no other thread has the table.
                    drop(unsafe { Box::from_raw(monitor) });
                }
                Kind::Child => {
                    // SAFETY: no other thread has the table, which is dropped.
                    let child = unsafe { child_of_dropped(word) };
                    child.slots().iter().for_each(free);
                }
            }
        }
        self.roots.free(|slot| {
            // A thread that moves a group ends that before it leaves the table [G5].
            debug_assert!(!slot.peek().is_frozen(), "a group is moved");
            free(slot);
        });
    }
}

/// A position on the path to a key's slot. Below the root, and at a monitor, it is pinned.
pub(super) struct Walk<'t> {
    trie: &'t Trie,
    hash: u64,
    pin: Option<Pin>,
    root: Root<'t>,
    /// In `root`, or in a child that the pin keeps.
    slot: *const Slot,
    depth: u32,
    /// The slot of the child that contains `slot`, and its word.
    parent: Option<(*const Slot, SlotWord)>,
}

impl<'t> Walk<'t> {
    /// Returns to the root.
    pub(super) fn restart(&mut self) {
        self.root = self.trie.roots.current();
        self.slot = self.root.slot(self.hash);
        self.depth = 0;
        self.parent = None;
    }

    /// Returns to the root and releases the pin, to spin.
    pub(super) fn unpin(&mut self) {
        self.restart();
        self.pin = None;
    }

    pub(super) fn into_pin(self) -> Pin {
        self.pin.unwrap_or_else(|| self.trie.pin())
    }

    fn pin(&self) -> &Pin {
        self.pin.as_ref().expect("pinned below the root")
    }

    /// Returns the slot at which the walk is.
    pub(super) fn slot(&self) -> &Slot {
        // SAFETY: in a root, which the trie owns, or in a child that the pin keeps [S5] [G1].
        unsafe { &*self.slot }
    }

    /// Continues to the slot of the key, and returns the content of that slot.
    ///
    /// It helps to replace each frozen array on the path.
    #[inline]
    pub(super) fn leaf(&mut self) -> Leaf {
        loop {
            let word = self.slot().load();
            // The most frequent one first.
            if word.is_lock() {
                return if word.names(self.hash) {
                    Leaf::Own(word)
                } else {
                    Leaf::Other(word)
                };
            }
            if word.is_frozen() {
                self.help_fold();
                continue;
            }
            if word == SlotWord::EMPTY {
                return Leaf::Empty;
            }
            if word.is_void() {
                self.help_move();
                continue;
            }
            let kind = word.kind();
            // The target of a word is safe to access only if the word is loaded under the pin [S5]:
            // pin, and load it again.
            let Some(pin) = &self.pin else {
                self.pin = Some(self.trie.pin());
                continue;
            };
            if kind == Kind::Monitor {
                return Leaf::Monitor(word);
            }
            let index = self.root.child_index(self.hash, self.depth);
            // SAFETY: loaded under this walk's pin, which existed before the load.
            let child = unsafe { child_ref(word, pin) };
            let slot: *const Slot = &child.slots()[index];
            self.parent = Some((self.slot, word));
            self.slot = slot;
            self.depth += 1;
        }
    }

    /// Continues to the deepest child on the path to the key, whatever its slots contain. Returns
    /// whether there is one.
    fn deepest_child(&mut self) -> bool {
        self.restart();
        self.leaf();
        self.parent.is_some()
    }

    /// Folds the child in which the walk is, and returns to the root.
    fn fold_parent(&mut self) {
        let (slot, child) = self.parent.expect("below the root");
        // SAFETY: the parent slot is in the root or in a child, which the pin keeps [S5].
        let slot = unsafe { &*slot };
        // SAFETY: the walk loaded the word of the child from that slot under its pin.
        let removed = unsafe { fold(self.pin(), slot, child) };
        if removed {
            let roots = &self.trie.roots;
            roots.child_removed(self.pin(), self.hash, self.depth - 1);
        }
        self.restart();
    }

    /// Helps to replace the array in which the walk is, and returns to the root.
    #[cold]
    fn help_fold(&mut self) {
        if self.parent.is_some() {
            self.fold_parent();
        } else {
            self.help_move();
        }
    }

    /// Moves the group of the key if a move is in progress, and returns to the root.
    #[cold]
    fn help_move(&mut self) {
        let pin = self.pin.get_or_insert_with(|| self.trie.pin());
        self.trie.roots.help(pin, self.hash);
        self.restart();
    }

    /// Folds the children on the path to the key, deepest first.
    ///
    /// A child is folded as long as it is empty or contains one inline word that may move up. A
    /// thread that has emptied a slot below the root calls it [F3].
    pub(super) fn prune(&mut self) {
        let mut fold_single = None;
        loop {
            let Some((_, word)) = self.parent else {
                return;
            };
            // If two threads each empty a slot and then load the other's, one of them sees the
            // other slot empty [F3].
            store_load_fence();
            // SAFETY: loaded under the pin of this walk.
            let child = unsafe { child_ref(word, self.pin()) };
            let foldable = match child.occupancy() {
                Occupancy::Empty => true,
                Occupancy::Single => *fold_single.get_or_insert_with(|| fold_now(self.hash)),
                Occupancy::More => false,
            };
            if !foldable {
                return;
            }
            self.fold_parent();
            if !self.deepest_child() {
                return;
            }
        }
    }

    /// Returns the monitor that [`leaf`](Self::leaf) has just found.
    pub(super) fn monitor(&self, word: SlotWord) -> &Monitor {
        // SAFETY: loaded under this walk's pin [S5].
        unsafe { monitor_ref(word, self.pin()) }
    }

    /// Replaces another key's word, whose hash is `other`, by a child that contains it.
    ///
    /// If the two keys have different slots in the child, the key is also locked there. Returns
    /// whether it is locked.
    pub(super) fn expand(&self, word: SlotWord, other: u64, mode: Mode) -> bool {
        let theirs = self.root.child_index(other, self.depth);
        let ours = self.root.child_index(self.hash, self.depth);
        let expanded = expand(self.slot(), word, |i| {
            if i == theirs {
                word
            } else if i == ours {
                SlotWord::inline(self.hash, mode)
            } else {
                SlotWord::EMPTY
            }
        });
        if expanded {
            locked_below();
            let roots = &self.trie.roots;
            roots.child_added(&self.trie.domain, self.hash, self.depth);
        }
        expanded && ours != theirs
    }

    /// Replaces the key's own word by a monitor; returns the monitor if the word has changed.
    pub(super) fn inflate(
        &self,
        word: SlotWord,
        monitor: Box<Monitor>,
    ) -> Result<&'t Monitor, Box<Monitor>> {
        let raw = Box::into_raw(monitor);
        let inflated = SlotWord::monitor(raw.expose_provenance());
        if self.slot().inflate(word, inflated).is_ok() {
            // SAFETY: the caller holds the key or waits for it, and so keeps the monitor [M1].
            Ok(unsafe { &*raw })
        } else {
            // SAFETY: made above and never published.
            Err(unsafe { Box::from_raw(raw) })
        }
    }

    /// Removes a dead monitor from the trie, wherever it has moved, and retires it, or finds that
    /// another thread has done so. Returns to the root.
    pub(super) fn unlink(self, monitor: SlotWord) -> Walk<'t> {
        let mut walk = self;
        walk.restart();
        while walk.leaf() == Leaf::Monitor(monitor) {
            if walk.slot().unlink(monitor).is_ok() {
                // SAFETY: unlinked by this compare-and-swap and no other: a dead monitor is not
                // linked again, and its address is not reused while the walk is pinned [M2].
                unsafe { walk.pin().retire(monitor_at(monitor)) };
                walk.prune();
                return walk.trie.walk(walk.hash);
            }
        }
        walk.restart();
        walk
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(trie: &Trie, hash: u64) -> bool {
        let mut walk = trie.walk(hash);
        loop {
            let locked = match walk.leaf() {
                Leaf::Empty => walk.slot().claim(hash, Mode::Exclusive).is_ok(),
                Leaf::Other(word) => walk.expand(word, word.hash_beside(hash), Mode::Exclusive),
                Leaf::Own(_) | Leaf::Monitor(_) => return false,
            };
            if locked {
                return true;
            }
        }
    }

    fn unlock(trie: &Trie, hash: u64) {
        let mut walk = trie.walk(hash);
        let word = SlotWord::inline(hash, Mode::Exclusive);
        assert!(walk.leaf() == Leaf::Own(word) && walk.slot().leave(word).is_ok());
        walk.prune();
    }

    /// The single word of a child may be a child by the time it is frozen. Such a child must not
    /// move up, because one level higher its keys are searched by other bits of their hashes [F1].
    #[test]
    fn a_child_alone_in_a_child_stays_where_its_keys_are_looked_for() {
        let trie = Trie::new(1, Domain::default());
        // The two differ in their uppermost bits only.
        let hashes = [1_u64 << 62, 1 << 63];
        for hash in hashes {
            assert!(lock(&trie, hash));
        }
        let pin = trie.pin();
        let before = trie.peek_root(hashes[0]);
        // SAFETY: no other thread has the trie, so the slot still has the word.
        unsafe { fold(&pin, trie.root_slot(hashes[0]), before) };
        let after = trie.peek_root(hashes[0]);
        assert!(after != before && after.kind() == Kind::Child);
        for hash in hashes {
            assert!(!lock(&trie, hash));
            unlock(&trie, hash);
        }
        trie.visit(|_| panic!("a slot is in use"));
    }
}
