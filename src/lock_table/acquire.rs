//! Taking a key: one compare-and-swap, or the long way round.
#![allow(unsafe_code)]

use core::ptr::NonNull;
use std::sync::Arc;
use std::time::Instant;

use super::Fairness;
use super::index::{Leaf, RawTable, Walk};
use super::monitor::{Cancelled, Entered, Left, Monitor};
use super::observe::Wait;
use crate::reclaim::Pin;
use crate::sync::{Ordering, Parker};
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

// SAFETY: a monitor may be used from any thread, and so may the waiter.
unsafe impl Send for Ticket {}
// SAFETY: as above; a shared ticket gives access to neither.
unsafe impl Sync for Ticket {}

impl Ticket {
    pub(super) fn monitor(&self) -> &Monitor {
        // SAFETY: while its waiter is queued, or holds the key without having released it, the monitor
        // is not retired [M1].
        unsafe { self.monitor.as_ref() }
    }
}

/// How an attempt ended.
#[must_use]
pub(super) enum Acquired {
    Holds,
    Busy,
    Queued(Ticket),
}

/// What to do about a key that is taken.
pub(super) enum Patience<'a> {
    /// Give up.
    None,
    /// Spin if it may help, then queue with the waiter that this gives, the same each time.
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
        if !self.claim_root(hash, mode) {
            self.lock_slow(hash, mode, None);
        }
    }

    #[inline]
    pub(super) fn try_lock(&self, hash: u64, mode: Mode) -> bool {
        self.claim_root(hash, mode) || self.try_lock_slow(hash, mode)
    }

    /// Without a deadline, as [`lock`](Self::lock).
    pub(super) fn lock_until(&self, hash: u64, mode: Mode, deadline: Option<Instant>) -> bool {
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return self.try_lock(hash, mode);
        }
        self.claim_root(hash, mode) || self.lock_slow(hash, mode, deadline)
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

    #[inline(always)]
    fn claim_root(&self, hash: u64, mode: Mode) -> bool {
        // Acquire: from the last unlock in this slot, and by its release sequence from all before [S2].
        // Relaxed on failure: the slow path looks again.
        self.root_slot(hash)
            .compare_exchange(
                SlotWord::EMPTY.bits(),
                SlotWord::inline(hash, mode).bits(),
                Ordering::Acquire,
                Ordering::Relaxed,
            )
            .is_ok()
    }

    #[cold]
    fn try_lock_slow(&self, hash: u64, mode: Mode) -> bool {
        self.lock_below(hash, mode) || self.try_lock_slower(hash, mode)
    }

    #[cold]
    fn try_lock_slower(&self, hash: u64, mode: Mode) -> bool {
        matches!(self.acquire(hash, mode, Patience::None), Acquired::Holds)
    }

    /// Blocks until the key is held (`true`) or `deadline` has passed.
    #[cold]
    fn lock_slow(&self, hash: u64, mode: Mode, deadline: Option<Instant>) -> bool {
        self.lock_below(hash, mode) || self.lock_slower(hash, mode, deadline)
    }

    #[cold]
    #[inline(never)]
    fn lock_slower(&self, hash: u64, mode: Mode, deadline: Option<Instant>) -> bool {
        let mut made: Option<(Parker, Arc<Waiter>)> = None;
        let mut waiter = || {
            let (_, waiter) = made.get_or_insert_with(|| {
                let (parker, unparker) = Parker::new();
                (
                    parker,
                    Arc::new(Waiter::new(mode, Notify::Thread(unparker))),
                )
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
            Acquired::Queued(ticket) => {
                let (parker, waiter) = made.expect("made when the ticket was");
                let mut pending = Pending(self, Some(ticket));
                let wait = Wait::begin(hash, &waiter);
                let Some(ticket) = pending.1.take() else {
                    unreachable!("put there above")
                };
                let holds = self.wait(ticket, &parker, queued, deadline);
                if holds {
                    self.holding(hash, mode, wait);
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
                    let waiter = waiter();
                    let monitor =
                        Box::new(Monitor::waited_for(hash, word.readers(), waiter.clone()));
                    if let Ok(monitor) = walk.inflate(word, monitor) {
                        self.statistics.inflations.increment();
                        return self.queued(hash, monitor, waiter);
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
                        Entered::Queued(waiter) => return self.queued(hash, monitor, waiter),
                        Entered::Dead => walk = self.unlink(hash, word, walk),
                    }
                }
            }
        }
    }

    fn queued(&self, hash: u64, monitor: &Monitor, waiter: Arc<Waiter>) -> Acquired {
        self.statistics.waits.increment();
        Acquired::Queued(Ticket {
            hash,
            monitor: NonNull::from(monitor),
            waiter,
        })
    }

    /// Looks at what a queued waiter was told, and leaves `renewal` with it if it waits on. Returns
    /// whether it holds the key.
    pub(super) fn check(&self, ticket: &Ticket, renewal: &mut Option<Notify>) -> bool {
        let mut wakeup = Wakeup::default();
        let holds = match ticket.waiter.signal() {
            Signal::Granted => true,
            Signal::Waiting if renewal.is_none() => false,
            Signal::Waiting | Signal::Woken => {
                let monitor = ticket.monitor();
                monitor.look(&ticket.waiter, renewal, &mut wakeup)
            }
        };
        if holds {
            // No guard knows of the hold yet, should a waker or a recorder panic.
            let undo = Undo(self, ticket.hash, ticket.waiter.mode());
            wakeup.run();
            self.observe_waited(&ticket.waiter);
            core::mem::forget(undo);
        }
        holds
    }

    /// Drops what was needed to wait for a key that is held now, wakers among it, which are user
    /// code; should one panic, no guard will ever know of the hold.
    pub(super) fn holding<T>(&self, hash: u64, mode: Mode, waited_with: T) {
        let undo = Undo(self, hash, mode);
        drop(waited_with);
        core::mem::forget(undo);
    }

    /// Waits until the key is held (`true`) or `deadline` has passed; `spin`s before it sleeps.
    fn wait(
        &self,
        ticket: Ticket,
        parker: &Parker,
        mut spin: Spin,
        deadline: Option<Instant>,
    ) -> bool {
        while !self.check(&ticket, &mut None) {
            if spin.may_spin() {
                spin.spin();
                continue;
            }
            match deadline {
                None => parker.park(),
                Some(deadline) => {
                    if !parker.park_until(deadline) {
                        return self.cancel(ticket);
                    }
                }
            }
        }
        true
    }

    /// Leaves the queue, or returns `true` if the key was granted before.
    pub(super) fn cancel(&self, ticket: Ticket) -> bool {
        // Before anything that lets go of the monitor [M2].
        let pin = self.domain.pin();
        match ticket.monitor().cancel(&ticket.waiter) {
            Cancelled::Granted => true,
            Cancelled::Left(left) => {
                let word = SlotWord::monitor(ticket.monitor.as_ptr().expose_provenance());
                self.settle(ticket.hash, word, left, pin);
                self.observe_gave_up();
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
    pub(super) fn settle(&self, hash: u64, monitor: SlotWord, left: Left, pin: Pin) {
        match left {
            Left::Dead => drop(self.unlink(hash, monitor, Walk::pinned(self, hash, pin))),
            Left::Notify(wakeup) => {
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
