//! Acquires a key: one compare-and-swap on the fast path, a queue on the slow path.

use std::sync::Arc;
use std::time::Instant;

use super::monitor::{Cancelled, Entered, Monitor, Wish};
use super::observe::Wait;
use super::place::{Notices, Place, Ticket};
use super::table::RawTable;
use super::trie::{Leaf, Walk};
use crate::lock_table::fairness::Fairness;
use crate::park::{Notify, Signal, Spin, Waiter, Wakeup};
use crate::sync::{Parker, now};
use crate::waits_for::Owner;
use crate::word::{Entry, Kind, Mode, SlotWord};

/// A waiter of a key, as a node of the graph of waits.
pub(crate) trait Party {
    /// Returns the waiter for threads that inspect the queue; called before it queues.
    fn owner(&mut self) -> Option<Owner>;

    /// Returns when it publishes if it still waits then; called before the thread parks.
    fn due(&mut self) -> Option<Instant>;

    /// Publishes the wait, and ends cycles through it. The caller must run the notifications, which
    /// are user code.
    fn publish(&mut self, table: &RawTable, ticket: &Ticket) -> Notices;

    /// Leaves the graph, before the wait ends.
    fn leave(&mut self);
}

/// A lock of one key, which the graph does not see.
impl Party for () {
    #[inline(always)]
    fn owner(&mut self) -> Option<Owner> {
        None
    }

    #[inline(always)]
    fn due(&mut self) -> Option<Instant> {
        None
    }

    fn publish(&mut self, _: &RawTable, _: &Ticket) -> Notices {
        Notices::default()
    }

    #[inline(always)]
    fn leave(&mut self) {}
}

/// The outcome of an attempt.
#[must_use]
pub(crate) enum Acquired {
    Holds,
    Busy,
    Queued(Place),
}

/// What to do if the key is not available.
pub(crate) enum Patience<'a> {
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
    pub(crate) fn lock(&self, hash: u64, mode: Mode) {
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
    pub(crate) fn lock_until(&self, hash: u64, mode: Mode, deadline: Option<Instant>) -> bool {
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
    pub(crate) fn is_taken(&self, hash: u64, mode: Mode) -> bool {
        // Only the order of two attempts depends on it.
        let word = self.trie.peek_root(hash);
        match word.kind() {
            Kind::Empty | Kind::Child => false,
            Kind::Inline => word.names(hash) && !word.mode().admits(mode),
            Kind::Monitor => true,
        }
    }

    /// Locks the key if its root slot is empty, or returns the word that it contains.
    #[inline(always)]
    pub(crate) fn claim_root(&self, hash: u64, mode: Mode) -> Result<(), SlotWord> {
        self.trie.claim_root(hash, mode)
    }

    #[cold]
    fn try_lock_slow(&self, hash: u64, mode: Mode, found: SlotWord) -> bool {
        self.trie.join_root(hash, mode, found)
            || self.trie.lock_below(hash, mode)
            || self.try_lock_slower(hash, mode)
    }

    #[cold]
    fn try_lock_slower(&self, hash: u64, mode: Mode) -> bool {
        matches!(self.acquire(hash, mode, Patience::None), Acquired::Holds)
    }

    /// Blocks until the key is held (`true`) or `deadline` has passed.
    #[cold]
    fn lock_slow(&self, hash: u64, mode: Mode, found: SlotWord, deadline: Option<Instant>) -> bool {
        self.trie.join_root(hash, mode, found)
            || self.trie.lock_below(hash, mode)
            || self.lock_slower(hash, mode, deadline, &mut ())
    }

    /// Blocks as [`lock_slow`](Self::lock_slow) does, for the next key of a set.
    #[cold]
    #[inline(never)]
    pub(crate) fn lock_slow_of_set(
        &self,
        (hash, mode): (u64, Mode),
        found: SlotWord,
        deadline: Option<Instant>,
        set: &mut impl Party,
    ) -> bool {
        self.trie.join_root(hash, mode, found)
            || self.trie.lock_below(hash, mode)
            || self.lock_slower(hash, mode, deadline, set)
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

    pub(crate) fn acquire(&self, hash: u64, mode: Mode, mut patience: Patience<'_>) -> Acquired {
        let mut walk = self.trie.walk(hash);
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
                        Entered::Dead => walk = walk.unlink(word),
                    }
                }
            }
        }
    }

    /// Queues `waiter`, or admits it, if the key has a monitor in the root. Otherwise it does
    /// nothing.
    #[inline]
    pub(crate) fn queue_at_root(
        &self,
        hash: u64,
        mode: Mode,
        waiter: &Arc<Waiter>,
    ) -> Option<Acquired> {
        let entered = self.trie.at_root_monitor(hash, |monitor, _, _pin| {
            match monitor.enter(mode, Some(&mut || waiter.clone())) {
                Entered::Holds => Some(Acquired::Holds),
                Entered::Queued => Some(self.queued(monitor)),
                // The general walk unlinks it.
                Entered::Dead | Entered::Busy => None,
            }
        });
        entered.flatten()
    }

    pub(super) fn queued(&self, monitor: &Monitor) -> Acquired {
        self.statistics.waits.increment();
        Acquired::Queued(Place::new(monitor))
    }

    /// Checks the signal of a queued waiter. Returns whether it holds the key.
    ///
    /// With a `renewal`, which every poll has, it also checks the state, and leaves `renewal` with
    /// the waiter if the waiter keeps waiting. If it returns `true`, the caller must call
    /// [`got`](Self::got), which covers the waiters in `wakeup`.
    pub(crate) fn check(
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
    pub(crate) fn got(&self, ticket: Ticket, wait: &mut Option<Wait>, wakeup: &mut Wakeup) {
        let waiter = ticket.waiter;
        self.holding(ticket.hash, waiter.mode(), || {
            wakeup.run();
            self.statistics.waited(ticket.hash, &waiter);
            *wait = None;
            Waiter::recycle(waiter);
        });
    }

    /// Drops the leftovers of a wait for a key that is held now, including wakers and recorders.
    /// These are user code: if one panics, no guard exists yet, so the key is unlocked.
    #[inline]
    pub(crate) fn holding(&self, hash: u64, mode: Mode, end: impl FnOnce()) {
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
        let pin = self.trie.pin();
        let mut wakeup = Wakeup::default();
        match ticket
            .monitor()
            .cancel(&ticket.waiter, Wish::Own, &mut wakeup)
        {
            Cancelled::Granted => true,
            Cancelled::Left(left) => {
                self.settle(ticket.hash, ticket.word(), left, pin, &mut wakeup);
                self.statistics.gave_up(ticket.hash, &ticket.waiter);
                Waiter::recycle(ticket.waiter);
                false
            }
        }
    }

    /// Leaves the queue, and releases the key if it was granted.
    pub(crate) fn abandon(&self, ticket: Ticket) {
        let (hash, mode) = (ticket.hash, ticket.waiter.mode());
        if self.cancel(ticket) {
            self.unlock(hash, mode);
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
