//! The stamp of a node: unset, a timestamp, or "the commit timestamp of its owner".
//!
//! | bits | meaning |
//! |---|---|
//! | all 0 | unset: published, and no thread has requested its timestamp yet |
//! | 0 = 1 | stamp in bits 1-63 |
//! | 0-1 = 0 | address of the transaction that has installed the node |
//! | 0-1 = 2 | the same, and the node has no value (yet): a claim |

/// The packed word, without any atomics.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct When(u64);

const STAMPED: u64 = 1;
const CLAIM: u64 = 2;

impl When {
    pub(crate) const UNSET: When = When(0);

    #[inline]
    pub(crate) const fn stamp(stamp: u64) -> Self {
        When(stamp << 1 | STAMPED)
    }

    /// `owner` is an address that is a multiple of 4.
    #[inline]
    pub(crate) fn owner(owner: usize) -> Self {
        debug_assert!(owner != 0 && owner % 4 == 0);
        When(owner as u64)
    }

    #[inline]
    pub(crate) fn claim(owner: usize) -> Self {
        When(Self::owner(owner).0 | CLAIM)
    }

    #[inline]
    pub(crate) fn from_bits(bits: u64) -> Self {
        When(bits)
    }

    #[inline]
    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    #[inline]
    pub(crate) fn as_stamp(self) -> Option<u64> {
        (self.0 & STAMPED != 0).then_some(self.0 >> 1)
    }

    /// The node has no value.
    #[inline]
    pub(crate) fn is_claim(self) -> bool {
        self.0 & (STAMPED | CLAIM) == CLAIM
    }

    /// The address of the owner, if it has one.
    #[inline]
    pub(crate) fn as_owner(self) -> Option<usize> {
        let owned = self.0 & STAMPED == 0 && self != Self::UNSET;
        owned.then_some((self.0 & !CLAIM) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_one_of_four_things() {
        assert_eq!(
            (When::UNSET.as_stamp(), When::UNSET.as_owner()),
            (None, None)
        );
        assert!(!When::UNSET.is_claim());
        for stamp in [1, 2, 3, (1 << 63) - 1] {
            let when = When::stamp(stamp);
            assert_eq!((when.as_stamp(), when.as_owner()), (Some(stamp), None));
            assert!(!when.is_claim());
        }
        for address in [4, 8, 0x7fff_ffff_fff8] {
            let (owned, claim) = (When::owner(address), When::claim(address));
            assert_eq!((owned.as_stamp(), owned.as_owner()), (None, Some(address)));
            assert_eq!((claim.as_stamp(), claim.as_owner()), (None, Some(address)));
            assert!(claim.is_claim() && !owned.is_claim());
            assert!(owned == When::from_bits(owned.bits()));
        }
    }
}
