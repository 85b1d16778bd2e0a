//! Escalation: how a transaction that repeatedly aborts eventually commits [X6], and how long it
//! waits.

use std::time::Instant;

use crate::cell::limit::has_passed;
use crate::mvcc::{Head, Owner, Rank, Status};
use crate::reclaim::Local;
use crate::sync::tuning::{
    LOCK_SPINS, LOSE_AFTER, NAP_AFTER, NOTIFY_AFTER, OWN_ALL_AFTER, OWN_BEATEN_AFTER,
};
use crate::sync::{AtomicU64, Ordering, global, nap, spin_loop, yield_now};

use super::error::AbortReasons;

global! {
    const AGES: AtomicU64 = AtomicU64::new(0);
}

/// The reason for which an attempt aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    Read,
    Write,
    Overtaken,
}

impl AbortReasons {
    pub(super) fn count(&mut self, loss: Loss) {
        match loss {
            Loss::Read => self.read_conflicts += 1,
            Loss::Write => self.write_conflicts += 1,
            Loss::Overtaken => self.overtaken += 1,
        }
    }
}

/// The reaction of an attempt to an owner that it may not abort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnOwner {
    /// Waits until the owner is decided, or the deadline has passed.
    Wait,
    /// The attempt counts as aborted after a short spin.
    Lose,
    /// Ends after a short spin, and has the end of the owner notify the task.
    Notify,
}

/// Why an attempt does not wait for an owner any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Met {
    /// The attempt was aborted in the meantime, or may not wait.
    Overtaken,
    TimedOut,
    /// The task waits without a thread.
    Busy,
}

/// The losses of one transaction, over all its attempts, and its limits.
pub(super) struct Ladder {
    pub(super) losses: u32,
    /// Counts the attempts that have ended to wait for an owner or a lock. They are no aborts, but
    /// they also lead to escalation.
    waits: u32,
    pub(super) rank: Rank,
    /// What most transactions never need.
    history: Option<Box<History>>,
    pub(super) deadline: Option<Instant>,
    on_owner: OnOwner,
    /// When the closure first asked to wait for a limited time.
    pub(super) retries_since: Option<Instant>,
}

#[derive(Default)]
struct History {
    reasons: AbortReasons,
    /// Addresses of the cells at which attempts aborted.
    beaten: Vec<usize>,
}

/// The state of a transaction that has not aborted yet.
pub(super) static FIRST: Ladder = Ladder::new(None, OnOwner::Wait);

impl Ladder {
    pub(super) const fn new(deadline: Option<Instant>, on_owner: OnOwner) -> Self {
        Ladder {
            losses: 0,
            waits: 0,
            rank: Rank::NONE,
            history: None,
            deadline,
            on_owner,
            retries_since: None,
        }
    }

    /// One with the same limits, and without losses.
    pub(super) const fn again(&self) -> Self {
        Ladder::new(self.deadline, self.on_owner)
    }

    /// Records an aborted attempt, and the address of the cell, if it conflicted at one.
    #[cold]
    pub(super) fn lose(&mut self, loss: Loss, at: Option<usize>) {
        self.losses = self.losses.saturating_add(1);
        self.history.get_or_insert_default().reasons.count(loss);
        self.climb(at);
    }

    /// An attempt has ended to wait for the owner or the lock of the cell of this address.
    #[cold]
    pub(super) fn wait_for_owner(&mut self, at: usize) {
        self.waits = self.waits.saturating_add(1);
        self.climb(Some(at));
    }

    fn setbacks(&self) -> u32 {
        self.losses.saturating_add(self.waits)
    }

    fn climb(&mut self, at: Option<usize>) {
        let beaten = &mut self.history.get_or_insert_default().beaten;
        if let Some(at) = at.filter(|at| !beaten.contains(at)) {
            beaten.push(at);
        }
        if self.setbacks() >= OWN_BEATEN_AFTER && !self.rank.is_ranked() {
            // Relaxed: ages differ, and that is all that counts.
            self.rank = Rank::of_age(AGES.fetch_add(1, Ordering::Relaxed));
        }
    }

    /// The reasons for which attempts aborted.
    pub(super) fn reasons(&self) -> AbortReasons {
        self.history
            .as_ref()
            .map(|history| history.reasons)
            .unwrap_or_default()
    }

    /// Waits a little before the next attempt. Not while pinned.
    #[cold]
    pub(super) fn step_back(&self) {
        if self.losses <= 2 {
            (0..1 << (4 * self.losses)).for_each(|_| spin_loop());
        } else {
            yield_now();
        }
    }

    /// Returns whether this attempt must own the cell at the first access.
    #[inline]
    pub(super) fn owns(&self, head: &Head) -> bool {
        self.rank.is_ranked() && self.owns_slow(head)
    }

    #[cold]
    fn owns_slow(&self, head: &Head) -> bool {
        let beaten = self.history.iter().flat_map(|history| &history.beaten);
        self.setbacks() >= OWN_ALL_AFTER || beaten.into_iter().any(|at| *at == head.address())
    }

    /// Waits a little for the end of a lock. `Err`: the attempt ends, and waits for it afterwards
    /// if its limits allow [V13].
    #[cold]
    pub(super) fn meet_lock(&self, is_locked: impl Fn() -> bool) -> Result<(), Met> {
        for _ in 0..LOCK_SPINS {
            spin_loop();
            if !is_locked() {
                return Ok(());
            }
        }
        if has_passed(self.deadline) {
            return Err(Met::TimedOut);
        }
        Err(match self.on_owner {
            OnOwner::Lose => Met::Overtaken,
            OnOwner::Wait | OnOwner::Notify => Met::Busy,
        })
    }

    /// Waits until `other`, which owns a cell that this attempt needs, is decided; or decides it.
    /// `Err`: this attempt does not wait any longer.
    ///
    /// # Panics
    /// Panics if `other` is a transaction of this thread, which cannot end while this one waits.
    #[cold]
    pub(super) fn meet(
        &self,
        other: &Owner,
        own: Option<&Owner>,
        local: &Local,
    ) -> Result<(), Met> {
        assert!(
            !other.is_of(local.thread()),
            "cell is owned by an outer transaction of this thread; pass the outer `Tx` instead of nesting"
        );
        // Inside the closure of another transaction, the age of the older one applies.
        let rank = self.rank.min(Rank::of_thread());
        let mut rounds = 0;
        loop {
            if other.status().is_decided() {
                return Ok(());
            }
            if own.is_some_and(|own| own.status() == Status::Aborted) {
                return Err(Met::Overtaken);
            }
            if rank.goes_before(other.rank(), rounds) {
                other.kill();
                return Ok(());
            }
            if has_passed(self.deadline) {
                return Err(Met::TimedOut);
            }
            match self.on_owner {
                OnOwner::Lose if rounds >= LOSE_AFTER => return Err(Met::Overtaken),
                // One without an age is aborted soon, and notifies no task.
                OnOwner::Notify if rounds >= NOTIFY_AFTER && other.rank().is_ranked() => {
                    return Err(Met::Busy);
                }
                _ => {}
            }
            if rounds < NAP_AFTER {
                yield_now();
            } else {
                nap();
            }
            rounds += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{VersionedCell, reclaim};

    /// An attempt that encounters an owner decides it, or reports that it was aborted itself.
    #[test]
    fn who_meets_an_owner_goes_on_or_is_lost() {
        reclaim::with(|local| {
            let of_others = || Owner::new(Rank::NONE, local.thread() + 1);
            let ladder = FIRST.again();
            let (other, own) = (of_others(), of_others());
            assert_eq!(ladder.meet(&other, Some(&own), local), Ok(()));
            assert_eq!(other.status(), Status::Aborted);
            assert!(!own.status().is_decided());
            // A decided owner blocks no attempt, including one that is aborted.
            own.kill();
            assert_eq!(ladder.meet(&other, Some(&own), local), Ok(()));
            let other = of_others();
            assert_eq!(ladder.meet(&other, Some(&own), local), Err(Met::Overtaken));
            assert!(!other.status().is_decided());
        });
    }

    /// An owner with an age, of another thread and older, is waited for as long as the limits
    /// allow.
    #[test]
    fn a_limit_ends_the_wait_for_an_owner() {
        reclaim::with(|local| {
            let other = Owner::new(Rank::of_age(0), local.thread() + 1);
            let past = Some(Instant::now());
            for (deadline, on_owner, met) in [
                (past, OnOwner::Wait, Met::TimedOut),
                (past, OnOwner::Notify, Met::TimedOut),
                (None, OnOwner::Lose, Met::Overtaken),
                (None, OnOwner::Notify, Met::Busy),
            ] {
                let ladder = Ladder::new(deadline, on_owner);
                assert_eq!(ladder.meet(&other, None, local), Err(met));
                // An attempt waits for an owner without an age until its deadline.
                let without_age = Owner::new(Rank::NONE, local.thread() + 1);
                let met = ladder.meet(&without_age, None, local);
                assert_eq!(met.is_ok(), deadline.is_none());
            }
            assert!(!other.status().is_decided());
        });
    }

    /// A task that only waits also gets an age, and its waits are no aborts.
    #[test]
    fn waits_of_a_task_count_for_its_age() {
        let mut ladder = FIRST.again();
        for n in 0..OWN_BEATEN_AFTER {
            assert!(!ladder.rank.is_ranked(), "after {n}");
            ladder.wait_for_owner(8);
        }
        assert!(ladder.rank.is_ranked());
        assert_eq!((ladder.losses, ladder.reasons().total()), (0, 0));
    }

    #[test]
    fn what_was_lost_and_where_is_remembered() {
        let cells = [0, 0, 0].map(VersionedCell::new);
        let [a, b, c] = cells.each_ref().map(VersionedCell::head);
        let mut ladder = FIRST.again();
        assert_eq!(ladder.reasons(), AbortReasons::default());
        let losses = [
            (Loss::Read, Some(a)),
            (Loss::Write, Some(a)),
            (Loss::Write, None),
            (Loss::Overtaken, Some(b)),
            (Loss::Overtaken, None),
            (Loss::Overtaken, Some(b)),
        ];
        for (n, (loss, at)) in losses.into_iter().enumerate() {
            assert_eq!(ladder.rank.is_ranked(), n as u32 >= OWN_BEATEN_AFTER);
            ladder.lose(loss, at.map(Head::address));
        }
        let rank = ladder.rank;
        let reasons = ladder.reasons();
        let counts = (
            reasons.read_conflicts,
            reasons.write_conflicts,
            reasons.overtaken,
        );
        assert_eq!((counts, reasons.total()), ((1, 2, 3), 6));
        let text = "1 read conflicts, 2 write conflicts, overtaken 3 times";
        assert_eq!(reasons.to_string(), text);
        assert!(ladder.owns(a) && ladder.owns(b) && !ladder.owns(c));
        for _ in losses.len() as u32..OWN_ALL_AFTER {
            assert!(!ladder.owns(c));
            ladder.lose(Loss::Read, None);
        }
        assert!(ladder.owns(c));
        assert_eq!(ladder.rank, rank, "an age is given once");
    }
}
