//! The lock of a key with waiters: a state word and a queue.
//!
//! A monitor has no access to the index. Its methods return the steps that it cannot do itself (to
//! unlink it, to notify) to the caller.
#![allow(unsafe_code)]

use std::sync::Arc;

use super::busiest::HoldClock;
use crate::lock_table::fairness::Fairness;
use crate::park::{Notify, Queue, Signal, Waiter, Wakeup};
use crate::reclaim::Pin;
use crate::sync::{AtomicU64, Canary, Mutex, Ordering};
use crate::word::{Entry, Kind, Mode, Queued, Release, SlotWord, State};

#[derive(Debug)]
#[repr(align(8))]
pub(crate) struct Monitor {
    hash: u64,
    state: AtomicU64,
    queue: Mutex<Queue>,
    canary: Canary,
    hold_clock: HoldClock,
}

/// The outcome of an attempt to enter.
#[must_use]
pub(super) enum Entered {
    Holds,
    /// The monitor is dead: unlink it and start again.
    Dead,
    Busy,
    Queued,
}

/// The work that a departure leaves to the caller, besides notifications.
#[must_use]
pub(super) enum Left {
    Alive,
    /// The monitor died: unlink it. No waiter must be notified.
    Dead,
}

/// The outcome of a cancelled wait.
#[must_use]
pub(super) enum Cancelled {
    /// Too late: the waiter holds the key.
    Granted,
    Left(Left),
}

/// The party that ends a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// The waiter.
    Own,
    /// Another thread: the waiter must be notified.
    Other,
}

pub(super) fn monitor_at(word: SlotWord) -> *mut Monitor {
    debug_assert_eq!(word.kind(), Kind::Monitor);
    core::ptr::with_exposed_provenance_mut(word.address())
}

/// Returns the monitor that `word` points to.
///
/// # Safety
/// `word` was loaded from a slot of a table under `_pin`.
#[inline(always)]
pub(super) unsafe fn monitor_ref(word: SlotWord, _pin: &Pin) -> &Monitor {
    // SAFETY: linked when it was loaded and retired after it was unlinked, so alive under the pin
    // [S5].
    unsafe { &*monitor_at(word).cast_const() }
}

impl Monitor {
    /// Makes a monitor of a key without waiters, held by `readers`, or exclusively if that is 0.
    pub(super) fn held(hash: u64, readers: u64) -> Self {
        Self::new(hash, State::held_by(readers), Queue::new())
    }

    #[inline(always)]
    fn new(hash: u64, state: State, queue: Queue) -> Self {
        Monitor {
            hash,
            state: AtomicU64::new(state.bits()),
            queue: Mutex::new(queue),
            canary: Canary::new(),
            hold_clock: HoldClock::start(),
        }
    }

    /// Makes a monitor as [`held`](Self::held) does. Of its several holders, `waiter` waits to be
    /// the only one.
    pub(super) fn upgraded_by(hash: u64, readers: u64, waiter: Arc<Waiter>) -> Self {
        let mut queue = Queue::new();
        queue.push(waiter);
        let state = State::held_by(readers).with_upgrader();
        Self::new(hash, state, queue)
    }

    /// Makes a monitor as [`held`](Self::held) does, with `waiter` in its queue.
    pub(super) fn waited_for(hash: u64, readers: u64, waiter: Arc<Waiter>) -> Self {
        let mut queue = Queue::new();
        queue.push(waiter);
        let state = State::held_by(readers).with_queue(queue.queued());
        Self::new(hash, state, queue)
    }

    pub(crate) fn hash(&self) -> u64 {
        self.canary.check();
        self.hash
    }

    /// Returns the state, for inspection.
    pub(crate) fn peek(&self) -> State {
        self.canary.check();
        // Relaxed: it only decides on a spin, or is part of a report.
        State::from_bits(self.state.load(Ordering::Relaxed))
    }

    /// Returns the nanoseconds for which the key has been held since its first waiter queued.
    #[cfg(feature = "console")]
    pub(crate) fn held_for(&self) -> u64 {
        self.canary.check();
        self.hold_clock.elapsed()
    }

    /// Starts the next part of the hold, and returns the nanoseconds of the part that ends.
    #[cfg(feature = "console")]
    pub(super) fn restart_hold(&self) -> u64 {
        self.canary.check();
        self.hold_clock.restart()
    }

    fn load(&self) -> State {
        // Relaxed: the compare-and-swap that follows decides, and orders.
        State::from_bits(self.state.load(Ordering::Relaxed))
    }

    fn cas(&self, old: State, new: State, success: Ordering) -> bool {
        // Relaxed on failure: it is loaded again.
        self.state
            .compare_exchange(old.bits(), new.bits(), success, Ordering::Relaxed)
            .is_ok()
    }

    /// Acquires the key if it is free, or else queues the result of `waiter`. Without `waiter`, it
    /// returns at once.
    pub(super) fn enter(
        &self,
        mode: Mode,
        waiter: Option<&mut dyn FnMut() -> Arc<Waiter>>,
    ) -> Entered {
        if let Some(entered) = self.try_enter(mode) {
            return entered;
        }
        let Some(waiter) = waiter else {
            return Entered::Busy;
        };
        // Before the mutex is locked: it may allocate.
        let waiter = waiter();
        let mut queue = self.queue.lock();
        loop {
            if let Some(entered) = self.try_enter(mode) {
                return entered;
            }
            let state = self.load();
            let next = state.with_queue(match (queue.queued(), mode) {
                (Queued::Writers, _) | (_, Mode::Exclusive) => Queued::Writers,
                _ => Queued::Readers,
            });
            // Refused in `state`, or else load it again: between the refusal and the mark, no
            // holder has left without seeing the mark [M4].
            if state.enter(mode) != Entry::Refuse {
                continue;
            }
            // Relaxed: the mark publishes nothing; the mutex orders the queue.
            if next == state || self.cas(state, next, Ordering::Relaxed) {
                if queue.queued() == Queued::Nobody {
                    self.hold_clock.restart();
                }
                queue.push(waiter);
                break;
            }
        }
        drop(queue);
        // The unlock was the last access.
        self.canary.check();
        Entered::Queued
    }

    /// Tries once to acquire the key if it is free; returns `None` if it is not.
    fn try_enter(&self, mode: Mode) -> Option<Entered> {
        let entered = loop {
            // Acquire: a thread that finds the monitor dead unlinks it, and so passes on the
            // release of its last holder [M3].
            let state = State::from_bits(self.state.load(Ordering::Acquire));
            match state.enter(mode) {
                Entry::Dead => break Some(Entered::Dead),
                Entry::Refuse => break None,
                Entry::Admit(next) => {
                    // Acquire: from every release of this key, including those after the load [S3].
                    if self.cas(state, next, Ordering::Acquire) {
                        break Some(Entered::Holds);
                    }
                }
            }
        };
        self.canary.check();
        entered
    }

    /// Checks the signal of a waiter, and the key if the waiter was woken or may acquire it out of
    /// turn. Returns whether it holds the key now.
    ///
    /// Otherwise it keeps waiting. A `renewal` is exchanged for its present notification. The
    /// waiter must be in this queue, or be granted.
    pub(super) fn look(
        &self,
        waiter: &Arc<Waiter>,
        fairness: Fairness,
        renewal: &mut Option<Notify>,
        wakeup: &mut Wakeup,
    ) -> bool {
        let mut queue = self.queue.lock();
        loop {
            match waiter.signal() {
                Signal::Granted => return true,
                Signal::Killed => return false,
                Signal::Waiting => {
                    // Step 11: the head is woken whenever the key is free, so only the waiters
                    // behind it gain by this. `Fifo` grants in order and never out of turn.
                    if fairness == Fairness::Eventual
                        && !queue.is_head(waiter)
                        && self.overtake(&mut queue, waiter)
                    {
                        return true;
                    }
                    break;
                }
                Signal::Woken => {}
            }
            debug_assert!(queue.is_head(waiter), "only the head is woken");
            let state = self.load();
            if state.fits(waiter.mode()) {
                if self.admit_run(state, &mut queue, Some(waiter), wakeup) {
                    return true;
                }
            // Relaxed: the mark means only that a release must wake the head again. If the key was
            // released concurrently, the exchange fails [M5].
            } else if self.cas(state, state.not_woken(), Ordering::Relaxed) {
                waiter.set_signal(Signal::Waiting);
            }
        }
        if let Some(notify) = renewal.take() {
            // SAFETY: not granted, so still in the queue [W2].
            *renewal = unsafe { queue.renew(waiter, notify) };
        }
        drop(queue);
        // The unlock was the last access.
        self.canary.check();
        false
    }

    /// Acquires the key for a waiter behind the head if a new thread could acquire it. Returns
    /// whether it holds the key now.
    #[cold]
    #[inline(never)]
    fn overtake(&self, queue: &mut Queue, waiter: &Arc<Waiter>) -> bool {
        loop {
            let state = self.load();
            let Some(next) = state.overtaken_by(waiter.mode()) else {
                return false;
            };
            // The head stays the head: its mark and the count of bypasses are unchanged [M7] [M15].
            let next = next.with_queue(queue.queued_without(waiter.mode()));
            // Acquire: from every release of this key, including one that never locked the mutex
            // [S3].
            if self.cas(state, next, Ordering::Acquire) {
                // SAFETY: neither granted nor killed, so still in the queue [W2]. Its owner has
                // another reference, so no notification is dropped here.
                drop(unsafe { queue.remove(waiter) });
                waiter.set_signal(Signal::Granted);
                return true;
            }
        }
    }

    /// Grants the key to the run at the head of the queue, whose modes fit the holders in `state`.
    fn admit_run(
        &self,
        state: State,
        queue: &mut Queue,
        me: Option<&Waiter>,
        wakeup: &mut Wakeup,
    ) -> bool {
        let run = queue.run();
        let next = state
            .new_head()
            .with_holders(run.0, run.1)
            .with_queue(queue.queued_behind(run));
        // Acquire: the admitted waiters follow every release of this key [S3]; they observe it by
        // their signal, or by this mutex [M6].
        let admitted = self.cas(state, next, Ordering::Acquire);
        if admitted {
            queue.grant(run.1, me, wakeup);
        }
        admitted
    }

    /// Removes a holder. The caller must be pinned: the monitor may die as soon as the state is
    /// dead [M2].
    pub(super) fn release(&self, mode: Mode, fairness: Fairness, wakeup: &mut Wakeup) -> Left {
        let strict = fairness == Fairness::Fifo;
        let mut queue = None;
        loop {
            let state = self.load();
            debug_assert!(
                !state.is_dead() && state.mode() == Some(mode),
                "a hold that is not there"
            );
            match state.release(mode, strict) {
                Release::Leave(next) => {
                    // Release: the critical section of this holder happens before the next holder,
                    // and before the death of the monitor [M3].
                    if self.cas(state, next, Ordering::Release) {
                        break;
                    }
                }
                Release::Die => {
                    // Release: a thread that finds it dead passes on this holder's writes. Acquire:
                    // this thread passes on those of readers that left before [M3].
                    if self.cas(state, State::DEAD, Ordering::AcqRel) {
                        return Left::Dead;
                    }
                }
                // The queue decides the rest: load the state again under its mutex.
                _ if queue.is_none() => queue = Some(self.queue.lock()),
                Release::Wake(next) => {
                    // Release: as when leaving [M3].
                    if self.cas(state, next, Ordering::Release) {
                        queue.as_mut().expect("locked above").wake_head(wakeup);
                        break;
                    }
                }
                Release::Promote(next) => {
                    let queue = queue.as_mut().expect("locked above");
                    let next = next.with_queue(queue.queued_behind((Mode::Exclusive, 1)));
                    // Acquire: the upgrader follows every reader that left, by its signal [M6].
                    // Release: it also follows this one [M12].
                    if self.cas(state, next, Ordering::AcqRel) {
                        queue.grant(1, None, wakeup);
                        break;
                    }
                }
                Release::HandOver => {
                    let queue = queue.as_mut().expect("locked above");
                    let run = queue.run();
                    let next = state
                        .released(mode)
                        .new_head()
                        .with_holders(run.0, run.1)
                        .with_queue(queue.queued_behind(run));
                    // Acquire: the granted waiters follow every reader that left before this one,
                    // and this one itself, by their signal [M6]. Release: a reader that joins them,
                    // and has only the state, also follows it [M3].
                    if self.cas(state, next, Ordering::AcqRel) {
                        queue.grant(run.1, None, wakeup);
                        break;
                    }
                }
            }
        }
        drop(queue);
        // The unlock was the last access.
        self.canary.check();
        Left::Alive
    }

    /// Converts the exclusive holder to a reader, and admits the readers at the head of the queue.
    pub(super) fn downgrade(&self) -> Wakeup {
        let mut wakeup = Wakeup::default();
        let mut queue = None;
        loop {
            let state = self.load();
            debug_assert_eq!(
                state.mode(),
                Some(Mode::Exclusive),
                "a hold that is not there"
            );
            let shared = state.downgraded();
            if !state.is_queued() {
                // Release: the holder's writes happen before the reads of the readers that join it
                // [M3].
                if self.cas(state, shared, Ordering::Release) {
                    break;
                }
                continue;
            }
            // The queue decides which waiters are admitted: load the state again under its mutex.
            let Some(queue) = &mut queue else {
                queue = Some(self.queue.lock());
                continue;
            };
            let run = queue.run();
            let (next, run) = match run.0 {
                Mode::Exclusive => (shared, (Mode::Shared, 0)),
                Mode::Shared => (
                    shared
                        .new_head()
                        .with_holders(run.0, run.1)
                        .with_queue(queue.queued_behind(run)),
                    run,
                ),
            };
            // Release: as above, including for waiters that observe it by their signal [M6].
            if self.cas(state, next, Ordering::Release) {
                queue.grant(run.1, None, &mut wakeup);
                break;
            }
        }
        drop(queue);
        wakeup
    }

    /// Converts the only reader to the exclusive holder. Returns `false` if there are other
    /// readers.
    pub(super) fn try_upgrade(&self) -> bool {
        loop {
            let state = self.load();
            let Some(next) = state.upgraded() else {
                return false;
            };
            // Acquire: the critical sections of earlier readers happen before this holder's writes
            // [S3].
            if self.cas(state, next, Ordering::Acquire) {
                return true;
            }
        }
    }

    /// Upgrades as [`try_upgrade`](Self::try_upgrade) does, or else queues `waiter` at the head.
    ///
    /// The reader keeps its shared lock while it waits. Returns `None` if another reader is already
    /// there, which waits for this one to leave.
    pub(super) fn upgrade(&self, waiter: Arc<Waiter>) -> Option<Entered> {
        let mut queue = self.queue.lock();
        loop {
            let state = self.load();
            let (next, holds) = match state.upgraded() {
                Some(next) => (next, true),
                None if state.has_upgrader() => return None,
                None => (state.with_upgrader(), false),
            };
            // Acquire: as in `try_upgrade` [S3]. A reader that leaves after the mark sees it [M12].
            if self.cas(state, next, Ordering::Acquire) {
                if holds {
                    return Some(Entered::Holds);
                }
                if queue.queued() == Queued::Nobody {
                    self.hold_clock.restart();
                }
                queue.push_front(waiter);
                return Some(Entered::Queued);
            }
        }
    }

    /// Removes a waiter that stops waiting, or that another thread ends: then it is in `wakeup`.
    ///
    /// The caller must be pinned: without a pin, nothing may keep the monitor alive [M2].
    pub(super) fn cancel(
        &self,
        waiter: &Arc<Waiter>,
        wish: Wish,
        wakeup: &mut Wakeup,
    ) -> Cancelled {
        let mut queue = self.queue.lock();
        if waiter.signal() == Signal::Granted {
            return Cancelled::Granted;
        }
        let was_head = queue.is_head(waiter);
        match wish {
            // SAFETY: not granted, so still in the queue [W2].
            Wish::Own => drop(unsafe { queue.remove(waiter) }),
            // SAFETY: as above.
            Wish::Other => unsafe { queue.end(waiter, Signal::Killed, wakeup) },
        }
        loop {
            let mut state = self.load();
            if was_head && state.has_upgrader() {
                // It was the upgrader, which remains a reader. Relaxed: the mark publishes nothing.
                let plain = state.without_upgrader();
                if !self.cas(state, plain, Ordering::Relaxed) {
                    continue;
                }
                state = plain;
            }
            let marked = state.with_queue(queue.queued());
            if queue.queued() == Queued::Nobody && !state.is_held() {
                // Acquire: the unlink passes on the critical sections of earlier holders [M3].
                if self.cas(state, State::DEAD, Ordering::Acquire) {
                    return Cancelled::Left(Left::Dead);
                }
                continue;
            }
            if !was_head || queue.queued() == Queued::Nobody {
                // Relaxed: the mark publishes nothing.
                if marked == state || self.cas(state, marked, Ordering::Relaxed) {
                    break;
                }
                continue;
            }
            // The new head has the right of the old one: admission if it fits.
            let head = queue.head().expect("a waiter is queued").mode();
            if head == Mode::Shared && state.fits(Mode::Shared) {
                if self.admit_run(state, &mut queue, None, wakeup) {
                    break;
                }
            } else if state.is_held() {
                // Relaxed: the next release wakes the new head [M5].
                if self.cas(state, marked.not_woken(), Ordering::Relaxed) {
                    break;
                }
            } else if marked == state || self.cas(state, marked, Ordering::Relaxed) {
                // Relaxed: the mark publishes nothing. The key is free, so the old head had been
                // woken: the new one is woken instead [M5].
                queue.wake_head(wakeup);
                break;
            }
        }
        drop(queue);
        // The unlock was the last access.
        self.canary.check();
        Cancelled::Left(Left::Alive)
    }

    /// Grants the key to a reader ahead of the writers before it, because a holder waits for the
    /// reader.
    ///
    /// The caller is pinned, or the key has a holder that does not release it concurrently. Returns
    /// whether the reader was still waiting.
    pub(super) fn let_past(&self, waiter: &Arc<Waiter>, wakeup: &mut Wakeup) -> bool {
        let mut queue = self.queue.lock();
        if matches!(waiter.signal(), Signal::Granted | Signal::Killed) {
            return false;
        }
        loop {
            let state = self.load();
            if !state.fits(waiter.mode()) {
                return false;
            }
            if queue.is_head(waiter) {
                // It is about to be admitted, together with the readers behind it.
                if self.admit_run(state, &mut queue, None, wakeup) {
                    break;
                }
                continue;
            }
            // Another waiter is before it in the queue, so the mark depends on the remaining ones
            // alone [M14].
            let next = state.with_holders(waiter.mode(), 1);
            let next = next.with_queue(queue.queued_without(waiter.mode()));
            // Acquire: it follows every release of this key [S3], and the reader observes it by its
            // signal [M6].
            if self.cas(state, next, Ordering::Acquire) {
                // SAFETY: neither granted nor killed, so still in the queue [W2].
                unsafe { queue.end(waiter, Signal::Granted, wakeup) };
                break;
            }
        }
        drop(queue);
        // The unlock was the last access.
        self.canary.check();
        true
    }

    /// Calls `f` with each waiter, from the head on, under the mutex.
    pub(crate) fn for_each_waiter(&self, f: impl FnMut(&Waiter)) {
        self.queue.lock().for_each(f);
    }
}
