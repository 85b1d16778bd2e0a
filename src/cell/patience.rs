//! What a writer does when others are in its way.

use crossbeam_utils::Backoff;

use super::{Owner, Rank};
use crate::reclaim::Local;
use crate::sync::tuning::{NAP_AFTER, PATIENCE};
use crate::sync::{nap, yield_now};

/// Why an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// Somebody has written, or has begun to wait.
    Moved,
    /// A transaction owns the cell.
    Owned,
}

/// How often somebody has stepped back for others.
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
            Lost::Moved => self.backoff.snooze(),
            Lost::Owned if self.met < NAP_AFTER => {
                self.met += 1;
                yield_now();
            }
            Lost::Owned => nap(),
        }
    }

    /// Decides about a transaction that owns the cell: it has had its time and is aborted, or the caller is to step
    /// back. One that is on the ladder is left alone, unless the caller is inside the closure of an elder one: it will be done, and
    /// cannot be done before others give way [X6].
    ///
    /// # Panics
    /// If it is a transaction of the caller's own thread, which cannot go on while the caller waits.
    #[cold]
    pub(crate) fn meet(&self, owner: &Owner, local: &Local) -> Result<(), Lost> {
        assert!(
            !owner.is_of(local.thread()),
            "a cell that a transaction of this thread owns is written or waited for inside its closure; \
             use the transaction"
        );
        let is_elder = Rank::of_thread(local) < owner.rank();
        if !is_elder && (owner.rank().is_ranked() || self.met < PATIENCE) {
            return Err(Lost::Owned);
        }
        owner.kill();
        Ok(())
    }
}
