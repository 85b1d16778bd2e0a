//! Finds the slot of a hash: a root array, and child arrays where keys collide.
//!
//! The order of every access is argued in PROTOCOL.md; the transitions of a slot are those of
//! [`Slot`].
#![allow(unsafe_code)]

use std::sync::OnceLock;

use super::fairness::Fairness;
use super::monitor::Monitor;
use super::observe::Statistics;
use super::slot::Slot;
use crate::reclaim::{Domain, Pin};
use crate::sync::tuning::{FAN_BITS, MAX_ROOT_BITS, MIN_ROOT_BITS};
use crate::sync::{AtomicU64, Canary, Ordering};
use crate::word::{Kind, Mode, STATE_BITS, SlotWord};

pub(super) const FAN: usize = 1 << FAN_BITS;

// The index and the word of a slot are the whole hash [S4].
const _: () = assert!(MIN_ROOT_BITS >= STATE_BITS || MAX_ROOT_BITS == 0);

/// Slots for the next index bits of all keys that collided in one slot.
#[derive(Debug)]
#[repr(align(8))]
pub(super) struct Child {
    pub(super) slots: [Slot; FAN],
    pub(super) canary: Canary,
}

impl Child {
    pub(super) fn new(word: impl Fn(usize) -> SlotWord) -> Self {
        Child {
            slots: core::array::from_fn(|i| Slot::new(word(i))),
            canary: Canary::new(),
        }
    }
}

/// A lock table of hashes.
pub(crate) struct RawTable {
    root: Box<[Slot]>,
    /// The first hash bit that indexes a child of the root.
    child_shift: u32,
    pub(super) fairness: Fairness,
    pub(super) domain: Domain,
    pub(super) statistics: Statistics,
    /// One counter for each root slot, allocated with the first token.
    tokens: OnceLock<Box<[AtomicU64]>>,
}

impl RawTable {
    /// Makes a table. The root has two slots for each of the `expected_locks`.
    pub(super) fn new(expected_locks: usize, fairness: Fairness, domain: Domain) -> Self {
        let wanted = expected_locks.saturating_mul(2).max(2).ilog2()
            + u32::from(!expected_locks.saturating_mul(2).max(2).is_power_of_two());
        let bits = wanted.clamp(MIN_ROOT_BITS, MAX_ROOT_BITS);
        RawTable {
            root: (0..1usize << bits)
                .map(|_| Slot::new(SlotWord::EMPTY))
                .collect(),
            // A checked table may have fewer root slots than a word has state bits; its keys
            // differ above those.
            child_shift: bits.max(STATE_BITS),
            fairness,
            domain,
            statistics: Statistics::default(),
            tokens: OnceLock::new(),
        }
    }

    pub(super) fn root(&self) -> &[Slot] {
        &self.root
    }

    #[inline]
    pub(super) fn root_slot(&self, hash: u64) -> &Slot {
        let index = hash as usize & (self.root.len() - 1);
        // SAFETY: the length is a power of two and at least 1, so the mask is below it.
        unsafe { self.root.get_unchecked(index) }
    }

    /// Returns the next token of all keys of this key's root slot.
    pub(super) fn token(&self, hash: u64) -> u64 {
        let tokens = self
            .tokens
            .get_or_init(|| self.root.iter().map(|_| AtomicU64::new(0)).collect());
        let index = hash as usize & (self.root.len() - 1);
        // Relaxed: holders of one key follow one another, and later values of one atomic are
        // greater; the lock itself orders the holders [S2].
        tokens[index].fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Returns the size of the token counters in bytes, or zero without counters.
    pub(super) fn token_bytes(&self) -> usize {
        self.tokens.get().map_or(0, |tokens| size_of_val(&**tokens))
    }

    #[inline]
    pub(super) fn child_index(&self, hash: u64, depth: u32) -> usize {
        // Two keys that share a slot differ in a bit above those used so far, so the walk of a key
        // ends before the bits do [S4].
        (hash >> (self.child_shift + FAN_BITS * depth)) as usize & (FAN - 1)
    }
}

impl Drop for RawTable {
    fn drop(&mut self) {
        fn free(slots: &[Slot]) {
            for slot in slots {
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
                        // SAFETY: linked, so not retired [S5], and no other thread has the table.
                        let child = unsafe { Box::from_raw(child_at(word)) };
                        free(&child.slots);
                    }
                }
            }
        }
        free(&self.root);
    }
}

pub(super) fn child_at(word: SlotWord) -> *mut Child {
    debug_assert_eq!(word.kind(), Kind::Child);
    core::ptr::with_exposed_provenance_mut(word.address())
}

pub(super) fn monitor_at(word: SlotWord) -> *mut Monitor {
    debug_assert_eq!(word.kind(), Kind::Monitor);
    core::ptr::with_exposed_provenance_mut(word.address())
}

/// Returns the child that `word` points to.
///
/// # Safety
/// `word` was loaded from a slot of this table under `_pin`, or under a mutable borrow.
pub(super) unsafe fn child_ref(word: SlotWord, _pin: &Pin) -> &Child {
    // SAFETY: linked when it was loaded and retired after it was unlinked, so alive under the pin
    // [S5].
    let child = unsafe { &*child_at(word) };
    child.canary.check();
    child
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

/// A position on the path to a key's slot. Below the root, and at a monitor, it is pinned.
pub(super) struct Walk<'t> {
    table: &'t RawTable,
    hash: u64,
    pin: Option<Pin>,
    /// In the root of `table`, or in a child that the pin keeps.
    slot: *const Slot,
    depth: u32,
    /// The slot of the child that contains `slot`, and its word.
    parent: Option<(*const Slot, SlotWord)>,
}

impl<'t> Walk<'t> {
    pub(super) fn new(table: &'t RawTable, hash: u64) -> Self {
        Walk {
            table,
            hash,
            pin: None,
            slot: table.root_slot(hash),
            depth: 0,
            parent: None,
        }
    }

    /// Starts a walk that is pinned from the start, with the caller's pin.
    pub(super) fn pinned(table: &'t RawTable, hash: u64, pin: Pin) -> Self {
        Walk {
            pin: Some(pin),
            ..Walk::new(table, hash)
        }
    }

    /// Returns to the root.
    pub(super) fn restart(&mut self) {
        self.slot = self.table.root_slot(self.hash);
        self.depth = 0;
        self.parent = None;
    }

    /// Returns to the root and releases the pin, to spin.
    pub(super) fn unpin(&mut self) {
        self.restart();
        self.pin = None;
    }

    pub(super) fn into_pin(self) -> Pin {
        self.pin.unwrap_or_else(|| self.table.domain.pin())
    }

    pub(super) fn pin(&self) -> &Pin {
        self.pin.as_ref().expect("pinned at a monitor")
    }

    pub(super) fn parent(&self) -> Option<(*const Slot, SlotWord)> {
        self.parent
    }

    /// Returns the slot at which the walk is.
    pub(super) fn slot(&self) -> &Slot {
        // SAFETY: in the root, which the table owns, or in a child that the pin keeps [S5].
        unsafe { &*self.slot }
    }

    /// Continues to the slot of the key, and returns the content of that slot.
    ///
    /// It helps to replace each frozen array on the path.
    #[inline]
    pub(super) fn leaf(&mut self) -> Leaf {
        loop {
            let word = self.slot().load();
            if word.is_frozen() {
                self.help_fold();
                continue;
            }
            let kind = word.kind();
            if kind == Kind::Empty {
                return Leaf::Empty;
            }
            if kind == Kind::Inline {
                return if word.names(self.hash) {
                    Leaf::Own(word)
                } else {
                    Leaf::Other(word)
                };
            }
            // The target of a word is safe to access only if the word is loaded under the pin [S5]:
            // pin, and load it again.
            let Some(pin) = &self.pin else {
                self.pin = Some(self.table.domain.pin());
                continue;
            };
            if kind == Kind::Monitor {
                return Leaf::Monitor(word);
            }
            let index = self.table.child_index(self.hash, self.depth);
            // SAFETY: loaded under this walk's pin, which existed before the load.
            let child = unsafe { child_ref(word, pin) };
            let slot: *const Slot = &child.slots[index];
            self.parent = Some((self.slot, word));
            self.slot = slot;
            self.depth += 1;
        }
    }

    /// Continues to the deepest child on the path to the key, whatever its slots contain. Returns
    /// whether there is one.
    pub(super) fn deepest_child(&mut self) -> bool {
        self.restart();
        self.leaf();
        self.parent.is_some()
    }

    #[cold]
    fn help_fold(&mut self) {
        let (slot, child) = self.parent.expect("only slots of children freeze");
        // SAFETY: the parent slot is in the root or in a child, which the pin keeps [S5].
        let slot = unsafe { &*slot };
        self.table.fold(self.pin(), slot, child);
        self.restart();
    }

    /// Returns the monitor that [`leaf`](Self::leaf) has just found.
    pub(super) fn monitor(&self, word: SlotWord) -> &Monitor {
        // SAFETY: loaded under this walk's pin [S5].
        unsafe { &*monitor_at(word).cast_const() }
    }

    /// Replaces another key's word, whose hash is `other`, by a child that contains it.
    ///
    /// If the two keys have different slots in the child, the key is also locked there. Returns
    /// whether it is locked.
    pub(super) fn expand(&self, word: SlotWord, other: u64, mode: Mode) -> bool {
        let theirs = self.table.child_index(other, self.depth);
        let ours = self.table.child_index(self.hash, self.depth);
        let child = Box::into_raw(Box::new(Child::new(|i| {
            if i == theirs {
                word
            } else if i == ours {
                SlotWord::inline(self.hash, mode)
            } else {
                SlotWord::EMPTY
            }
        })));
        let expanded = SlotWord::child(child.expose_provenance());
        if self.slot().expand(word, expanded).is_ok() {
            ours != theirs
        } else {
            // SAFETY: made above and never published.
            drop(unsafe { Box::from_raw(child) });
            false
        }
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
}
