//! The way from a hash to its slot: a root array, and child arrays where keys met.
//!
//! The order of every access is argued in PROTOCOL.md; each named transition of [`Walk`] is one
//! compare-and-swap of one slot.
#![allow(unsafe_code)]

use std::sync::OnceLock;

use super::monitor::Monitor;
use super::{Fairness, Statistics};
use crate::reclaim::{Domain, Pin};
use crate::sync::tuning::{FAN_BITS, MAX_ROOT_BITS, MIN_ROOT_BITS};
use crate::sync::{AtomicU64, Canary, Ordering};
use crate::word::{Kind, Mode, STATE_BITS, SlotWord};

pub(super) const FAN: usize = 1 << FAN_BITS;

/// Slots for the next index bits of all keys that met in one slot.
#[derive(Debug)]
#[repr(align(8))]
pub(super) struct Child {
    pub(super) slots: [AtomicU64; FAN],
    pub(super) canary: Canary,
}

impl Child {
    pub(super) fn new(word: impl Fn(usize) -> SlotWord) -> Self {
        Child {
            slots: core::array::from_fn(|i| AtomicU64::new(word(i).bits())),
            canary: Canary::new(),
        }
    }
}

/// A lock table of hashes.
pub(crate) struct RawTable {
    root: Box<[AtomicU64]>,
    /// The first hash bit that indexes a child of the root.
    child_shift: u32,
    pub(super) fairness: Fairness,
    pub(super) domain: Domain,
    pub(super) statistics: Statistics,
    /// One counter for each root slot, made when somebody first asks for a token.
    tokens: OnceLock<Box<[AtomicU64]>>,
}

impl RawTable {
    /// `expected_locks` is the number of locks expected to be held at once: the root gets two slots for each.
    pub(super) fn new(expected_locks: usize, fairness: Fairness, domain: Domain) -> Self {
        let wanted = expected_locks.saturating_mul(2).max(2).ilog2()
            + u32::from(!expected_locks.saturating_mul(2).max(2).is_power_of_two());
        let bits = wanted.clamp(MIN_ROOT_BITS, MAX_ROOT_BITS);
        RawTable {
            root: (0..1usize << bits).map(|_| AtomicU64::new(0)).collect(),
            // A checked table may have fewer root slots than a word has state bits; its keys
            // differ above those.
            child_shift: bits.max(STATE_BITS),
            fairness,
            domain,
            statistics: Statistics::default(),
            tokens: OnceLock::new(),
        }
    }

    pub(super) fn root(&self) -> &[AtomicU64] {
        &self.root
    }

    #[inline]
    pub(super) fn root_slot(&self, hash: u64) -> &AtomicU64 {
        let index = hash as usize & (self.root.len() - 1);
        // SAFETY: the length is a power of two and at least 1, so the mask is below it.
        unsafe { self.root.get_unchecked(index) }
    }

    /// The next token of all keys of this key's root slot.
    pub(super) fn token(&self, hash: u64) -> u64 {
        let tokens = self
            .tokens
            .get_or_init(|| self.root.iter().map(|_| AtomicU64::new(0)).collect());
        let index = hash as usize & (self.root.len() - 1);
        // Relaxed: holders of one key come one after the other, and later values of one atomic are
        // greater; that the holders do is for the lock to say [S2].
        tokens[index].fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Bytes of the token counters, if there are any.
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
        fn free(slots: &[AtomicU64]) {
            for slot in slots {
                // Relaxed: the table is borrowed mutably, so all other accesses happened before.
                let word = SlotWord::from_bits(slot.load(Ordering::Relaxed));
                match word.kind() {
                    Kind::Empty | Kind::Inline => {}
                    Kind::Monitor => {
                        let monitor = monitor_at(word);
                        // SAFETY: linked, so not retired [S5], and nobody else has the table.
                        drop(unsafe { Box::from_raw(monitor) });
                    }
                    Kind::Child => {
                        // SAFETY: linked, so not retired [S5], and nobody else has the table.
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

/// The child that `word` points to.
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

/// What stands in the slot of a key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaf {
    Empty,
    /// This key's own inline word.
    Own(SlotWord),
    /// Another key's inline word.
    Other(SlotWord),
    /// A monitor; whose, the monitor says.
    Monitor(SlotWord),
}

/// A position on the way to a key's slot. Below the root, and at a monitor, it is pinned.
pub(super) struct Walk<'t> {
    table: &'t RawTable,
    hash: u64,
    pin: Option<Pin>,
    /// In the root of `table`, or in a child that the pin keeps.
    slot: *const AtomicU64,
    depth: u32,
    /// The slot that holds the child that `slot` is in, and the word that it held.
    parent: Option<(*const AtomicU64, SlotWord)>,
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

    /// A walk that is pinned from the start, by somebody who was.
    pub(super) fn pinned(table: &'t RawTable, hash: u64, pin: Pin) -> Self {
        Walk {
            pin: Some(pin),
            ..Walk::new(table, hash)
        }
    }

    /// Goes back to the root.
    pub(super) fn restart(&mut self) {
        self.slot = self.table.root_slot(self.hash);
        self.depth = 0;
        self.parent = None;
    }

    /// Goes back to the root and gives up the pin, to spin.
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

    pub(super) fn parent(&self) -> Option<(*const AtomicU64, SlotWord)> {
        self.parent
    }

    fn slot(&self) -> &AtomicU64 {
        // SAFETY: in the root, which the table owns, or in a child that the pin keeps [S5].
        unsafe { &*self.slot }
    }

    /// Goes on to the slot where the key is or would be, and says what stands there. Helps to
    /// replace an array that is frozen on the way.
    #[inline]
    pub(super) fn leaf(&mut self) -> Leaf {
        loop {
            // Acquire: children and monitors are read through the word, and an unlocker that finds
            // its word moved continues from it. Pairs with the Release of every transition [S2].
            let word = SlotWord::from_bits(self.slot().load(Ordering::Acquire));
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
            // What a word points to is safe to follow only if the word is loaded under the pin
            // [S5]: pin, and look again.
            let Some(pin) = &self.pin else {
                self.pin = Some(self.table.domain.pin());
                continue;
            };
            if kind == Kind::Monitor {
                return Leaf::Monitor(word);
            }
            let index = self.table.child_index(self.hash, self.depth);
            // SAFETY: loaded under this walk's pin, which was there before the load.
            let child = unsafe { child_ref(word, pin) };
            let slot: *const AtomicU64 = &child.slots[index];
            self.parent = Some((self.slot, word));
            self.slot = slot;
            self.depth += 1;
        }
    }

    /// Goes on to the deepest child on the way to the key, whatever stands in its slots.
    /// Returns whether there is one.
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

    /// The monitor that [`leaf`](Self::leaf) has just found.
    pub(super) fn monitor(&self, word: SlotWord) -> &Monitor {
        // SAFETY: loaded under this walk's pin [S5].
        unsafe { &*monitor_at(word).cast_const() }
    }

    fn cas(&self, old: SlotWord, new: SlotWord, success: Ordering) -> bool {
        // Relaxed on failure: the caller looks again, with Acquire, before it follows anything.
        self.slot()
            .compare_exchange(old.bits(), new.bits(), success, Ordering::Relaxed)
            .is_ok()
    }

    /// Locks an empty slot for the key.
    pub(super) fn claim(&self, mode: Mode) -> bool {
        // Acquire: from the last unlock in this slot, and by its release sequence from all before [S2].
        self.cas(
            SlotWord::EMPTY,
            SlotWord::inline(self.hash, mode),
            Ordering::Acquire,
        )
    }

    /// Adds a reader to the key's own shared word.
    pub(super) fn join(&self, word: SlotWord) -> bool {
        // Acquire: an equal word may be a later one, after another holder came and went [S3].
        self.cas(word, word.with_reader(), Ordering::Acquire)
    }

    /// Takes one holder off the key's own word.
    pub(super) fn leave(&self, word: SlotWord) -> bool {
        // Release: what the holder did comes before the next claim, which acquires it [S2].
        self.cas(word, word.without_holder(), Ordering::Release)
    }

    /// Makes the key's own exclusive word one of one reader.
    pub(super) fn downgrade(&self, word: SlotWord) -> bool {
        // Release: what the holder wrote comes before what the readers that join it read [S2].
        self.cas(
            word,
            SlotWord::inline(self.hash, Mode::Shared),
            Ordering::Release,
        )
    }

    /// Makes the key's own word of one reader exclusive.
    pub(super) fn upgrade(&self, word: SlotWord) -> bool {
        // Acquire: what other readers did before they left comes before what this holder writes,
        // and an equal word may be a later one [S3].
        self.cas(
            word,
            SlotWord::inline(self.hash, Mode::Exclusive),
            Ordering::Acquire,
        )
    }

    /// Puts a child in the place of another key's word (whose hash is `other`), with that word in
    /// it and, if the two part ways there, the key locked. Returns whether it is.
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
        // Release: publishes the child, and the word's history with it [S2].
        // Acquire: the lock that goes in follows all that was released in this slot, also if an equal
        // word came back since the load [S3].
        if self.cas(
            word,
            SlotWord::child(child.expose_provenance()),
            Ordering::AcqRel,
        ) {
            ours != theirs
        } else {
            // SAFETY: made above and never published.
            drop(unsafe { Box::from_raw(child) });
            false
        }
    }

    /// Puts a monitor in the place of the key's own word; gives it back if the word has changed.
    pub(super) fn inflate(
        &self,
        word: SlotWord,
        monitor: Box<Monitor>,
    ) -> Result<&'t Monitor, Box<Monitor>> {
        let raw = Box::into_raw(monitor);
        // Release: publishes the monitor [S2].
        // Acquire: whoever inflates because the count is full holds the key at once, and an equal
        // word may be a later one [S3].
        if self.cas(
            word,
            SlotWord::monitor(raw.expose_provenance()),
            Ordering::AcqRel,
        ) {
            // SAFETY: the caller holds the key or waits for it, and so keeps the monitor [M1].
            Ok(unsafe { &*raw })
        } else {
            // SAFETY: made above and never published.
            Err(unsafe { Box::from_raw(raw) })
        }
    }

    /// Takes a dead monitor out of its slot.
    pub(super) fn unlink(&self, word: SlotWord) -> bool {
        // Release: passes on what the caller acquired from the dead state to the next claim [M3].
        self.cas(word, SlotWord::EMPTY, Ordering::Release)
    }
}
