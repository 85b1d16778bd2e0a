//! A slot: the atomic twin of [`SlotWord`].
//!
//! Each transition stands here once, with its ordering and its rule. All are compare-and-swaps. One
//! that fails returns the word that it found, loaded with Relaxed: the caller uses it as an
//! expected value, or loads the slot again with Acquire before it follows a pointer.

use crate::sync::{AtomicU64, Ordering};
use crate::word::{Mode, SlotWord};

#[derive(Debug)]
#[repr(transparent)]
pub(super) struct Slot(AtomicU64);

/// The outcome of a transition: the word that the slot had instead of the expected one.
pub(super) type Moved = Result<(), SlotWord>;

impl Slot {
    pub(super) fn new(word: SlotWord) -> Self {
        Slot(AtomicU64::new(word.bits()))
    }

    /// Loads the word, to follow its pointer or to continue from it.
    #[inline(always)]
    pub(super) fn load(&self) -> SlotWord {
        // Acquire: children and monitors are read through the word, and an unlocker that finds its
        // word moved continues from it. Pairs with the Release of every transition [S2].
        SlotWord::from_bits(self.0.load(Ordering::Acquire))
    }

    /// Loads the word as a hint: the caller follows no pointer.
    #[inline(always)]
    pub(super) fn peek(&self) -> SlotWord {
        // Relaxed: the caller loads the word again, or orders it by a fence, or has the only
        // reference to the table.
        SlotWord::from_bits(self.0.load(Ordering::Relaxed))
    }

    #[inline(always)]
    fn change(&self, old: SlotWord, new: SlotWord, success: Ordering) -> Moved {
        // Relaxed on failure: no pointer is followed before the word is loaded again.
        match self
            .0
            .compare_exchange(old.bits(), new.bits(), success, Ordering::Relaxed)
        {
            Ok(_) => Ok(()),
            Err(found) => Err(SlotWord::from_bits(found)),
        }
    }

    /// Locks the empty slot for a key.
    #[inline(always)]
    pub(super) fn claim(&self, hash: u64, mode: Mode) -> Moved {
        let word = SlotWord::inline(hash, mode);
        // Acquire: from the last unlock in this slot, and through its release sequence from all
        // earlier ones [S2].
        self.change(SlotWord::EMPTY, word, Ordering::Acquire)
    }

    /// Unlocks the key whose only holder's word is `own`, where `empty` is the empty word.
    #[inline(always)]
    pub(super) fn unlock(&self, own: SlotWord, empty: SlotWord) -> Moved {
        debug_assert_eq!((own.without_holder(), empty), (empty, SlotWord::EMPTY));
        // Release: to the next claim [S2].
        self.change(own, empty, Ordering::Release)
    }

    /// Adds a reader to a shared word.
    #[inline(always)]
    pub(super) fn join(&self, word: SlotWord) -> Moved {
        // Acquire: an equal word may be a later one than was loaded, after another holder has
        // locked and unlocked. The word need not have been acquired before [S2] [S3].
        self.change(word, word.with_reader(), Ordering::Acquire)
    }

    /// Removes one holder from a word.
    #[inline(always)]
    pub(super) fn leave(&self, word: SlotWord) -> Moved {
        // Release: the critical section happens before the next claim, which acquires it [S2].
        self.change(word, word.without_holder(), Ordering::Release)
    }

    /// Converts the exclusive word of a key to one of one reader.
    pub(super) fn downgrade(&self, word: SlotWord, hash: u64) -> Moved {
        let shared = SlotWord::inline(hash, Mode::Shared);
        // Release: the holder's writes happen before the reads of the readers that join it [S2].
        self.change(word, shared, Ordering::Release)
    }

    /// Converts the word of one reader of a key to an exclusive one.
    pub(super) fn upgrade(&self, word: SlotWord, hash: u64) -> Moved {
        let exclusive = SlotWord::inline(hash, Mode::Exclusive);
        // Acquire: the critical sections of earlier readers happen before this holder's writes, and
        // an equal word may be a later one [S3].
        self.change(word, exclusive, Ordering::Acquire)
    }

    /// Replaces a word by a child that contains it.
    pub(super) fn expand(&self, word: SlotWord, child: SlotWord) -> Moved {
        // Release: publishes the child, and with it the happens-before edges of the word [S2].
        // Acquire: a lock that is inserted with it follows all releases of this slot, including
        // when an equal word has returned since the load [S3].
        self.change(word, child, Ordering::AcqRel)
    }

    /// Replaces the word of a key by its monitor.
    pub(super) fn inflate(&self, word: SlotWord, monitor: SlotWord) -> Moved {
        // Release: publishes the monitor [S2].
        // Acquire: a reader that inflates because the count is full holds the key at once, and an
        // equal word may be a later one [S3].
        self.change(word, monitor, Ordering::AcqRel)
    }

    /// Removes a dead monitor.
    pub(super) fn unlink(&self, monitor: SlotWord) -> Moved {
        // Release: passes on what the caller acquired from the dead state to the next claim [M3].
        self.change(monitor, SlotWord::EMPTY, Ordering::Release)
    }

    /// Replaces a child, all of whose slots are frozen, by `word`.
    pub(super) fn fold(&self, child: SlotWord, word: SlotWord) -> Moved {
        // Release: passes on the happens-before edges of every slot, acquired by `freeze` [F2].
        self.change(child, word, Ordering::Release)
    }

    /// Stores a word in the void slot of a root to which keys move.
    pub(super) fn install(&self, word: SlotWord) -> Moved {
        // Release: passes on the happens-before edges of the slots that the word replaces, acquired
        // by `freeze` [G2].
        self.change(SlotWord::VOID, word, Ordering::Release)
    }

    /// Makes the frozen slot of a root from which keys have moved void.
    pub(super) fn vacate(&self, frozen: SlotWord) -> Moved {
        // Release: a thread that finds the slot void observes the phase of the move, and the words
        // in the other root [G4].
        self.change(frozen, SlotWord::VOID, Ordering::Release)
    }

    /// Clears the slot, as the system clears the memory of a root that is not in use, and asserts
    /// that this changes nothing [G6].
    #[cfg(latchwork_loom)]
    pub(super) fn clear(&self) {
        // Relaxed: the slot is void, and stays so until a move that follows this call.
        let before = self.0.swap(SlotWord::VOID.bits(), Ordering::Relaxed);
        assert_eq!(before, SlotWord::VOID.bits(), "a root in use is cleared");
    }

    /// Makes the slot final, and returns its content. A void slot stays void.
    pub(super) fn freeze(&self) -> SlotWord {
        loop {
            let word = self.load();
            if word.is_void() {
                return word;
            }
            if word.is_frozen() {
                // It also carries happens-before edges: another thread froze it [F2].
                return word.thawed();
            }
            // Acquire: an equal word may be a later one than was loaded [F2].
            // Release: a thread that finds a root slot frozen observes the phase of the move [G4].
            if self.change(word, word.frozen(), Ordering::AcqRel).is_ok() {
                return word;
            }
        }
    }
}
