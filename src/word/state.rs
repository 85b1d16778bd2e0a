//! The state word of a monitor: the holders of the key, and the work that each release must do.
//!
//! | bits | meaning |
//! |---|---|
//! | 0 | dead: unlinked or about to be; no thread holds it, and none ever will |
//! | 1 | queued: there is a waiter |
//! | 2 | writer queued: there is an exclusive waiter |
//! | 3 | woken: the head of the queue was woken and has not checked yet |
//! | 4 | held exclusively |
//! | 5 | upgrader: the head of the queue holds the key shared and waits to be its only holder |
//! | 8-15 | bypasses: releases that freed the lock while a waiter was queued |
//! | 16-63 | shared holders |
//!
//! Bits 1-3 and 5 change only under the queue's mutex, so they describe the queue. The others
//! change by compare-and-swap, with or without the mutex.

use core::fmt;

use super::Mode;
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

/// The content of a queue, as its monitor's state describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Queued {
    Nobody,
    Readers,
    /// At least one exclusive waiter, with or without readers.
    Writers,
}

/// The answer to a thread that arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// The monitor is dead: unlink it and load the slot again.
    Dead,
    /// The key is free: acquire it by a compare-and-swap to this state.
    Admit(State),
    /// A holder conflicts, or the thread reads and a writer is queued.
    Refuse,
}

/// The work that a release must do.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Release {
    /// None: other holders remain, or a woken waiter is about to check.
    Leave(State),
    /// The last holder, and no waiter: the monitor dies in this one step.
    Die,
    /// Wake the head of the queue, while the key is free.
    Wake(State),
    /// Hand the key to the head of the queue.
    HandOver,
    /// The only remaining holder heads the queue and waits to be alone: grant it the key
    /// exclusively.
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
    /// The dead state, which is final.
    pub(crate) const DEAD: State = State(DEAD);

    pub(crate) const fn from_bits(bits: u64) -> Self {
        State(bits)
    }

    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    /// Returns the state without waiters, held by `readers`, or exclusively if that is 0.
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

    /// Returns the mode in which the key is held now.
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

    /// Returns the number of holders.
    pub(crate) const fn holders(self) -> u64 {
        if self.0 & EXCLUSIVE != 0 {
            1
        } else {
            self.readers()
        }
    }

    /// Returns whether the next release must hand the key over, instead of freeing it for any
    /// thread.
    pub(crate) const fn bypass_spent(self) -> bool {
        (self.0 & BYPASS_MASK) / ONE_BYPASS >= MAX_BYPASSES
    }

    /// Returns whether `mode` does not conflict with the holders.
    pub(crate) const fn fits(self, mode: Mode) -> bool {
        match mode {
            Mode::Exclusive => !self.is_held(),
            Mode::Shared => self.0 & EXCLUSIVE == 0,
        }
    }

    /// Returns this state with `n` more holders.
    ///
    /// # Panics
    /// Panics if there are more shared holders than 48 bits count, which requires forgotten guards
    /// and years.
    pub(crate) fn with_holders(self, mode: Mode, n: u64) -> Self {
        match mode {
            Mode::Exclusive => State(self.0 | EXCLUSIVE),
            Mode::Shared => {
                let bits = self.0.checked_add(n * ONE_READER);
                State(bits.expect(
                    "a key has more shared holders than its lock can count; \
                     drop guards instead of forgetting them",
                ))
            }
        }
    }

    /// Returns this state after one holder has left.
    pub(crate) const fn released(self, mode: Mode) -> Self {
        match mode {
            Mode::Exclusive => State(self.0 - EXCLUSIVE),
            Mode::Shared => State(self.0 - ONE_READER),
        }
    }

    /// Returns this state after a downgrade of its exclusive holder.
    pub(crate) const fn downgraded(self) -> Self {
        State((self.0 & !EXCLUSIVE) + ONE_READER)
    }

    /// Returns this state after its only reader has become exclusive, or `None` if there are other
    /// readers.
    pub(crate) const fn upgraded(self) -> Option<Self> {
        if self.readers() == 1 {
            Some(State((self.0 - ONE_READER) | EXCLUSIVE))
        } else {
            None
        }
    }

    /// Returns this state with one of its readers at the head of the queue, to become exclusive.
    /// The count of bypasses of the previous head is unchanged.
    pub(crate) const fn with_upgrader(self) -> Self {
        State(self.not_woken().0 | QUEUED | WRITER | UPGRADER)
    }

    /// Returns this state after the upgrader has left the queue.
    pub(crate) const fn without_upgrader(self) -> Self {
        State(self.0 & !UPGRADER)
    }

    /// Returns whether a reader heads the queue to become exclusive.
    pub(crate) const fn has_upgrader(self) -> bool {
        self.0 & UPGRADER != 0
    }

    /// Returns this state after its upgrader, which is alone, has become exclusive. Returns `None`
    /// if it is not alone, or without an upgrader.
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

    /// Returns whether there is a waiter.
    pub(crate) const fn is_queued(self) -> bool {
        self.0 & QUEUED != 0
    }

    /// Returns the admission of a thread outside of the queue. A reader yields to a queued writer,
    /// because a stream of readers would starve it. It may bypass queued readers, which it does not
    /// delay.
    pub(crate) fn enter(self, mode: Mode) -> Entry {
        if self.is_dead() {
            return Entry::Dead;
        }
        let fits = self.fits(mode) && (mode == Mode::Exclusive || self.0 & WRITER == 0);
        if fits {
            Entry::Admit(self.with_holders(mode, 1))
        } else {
            Entry::Refuse
        }
    }

    /// Returns this state after a waiter that is not the head acquires the key out of turn. Returns
    /// `None` if the waiter must wait.
    ///
    /// It may acquire the key where an arriving thread may. A reader may also acquire a free key
    /// ahead of a queued writer: the release that follows counts as a bypass of the head, as after
    /// every arriving thread. It must not acquire a key that is held shared, because overlapping
    /// readers would starve the writer.
    pub(crate) fn overtaken_by(self, mode: Mode) -> Option<Self> {
        match self.enter(mode) {
            Entry::Admit(next) => Some(next),
            Entry::Refuse if !self.is_held() => Some(self.with_holders(mode, 1)),
            Entry::Refuse | Entry::Dead => None,
        }
    }

    /// Returns the work of a release in `mode`. `strict` hands the key over whenever there is a
    /// waiter.
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

    /// Returns this state with the bits of `queue`. The mark of a woken head is cleared if the head
    /// changed.
    pub(crate) const fn with_queue(self, queue: Queued) -> Self {
        let rest = self.0 & !(QUEUED | WRITER);
        State(match queue {
            Queued::Nobody => rest & !(WOKEN | BYPASS_MASK | UPGRADER),
            Queued::Readers => rest | QUEUED,
            Queued::Writers => rest | QUEUED | WRITER,
        })
    }

    /// Returns this state after the head of the queue has checked, or is no longer the head.
    pub(crate) const fn not_woken(self) -> Self {
        State(self.0 & !WOKEN)
    }

    /// Returns this state with a new waiting head: no thread has bypassed it yet, and it holds
    /// nothing.
    pub(crate) const fn new_head(self) -> Self {
        State(self.0 & !(WOKEN | BYPASS_MASK | UPGRADER))
    }

    #[cfg(test)]
    pub(crate) const fn is_woken(self) -> bool {
        self.0 & WOKEN != 0
    }
}
