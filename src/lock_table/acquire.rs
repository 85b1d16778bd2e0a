//! Acquires a key: one compare-and-swap on the fast path, a queue on the slow path.
#![allow(unsafe_code)]

use core::ptr::NonNull;
use std::sync::Arc;
use std::time::Instant;

use super::Fairness;
use super::claim::{Notices, Seat};
use super::index::{Leaf, RawTable, Walk};
use super::leave::Wish;
use super::monitor::{Cancelled, Entered, Left, Monitor};
use super::observe::Wait;
use super::party::{Party, SetParty};
use crate::reclaim::Pin;
use crate::sync::{Parker, now};
use crate::wait::{Notify, Signal, Spin, Waiter, Wakeup};
use crate::word::{Entry, Kind, Mode, SlotWord};

/// A place in the queue of a key's monitor, which it keeps alive [M1].
///
/// It must be spent: by [`RawTable::cancel`], or by an acquisition of the key.
#[derive(Debug)]
#[must_use]
pub(super) struct Ticket {
    pub(super) hash: u64,
    monitor: NonNull<Monitor>,
    pub(super) waiter: Arc<Waiter>,
}

/// The place where a waiter was queued: a ticket without the waiter.
#[must_use]
pub(super) struct Place(NonNull<Monitor>);

// SAFETY: a monitor may be used from any thread, and so may the waiter.
unsafe impl Send for Ticket {}
// SAFETY: as above; a shared ticket gives access to neither.
unsafe impl Sync for Ticket {}

impl Ticket {
    /// Makes the ticket of the waiter that was queued at `place`.
    pub(super) fn new(hash: u64, place: Place, waiter: Arc<Waiter>) -> Self {
        Ticket {
            hash,
            monitor: place.0,
            waiter,
        }
    }

    /// Returns the same place for other threads.
    pub(super) fn seat(&self) -> Seat {
        Seat::new(self.hash, self.monitor, self.waiter.clone())
    }

    pub(super) fn monitor(&self) -> &Monitor {
        // SAFETY: while its waiter is queued, or holds the key without having released it, the
        // monitor is not retired [M1]. If another thread may remove it from the queue, its owner
        // was pinned before [M13].
        unsafe { self.monitor.as_ref() }
    }
}

/// The outcome of an attempt.
#[must_use]
pub(super) enum Acquired {
    Holds,
    Busy,
    Queued(Place),
}

/// What to do if the key is not available.
pub(super) enum Patience<'a> {
    /// Return at once.
    None,
    /// Spin if it may help, then queue the waiter. `waiter` returns a reference to the same one
    /// each time.
    Queue {
        spin: Spin,
        waiter: &'a mut dyn FnMut() -> Arc<Waiter>,
    },
}

impl Patience<'_> {
    /// Releases the pin and spins once; returns `false` if the spins are used up.
    fn spin(&mut self, walk: &mut Walk<'_>) -> bool {
        match self {
            Patience::Queue { spin, .. } if spin.may_spin() => {
                walk.unpin();
                spin.spin();
                true
            }
            _ => false,
        }
    }
}

impl RawTable {
    #[inline]
    pub(super) fn lock(&self, hash: u64, mode: Mode) {
        if let Err(found) = self.claim_root(hash, mode) {
            self.lock_slow(hash, mode, found, None);
        }
    }

    #[inline]
    pub(crate) fn try_lock(&self, hash: u64, mode: Mode) -> bool {
        match self.claim_root(hash, mode) {
            Ok(()) => true,
            Err(found) => self.try_lock_slow(hash, mode, found),
        }
    }

    /// Locks as [`lock`](Self::lock) does where there is no deadline.
    pub(super) fn lock_until(&self, hash: u64, mode: Mode, deadline: Option<Instant>) -> bool {
        if deadline.is_some_and(|deadline| deadline <= now()) {
            return self.try_lock(hash, mode);
        }
        match self.claim_root(hash, mode) {
            Ok(()) => true,
            Err(found) => self.lock_slow(hash, mode, found, deadline),
        }
    }

    /// Returns whether `mode` would have to wait, by one load of the root slot. It is a hint.
    #[inline]
    pub(super) fn is_taken(&self, hash: u64, mode: Mode) -> bool {
        // Only the order of two attempts depends on it.
        let word = self.root_slot(hash).peek();
        match word.kind() {
            Kind::Empty | Kind::Child => false,
            Kind::Inline => word.names(hash) && !word.mode().admits(mode),
            Kind::Monitor => true,
        }
    }

    /// Locks the key if its root slot is empty, or returns the word that it contains.
    #[inline(always)]
    pub(super) fn claim_root(&self, hash: u64, mode: Mode) -> Result<(), SlotWord> {
        self.root_slot(hash).claim(hash, mode)
    }

    #[cold]
    fn try_lock_slow(&self, hash: u64, mode: Mode, found: SlotWord) -> bool {
        self.join_root(hash, mode, found)
            || self.lock_below(hash, mode)
            || self.try_lock_slower(hash, mode)
    }

    #[cold]
    fn try_lock_slower(&self, hash: u64, mode: Mode) -> bool {
        matches!(self.acquire(hash, mode, Patience::None), Acquired::Holds)
    }

    /// Blocks until the key is held (`true`) or `deadline` has passed.
    #[cold]
    fn lock_slow(&self, hash: u64, mode: Mode, found: SlotWord, deadline: Option<Instant>) -> bool {
        self.join_root(hash, mode, found)
            || self.lock_below(hash, mode)
            || self.lock_slower(hash, mode, deadline, &mut ())
    }

    /// Blocks as [`lock_slow`](Self::lock_slow) does, for the next key of a set.
    #[cold]
    #[inline(never)]
    pub(super) fn lock_slow_of_set(
        &self,
        (hash, mode): (u64, Mode),
        found: SlotWord,
        deadline: Option<Instant>,
        mut set: SetParty<'_>,
    ) -> bool {
        self.join_root(hash, mode, found)
            || self.lock_below(hash, mode)
            || self.lock_slower(hash, mode, deadline, &mut set)
    }

    #[cold]
    #[inline(never)]
    fn lock_slower(
        &self,
        hash: u64,
        mode: Mode,
        deadline: Option<Instant>,
        party: &mut impl Party,
    ) -> bool {
        let mut made: Option<(Parker, Arc<Waiter>)> = None;
        let mut waiter = || {
            let (_, waiter) = made.get_or_insert_with(|| {
                let (parker, unparker) = Parker::new();
                let notify = Notify::Thread(unparker);
                (parker, Waiter::take_for(party.owner(), mode, notify))
            });
            waiter.clone()
        };
        // Under `Fifo` the waiter queues in order of arrival and spins in the queue, on its own
        // word.
        let (before, queued) = match self.fairness {
            Fairness::Eventual => (Spin::new(), Spin::none()),
            Fairness::Fifo => (Spin::none(), Spin::new()),
        };
        let patience = Patience::Queue {
            spin: before,
            waiter: &mut waiter,
        };
        match self.acquire(hash, mode, patience) {
            Acquired::Holds => true,
            Acquired::Busy => false,
            Acquired::Queued(place) => {
                let (parker, waiter) = made.expect("made to be queued");
                let ticket = Ticket::new(hash, place, waiter);
                let mut pending = Pending(self, Some(ticket));
                let mut wait = Some(Wait::begin(hash, mode));
                let Some(ticket) = pending.1.take() else {
                    unreachable!("installed above")
                };
                let holds = self.wait(ticket, &mut wait, &parker, queued, deadline, party);
                if holds && wait.is_some() {
                    // Granted at the deadline. To close a span is user code.
                    self.holding(hash, mode, || wait = None);
                }
                holds
            }
        }
    }

    pub(super) fn acquire(&self, hash: u64, mode: Mode, mut patience: Patience<'_>) -> Acquired {
        let mut walk = Walk::new(self, hash);
        loop {
            match walk.leaf() {
                Leaf::Empty => {
                    if walk.slot().claim(hash, mode).is_ok() {
                        return Acquired::Holds;
                    }
                }
                Leaf::Other(word) => {
                    if walk.expand(word, word.hash_beside(hash), mode) {
                        return Acquired::Holds;
                    }
                }
                Leaf::Own(word) if mode.admits(word.mode()) => {
                    if !word.is_full() {
                        if walk.slot().join(word).is_ok() {
                            return Acquired::Holds;
                        }
                    } else {
                        let monitor = Box::new(Monitor::held(hash, word.readers() + 1));
                        if walk.inflate(word, monitor).is_ok() {
                            self.statistics.inflations.increment();
                            return Acquired::Holds;
                        }
                    }
                }
                Leaf::Own(word) => {
                    if patience.spin(&mut walk) {
                        continue;
                    }
                    let Patience::Queue { waiter, .. } = &mut patience else {
                        return Acquired::Busy;
                    };
                    let monitor = Box::new(Monitor::waited_for(hash, word.readers(), waiter()));
                    if let Ok(monitor) = walk.inflate(word, monitor) {
                        self.statistics.inflations.increment();
                        return self.queued(monitor);
                    }
                }
                Leaf::Monitor(word) => {
                    let monitor = walk.monitor(word);
                    if monitor.hash() != hash {
                        if walk.expand(word, monitor.hash(), mode) {
                            return Acquired::Holds;
                        }
                        continue;
                    }
                    let refused = monitor.peek().enter(mode) == Entry::Refuse;
                    if refused && patience.spin(&mut walk) {
                        continue;
                    }
                    let monitor = walk.monitor(word);
                    let entered = match &mut patience {
                        Patience::None => monitor.enter(mode, None),
                        Patience::Queue { waiter, .. } => monitor.enter(mode, Some(*waiter)),
                    };
                    match entered {
                        Entered::Holds => return Acquired::Holds,
                        Entered::Busy => return Acquired::Busy,
                        Entered::Queued => return self.queued(monitor),
                        Entered::Dead => walk = self.unlink(hash, word, walk),
                    }
                }
            }
        }
    }

    pub(super) fn queued(&self, monitor: &Monitor) -> Acquired {
        self.statistics.waits.increment();
        Acquired::Queued(Place(NonNull::from(monitor)))
    }

    /// Checks the signal of a queued waiter. Returns whether it holds the key.
    ///
    /// With a `renewal`, which every poll has, it also checks the state, and leaves `renewal` with
    /// the waiter if the waiter keeps waiting. If it returns `true`, the caller must call
    /// [`got`](Self::got), which covers the waiters in `wakeup`.
    pub(super) fn check(
        &self,
        ticket: &Ticket,
        renewal: &mut Option<Notify>,
        wakeup: &mut Wakeup,
    ) -> bool {
        match ticket.waiter.signal() {
            Signal::Granted => true,
            Signal::Killed => false,
            Signal::Waiting if renewal.is_none() => false,
            Signal::Waiting | Signal::Woken => {
                ticket
                    .monitor()
                    .look(&ticket.waiter, self.fairness, renewal, wakeup)
            }
        }
    }

    /// Ends a wait whose waiter holds the key, as do the waiters in `wakeup`.
    #[inline]
    pub(super) fn got(&self, ticket: Ticket, wait: &mut Option<Wait>, wakeup: &mut Wakeup) {
        let waiter = ticket.waiter;
        self.holding(ticket.hash, waiter.mode(), || {
            wakeup.run();
            self.observe_waited(ticket.hash, &waiter);
            *wait = None;
            Waiter::recycle(waiter);
        });
    }

    /// Drops the leftovers of a wait for a key that is held now, including wakers and recorders.
    /// These are user code: if one panics, no guard exists yet, so the key is unlocked.
    #[inline]
    pub(super) fn holding(&self, hash: u64, mode: Mode, end: impl FnOnce()) {
        let undo = Undo(self, hash, mode);
        end();
        core::mem::forget(undo);
    }

    /// Waits until the key is held (`true`) or `deadline` has passed; `spin`s before it parks.
    fn wait(
        &self,
        ticket: Ticket,
        wait: &mut Option<Wait>,
        parker: &Parker,
        mut spin: Spin,
        deadline: Option<Instant>,
        party: &mut impl Party,
    ) -> bool {
        let mut ticket = ticket;
        let mut wakeup = Wakeup::default();
        while !self.check(&ticket, &mut None, &mut wakeup) {
            if spin.may_spin() {
                spin.spin();
                continue;
            }
            let due = party.due();
            let first = due.filter(|due| deadline.is_none_or(|deadline| *due < deadline));
            if parker.park_by(first.or(deadline)) {
                continue;
            }
            if first.is_some() {
                let notices = party.publish(self, &ticket);
                ticket = self.notify_of(notices, ticket, party);
                continue;
            }
            // Step 12: a late waiter is not refused a free key [M15].
            let monitor = ticket.monitor();
            if monitor.look(&ticket.waiter, self.fairness, &mut None, &mut wakeup) {
                break;
            }
            party.leave();
            return self.cancel(ticket);
        }
        party.leave();
        self.got(ticket, wait, &mut wakeup);
        true
    }

    /// Runs notifications, which are user code, for a waiter. If one panics, the wait leaves the
    /// graph and then ends.
    fn notify_of(&self, notices: Notices, ticket: Ticket, party: &mut impl Party) -> Ticket {
        struct Leaving<'a, P: Party>(&'a mut P, Pending<'a>);
        impl<P: Party> Drop for Leaving<'_, P> {
            fn drop(&mut self) {
                // The place in the queue is released after this [D2].
                self.0.leave();
            }
        }
        let mut leaving = Leaving(party, Pending(self, Some(ticket)));
        notices.run();
        let ticket = leaving.1.1.take().expect("stored above");
        core::mem::forget(leaving);
        ticket
    }

    /// Leaves the queue, or returns `true` if the key was granted before.
    pub(super) fn cancel(&self, ticket: Ticket) -> bool {
        // Pinned before the waiter leaves, because then nothing else keeps the monitor alive [M2].
        let pin = self.domain.pin();
        let mut wakeup = Wakeup::default();
        match ticket
            .monitor()
            .cancel(&ticket.waiter, Wish::Own, &mut wakeup)
        {
            Cancelled::Granted => true,
            Cancelled::Left(left) => {
                let word = SlotWord::monitor(ticket.monitor.as_ptr().expose_provenance());
                self.settle(ticket.hash, word, left, pin, &mut wakeup);
                self.observe_gave_up(ticket.hash, &ticket.waiter);
                Waiter::recycle(ticket.waiter);
                false
            }
        }
    }

    /// Leaves the queue, and releases the key if it was granted.
    pub(super) fn abandon(&self, ticket: Ticket) {
        let (hash, mode) = (ticket.hash, ticket.waiter.mode());
        if self.cancel(ticket) {
            self.unlock(hash, mode);
        }
    }

    /// Does the work that a departure from a monitor leaves to the table.
    pub(super) fn settle(
        &self,
        hash: u64,
        monitor: SlotWord,
        left: Left,
        pin: Pin,
        wakeup: &mut Wakeup,
    ) {
        match left {
            Left::Dead => drop(self.unlink(hash, monitor, Walk::pinned(self, hash, pin))),
            Left::Alive => {
                drop(pin);
                wakeup.run();
            }
        }
    }
}

/// A place in a queue that is released if a subscriber panics.
struct Pending<'a>(&'a RawTable, Option<Ticket>);

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.1.take() {
            self.0.abandon(ticket);
        }
    }
}

/// Releases a key for which no guard exists.
struct Undo<'a>(&'a RawTable, u64, Mode);

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        self.0.unlock(self.1, self.2);
    }
}
