//! A session that waits: how the wait begins, how it is notified, how it ends.

use std::time::{Duration, Instant};

use super::pending::Pending;
use super::{LockError, Policy, Session};
use crate::deadlock::{Held, Search};
use crate::lock_table::{Acquired, Notices, Patience};
use crate::park::{Notify, Signal, Spin, Waiter, Wakeup};
use crate::sync::tuning::{DETECT_AFTER, EARLY_YIELDERS, EARLY_YIELDS};
use crate::sync::{now, yield_now};
use crate::word::Mode;

/// The next action of a wait if no event precedes it.
#[derive(Clone, Copy)]
enum Next {
    Detect(Instant),
    GiveUp(Instant),
    Nothing,
}

impl<'t, K: ?Sized, S> Session<'t, K, S> {
    #[cold]
    #[inline(never)]
    pub(super) fn lock_slow(&mut self, want: Held, upgrade: bool) -> Result<(), LockError> {
        let mut begun = None;
        if core::mem::take(&mut self.lost) {
            begun = self.await_turn();
            // The key may have been released in the turns of the other victims.
            if !upgrade && self.try_take(want) {
                return Ok(());
            }
        }
        let mut parker = None;
        let table = self.table.raw();
        // The clock starts before the spin, because a spin is a wait.
        let waits = || {
            begun.get_or_insert_with(now);
            table.spin_before()
        };
        let notify = || {
            let (own, notify) = Notify::this_thread();
            parker = Some(own);
            notify
        };
        if self.begin(want, upgrade, waits, notify)? {
            return Ok(());
        }
        let parker = parker.expect("made to be queued");
        let begun = begun.expect("read before the wait");
        let deadline = self.deadline(begun);
        let detect = begun.checked_add(self.detect_after);
        // A wait that was published by an upgrade has been searched already.
        let mut owners = usize::MAX;
        if detect.is_some() && !upgrade && self.table.detector.may_search_early() {
            let search = match self.detect_after {
                Duration::ZERO => Search::Due,
                _ => Search::Early,
            };
            owners = self.detect(search);
        }
        if self.turn {
            if let Some(done) = self.look(&mut None) {
                return done;
            }
            self.pass_turn();
        }
        // In a crowd, the threads that are ready to run need the core.
        if owners <= EARLY_YIELDERS {
            let until = begun.checked_add(DETECT_AFTER);
            if let Some(done) = self.wait_early(deadline.into_iter().chain(until).min()) {
                return done;
            }
        }
        loop {
            if let Some(done) = self.look(&mut None) {
                return done;
            }
            match self.next(detect, deadline) {
                Next::Nothing => parker.park(),
                Next::Detect(at) if !parker.park_until(at) => {
                    self.detect(Search::Due);
                }
                Next::GiveUp(at) if !parker.park_until(at) => {
                    // With a renewal it also checks the state: a late waiter is not refused a free
                    // key [M15].
                    let (_, notify) = Notify::this_thread();
                    return match self.look(&mut Some(notify)) {
                        Some(done) => done,
                        None => self.give_up(LockError::TimedOut),
                    };
                }
                Next::Detect(_) | Next::GiveUp(_) => {}
            }
        }
    }

    /// Yields some times, until `until` at the latest, before the thread parks [D10]. Returns the
    /// result of the wait, if it has ended.
    fn wait_early(&mut self, until: Option<Instant>) -> Option<Result<(), LockError>> {
        for _ in 0..EARLY_YIELDS {
            if let Some(done) = self.look(&mut None) {
                return Some(done);
            }
            #[cfg(all(test, not(any(latchwork_loom, latchwork_shuttle))))]
            tests::at_yield();
            yield_now();
            // On a busy machine a yield may last for long.
            if until.is_some_and(|until| now() >= until) {
                break;
            }
        }
        None
    }

    /// Whether it searches for a deadlock by itself. No clock counts as many seconds as "never" is.
    /// Reads no clock.
    pub(super) fn searches(&self) -> bool {
        i64::try_from(self.detect_after.as_secs()).is_ok()
    }

    /// When a wait that begins now is over, if it ends by itself.
    pub(super) fn deadline(&self, begun: Instant) -> Option<Instant> {
        match self.policy {
            Policy::Timeout(time) => begun.checked_add(time),
            _ => None,
        }
    }

    fn next(&self, detect: Option<Instant>, deadline: Option<Instant>) -> Next {
        let published = self.pending.as_ref().is_none_or(|p| p.published);
        match (detect.filter(|_| !published), deadline) {
            (Some(detect), Some(deadline)) if deadline < detect => Next::GiveUp(deadline),
            (Some(detect), _) => Next::Detect(detect),
            (None, Some(deadline)) => Next::GiveUp(deadline),
            (None, None) => Next::Nothing,
        }
    }

    /// Acquires the key (`true`), or a place in its queue. `waits` is called before the session
    /// waits, if it does, and returns how it spins.
    pub(super) fn begin(
        &mut self,
        want: Held,
        upgrade: bool,
        waits: impl FnOnce() -> Spin,
        notify: impl FnMut() -> Notify,
    ) -> Result<bool, LockError> {
        self.announce(want, upgrade)?;
        let wish = Wish {
            session: self,
            hash: want.hash,
        };
        let session = &mut *wish.session;
        // Otherwise the caller has tried to lock the key already.
        let is_untried = upgrade || session.announced;
        let begun = if session.policy == Policy::NoWait {
            session.try_now(want, upgrade)
        } else if is_untried && session.try_now(want, upgrade).is_ok() {
            Ok(true)
        } else {
            let spin = waits();
            if upgrade {
                session.begin_upgrade(want, notify)
            } else {
                Ok(session.begin_lock(want, spin, notify))
            }
        };
        if begun.is_ok() {
            core::mem::forget(wish);
        }
        begun
    }

    fn try_now(&mut self, want: Held, upgrade: bool) -> Result<bool, LockError> {
        let table = self.table.raw();
        if upgrade && table.try_upgrade(want.hash) {
            self.upgraded(want);
        } else if !upgrade && table.try_lock(want.hash, want.mode) {
            self.take(want);
        } else {
            return Err(LockError::WouldBlock);
        }
        Ok(true)
    }

    fn begin_lock(&mut self, want: Held, spin: Spin, mut notify: impl FnMut() -> Notify) -> bool {
        let table = self.table.raw();
        let mut made = None;
        let owner = &self.owner;
        let mut waiter = || {
            let new = || Waiter::take_for(Some(owner.clone()), want.mode, notify());
            made.get_or_insert_with(new).clone()
        };
        let patience = Patience::Queue {
            spin,
            waiter: &mut waiter,
        };
        match table.acquire(want.hash, want.mode, patience) {
            Acquired::Holds => {
                self.take(want);
                // User code: the hold is recorded [M16].
                if let Some(unused) = made {
                    Waiter::recycle(unused);
                }
                true
            }
            Acquired::Queued(place) => {
                let waiter = made.expect("made to be queued");
                let pending = self.pending.insert(Pending {
                    wait: place.wait(table, want.hash, waiter),
                    want,
                    published: false,
                });
                // Notifies a subscriber, which may panic: the wait is recorded.
                pending.wait.observe();
                false
            }
            Acquired::Busy => unreachable!("it has the patience to queue"),
        }
    }

    /// Queues and publishes in one hold of the graph's mutex, so that the second of two upgraders
    /// finds the first [D5]. One of them is the victim, by the general rule; if that is the first,
    /// it leaves the queue, and this session queues in the same hold.
    fn begin_upgrade(
        &mut self,
        want: Held,
        mut notify: impl FnMut() -> Notify,
    ) -> Result<bool, LockError> {
        let waiter = Waiter::take_for(Some(self.owner.clone()), Mode::Exclusive, notify());
        let mut held = self.list();
        let mut notices = Notices::default();
        loop {
            let (acquired, lost) = self.table.detector.with(|waits| {
                loop {
                    match self.table.raw().acquire_upgrade(want.hash, &waiter) {
                        Some(Acquired::Queued(place)) => {
                            let (table, waiter) = (self.table.raw(), waiter.clone());
                            let pending = Pending {
                                wait: place.wait_to_upgrade(table, want.hash, waiter),
                                want,
                                published: true,
                            };
                            self.publish(waits, core::mem::take(&mut held), &pending);
                            self.pending = Some(pending);
                            return (true, None);
                        }
                        Some(_) => return (true, None),
                        None => {
                            let Some(cycle) = self.rivalry(waits, want) else {
                                return (false, None);
                            };
                            let lost = self.end_rivalry(waits, cycle, &mut notices);
                            if lost.is_some() {
                                return (false, lost);
                            }
                        }
                    }
                }
            });
            match (acquired, lost) {
                (true, _) if self.pending.is_some() => break,
                (true, _) => {
                    self.upgraded(want);
                    notices.run();
                    return Ok(true);
                }
                (false, Some(cycle)) => {
                    // User code: the loss is recorded [M16], and the report does not exist yet. A
                    // panic would leak a result that waits for its drop.
                    self.lose();
                    notices.run();
                    drop(waiter);
                    return Err(self.deadlock(&cycle));
                }
                // The other is on its way out of the queue.
                (false, None) => yield_now(),
            }
        }
        drop(waiter);
        // User code runs from here on: the victim's waker and a subscriber. The wait is recorded
        // [M16].
        self.detect(Search::Due);
        notices.run();
        if let Some(pending) = &mut self.pending {
            pending.wait.observe();
        }
        Ok(false)
    }

    /// Checks how the wait was notified, and leaves `renewal` with it if it continues. Returns the
    /// result of the wait, if it has ended.
    pub(super) fn look(&mut self, renewal: &mut Option<Notify>) -> Option<Result<(), LockError>> {
        let pending = self.pending.as_ref().expect("it waits");
        let mut wakeup = Wakeup::default();
        match pending.wait.told(renewal, &mut wakeup) {
            Signal::Waiting | Signal::Woken => None,
            Signal::Granted => {
                let pending = self.pending.take().expect("it waits");
                let killed = pending.published.then(|| self.unpublish()).flatten();
                debug_assert!(killed.is_none(), "granted and killed [M13]");
                let upgrade = pending.wait.awaited().upgrades();
                self.got(pending.want, upgrade);
                // User code: the hold is recorded [M16].
                let (key, waiter) = pending.wait.take_over();
                key.end(waiter, &mut wakeup);
                Some(Ok(()))
            }
            Signal::Killed => {
                let pending = self.pending.take().expect("it waits");
                let cycle = self.unpublish().expect("killed through what it published");
                self.retract(pending.want.hash);
                self.lose();
                drop(pending.wait);
                Some(Err(self.deadlock(&cycle)))
            }
        }
    }

    /// Records the key that a wait has acquired, before user code runs [M16].
    fn got(&mut self, want: Held, upgrade: bool) {
        if upgrade {
            self.upgraded(want);
        } else {
            self.take(want);
        }
    }

    /// Leaves the queue with `error`, unless it is too late for that.
    pub(super) fn give_up(&mut self, error: LockError) -> Result<(), LockError> {
        let pending = self.pending.take().expect("it waits");
        let killed = pending.published.then(|| self.unpublish()).flatten();
        let (want, upgrade) = (pending.want, pending.wait.awaited().upgrades());
        if let Some(cycle) = killed {
            self.retract(want.hash);
            self.lose();
            drop(pending.wait);
            return Err(self.deadlock(&cycle));
        }
        // First retract, then leave: if a waker panics, the record is correct [D1].
        self.retract(want.hash);
        if let Some(leftovers) = pending.wait.cancel() {
            self.got(want, upgrade);
            self.announce_change(want);
            // User code: the hold is recorded [M16].
            drop(leftovers);
            return Ok(());
        }
        Err(error)
    }

    /// Leaves the queue for good: a key that was granted is passed on, and a hold that was upgraded
    /// is shared again.
    pub(super) fn abandon(&mut self) {
        let pending = self.pending.take().expect("it waits");
        let killed = pending.published.then(|| self.unpublish()).flatten();
        self.retract(pending.want.hash);
        if killed.is_some() {
            self.lose();
        }
        // Leaves the queue, or undoes the grant, and then runs user code [M16].
        drop(pending);
    }
}

/// The request that a session has announced. It is retracted when this is dropped, unless the
/// session waits by then: by an error, and by a panic of user code.
struct Wish<'a, 't, K: ?Sized, S> {
    session: &'a mut Session<'t, K, S>,
    hash: u64,
}

impl<K: ?Sized, S> Drop for Wish<'_, '_, K, S> {
    fn drop(&mut self) {
        if self.session.pending.is_none() {
            self.session.retract(self.hash);
        }
    }
}

#[cfg(all(test, not(any(latchwork_loom, latchwork_shuttle))))]
mod tests {
    use core::cell::{Cell, RefCell};
    use core::task::Waker;

    use super::*;
    use crate::LockTable;
    use crate::deadlock::{At, Found};
    use crate::lock_table::ExclusiveGuard;

    thread_local! {
        /// The yields of this thread in `wait_early`.
        static YIELDS: Cell<u32> = const { Cell::new(0) };
        /// Released at its next yield.
        static HELD: RefCell<Option<ExclusiveGuard<'static>>> = const { RefCell::new(None) };
    }

    pub(super) fn at_yield() {
        YIELDS.set(YIELDS.get() + 1);
        drop(HELD.take());
    }

    /// While deadlocks are frequent, waits lasted for microseconds, and each of their threads
    /// parked and was woken [D10].
    #[test]
    fn a_wait_that_searches_early_yields_before_it_parks() {
        let table: &LockTable<u64> = Box::leak(Box::default());
        let guard = table.lock(&1);
        let policy = Policy::Timeout(Duration::from_millis(1));
        let mut session = table.session().policy(policy);
        assert!(matches!(session.lock(&1), Err(LockError::TimedOut)));
        assert_eq!(YIELDS.take(), 0, "no deadlock was found");
        let sessions = &table.detector;
        sessions.with(|_| sessions.searched(Search::Due, Found::Cycle));
        HELD.replace(Some(guard));
        let mut session = table.session();
        session.lock(&1).unwrap();
        assert_eq!(YIELDS.take(), 1, "the key was released at the first yield");
    }

    /// In a crowd of waits the yields delay the threads that could run [D10].
    #[test]
    fn in_a_crowd_a_wait_parks_at_once() {
        for others in [EARLY_YIELDERS - 1, EARLY_YIELDERS] {
            let table: LockTable<u64> = LockTable::new();
            let sessions = &table.detector;
            sessions.with(|waits| {
                for _ in 0..others {
                    waits.graph.enter(&table.session().owner, Vec::new());
                }
                sessions.searched(Search::Due, Found::Cycle);
            });
            let _guard = table.lock(&1);
            let policy = Policy::Timeout(Duration::from_millis(1));
            let mut session = table.session().policy(policy);
            assert!(matches!(session.lock(&1), Err(LockError::TimedOut)));
            assert_eq!(YIELDS.take() == 0, others == EARLY_YIELDERS);
        }
    }

    /// The yields of a wait are bounded, by their number and by the time.
    #[test]
    fn the_yields_of_a_wait_are_bounded() {
        let table: LockTable<u64> = LockTable::new();
        let _guard = table.lock(&1);
        let mut session = table.session();
        let want = Held {
            hash: table.hash(&1),
            mode: Mode::Exclusive,
            at: At::here(),
        };
        let notify = || Notify::Task(Waker::noop().clone());
        let holds = session.begin(want, false, Spin::none, notify);
        assert!(matches!(holds, Ok(false)));
        for (until, yields) in [(None, EARLY_YIELDS), (Some(now()), 1)] {
            assert!(session.wait_early(until).is_none());
            assert_eq!(YIELDS.take(), yields);
        }
    }
}
