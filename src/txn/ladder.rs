//! How a transaction that keeps losing comes to win [X6].

use crate::cell::{Head, Owner, Rank, Status};
use crate::reclaim::Local;
use crate::sync::tuning::{NAP_AFTER, OWN_ALL_AFTER, OWN_BEATEN_AFTER, PATIENCE};
use crate::sync::{AtomicU64, Ordering, global, nap, spin_loop, yield_now};

use super::error::AbortReasons;

global! {
    const AGES: AtomicU64 = AtomicU64::new(0);
}

/// What an attempt was lost to.
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

/// The losses of one transaction, over all its attempts.
pub(super) struct Ladder {
    pub(super) losses: u32,
    pub(super) rank: Rank,
    /// What most transactions never need.
    history: Option<Box<History>>,
}

#[derive(Default)]
struct History {
    reasons: AbortReasons,
    /// Addresses of the cells that attempts were lost at.
    beaten: Vec<usize>,
}

/// That of a transaction that has not lost yet.
pub(super) static FIRST: Ladder = Ladder::new();

impl Ladder {
    pub(super) const fn new() -> Self {
        Ladder {
            losses: 0,
            rank: Rank::NONE,
            history: None,
        }
    }

    /// An attempt was lost at the cell of this address, if at one.
    #[cold]
    pub(super) fn lose(&mut self, loss: Loss, at: Option<usize>) {
        let History { reasons, beaten } = &mut **self.history.get_or_insert_default();
        self.losses = self.losses.saturating_add(1);
        reasons.count(loss);
        if let Some(at) = at.filter(|at| !beaten.contains(at)) {
            beaten.push(at);
        }
        if self.losses >= OWN_BEATEN_AFTER && !self.rank.is_ranked() {
            // Relaxed: ages differ, and that is all that counts.
            self.rank = Rank::of_age(AGES.fetch_add(1, Ordering::Relaxed));
        }
    }

    /// Why attempts were lost.
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

    /// Whether this attempt is to own the cell as soon as it meets it.
    #[inline]
    pub(super) fn owns(&self, head: &Head) -> bool {
        self.rank.is_ranked() && self.owns_slow(head)
    }

    #[cold]
    fn owns_slow(&self, head: &Head) -> bool {
        let beaten = self.history.iter().flat_map(|history| &history.beaten);
        self.losses >= OWN_ALL_AFTER || beaten.into_iter().any(|at| *at == head.address())
    }

    /// Waits until `other`, which owns a cell that this attempt wants, is decided; or decides it. `Err`: this
    /// attempt was overtaken meanwhile.
    ///
    /// # Panics
    /// If `other` is a transaction of this thread, which cannot go on while this one waits.
    #[cold]
    pub(super) fn meet(&self, other: &Owner, own: Option<&Owner>, local: &Local) -> Result<(), ()> {
        assert!(
            !other.is_of(local.thread()),
            "a transaction inside the closure of another wants a cell that the outer one owns"
        );
        // Inside the closure of another it goes by the age of the elder.
        let rank = self.rank.min(Rank::of_thread(local));
        let mut rounds = 0;
        loop {
            if other.status().is_decided() {
                return Ok(());
            }
            if own.is_some_and(|own| own.status() == Status::Aborted) {
                return Err(());
            }
            // The elder goes first; without age, whoever has waited long enough.
            let goes_first =
                rank < other.rank() || (!other.rank().is_ranked() && rounds >= PATIENCE);
            if goes_first {
                other.kill();
                return Ok(());
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
