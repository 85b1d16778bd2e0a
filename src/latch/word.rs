//! The word of a latch: its version, its holders, and whether a thread waits.
//!
//! | bits | meaning |
//! |---|---|
//! | 0 | queued: a thread waits |
//! | 1 | woken: the head of the queue was woken and has not yet re-checked the latch |
//! | 2 | hand-off: the head has been bypassed too often; the next release grants it the latch |
//! | 3 | held exclusively |
//! | 4 | obsolete, permanently |
//! | 5-15 | shared holders |
//! | 16-63 | version: the number of exclusive releases, marks and writes in place |
//!
//! Bits 0-2 change only under the queue's mutex, with one exception: a release may leave the latch
//! free and set bit 1. An optimistic reader compares bits 3, 4 and 16-63 only.

use core::fmt;

use crate::word::{Mode, Queued};

const QUEUED: u64 = 1;
const WOKEN: u64 = 1 << 1;
const HAND_OFF: u64 = 1 << 2;
const EXCLUSIVE: u64 = 1 << 3;
const OBSOLETE: u64 = 1 << 4;
const ONE_READER: u64 = 1 << 5;
const READERS: u64 = ONE_VERSION - ONE_READER;
const ONE_VERSION: u64 = 1 << 16;
const WAITING: u64 = QUEUED | WOKEN | HAND_OFF;

/// The bits that an optimistic reader compares.
const CONTENT: u64 = EXCLUSIVE | OBSOLETE | !(ONE_VERSION - 1);

/// The greatest number of shared holders. One more waits as if the latch were held exclusively.
const MAX_READERS: u64 = READERS / ONE_READER;

/// The result for a thread that is not in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// The thread may enter, by a compare-and-swap to this word.
    Admit(Word),
    /// The latch is held in a conflicting mode, or the thread shares and another one waits.
    Refuse,
    /// The latch is obsolete.
    Obsolete,
}

/// The action that a holder must perform as it releases the latch.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Release {
    /// None: other threads still hold it, no thread waits, or a woken waiter is about to re-check.
    Leave(Word),
    /// Wake the head of the queue; the latch is free until then.
    Wake(Word),
    /// Grant the latch, which is free in this word, to the head of the queue.
    HandOver(Word),
    /// It is obsolete: all waiters must be notified.
    Dismiss(Word),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Word(u64);

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flag = |bit, name| if self.0 & bit != 0 { name } else { "" };
        write!(
            f,
            "Word(version {}, {} readers{}{}{}{}{})",
            self.0 / ONE_VERSION,
            self.readers(),
            flag(EXCLUSIVE, ", exclusive"),
            flag(OBSOLETE, ", obsolete"),
            flag(QUEUED, ", queued"),
            flag(WOKEN, ", woken"),
            flag(HAND_OFF, ", hand-off"),
        )
    }
}

impl Word {
    /// Free, at version 0.
    pub(super) const NEW: Word = Word(0);

    #[inline(always)]
    pub(super) const fn from_bits(bits: u64) -> Self {
        Word(bits)
    }

    #[inline(always)]
    pub(super) const fn bits(self) -> u64 {
        self.0
    }

    #[inline(always)]
    pub(super) const fn is_obsolete(self) -> bool {
        self.0 & OBSOLETE != 0
    }

    #[inline(always)]
    pub(super) const fn is_exclusive(self) -> bool {
        self.0 & EXCLUSIVE != 0
    }

    pub(super) const fn is_queued(self) -> bool {
        self.0 & QUEUED != 0
    }

    pub(super) const fn readers(self) -> u64 {
        (self.0 & READERS) / ONE_READER
    }

    const fn is_held(self) -> bool {
        self.0 & (EXCLUSIVE | READERS) != 0
    }

    /// The part that an optimistic reader compares: the version and the bits for exclusive and
    /// obsolete.
    #[inline(always)]
    pub(super) const fn content(self) -> u64 {
        self.0 & CONTENT
    }

    /// Returns this word as held exclusively, or `None` if it is held or obsolete.
    #[inline(always)]
    pub(super) const fn taken(self) -> Option<Word> {
        if self.0 & (EXCLUSIVE | READERS | OBSOLETE) == 0 {
            Some(Word(self.0 | EXCLUSIVE))
        } else {
            None
        }
    }

    /// The result for a thread that is not in the queue. A thread that shares yields to the queue,
    /// or a stream of readers would starve it.
    #[inline(always)]
    pub(super) const fn enter(self, mode: Mode) -> Entry {
        if self.is_obsolete() {
            return Entry::Obsolete;
        }
        let is_refused = matches!(mode, Mode::Shared) && self.is_queued();
        if is_refused || !self.fits(mode) {
            return Entry::Refuse;
        }
        Entry::Admit(self.with_holders(mode, 1))
    }

    /// Returns whether the holders leave room for one more in `mode`.
    #[inline(always)]
    pub(super) const fn fits(self, mode: Mode) -> bool {
        match mode {
            Mode::Exclusive => !self.is_held(),
            Mode::Shared => !self.is_exclusive() && self.readers() < MAX_READERS,
        }
    }

    /// This word with `n` more holders; it must have room for them.
    pub(super) const fn with_holders(self, mode: Mode, n: u64) -> Self {
        match mode {
            Mode::Exclusive => Word(self.0 | EXCLUSIVE),
            Mode::Shared => Word(self.0 + n * ONE_READER),
        }
    }

    /// As many waiters of a run at the head of a queue as there is room for.
    pub(super) fn room_for(self, run: (Mode, u64)) -> (Mode, u64) {
        match run.0 {
            Mode::Exclusive => run,
            Mode::Shared => (Mode::Shared, run.1.min(MAX_READERS - self.readers())),
        }
    }

    /// This word at its next version. The last version is followed by the first.
    pub(super) const fn written(self) -> Self {
        Word(self.0.wrapping_add(ONE_VERSION))
    }

    /// This word after one holder has released it.
    const fn released(self, mode: Mode) -> Self {
        match mode {
            Mode::Exclusive => Word(self.0 & !EXCLUSIVE).written(),
            Mode::Shared => Word(self.0 - ONE_READER),
        }
    }

    /// The action of a holder in `mode` that releases the latch.
    #[inline(always)]
    pub(super) const fn release(self, mode: Mode) -> Release {
        let rest = self.released(mode);
        if self.0 & QUEUED == 0 || rest.is_held() {
            Release::Leave(rest)
        } else if self.0 & HAND_OFF != 0 {
            Release::HandOver(rest)
        } else if self.0 & WOKEN != 0 {
            Release::Leave(rest)
        } else {
            Release::Wake(Word(rest.0 | WOKEN))
        }
    }

    /// The action of an exclusive holder that marks the latch as obsolete.
    pub(super) const fn retire(self) -> Release {
        let rest = Word((self.released(Mode::Exclusive).0 | OBSOLETE) & !WAITING);
        if self.is_queued() {
            Release::Dismiss(rest)
        } else {
            Release::Leave(rest)
        }
    }

    /// This word with the queue's bits set from `queue`, and a head that has not been woken.
    pub(super) const fn with_queue(self, queue: Queued) -> Self {
        let rest = self.0 & !WAITING;
        Word(match queue {
            Queued::Nobody => rest,
            Queued::Readers | Queued::Writers => rest | QUEUED,
        })
    }

    /// This word while a thread waits.
    pub(super) const fn queued(self) -> Self {
        Word(self.0 | QUEUED)
    }

    /// This word after the woken head has re-checked it without success.
    pub(super) const fn looked(self, is_late: bool) -> Self {
        let rest = Word(self.0 & !WOKEN);
        if is_late {
            Word(rest.0 | HAND_OFF)
        } else {
            rest
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(release: Release) -> Word {
        match release {
            Release::Leave(w) | Release::Wake(w) | Release::HandOver(w) | Release::Dismiss(w) => w,
        }
    }

    #[test]
    fn the_fields_of_a_word_do_not_meet() {
        let fields = [QUEUED, WOKEN, HAND_OFF, EXCLUSIVE, OBSOLETE, READERS];
        let all = fields.iter().fold(0, |all, field| {
            assert_eq!(all & field, 0);
            all | field
        });
        assert_eq!(all, ONE_VERSION - 1);
        assert_eq!(MAX_READERS, 2047);
    }

    #[test]
    fn a_version_counts_exclusive_holds_only() {
        let held = Word::NEW.taken().expect("free");
        assert_eq!(held.taken(), None);
        assert_ne!(held.content(), Word::NEW.content());
        let free = after(held.release(Mode::Exclusive));
        assert_eq!(free, Word(ONE_VERSION));
        let Entry::Admit(shared) = free.enter(Mode::Shared) else {
            panic!("free")
        };
        assert_eq!(shared.content(), free.content());
        assert_eq!(shared.taken(), None);
        assert_eq!(after(shared.release(Mode::Shared)), free);
    }

    #[test]
    fn the_last_version_is_followed_by_the_first() {
        let last = Word(!(ONE_VERSION - 1));
        let held = last.taken().expect("free");
        assert_eq!(after(held.release(Mode::Exclusive)), Word::NEW);
    }

    /// A write in place changes only the version, including after a forgotten guard.
    #[test]
    fn a_write_in_place_makes_a_version() {
        let free = Word::NEW.written();
        assert_eq!(free, Word(ONE_VERSION));
        for word in [
            free.taken().expect("free"),
            free.with_holders(Mode::Shared, MAX_READERS),
            after(free.taken().expect("free").retire()),
            Word(!0),
        ] {
            let written = word.written();
            assert_ne!(written.content(), word.content());
            assert_eq!(written.0 % ONE_VERSION, word.0 % ONE_VERSION);
        }
    }

    #[test]
    fn a_full_latch_refuses_and_stays_in_its_field() {
        let full = Word::NEW.with_holders(Mode::Shared, MAX_READERS);
        assert_eq!(full.readers(), MAX_READERS);
        assert_eq!(full.enter(Mode::Shared), Entry::Refuse);
        assert_eq!(full.enter(Mode::Exclusive), Entry::Refuse);
        assert_eq!(full.content(), Word::NEW.content());
        let one_less = after(full.release(Mode::Shared));
        assert_eq!(one_less.room_for((Mode::Shared, 9)), (Mode::Shared, 1));
    }

    #[test]
    fn what_a_holder_owes_depends_on_the_queue() {
        let held = Word::NEW.taken().expect("free");
        assert!(matches!(held.release(Mode::Exclusive), Release::Leave(_)));
        let queued = held.queued();
        assert!(matches!(queued.release(Mode::Exclusive), Release::Wake(_)));
        let woken = Word(queued.0 | WOKEN);
        assert!(matches!(woken.release(Mode::Exclusive), Release::Leave(_)));
        assert_eq!(woken.looked(false), queued);
        let late = woken.looked(true);
        assert!(matches!(
            late.release(Mode::Exclusive),
            Release::HandOver(_)
        ));
        let two = Word::NEW.with_holders(Mode::Shared, 2).queued();
        assert!(matches!(two.release(Mode::Shared), Release::Leave(_)));
    }

    #[test]
    fn nobody_enters_an_obsolete_latch() {
        let held = Word::NEW.taken().expect("free").queued();
        assert!(matches!(held.retire(), Release::Dismiss(_)));
        let gone = after(held.retire());
        assert!(!gone.is_queued());
        for mode in [Mode::Shared, Mode::Exclusive] {
            assert_eq!(gone.enter(mode), Entry::Obsolete);
        }
        assert_eq!(gone.taken(), None);
        assert_ne!(
            gone.content(),
            after(held.release(Mode::Exclusive)).content()
        );
    }

    #[test]
    fn who_shares_stands_back_for_the_queue() {
        let reader = Word::NEW.with_holders(Mode::Shared, 1).queued();
        assert_eq!(reader.enter(Mode::Shared), Entry::Refuse);
        assert!(reader.fits(Mode::Shared));
        let free = Word::NEW.queued();
        assert_eq!(
            free.enter(Mode::Exclusive),
            Entry::Admit(free.taken().expect("free"))
        );
    }
}
