//! The word of a latch: its version, who has it, and whether somebody waits.
//!
//! | bits | meaning |
//! |---|---|
//! | 0 | queued: somebody waits |
//! | 1 | woken: the head of the queue was woken and has not looked yet |
//! | 2 | hand-off: the head has looked in vain too often, and is given the latch by its next release |
//! | 3 | held exclusively |
//! | 4 | obsolete: for ever |
//! | 5-15 | shared holders |
//! | 16-63 | version: how often it has been given back by an exclusive holder, marked obsolete, or written in place |
//!
//! Bits 0-2 change only under the queue's mutex, but that a release may leave the latch free and set bit 1 there. An
//! optimistic reader looks at bits 3, 4 and 16-63 and at nothing else.

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

/// Shared holders that are counted. One more waits as if the latch were held exclusively.
const MAX_READERS: u64 = READERS / ONE_READER;

/// What a newcomer finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// Free to take, by a compare-and-swap to this.
    Admit(Word),
    /// Held in the way, or somebody waits and the newcomer shares.
    Refuse,
    /// Out of use.
    Obsolete,
}

/// What a holder that leaves owes.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Release {
    /// Nothing: others still hold it, nobody waits, or a woken waiter is on its way.
    Leave(Word),
    /// Wake the head of the queue; the latch is free meanwhile.
    Wake(Word),
    /// Give the latch, which is free in this word, to the head of the queue.
    HandOver(Word),
    /// It is obsolete: everybody who waits is to be told.
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

    /// What an optimistic reader has seen: the word without what does not concern it.
    #[inline(always)]
    pub(super) const fn content(self) -> u64 {
        self.0 & CONTENT
    }

    /// This word when it is held exclusively from now on; `None` if it is held or obsolete.
    #[inline(always)]
    pub(super) const fn taken(self) -> Option<Word> {
        if self.0 & (EXCLUSIVE | READERS | OBSOLETE) == 0 {
            Some(Word(self.0 | EXCLUSIVE))
        } else {
            None
        }
    }

    /// What somebody who is not in the queue may do. One who shares stands back for the queue, or a stream of them would
    /// starve it.
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

    /// Whether the holders leave room for one more in `mode`.
    #[inline(always)]
    pub(super) const fn fits(self, mode: Mode) -> bool {
        match mode {
            Mode::Exclusive => !self.is_held(),
            Mode::Shared => !self.is_exclusive() && self.readers() < MAX_READERS,
        }
    }

    /// This word with `n` more holders, of whom there is room for one.
    pub(super) const fn with_holders(self, mode: Mode, n: u64) -> Self {
        match mode {
            Mode::Exclusive => Word(self.0 | EXCLUSIVE),
            Mode::Shared => Word(self.0 + n * ONE_READER),
        }
    }

    /// As many of a run at the head of a queue as there is room for.
    pub(super) fn room_for(self, run: (Mode, u64)) -> (Mode, u64) {
        match run.0 {
            Mode::Exclusive => run,
            Mode::Shared => (Mode::Shared, run.1.min(MAX_READERS - self.readers())),
        }
    }

    /// This word at its next version. Beyond the last one comes the first again.
    pub(super) const fn written(self) -> Self {
        Word(self.0.wrapping_add(ONE_VERSION))
    }

    /// This word after one holder has left.
    const fn released(self, mode: Mode) -> Self {
        match mode {
            Mode::Exclusive => Word(self.0 & !EXCLUSIVE).written(),
            Mode::Shared => Word(self.0 - ONE_READER),
        }
    }

    /// What a holder in `mode` owes when it leaves.
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

    /// What the exclusive holder owes when it takes the latch out of use.
    pub(super) const fn retire(self) -> Release {
        let rest = Word((self.released(Mode::Exclusive).0 | OBSOLETE) & !WAITING);
        if self.is_queued() {
            Release::Dismiss(rest)
        } else {
            Release::Leave(rest)
        }
    }

    /// This word with the queue's bits as `queue` wants them, and a head that has not been woken.
    pub(super) const fn with_queue(self, queue: Queued) -> Self {
        let rest = self.0 & !WAITING;
        Word(match queue {
            Queued::Nobody => rest,
            Queued::Readers | Queued::Writers => rest | QUEUED,
        })
    }

    /// This word when somebody waits.
    pub(super) const fn queued(self) -> Self {
        Word(self.0 | QUEUED)
    }

    /// This word when the woken head has looked in vain.
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

    /// A write in place changes the version alone, whatever a forgotten guard has left.
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
