//! Taking a key: one compare-and-swap, or the long way round.
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
use crate::sync::{Ordering, Parker, now};
use crate::wait::{Notify, Signal, Spin, Waiter, Wakeup};
use crate::word::{Entry, Kind, Mode, SlotWord};

/// A place in the queue of a key's monitor, which it keeps alive [M1]. It must be spent: by
/// [`RawTable::cancel`], or by holding the key.
#[derive(Debug)]
#[must_use]
pub(super) struct Ticket {
    pub(super) hash: u64,
    monitor: NonNull<Monitor>,
    pub(super) waiter: Arc<Waiter>,
}

/// Where a waiter was queued: a ticket without the waiter.
#[must_use]
pub(super) struct Place(NonNull<Monitor>);

// SAFETY: a monitor may be used from any thread, and so may the waiter.
unsafe impl Send for Ticket {}
// SAFETY: as above; a shared ticket gives access to neither.
unsafe impl Sync for Ticket {}

impl Ticket {
    /// For the waiter that was queued at `place`.
    pub(super) fn new(hash: u64, place: Place, waiter: Arc<Waiter>) -> Self {
        Ticket {
            hash,
            monitor: place.0,
            waiter,
        }
    }

    /// The same place, for others.
    pub(super) fn seat(&self) -> Seat {
        Seat::new(self.hash, self.monitor, self.waiter.clone())
    }

    pub(super) fn monitor(&self) -> &Monitor {
        // SAFETY: while its waiter is queued, or holds the key without having released it, the monitor
        // is not retired [M1]. If somebody else may take it out of the queue, its owner was pinned before [M13].
        unsafe { self.monitor.as_ref() }
    }
}

/// How an attempt ended.
#[must_use]
pub(super) enum Acquired {
    Holds,
    Busy,
    Queued(Place),
}

/// What to do about a key that is taken.
pub(super) enum Patience<'a> {
    /// Give up.
    None,
    /// Spin if it may help, then queue the waiter that this gives a reference to, the same each time.
    Queue {
        spin: Spin,
        waiter: &'a mut dyn FnMut() -> Arc<Waiter>,
    },
}

impl Patience<'_> {
    /// Gives up the pin and spins once; `false` if there is no more patience for that.
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

    /// Without a deadline, as [`lock`](Self::lock).
    pub(super) fn lock_until(&self, hash: u64, mode: Mode, deadline: Option<Instant>) -> bool {
        if deadline.is_some_and(|deadline| deadline <= now()) {
            return self.try_lock(hash, mode);
        }
        match self.claim_root(hash, mode) {
            Ok(()) => true,
            Err(found) => self.lock_slow(hash, mode, found, deadline),
        }
    }

    /// Whether one look at the root slot says that `mode` would have to wait: a hint.
    #[inline]
    pub(super) fn is_taken(&self, hash: u64, mode: Mode) -> bool {
        // Relaxed: nothing is followed, and nothing depends on it but the order of two attempts.
        let word = SlotWord::from_bits(self.root_slot(hash).load(Ordering::Relaxed));
        match word.kind() {
            Kind::Empty | Kind::Child => false,
            Kind::Inline => word.names(hash) && !word.mode().admits(mode),
            Kind::Monitor => true,
        }
    }

    /// Locks the key if its root slot is empty, or says what stands there.
    #[inline(always)]
    pub(super) fn claim_root(&self, hash: u64, mode: Mode) -> Result<(), SlotWord> {
        // Acquire: from the last unlock in this slot, and by its release sequence from all before [S2].
        // Relaxed on failure: nothing is followed; who uses the word acquires by another compare-and-swap, or
        // looks again.
        let claimed = self.root_slot(hash).compare_exchange(
            SlotWord::EMPTY.bits(),
            SlotWord::inline(hash, mode).bits(),
            Ordering::Acquire,
            Ordering::Relaxed,
        );
        match claimed {
            Ok(_) => Ok(()),
            Err(found) => Err(SlotWord::from_bits(found)),
        }
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

    /// As [`lock_slow`](Self::lock_slow), for the next key of a set.
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
        // Who must queue in the order of coming spins in the queue, on a word that is its own.
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
                    unreachable!("put there above")
                };
                let holds = self.wait(ticket, &mut wait, &parker, queued, deadline, party);
                if holds && wait.is_some() {
                    // Granted at the deadline. To close a span is to run user code.
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
                    if walk.claim(mode) {
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
                        if walk.join(word) {
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

    /// Checks the signal of a queued waiter. With a `renewal`, as every poll has one, it checks the state too, and
    /// leaves `renewal` with the waiter if it waits on. Returns whether it holds the key; then the caller must call [`got`](Self::got), also for those
    /// in `wakeup`.
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

    /// The wait is over, and the key is held, and by those in `wakeup` too.
    #[inline]
    pub(super) fn got(&self, ticket: Ticket, wait: &mut Option<Wait>, wakeup: &mut Wakeup) {
        let waiter = ticket.waiter;
        self.holding(ticket.hash, waiter.mode(), || {
            wakeup.run();
            self.observe_waited(&waiter);
            *wait = None;
            Waiter::recycle(waiter);
        });
    }

    /// Ends what was needed to wait for a key that is held now, wakers and recorders among it, which
    /// are user code; should one panic, no guard will ever know of the hold.
    #[inline]
    pub(super) fn holding(&self, hash: u64, mode: Mode, end: impl FnOnce()) {
        let undo = Undo(self, hash, mode);
        end();
        core::mem::forget(undo);
    }

    /// Waits until the key is held (`true`) or `deadline` has passed; `spin`s before it sleeps.
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

    /// Runs notifications, which are user code, for a waiter; should one panic, the wait leaves the graph and then ends.
    fn notify_of(&self, notices: Notices, ticket: Ticket, party: &mut impl Party) -> Ticket {
        struct Leaving<'a, P: Party>(&'a mut P, Pending<'a>);
        impl<P: Party> Drop for Leaving<'_, P> {
            fn drop(&mut self) {
                // The place in the queue is given up after this [D2].
                self.0.leave();
            }
        }
        let mut leaving = Leaving(party, Pending(self, Some(ticket)));
        notices.run();
        let ticket = leaving.1.1.take().expect("put there above");
        core::mem::forget(leaving);
        ticket
    }

    /// Leaves the queue, or returns `true` if the key was granted before.
    pub(super) fn cancel(&self, ticket: Ticket) -> bool {
        // Before anything that lets go of the monitor [M2].
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
                self.observe_gave_up();
                Waiter::recycle(ticket.waiter);
                false
            }
        }
    }

    /// Leaves the queue for good, whatever has been granted.
    pub(super) fn abandon(&self, ticket: Ticket) {
        let (hash, mode) = (ticket.hash, ticket.waiter.mode());
        if self.cancel(ticket) {
            self.unlock(hash, mode);
        }
    }

    /// Does what leaving a monitor owes.
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

/// A place in a queue that is given up should a subscriber panic.
struct Pending<'a>(&'a RawTable, Option<Ticket>);

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.1.take() {
            self.0.abandon(ticket);
        }
    }
}

/// Gives back a key that nobody got to know of.
struct Undo<'a>(&'a RawTable, u64, Mode);

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        self.0.unlock(self.1, self.2);
    }
}
