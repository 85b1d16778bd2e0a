//! The word of a slot: empty, an entry with a tag, frozen, or unlinked.
//!
//! | word | meaning |
//! |---|---|
//! | 0 | empty |
//! | 1 | frozen: the search continues in the next table |
//! | 2 | unlinked: the search passes the slot |
//! | others | bits 0-47: the address of an entry; bits 48-63: the tag, the high bits of its hash |
//!
//! A hash has 48 bits, of which the highest is set. So a tag is not zero, and the three other words
//! have no tag of any hash.

/// The packed word, without any atomics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word(u64);

const ADDRESS_BITS: u32 = 48;
const ADDRESS: u64 = (1 << ADDRESS_BITS) - 1;

/// From the place of the tag in a hash to that in a word.
const TAG_SHIFT: u32 = 16;

/// The bits of a hash.
pub(super) const HASH_BITS: u32 = 48;

/// Set in each hash.
pub(super) const HASH_BIT: u64 = 1 << (HASH_BITS - 1);

/// The contents of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Empty,
    Frozen,
    Unlinked,
    /// The address of an entry.
    Entry(usize),
}

impl Word {
    pub(super) const EMPTY: Word = Word(0);
    pub(super) const FROZEN: Word = Word(1);
    pub(super) const UNLINKED: Word = Word(2);

    /// The word of an entry.
    ///
    /// # Panics
    /// Panics if the address has more than 48 bits.
    #[inline]
    pub(super) fn entry(address: usize, hash: u64) -> Self {
        let address = address as u64;
        assert!(
            address & !ADDRESS == 0,
            "an address has more than 48 bits, which `VersionedMap` does not support"
        );
        debug_assert!(address > Self::UNLINKED.0);
        debug_assert!(hash & HASH_BIT != 0);
        Word(address | hash << TAG_SHIFT & !ADDRESS)
    }

    /// The address of the entry, if its hash has the tag of this one.
    #[inline(always)]
    pub(super) fn entry_of(self, hash: u64) -> Option<usize> {
        let address = self.0 ^ (hash << TAG_SHIFT & !ADDRESS);
        (address >> ADDRESS_BITS == 0).then_some(address as usize)
    }

    #[inline(always)]
    pub(super) fn content(self) -> Content {
        match self {
            Self::EMPTY => Content::Empty,
            Self::FROZEN => Content::Frozen,
            Self::UNLINKED => Content::Unlinked,
            Word(bits) => Content::Entry((bits & ADDRESS) as usize),
        }
    }

    #[inline(always)]
    pub(super) fn from_bits(bits: u64) -> Self {
        Word(bits)
    }

    #[inline(always)]
    pub(super) fn bits(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_one_of_four_things() {
        assert_eq!(Word::EMPTY.content(), Content::Empty);
        assert_eq!(Word::FROZEN.content(), Content::Frozen);
        assert_eq!(Word::UNLINKED.content(), Content::Unlinked);
        for address in [16, 0x7fff_ffff_ff40, ADDRESS as usize & !15] {
            for hash in [0, 1, u64::MAX >> 16, 0x1234_5678_9abc] {
                let hash = hash | HASH_BIT;
                let word = Word::entry(address, hash);
                assert_eq!(word.content(), Content::Entry(address));
                assert_eq!(word.entry_of(hash), Some(address));
                assert_eq!(word.entry_of(hash ^ 1), Some(address), "a bit of no tag");
                assert_eq!(word.entry_of(hash ^ 1 << 32), None);
                for none in [Word::EMPTY, Word::FROZEN, Word::UNLINKED] {
                    assert_eq!(none.entry_of(hash), None);
                }
                assert_eq!(Word::from_bits(word.bits()), word);
            }
        }
    }

    #[test]
    #[should_panic(expected = "more than 48 bits")]
    #[cfg(target_pointer_width = "64")]
    fn an_address_of_57_bits_is_refused() {
        let _ = Word::entry(1 << 56, HASH_BIT);
    }
}
