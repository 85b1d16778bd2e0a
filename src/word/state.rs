//! The state word of a monitor: who holds the key, and what must happen when they let go.
//!
//! | bits | meaning |
//! |---|---|
//! | 0 | dead: unlinked or about to be; nobody holds it and nobody ever will |
//! | 1 | queued: somebody waits |
//! | 2 | writer queued: somebody waits for exclusive |
//! | 3 | woken: the head of the queue was woken and has not yet looked |
//! | 4 | held exclusively |
//! | 5 | upgrader: the head of the queue holds the key shared and waits to be alone with it |
//! | 8-15 | bypasses: releases that left the lock to whoever comes first while somebody waited |
//! | 16-63 | shared holders |
//!
//! Bits 1-3 and 5 change only under the queue's mutex, so they say what the queue says. The rest changes
//! by compare-and-swap, with or without it.

use core::fmt;

use super::Mode;
use crate::sync::planted;
use crate::sync::tuning::MAX_BYPASSES;

const DEAD: u64 = 1;
const QUEUED: u64 = 1 << 1;
const WRITER: u64 = 1 << 2;
const WOKEN: u64 = 1 << 3;
const EXCLUSIVE: u64 = 1 << 4;
const UPGRADER: u64 = 1 << 5;
const ONE_BYPASS: u64 = 1 << 8;
const BYPASS_MASK: u64 = 0xff << 8;
const ONE_READER: u64 = 1 << 16;
const HOLDERS: u64 = EXCLUSIVE | !(ONE_READER - 1);

/// What a queue holds, as its monitor's state has to say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Queued {
    Nobody,
    Readers,
    /// At least one waiter for exclusive, readers or not.
    Writers,
}

/// What a newcomer finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// The monitor is out of use: unlink it and look again.
    Dead,
    /// Free to take, by a compare-and-swap to this.
    Admit(State),
    /// Held in the way, or a writer is queued and the newcomer reads.
    Refuse,
}

/// What a holder that leaves owes.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Release {
    /// Nothing: others still hold the key, or a woken waiter is on its way.
    Leave(State),
    /// The last holder, and nobody waits: the monitor dies in this one step.
    Die,
    /// Wake the head of the queue; the key is free meanwhile.
    Wake(State),
    /// Give the key to the head of the queue.
    HandOver,
    /// The one holder that is left heads the queue and waits to be alone: give it the key exclusively.
    Promote(State),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct State(u64);

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flag = |bit, name| if self.0 & bit != 0 { name } else { "" };
        write!(
            f,
            "State({} readers, {} bypasses{}{}{}{}{}{})",
            self.readers(),
            (self.0 & BYPASS_MASK) / ONE_BYPASS,
            flag(EXCLUSIVE, ", exclusive"),
            flag(QUEUED, ", queued"),
            flag(WRITER, ", writer queued"),
            flag(WOKEN, ", woken"),
            flag(UPGRADER, ", upgrader"),
            flag(DEAD, ", dead"),
        )
    }
}

impl State {
    /// Out of use, for ever.
    pub(crate) const DEAD: State = State(DEAD);

    pub(crate) const fn from_bits(bits: u64) -> Self {
        State(bits)
    }

    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    /// Held exclusively (`readers` is 0) or by `readers`, and nobody waits.
    pub(crate) const fn held_by(readers: u64) -> Self {
        if readers == 0 {
            State(EXCLUSIVE)
        } else {
            State(readers * ONE_READER)
        }
    }

    pub(crate) const fn is_dead(self) -> bool {
        self.0 & DEAD != 0
    }

    pub(crate) const fn is_held(self) -> bool {
        self.0 & HOLDERS != 0
    }

    /// How the key is held now.
    pub(crate) const fn mode(self) -> Option<Mode> {
        if self.0 & EXCLUSIVE != 0 {
            Some(Mode::Exclusive)
        } else if self.is_held() {
            Some(Mode::Shared)
        } else {
            None
        }
    }

    pub(crate) const fn readers(self) -> u64 {
        self.0 / ONE_READER
    }

    /// How many hold the key.
    pub(crate) const fn holders(self) -> u64 {
        if self.0 & EXCLUSIVE != 0 {
            1
        } else {
            self.readers()
        }
    }

    /// Whether the next release hands the key over instead of leaving it to whoever comes first.
    pub(crate) const fn bypass_spent(self) -> bool {
        (self.0 & BYPASS_MASK) / ONE_BYPASS >= MAX_BYPASSES
    }

    /// Whether `mode` does not conflict with the holders.
    pub(crate) const fn fits(self, mode: Mode) -> bool {
        match mode {
            Mode::Exclusive => !self.is_held(),
            Mode::Shared => self.0 & EXCLUSIVE == 0,
        }
    }

    /// This state with `n` more holders.
    ///
    /// # Panics
    /// If there are more shared holders than 48 bits count, which takes forgotten guards and years.
    pub(crate) fn with_holders(self, mode: Mode, n: u64) -> Self {
        match mode {
            Mode::Exclusive => State(self.0 | EXCLUSIVE),
            Mode::Shared => {
                let bits = self.0.checked_add(n * ONE_READER);
                State(bits.expect("a key has more shared holders than its lock can count; drop guards instead of forgetting them"))
            }
        }
    }

    /// This state after one holder has left.
    pub(crate) const fn released(self, mode: Mode) -> Self {
        match mode {
            Mode::Exclusive => State(self.0 - EXCLUSIVE),
            Mode::Shared => State(self.0 - ONE_READER),
        }
    }

    /// This state when its exclusive holder reads from now on.
    pub(crate) const fn downgraded(self) -> Self {
        State((self.0 & !EXCLUSIVE) + ONE_READER)
    }

    /// This state when its one reader is exclusive from now on; `None` if there are others.
    pub(crate) const fn upgraded(self) -> Option<Self> {
        if self.readers() == 1 {
            Some(State((self.0 - ONE_READER) | EXCLUSIVE))
        } else {
            None
        }
    }

    /// This state when one of its readers heads the queue from now on, to become exclusive. Who headed it before
    /// has been passed as often as before.
    pub(crate) const fn with_upgrader(self) -> Self {
        State(self.not_woken().0 | QUEUED | WRITER | UPGRADER)
    }

    /// This state when the upgrader has left the queue.
    pub(crate) const fn without_upgrader(self) -> Self {
        State(self.0 & !UPGRADER)
    }

    /// Whether a reader heads the queue.
    pub(crate) const fn has_upgrader(self) -> bool {
        self.0 & UPGRADER != 0
    }

    /// This state when its upgrader is alone and becomes exclusive; `None` if it is not, or there is none.
    const fn promoted(self) -> Option<Self> {
        if self.has_upgrader() {
            match self.upgraded() {
                Some(next) => Some(next.without_upgrader()),
                None => None,
            }
        } else {
            None
        }
    }

    /// Whether somebody is queued.
    pub(crate) const fn is_queued(self) -> bool {
        self.0 & QUEUED != 0
    }

    /// What somebody who is not in the queue may do. A reader stands back for a queued writer, or
    /// a stream of readers would starve it; it may pass queued readers, whom it does not delay.
    pub(crate) fn enter(self, mode: Mode) -> Entry {
        if self.is_dead() {
            return Entry::Dead;
        }
        let fits = self.fits(mode) && (mode == Mode::Exclusive || self.0 & WRITER == 0);
        if fits || (mode == Mode::Shared && planted("reader beside a writer")) {
            Entry::Admit(self.with_holders(mode, 1))
        } else {
            Entry::Refuse
        }
    }

    /// This state when a waiter that is not the head acquires the key out of turn; `None` if it must wait.
    ///
    /// It may acquire what a newcomer may. A reader may also acquire a free key past a queued writer: the
    /// release that follows counts as a bypass of the head, as after every newcomer. Into a key that is held shared it may
    /// not, or readers that overlap would starve the writer.
    pub(crate) fn overtaken_by(self, mode: Mode) -> Option<Self> {
        match self.enter(mode) {
            Entry::Admit(next) => Some(next),
            Entry::Refuse if !self.is_held() => Some(self.with_holders(mode, 1)),
            Entry::Refuse | Entry::Dead => None,
        }
    }

    /// What a holder in `mode` owes when it leaves. `strict` hands over whenever somebody waits.
    pub(crate) const fn release(self, mode: Mode, strict: bool) -> Release {
        let rest = self.released(mode);
        if rest.is_held() {
            return match rest.promoted() {
                Some(next) => Release::Promote(next),
                None => Release::Leave(rest),
            };
        }
        if self.0 & QUEUED == 0 {
            return Release::Die;
        }
        if strict || self.bypass_spent() {
            return Release::HandOver;
        }
        let rest = State(rest.0 + ONE_BYPASS);
        if self.0 & WOKEN != 0 {
            Release::Leave(rest)
        } else {
            Release::Wake(State(rest.0 | WOKEN))
        }
    }

    /// This state with the queue's bits as `queue` wants them. A queue whose head changed forgets
    /// that the old head was woken.
    pub(crate) const fn with_queue(self, queue: Queued) -> Self {
        let rest = self.0 & !(QUEUED | WRITER);
        State(match queue {
            Queued::Nobody => rest & !(WOKEN | BYPASS_MASK | UPGRADER),
            Queued::Readers => rest | QUEUED,
            Queued::Writers => rest | QUEUED | WRITER,
        })
    }

    /// This state when the head of the queue has looked, or is no longer the head.
    pub(crate) const fn not_woken(self) -> Self {
        State(self.0 & !WOKEN)
    }

    /// This state when a new head waits from now on: nobody has passed it yet, and it holds nothing.
    pub(crate) const fn new_head(self) -> Self {
        State(self.0 & !(WOKEN | BYPASS_MASK | UPGRADER))
    }

    #[cfg(test)]
    pub(crate) const fn is_woken(self) -> bool {
        self.0 & WOKEN != 0
    }
}
