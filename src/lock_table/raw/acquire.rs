//! Acquires a key: one compare-and-swap on the fast path, a queue on the slow path.

use std::sync::Arc;
use std::time::Instant;

use super::monitor::{Entered, Monitor};
use super::place::{KeyWait, Notices, Place};
use super::table::{RawTable, TableRef};
use super::trie::{Leaf, Walk};
use crate::deadlock::Owner;
use crate::lock_table::fairness::Fairness;
use crate::park::{Notify, Spin, Waiter, Wakeup};
use crate::sync::{Parker, now};
use crate::word::{Entry, Kind, Mode, SlotWord};

/// A waiter of a key, as a node of the graph of waits.
pub(crate) trait Party {
    /// Returns the waiter for threads that inspect the queue; called before it queues.
    fn owner(&mut self) -> Option<Owner>;

    /// Returns when it publishes if it still waits then; called before the thread parks.
    fn due(&mut self) -> Option<Instant>;

    /// Publishes the wait, and ends cycles through it. The caller must run the notifications, which
    /// are user code.
    fn publish<T: TableRef>(&mut self, wait: &KeyWait<T>) -> Notices;

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

    #[inline(always)]
    fn publish<T: TableRef>(&mut self, _: &KeyWait<T>) -> Notices {
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
                let (parker, notify) = Notify::this_thread();
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
                let mut queued_as = QueuedAs {
                    party,
                    wait: Some(place.wait(self, hash, waiter)),
                };
                queued_as.wait().observe();
                queued_as.block_on(&parker, queued, deadline)
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

    /// Converts the caller's shared lock to an exclusive one, or queues `waiter` at the head and
    /// keeps the shared lock. Returns `None` if another reader waits to be the only holder, for the
    /// caller to leave. Runs no user code.
    pub(crate) fn acquire_upgrade(&self, hash: u64, waiter: &Arc<Waiter>) -> Option<Acquired> {
        let mut walk = self.trie.walk(hash);
        loop {
            match walk.leaf() {
                Leaf::Own(word) if word.readers() == 1 => {
                    if walk.slot().upgrade(word, hash).is_ok() {
                        return Some(Acquired::Holds);
                    }
                }
                Leaf::Own(word) => {
                    let monitor = Monitor::upgraded_by(hash, word.readers(), waiter.clone());
                    if let Ok(monitor) = walk.inflate(word, Box::new(monitor)) {
                        self.statistics.inflations.increment();
                        return Some(self.queued(monitor));
                    }
                }
                Leaf::Monitor(word) => {
                    let monitor = walk.monitor(word);
                    return match monitor.upgrade(waiter.clone())? {
                        Entered::Queued => Some(self.queued(monitor)),
                        _ => Some(Acquired::Holds),
                    };
                }
                Leaf::Empty | Leaf::Other(_) => unreachable!("a held key has its word [S1]"),
            }
        }
    }

    /// Returns the spin that precedes a place in the queue.
    pub(crate) fn spin_before(&self) -> Spin {
        match self.fairness {
            Fairness::Eventual => Spin::new(),
            Fairness::Fifo => Spin::none(),
        }
    }

    fn queued(&self, monitor: &Monitor) -> Acquired {
        self.statistics.waits.increment();
        Acquired::Queued(Place::new(monitor))
    }
}

/// The wait of a thread, which leaves the graph before it ends [D2].
struct QueuedAs<'t, 'p, P: Party> {
    party: &'p mut P,
    /// `None` once it ends.
    wait: Option<KeyWait<&'t RawTable>>,
}

impl<'t, P: Party> QueuedAs<'t, '_, P> {
    #[inline]
    fn wait(&mut self) -> &mut KeyWait<&'t RawTable> {
        self.wait.as_mut().expect("there until the end")
    }

    /// Leaves the graph, and returns the wait, which ends.
    #[inline]
    fn leave(&mut self) -> KeyWait<&'t RawTable> {
        self.party.leave();
        self.wait.take().expect("there until the end")
    }

    /// Blocks until the key is held (`true`) or `deadline` has passed; `spin`s before it parks.
    #[inline]
    fn block_on(mut self, parker: &Parker, mut spin: Spin, deadline: Option<Instant>) -> bool {
        let mut wakeup = Wakeup::default();
        loop {
            let due = self.party.due();
            let first = due.filter(|due| deadline.is_none_or(|deadline| *due < deadline));
            let until = first.or(deadline);
            if self
                .wait()
                .block_on_by(parker, &mut spin, until, &mut wakeup)
            {
                break;
            }
            if first.is_some() {
                let wait = self.wait.as_ref().expect("there until the end");
                // User code: if it panics, the wait leaves the graph and then ends.
                self.party.publish(wait).run();
                continue;
            }
            // Step 12: a late waiter is not refused a free key [M15].
            if self.wait().recheck(&mut None, &mut wakeup) {
                break;
            }
            return self.leave().cancel_late();
        }
        self.leave().hold(|table| table, None, &mut wakeup);
        true
    }
}

impl<P: Party> Drop for QueuedAs<'_, '_, P> {
    fn drop(&mut self) {
        // The place in the queue is released after this [D2].
        if self.wait.is_some() {
            self.party.leave();
        }
    }
}
