//! Finds the slot of a hash: a root array, and child arrays where keys collide.
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

/// Slots for the next index bits of all keys that collided in one slot.
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
        fn free(slots: &[AtomicU64]) {
            for slot in slots {
                // Relaxed: the table is borrowed mutably, so all other accesses happened before.
                let word = SlotWord::from_bits(slot.load(Ordering::Relaxed));
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
    slot: *const AtomicU64,
    depth: u32,
    /// The slot of the child that contains `slot`, and its word.
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

    pub(super) fn parent(&self) -> Option<(*const AtomicU64, SlotWord)> {
        self.parent
    }

    fn slot(&self) -> &AtomicU64 {
        // SAFETY: in the root, which the table owns, or in a child that the pin keeps [S5].
        unsafe { &*self.slot }
    }

    /// Continues to the slot of the key, and returns the content of that slot.
    ///
    /// It helps to replace each frozen array on the path.
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
            let slot: *const AtomicU64 = &child.slots[index];
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

    fn cas(&self, old: SlotWord, new: SlotWord, success: Ordering) -> bool {
        // Relaxed on failure: the caller loads it again, with Acquire, before it follows a pointer.
        self.slot()
            .compare_exchange(old.bits(), new.bits(), success, Ordering::Relaxed)
            .is_ok()
    }

    /// Locks an empty slot for the key.
    pub(super) fn claim(&self, mode: Mode) -> bool {
        // Acquire: from the last unlock in this slot, and through its release sequence from all
        // earlier ones [S2].
        self.cas(
            SlotWord::EMPTY,
            SlotWord::inline(self.hash, mode),
            Ordering::Acquire,
        )
    }

    /// Adds a reader to the key's own shared word.
    pub(super) fn join(&self, word: SlotWord) -> bool {
        // Acquire: an equal word may be a later one, after another holder has locked and unlocked
        // [S3].
        self.cas(word, word.with_reader(), Ordering::Acquire)
    }

    /// Removes one holder from the key's own word.
    pub(super) fn leave(&self, word: SlotWord) -> bool {
        // Release: the critical section happens before the next claim, which acquires it [S2].
        self.cas(word, word.without_holder(), Ordering::Release)
    }

    /// Converts the key's own exclusive word to one of one reader.
    pub(super) fn downgrade(&self, word: SlotWord) -> bool {
        // Release: the holder's writes happen before the reads of the readers that join it [S2].
        self.cas(
            word,
            SlotWord::inline(self.hash, Mode::Shared),
            Ordering::Release,
        )
    }

    /// Converts the key's own word of one reader to an exclusive one.
    pub(super) fn upgrade(&self, word: SlotWord) -> bool {
        // Acquire: the critical sections of earlier readers happen before this holder's writes, and
        // an equal word may be a later one [S3].
        self.cas(
            word,
            SlotWord::inline(self.hash, Mode::Exclusive),
            Ordering::Acquire,
        )
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
        // Release: publishes the child, and with it the happens-before edges of the word [S2].
        // Acquire: the lock that is inserted follows all releases of this slot, including when an
        // equal word has returned since the load [S3].
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

    /// Replaces the key's own word by a monitor; returns the monitor if the word has changed.
    pub(super) fn inflate(
        &self,
        word: SlotWord,
        monitor: Box<Monitor>,
    ) -> Result<&'t Monitor, Box<Monitor>> {
        let raw = Box::into_raw(monitor);
        // Release: publishes the monitor [S2].
        // Acquire: a reader that inflates because the count is full holds the key at once, and an
        // equal word may be a later one [S3].
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

    /// Removes a dead monitor from its slot.
    pub(super) fn unlink(&self, word: SlotWord) -> bool {
        // Release: passes on what the caller acquired from the dead state to the next claim [M3].
        self.cas(word, SlotWord::EMPTY, Ordering::Release)
    }
}
