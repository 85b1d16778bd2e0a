//! The reaction of a writer to a conflict.

use crossbeam_utils::Backoff;

use super::owner::{Owner, Rank};
use super::waiters;
use crate::reclaim::Local;
use crate::sync::tuning::NAP_AFTER;
use crate::sync::{nap, yield_now};

/// Why an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// Another thread has written, or has begun to wait.
    Moved,
    /// A transaction owns the cell.
    Owned,
    /// The entry of a map is locked.
    Locked,
}

/// Counts how often a writer has backed off.
pub(crate) struct Patience {
    backoff: Backoff,
    met: u32,
}

impl Patience {
    pub(crate) fn new() -> Self {
        Patience {
            backoff: Backoff::new(),
            met: 0,
        }
    }

    /// Waits a little before the next attempt. Not while pinned.
    #[cold]
    pub(crate) fn step_back(&mut self, lost: Lost) {
        match lost {
            // The caller waits in the queue of the lock, and has locked the key itself now [V13].
            Lost::Locked => {}
            Lost::Moved => self.backoff.snooze(),
            Lost::Owned if self.met < NAP_AFTER => {
                self.met += 1;
                yield_now();
            }
            Lost::Owned => nap(),
        }
    }

    /// Decides about a transaction that owns the cell: either aborts it, or returns `Err`, and the
    /// caller backs off. An escalated transaction is not aborted, unless the caller is inside the
    /// closure of an older one [X6].
    ///
    /// # Panics
    /// Panics if a transaction of this thread owns the cell: it cannot end while the caller waits.
    #[cold]
    pub(crate) fn meet(&self, owner: &Owner, local: &Local) -> Result<(), Lost> {
        owner.check_not_of(local.thread());
        if !Rank::of_thread().goes_before(owner.rank(), self.met) {
            return Err(Lost::Owned);
        }
        owner.kill();
        if owner.rank().is_ranked() {
            // Its closure may run for long: its waiters are notified now [X10]. The caller is
            // inside the closure of an older transaction, which is pinned, and so is all code that
            // it runs.
            waiters::wake_those_of_owner(owner.address());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reclaim;
    use crate::sync::tuning::PATIENCE;

    /// A writer that has backed off often enough aborts a transaction without an age, but not one
    /// that has escalated.
    #[test]
    fn patience_ends_with_those_who_have_no_age() {
        reclaim::with(|local| {
            let others = local.thread() + 1;
            let is_aborted = |owner: &Owner| owner.status().is_decided();
            let mut patience = Patience::new();
            for _ in 0..PATIENCE {
                let owner = Owner::new(Rank::NONE, others);
                assert_eq!(patience.meet(&owner, local), Err(Lost::Owned));
                assert!(!is_aborted(&owner));
                patience.step_back(Lost::Moved);
                patience.step_back(Lost::Owned);
            }
            let on_the_ladder = Owner::new(Rank::of_age(1), others);
            assert_eq!(patience.meet(&on_the_ladder, local), Err(Lost::Owned));
            let owner = Owner::new(Rank::NONE, others);
            assert_eq!(patience.meet(&owner, local), Ok(()));
            assert!(is_aborted(&owner) && !is_aborted(&on_the_ladder));
            // Inside the closure of an older transaction, a writer waits for no newer one.
            let before = Rank::of_age(0).enter();
            assert_eq!(Patience::new().meet(&on_the_ladder, local), Ok(()));
            before.restore();
            assert!(is_aborted(&on_the_ladder));
        });
    }
}
