//! The epoch, and the states of the threads that are pinned [R2].
//!
//! # Orderings
//! PROTOCOL.md, *Why two epochs suffice*, refers to the fences by name: F0 in [`State::pin`], F1 in
//! [`Epoch::tag`], F2 in [`Epoch::advance`].

use crossbeam_utils::CachePadded;

use super::registry::Registry;
use crate::sync::{AtomicU64, Ordering, constructor, full_fence, load_load_fence, publish};

/// An object is reclaimable when the epoch is so much later than the one of its batch [R2].
const GRACE: u64 = 2;

/// The state of a thread that is not pinned.
const UNPINNED: u64 = 0;

/// The first epoch, which is not the state of an unpinned thread.
const FIRST: u64 = 1;

/// The epoch of the process.
#[derive(Debug)]
pub(super) struct Epoch(CachePadded<AtomicU64>);

/// The epoch at which a thread is pinned, or [`UNPINNED`]. Only the thread itself changes it.
#[derive(Debug)]
pub(super) struct State(AtomicU64);

impl State {
    pub(super) fn new() -> Self {
        State(AtomicU64::new(UNPINNED))
    }

    /// Pins the thread, which is not pinned.
    #[inline(always)]
    pub(super) fn pin(&self, epoch: &Epoch) {
        // Relaxed: an old epoch makes advances fail, and is safe otherwise [R2].
        let epoch = epoch.0.load(Ordering::Relaxed);
        // Release: a scan that finds this state instead of the one before also observes the
        // accesses under earlier pins. The fence is F0: the thread loads no pointer before the
        // state is visible to every scan whose fence is later [R2].
        publish(&self.0, epoch);
    }

    #[inline(always)]
    pub(super) fn unpin(&self) {
        // Release: the accesses under the pin happen before every advance that finds this state.
        // Pairs with the Acquire in `permits` [R2].
        self.0.store(UNPINNED, Ordering::Release);
    }

    /// Whether the epoch may move on from `epoch`.
    fn permits(&self, epoch: u64) -> bool {
        // Acquire: pairs with the Release in `unpin` and `pin` [R2].
        let state = self.0.load(Ordering::Acquire);
        state == UNPINNED || state == epoch
    }
}

impl Epoch {
    constructor! {
        pub(super) fn new() -> Self {
            Epoch(CachePadded::new(AtomicU64::new(FIRST)))
        }
    }

    /// Returns the epoch of objects that were unlinked before the call [R2].
    pub(super) fn tag(&self) -> u64 {
        // F1: the objects were unlinked before it, each by a read-modify-write that happens before
        // this call, and the caller has loaded their number. On x86 such an operation is a full
        // barrier by itself.
        load_load_fence();
        // Relaxed: only the value matters. The fence excludes an earlier one where a reader depends
        // on it [R2].
        self.0.load(Ordering::Relaxed)
    }

    /// Returns the present epoch, for a comparison only.
    pub(super) fn current(&self) -> u64 {
        // Relaxed: an old value delays an advance.
        self.0.load(Ordering::Relaxed)
    }

    /// The greatest epoch whose objects are reclaimable; 0 if there is none.
    pub(super) fn reclaimable(&self) -> u64 {
        // Acquire: the accesses of every reader of such an object happen before its release. Pairs
        // with the Release in `advance`, and with those before it in its release sequence [R2].
        self.0.load(Ordering::Acquire).saturating_sub(GRACE)
    }

    /// Moves the epoch on if no thread is pinned at an earlier one. `false`: one is, and no other
    /// thread has moved the epoch on concurrently.
    pub(super) fn advance(&self, registry: &Registry) -> bool {
        // Relaxed: an old value makes the compare-and-swap fail.
        let epoch = self.0.load(Ordering::Relaxed);
        // F2: a state that was published before a fence before this one is found below [R2].
        full_fence();
        if !registry.slots().all(|slot| slot.state().permits(epoch)) {
            return self.current() != epoch;
        }
        // Release: the states that were found happen before the next epoch. Pairs with the Acquire
        // in `reclaimable` [R2]. Relaxed on failure: another thread has moved it on, which is as
        // good.
        let _ = self
            .0
            .compare_exchange(epoch, epoch + 1, Ordering::Release, Ordering::Relaxed);
        true
    }

    /// Makes objects that no pin protects reclaimable. `false`: a pin stands in the way.
    pub(super) fn advance_twice(&self, registry: &Registry) -> bool {
        self.advance(registry) && self.advance(registry)
    }
}
