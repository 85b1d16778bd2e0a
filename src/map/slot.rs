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

/// Where a search of some slots ends that finds no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// At the empty slot with this number: there is no entry.
    Empty(usize),
    /// At a frozen slot: the search continues in the next table.
    Frozen,
    /// Not in these slots.
    Open,
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

    /// The address of an entry in some slots that has the tag of this hash, the lowest one if there
    /// are several. Without a branch for each slot.
    #[inline(always)]
    #[cfg(not(any(latchwork_loom, latchwork_shuttle)))]
    pub(super) fn entry_among(words: &[Word], hash: u64) -> Option<usize> {
        let tag = hash << TAG_SHIFT & !ADDRESS;
        // A word with the tag leaves its address, and each other word leaves more.
        let least = words
            .iter()
            .fold(u64::MAX, |least, word| least.min(word.0 ^ tag));
        (least >> ADDRESS_BITS == 0).then_some(least as usize)
    }

    /// The address of the last entry in some slots that has the tag of this hash. A checker repeats
    /// executions, in which addresses differ.
    #[cfg(any(latchwork_loom, latchwork_shuttle))]
    pub(super) fn entry_among(words: &[Word], hash: u64) -> Option<usize> {
        words.iter().rev().find_map(|word| word.entry_of(hash))
    }

    /// Where a search of these slots ends that finds no entry. Without a branch for each slot.
    #[inline(always)]
    pub(super) fn end_among(words: &[Word]) -> End {
        let len = words.len() as u64;
        let numbered = words.iter().enumerate().rev();
        let end = numbered.fold(u64::MAX, |end, (n, word)| match word.0 <= Self::FROZEN.0 {
            true => n as u64 + len * word.0,
            false => end,
        });
        match end {
            n if n < len => End::Empty(n as usize),
            u64::MAX => End::Open,
            _ => End::Frozen,
        }
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
    fn the_slots_of_a_group_are_compared_together() {
        let (hash, other) = (HASH_BIT | 1 << 33, HASH_BIT | 1 << 34);
        let own = Word::entry(0x40, hash);
        let others = Word::entry(0x80, other);
        let (empty, frozen, unlinked) = (Word::EMPTY, Word::FROZEN, Word::UNLINKED);
        for (words, entry, end) in [
            ([empty, empty, empty, empty], None, End::Empty(0)),
            ([others, unlinked, empty, empty], None, End::Empty(2)),
            ([others, unlinked, others, empty], None, End::Empty(3)),
            ([others, unlinked, others, others], None, End::Open),
            // The search goes on in the next table.
            ([others, frozen, empty, empty], None, End::Frozen),
            ([others, empty, frozen, empty], None, End::Empty(1)),
            ([others, own, empty, empty], Some(0x40), End::Empty(2)),
            ([own, others, unlinked, others], Some(0x40), End::Open),
            ([others, others, others, own], Some(0x40), End::Open),
            // The lowest of two with this tag.
            (
                [Word::entry(0x80, hash), own, empty, empty],
                Some(0x40),
                End::Empty(2),
            ),
        ] {
            assert_eq!(Word::entry_among(&words, hash), entry, "{words:?}");
            assert_eq!(Word::end_among(&words), end, "{words:?}");
        }
    }

    #[test]
    #[should_panic(expected = "more than 48 bits")]
    #[cfg(target_pointer_width = "64")]
    fn an_address_of_57_bits_is_refused() {
        let _ = Word::entry(1 << 56, HASH_BIT);
    }
}
