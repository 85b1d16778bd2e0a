//! Waiting for a key as a session does: the wait can be looked at by others, who may end it.
//!
//! A [`Claim`] belongs to whoever waits. A [`Seat`] is the same place in the same queue, for others to hold:
//! through it they may kill the wait or let it past, for as long as the claim is known not to have ended.
#![allow(unsafe_code)]

use core::ptr::NonNull;
use std::sync::Arc;

use super::Fairness;
use super::acquire::{Acquired, Patience, Place, Ticket};
use super::index::{Leaf, RawTable, Walk};
use super::leave::Wish;
use super::monitor::{Cancelled, Entered, Monitor};
use super::observe::Wait;
use crate::sync::Parker;
use crate::wait::{Notify, Signal, Spin, Waiter, Wakeup};
use crate::waits_for::Owner;
use crate::word::{Mode, SlotWord};

/// A place in the queue of a key. It must be spent: by [`RawTable::claimed`], [`RawTable::lost`] or
/// [`RawTable::give_up`].
#[derive(Debug)]
#[must_use]
pub(crate) struct Claim {
    ticket: Ticket,
    wait: Option<Wait>,
}

/// The place of a claim, for others.
#[derive(Debug)]
pub(crate) struct Seat {
    hash: u64,
    monitor: NonNull<Monitor>,
    waiter: Arc<Waiter>,
}

// SAFETY: a monitor may be used from any thread, and so may the waiter.
unsafe impl Send for Seat {}
// SAFETY: as above; a shared seat gives access to neither.
unsafe impl Sync for Seat {}

/// What an attempt or a wait no longer needs: its waiter, with a waker in it, and its span. To drop either may run
/// user code, which may panic: the owner of a key records it before [M16].
#[derive(Debug)]
#[must_use = "it is dropped once the key is recorded"]
pub(crate) struct Leftovers {
    _span: Option<Wait>,
    waiter: Option<Arc<Waiter>>,
}

impl Drop for Leftovers {
    fn drop(&mut self) {
        if let Some(waiter) = self.waiter.take() {
            Waiter::recycle(waiter);
        }
    }
}

/// How an attempt ended.
#[must_use]
pub(crate) enum Claiming {
    /// The key is held; the caller records that before it drops what is left.
    Holds(Leftovers),
    Queued(Claim),
    /// Another reader waits to be alone with the key: for this one to leave.
    Rival,
}

/// What became of a claim.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Waits,
    Holds,
    Killed,
}

/// Who is to be notified of what was done through seats, once no mutex is held.
#[derive(Debug, Default)]
#[must_use]
pub(crate) struct Notices(Vec<Wakeup>);

impl Notices {
    /// Notifies all of them, also if one panics.
    pub(crate) fn run(mut self) {
        self.0.iter_mut().for_each(Wakeup::run);
    }
}

impl Seat {
    pub(super) fn new(hash: u64, monitor: NonNull<Monitor>, waiter: Arc<Waiter>) -> Self {
        Seat {
            hash,
            monitor,
            waiter,
        }
    }
}

impl Claim {
    fn new(hash: u64, place: Place, waiter: Arc<Waiter>) -> Self {
        Claim {
            ticket: Ticket::new(hash, place, waiter),
            wait: None,
        }
    }

    pub(crate) fn seat(&self) -> Seat {
        self.ticket.seat()
    }

    /// Tells a subscriber, which is user code and may panic; the claim is a claim nevertheless.
    pub(crate) fn observe(&mut self) {
        self.wait = Some(Wait::begin(self.ticket.hash, self.ticket.waiter.mode()));
    }
}

impl RawTable {
    /// Takes the key, or a place in its queue, to be told by `notify`, for `owner`.
    pub(crate) fn claim(
        &self,
        owner: &Owner,
        hash: u64,
        mode: Mode,
        spin: Spin,
        mut notify: impl FnMut() -> Notify,
    ) -> Claiming {
        let mut made = None;
        let mut waiter = || {
            made.get_or_insert_with(|| Waiter::take_for(Some(owner.clone()), mode, notify()))
                .clone()
        };
        let patience = Patience::Queue {
            spin,
            waiter: &mut waiter,
        };
        match self.acquire(hash, mode, patience) {
            Acquired::Holds => Claiming::Holds(Leftovers {
                _span: None,
                waiter: made,
            }),
            Acquired::Queued(place) => {
                let waiter = made.expect("made to be queued");
                Claiming::Queued(Claim::new(hash, place, waiter))
            }
            Acquired::Busy => unreachable!("it has the patience to queue"),
        }
    }

    /// Makes the caller's shared hold an exclusive one, or takes the head of the queue for `waiter` and goes on
    /// to read. Runs no user code.
    pub(crate) fn claim_upgrade(&self, hash: u64, waiter: &Arc<Waiter>) -> Claiming {
        // The caller has the waiter, and drops it.
        let holds = || {
            Claiming::Holds(Leftovers {
                _span: None,
                waiter: None,
            })
        };
        let mut walk = Walk::new(self, hash);
        loop {
            match walk.leaf() {
                Leaf::Own(word) if word.readers() == 1 => {
                    if walk.upgrade(word) {
                        return holds();
                    }
                }
                Leaf::Own(word) => {
                    let monitor = Monitor::upgraded_by(hash, word.readers(), waiter.clone());
                    if let Ok(monitor) = walk.inflate(word, Box::new(monitor)) {
                        self.statistics.inflations.increment();
                        return self.seated(hash, monitor, waiter);
                    }
                }
                Leaf::Monitor(word) => {
                    let monitor = walk.monitor(word);
                    return match monitor.upgrade(waiter.clone()) {
                        Some(Entered::Queued) => self.seated(hash, monitor, waiter),
                        Some(_) => holds(),
                        None => Claiming::Rival,
                    };
                }
                Leaf::Empty | Leaf::Other(_) => unreachable!("a held key has its word [S1]"),
            }
        }
    }

    fn seated(&self, hash: u64, monitor: &Monitor, waiter: &Arc<Waiter>) -> Claiming {
        match self.queued(monitor) {
            Acquired::Queued(place) => Claiming::Queued(Claim::new(hash, place, waiter.clone())),
            Acquired::Holds | Acquired::Busy => unreachable!("it says so"),
        }
    }

    /// A notification of this thread.
    pub(crate) fn notify_thread() -> (Parker, Notify) {
        let (parker, unparker) = Parker::new();
        (parker, Notify::Thread(unparker))
    }

    /// How much to spin before a place in the queue is taken.
    pub(crate) fn spin_before(&self) -> Spin {
        match self.fairness {
            Fairness::Eventual => Spin::new(),
            Fairness::Fifo => Spin::none(),
        }
    }

    /// Looks at what a claim was told, and leaves `renewal` with it if it waits on. If it holds the key, those
    /// in `wakeup` do too, and are to be told by [`claimed`](Self::claimed).
    pub(crate) fn told(
        &self,
        claim: &Claim,
        renewal: &mut Option<Notify>,
        wakeup: &mut Wakeup,
    ) -> Told {
        let waiter = &claim.ticket.waiter;
        // Before the signal is loaded that says that it still waits: if somebody ends its wait after that, the
        // monitor may die, but is there for as long as the pin is [M13].
        let _pin = (waiter.signal() != Signal::Granted).then(|| self.domain.pin());
        if self.check(&claim.ticket, renewal, wakeup) {
            return Told::Holds;
        }
        match waiter.signal() {
            Signal::Killed => Told::Killed,
            // Granted a moment ago, if at all: whoever did so has notified it, or is about to.
            _ => Told::Waits,
        }
    }

    /// The claim is over, and the key is held, as the caller has written down. May run user code.
    pub(crate) fn claimed(&self, claim: Claim, wakeup: &mut Wakeup) {
        wakeup.run();
        self.observe_waited(&claim.ticket.waiter);
        let _ended = claim.wait;
        Waiter::recycle(claim.ticket.waiter);
    }

    /// The claim was killed.
    pub(crate) fn lost(&self, claim: Claim) {
        self.observe_gave_up();
        let _ended = claim.wait;
        Waiter::recycle(claim.ticket.waiter);
    }

    /// Leaves the queue. If the key was granted before, it is held: then this returns what is left, for the caller to
    /// drop once the hold is recorded or ended. May run user code otherwise.
    pub(crate) fn give_up(&self, claim: Claim) -> Option<Leftovers> {
        let Claim { ticket, wait } = claim;
        self.cancel(ticket).then_some(Leftovers {
            _span: wait,
            waiter: None,
        })
    }

    /// Ends somebody's wait, unless the key was granted to it. Returns whether it did.
    ///
    /// # Safety
    /// The claim of `seat` has not ended: neither `claimed`, `lost` nor `give_up` was called or is called
    /// meanwhile, and what it holds has not been given back.
    pub(crate) unsafe fn kill(&self, seat: &Seat, notices: &mut Notices) -> bool {
        // Before anything that lets go of the monitor [M2].
        let pin = self.domain.pin();
        // SAFETY: its waiter is queued or holds the key, by the caller's contract, or it was killed before
        // by this very call, which its caller knows [M1] [M13].
        let monitor = unsafe { seat.monitor.as_ref() };
        let mut wakeup = Wakeup::default();
        match monitor.cancel(&seat.waiter, Wish::Other, &mut wakeup) {
            Cancelled::Granted => false,
            Cancelled::Left(left) => {
                let word = SlotWord::monitor(seat.monitor.as_ptr().expose_provenance());
                // Nobody is told by it: that is for later, when no mutex is held.
                self.settle(seat.hash, word, left, pin, &mut Wakeup::default());
                notices.0.push(wakeup);
                true
            }
        }
    }

    /// Lets somebody's shared claim past those that it waits behind, if a holder does not stand in the way
    /// itself.
    ///
    /// # Safety
    /// As for [`kill`](Self::kill).
    pub(crate) unsafe fn let_past(&self, seat: &Seat, notices: &mut Notices) {
        let _pin = self.domain.pin();
        // SAFETY: as in `kill`.
        let monitor = unsafe { seat.monitor.as_ref() };
        let mut wakeup = Wakeup::default();
        if monitor.let_past(&seat.waiter, &mut wakeup) {
            notices.0.push(wakeup);
        }
    }
}
