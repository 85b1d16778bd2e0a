//! The word of a slot: empty, a lock, a monitor, or a child array.
//!
//! | bits | meaning |
//! |---|---|
//! | 0-1 | kind: 0 empty, 1 inline lock, 2 monitor, 3 child |
//! | 2 | frozen: the array that this slot is in is being replaced |
//! | 3 | empty: set, unless the slot is void |
//! | 3-9 | inline: shared holders, 0 for one exclusive holder |
//! | 10-63 | inline: these bits of the key's hash, in place |
//!
//! Monitor and child words are addresses; both are aligned to 8. The hash bits have the same
//! positions in the word as in the hash, so a word moves between levels unchanged. A table has at
//! least 2^10 root slots, so the index and the word together are the whole 64-bit hash. Two words
//! of one slot have equal hash bits only if they name the same key.
//!
//! A void slot of a root has no bit set: its keys have their words in another root. Memory that the
//! system has cleared is void.

use super::Mode;
use crate::sync::tuning::MAX_INLINE_READERS;

/// The number of bits of a slot word that are not hash bits, and so the fewest index bits of a
/// root.
pub(crate) const STATE_BITS: u32 = 10;

const KIND_MASK: u64 = 0b11;
const INLINE: u64 = 1;
const MONITOR: u64 = 2;
const CHILD: u64 = 3;
const FROZEN: u64 = 1 << 2;
const ONE_READER: u64 = 1 << 3;
const STATE_MASK: u64 = (1 << STATE_BITS) - 1;
const ADDRESS_TAG: u64 = KIND_MASK | FROZEN;

/// The kind of a slot word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// No key of this slot is held, or the slot is void.
    Empty,
    /// One key is held and has no waiter: the slot is its lock.
    Inline,
    /// One key, whose state and waiters live in a monitor.
    Monitor,
    /// Two or more keys have collided here.
    Child,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotWord(u64);

impl SlotWord {
    pub(crate) const EMPTY: SlotWord = SlotWord(1 << 3);
    /// The keys of the slot have their words in another root.
    pub(crate) const VOID: SlotWord = SlotWord(0);

    #[inline]
    pub(crate) const fn from_bits(bits: u64) -> Self {
        SlotWord(bits)
    }

    #[inline]
    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    /// Makes the word of one holder of the key `hash`.
    #[inline]
    pub(crate) const fn inline(hash: u64, mode: Mode) -> Self {
        let readers = match mode {
            Mode::Exclusive => 0,
            Mode::Shared => ONE_READER,
        };
        SlotWord((hash & !STATE_MASK) | readers | INLINE)
    }

    pub(crate) fn monitor(address: usize) -> Self {
        debug_assert!(address as u64 & ADDRESS_TAG == 0);
        SlotWord(address as u64 | MONITOR)
    }

    pub(crate) fn child(address: usize) -> Self {
        debug_assert!(address as u64 & ADDRESS_TAG == 0);
        SlotWord(address as u64 | CHILD)
    }

    /// Returns the address of a monitor or a child.
    pub(crate) const fn address(self) -> usize {
        (self.0 & !ADDRESS_TAG) as usize
    }

    #[inline]
    pub(crate) const fn kind(self) -> Kind {
        match self.0 & KIND_MASK {
            0 => Kind::Empty,
            INLINE => Kind::Inline,
            MONITOR => Kind::Monitor,
            _ => Kind::Child,
        }
    }

    #[inline]
    pub(crate) const fn is_void(self) -> bool {
        self.0 == SlotWord::VOID.0
    }

    /// Returns whether this is an inline word of a slot that is not frozen.
    #[inline]
    pub(crate) const fn is_lock(self) -> bool {
        self.0 & (KIND_MASK | FROZEN) == INLINE
    }

    #[inline]
    pub(crate) const fn is_frozen(self) -> bool {
        self.0 & FROZEN != 0
    }

    pub(crate) const fn frozen(self) -> Self {
        SlotWord(self.0 | FROZEN)
    }

    pub(crate) const fn thawed(self) -> Self {
        SlotWord(self.0 & !FROZEN)
    }

    /// Returns whether an inline word is the lock of `hash`, given that both belong to one slot.
    #[inline]
    pub(crate) const fn names(self, hash: u64) -> bool {
        (self.0 ^ hash) & !STATE_MASK == 0
    }

    /// Returns the hash of an inline word, given any hash that belongs to the same root slot.
    pub(crate) const fn hash_beside(self, neighbour: u64) -> u64 {
        (self.0 & !STATE_MASK) | (neighbour & STATE_MASK)
    }

    /// Returns the number of shared holders of an inline word, or 0 for one exclusive holder.
    pub(crate) const fn readers(self) -> u64 {
        (self.0 & STATE_MASK) >> 3
    }

    pub(crate) const fn mode(self) -> Mode {
        if self.readers() == 0 {
            Mode::Exclusive
        } else {
            Mode::Shared
        }
    }

    pub(crate) const fn is_full(self) -> bool {
        self.readers() == MAX_INLINE_READERS
    }

    /// Returns this inline word with one more shared holder.
    pub(crate) const fn with_reader(self) -> Self {
        SlotWord(self.0 + ONE_READER)
    }

    /// Returns this inline word after one of its holders has left.
    pub(crate) const fn without_holder(self) -> Self {
        if self.readers() > 1 {
            SlotWord(self.0 - ONE_READER)
        } else {
            SlotWord::EMPTY
        }
    }
}
