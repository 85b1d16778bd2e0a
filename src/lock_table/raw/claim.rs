//! Waits for a key as a session: other threads can inspect the wait and end it.
//!
//! A [`Claim`] belongs to the waiter; its [`Seat`] is for the graph of waits.

use std::sync::Arc;

use super::acquire::{Acquired, Patience};
use super::monitor::{Entered, Monitor};
use super::observe::Wait;
use super::place::{Place, Seat, Ticket};
use super::table::RawTable;
use super::trie::Leaf;
use crate::lock_table::fairness::Fairness;
use crate::park::{Notify, Signal, Spin, Waiter, Wakeup};
use crate::sync::Parker;
use crate::waits_for::Owner;
use crate::word::Mode;

/// A place in the queue of a key. It must be spent: by [`RawTable::claimed`], [`RawTable::lost`] or
/// [`RawTable::give_up`].
#[derive(Debug)]
#[must_use]
pub(crate) struct Claim {
    ticket: Ticket,
    wait: Option<Wait>,
}

/// The leftovers of an attempt or a wait: its waiter, with a waker in it, and its span.
///
/// Their drop may run user code, which may panic. So the owner of a key records it before [M16].
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

/// The outcome of an attempt.
#[must_use]
pub(crate) enum Claiming {
    /// The key is held; the caller records it before it drops the leftovers.
    Holds(Leftovers),
    Queued(Claim),
    /// Another reader waits to be the only holder: for this one to leave.
    Rival,
}

/// The state of a claim.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Waits,
    Holds,
    Killed,
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

    /// Notifies a subscriber, which is user code and may panic. The claim exists in either case.
    pub(crate) fn observe(&mut self) {
        self.wait = Some(Wait::begin(self.ticket.hash, self.ticket.waiter.mode()));
    }
}

impl RawTable {
    /// Acquires the key for `owner`, or a place in its queue, which `notify` will wake.
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

    /// Converts the caller's shared lock to an exclusive one, or queues `waiter` at the head and
    /// keeps the shared lock. Runs no user code.
    pub(crate) fn claim_upgrade(&self, hash: u64, waiter: &Arc<Waiter>) -> Claiming {
        // The caller owns the waiter, and drops it.
        let holds = || {
            Claiming::Holds(Leftovers {
                _span: None,
                waiter: None,
            })
        };
        let mut walk = self.trie.walk(hash);
        loop {
            match walk.leaf() {
                Leaf::Own(word) if word.readers() == 1 => {
                    if walk.slot().upgrade(word, hash).is_ok() {
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
            Acquired::Holds | Acquired::Busy => unreachable!("it returns a place"),
        }
    }

    /// Makes a notification of this thread.
    pub(crate) fn notify_thread() -> (Parker, Notify) {
        let (parker, unparker) = Parker::new();
        (parker, Notify::Thread(unparker))
    }

    /// Returns the spin that precedes a place in the queue.
    pub(crate) fn spin_before(&self) -> Spin {
        match self.fairness {
            Fairness::Eventual => Spin::new(),
            Fairness::Fifo => Spin::none(),
        }
    }

    /// Checks the signal of a claim, and leaves `renewal` with the claim if it keeps waiting.
    ///
    /// If the claim holds the key, so do the waiters in `wakeup`, which [`claimed`](Self::claimed)
    /// notifies.
    pub(crate) fn told(
        &self,
        claim: &Claim,
        renewal: &mut Option<Notify>,
        wakeup: &mut Wakeup,
    ) -> Told {
        let waiter = &claim.ticket.waiter;
        // Pinned before the load of a signal that still waits. If another thread ends the wait
        // after the load, the monitor may die, but it exists for as long as the pin [M13].
        let _pin = (waiter.signal() != Signal::Granted).then(|| self.trie.pin());
        if self.check(&claim.ticket, renewal, wakeup) {
            return Told::Holds;
        }
        match waiter.signal() {
            Signal::Killed => Told::Killed,
            // If it was granted just now, the granting thread has notified it, or is about to.
            _ => Told::Waits,
        }
    }

    /// Ends a claim whose key is held, as the caller has recorded. May run user code.
    pub(crate) fn claimed(&self, claim: Claim, wakeup: &mut Wakeup) {
        wakeup.run();
        self.statistics
            .waited(claim.ticket.hash, &claim.ticket.waiter);
        let _ended = claim.wait;
        Waiter::recycle(claim.ticket.waiter);
    }

    /// Ends a claim that was killed.
    pub(crate) fn lost(&self, claim: Claim) {
        self.statistics
            .gave_up(claim.ticket.hash, &claim.ticket.waiter);
        let _ended = claim.wait;
        Waiter::recycle(claim.ticket.waiter);
    }

    /// Leaves the queue. If the key was granted before, it is held, and the leftovers are returned.
    ///
    /// The caller drops the leftovers once it has recorded or released the key. Otherwise user code
    /// may run here.
    pub(crate) fn give_up(&self, claim: Claim) -> Option<Leftovers> {
        let Claim { ticket, wait } = claim;
        self.cancel(ticket).then_some(Leftovers {
            _span: wait,
            waiter: None,
        })
    }
}
