//! The epoch, and the states of the threads that are pinned [R2].
//!
//! # Orderings
//! PROTOCOL.md, *Why two epochs suffice*, refers to the fences by name: F0 in [`State::pin`], or in
//! [`join_fence`] where the slot was dormant, F1 in [`Epoch::tag`], F2 in [`Epoch::advance`].

use crossbeam_utils::CachePadded;

use super::members::Verdict;
use crate::sync::tuning::AGES;
use crate::sync::{AtomicU64, Ordering, constructor, full_fence, load_load_fence, publish};

/// An object is reclaimable when the epoch is so much later than the one of its batch [R2].
const GRACE: u64 = 2;

/// The state of a thread that has ended its pin, and has not aged since. It ages one by one.
const UNPINNED: u64 = 0;

/// The state of a thread whose slot is no member, or will not be [R13].
const DORMANT: u64 = AGES;

/// The first epoch, which is not the state of an unpinned thread.
const FIRST: u64 = DORMANT + 1;

/// The slots of a domain, as an advance visits them.
pub(super) trait Scan {
    /// Visits the state of each slot that is a member. `false`: `look` has ended the scan.
    fn scan(&self, look: impl Fn(&State) -> Verdict) -> bool;

    /// Whether a scan visits so many slots that idle ones should leave.
    fn is_large(&self) -> bool;

    /// The number of epochs between two scans in which idle slots age.
    fn age_every(&self) -> u64;
}

/// The epoch of the process.
#[derive(Debug)]
pub(super) struct Epoch(CachePadded<AtomicU64>);

/// The epoch at which objects left their buffer. They were unlinked before [R2].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag(u64);

/// The greatest epoch whose objects are reclaimable; 0 if there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reach(u64);

/// The epoch at which a thread is pinned, or an age from [`UNPINNED`] to [`DORMANT`]. Only the
/// thread itself stores into it. Other threads let it age, by compare-and-swap, so each of them
/// continues the release sequence of `unpin`.
#[derive(Debug)]
pub(super) struct State(AtomicU64);

/// The result of the scan of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// The thread is pinned at an earlier epoch.
    Pinned,
    /// The thread is pinned at the present epoch.
    Current,
    /// The thread is not pinned.
    Idle { age: u64 },
}

/// F0 of a thread whose slot was dormant: it has joined [R13].
#[inline]
pub(super) fn join_fence() {
    full_fence();
}

impl State {
    pub(super) fn new() -> Self {
        State(AtomicU64::new(DORMANT))
    }

    /// Pins the thread, which is not pinned. `true`: its slot was dormant, and must join before the
    /// thread loads a pointer [R13].
    #[inline(always)]
    #[must_use]
    pub(super) fn pin(&self, epoch: &Epoch) -> bool {
        // Relaxed: an old epoch makes advances fail, and is safe otherwise [R2].
        let epoch = epoch.0.load(Ordering::Relaxed);
        // The fence is F0: the thread loads no pointer before the state is visible to every scan
        // whose fence is later [R2]. A scan that finds this state instead of the one before also
        // observes the accesses under earlier pins: it continues the release sequence of `unpin`.
        publish(&self.0, epoch) == DORMANT
    }

    #[inline(always)]
    pub(super) fn unpin(&self) {
        // Release: the accesses under the pin happen before every advance that finds this state.
        // Pairs with the Acquire in `permits` [R2].
        self.0.store(UNPINNED, Ordering::Release);
    }

    fn look(&self, epoch: u64) -> Look {
        // Acquire: pairs with the Release in `unpin` [R2].
        match self.0.load(Ordering::Acquire) {
            age @ ..=DORMANT => Look::Idle { age },
            state if state == epoch => Look::Current,
            _ => Look::Pinned,
        }
    }

    /// The thread has not pinned itself since a scan found this age. `true`: its slot is dormant.
    fn has_aged(&self, age: u64) -> bool {
        // Acquire: the value may be from a later `unpin` than the one that was found. Pairs with
        // the Release there [R13]. Relaxed on failure: the thread is pinned, or has been.
        age == DORMANT
            || self
                .0
                .compare_exchange(age, age + 1, Ordering::Acquire, Ordering::Relaxed)
                .is_ok_and(|age| age + 1 == DORMANT)
    }
}

impl Reach {
    /// Whether objects with this tag are reclaimable.
    #[inline(always)]
    pub(super) fn covers(self, tag: Tag) -> bool {
        tag.0 <= self.0
    }

    pub(super) fn epoch(self) -> u64 {
        self.0
    }
}

#[cfg(any(latchwork_loom, latchwork_shuttle))]
impl Tag {
    /// That of the last objects of an execution.
    pub(super) fn of_the_end() -> Self {
        Tag(0)
    }
}

#[cfg(all(test, not(any(latchwork_loom, latchwork_shuttle))))]
impl Tag {
    pub(super) fn at(epoch: u64) -> Self {
        Tag(epoch)
    }
}

#[cfg(all(test, not(any(latchwork_loom, latchwork_shuttle))))]
impl Reach {
    pub(super) fn to(epoch: u64) -> Self {
        Reach(epoch)
    }
}

impl Epoch {
    constructor! {
        pub(super) fn new() -> Self {
            Epoch(CachePadded::new(AtomicU64::new(FIRST)))
        }
    }

    /// Returns the tag of objects that were unlinked before the call [R2].
    pub(super) fn tag(&self) -> Tag {
        // F1: the objects were unlinked before it, each by a read-modify-write that happens before
        // this call, and the caller has loaded their number. On x86 such an operation is a full
        // barrier by itself.
        load_load_fence();
        // Relaxed: only the value matters. The fence excludes an earlier one where a reader depends
        // on it [R2].
        Tag(self.0.load(Ordering::Relaxed))
    }

    /// Returns the epoch for a [`GracePeriod`](super::local::GracePeriod) that begins now.
    pub(super) fn begin_grace(&self) -> u64 {
        // As F1, and no read-modify-write of the caller needs to precede it [V5].
        full_fence();
        // Relaxed: as in `tag`.
        self.0.load(Ordering::Relaxed)
    }

    /// Returns the present epoch, for a comparison only.
    pub(super) fn current(&self) -> u64 {
        // Relaxed: an old value delays an advance.
        self.0.load(Ordering::Relaxed)
    }

    /// Returns which objects are reclaimable.
    pub(super) fn reclaimable(&self) -> Reach {
        // Acquire: the accesses of every reader of such an object happen before its release. Pairs
        // with the Release in `advance`, and with those before it in its release sequence [R2].
        Reach(self.0.load(Ordering::Acquire).saturating_sub(GRACE))
    }

    /// Moves the epoch on if no thread is pinned at an earlier one. `false`: one is, and no other
    /// thread has moved the epoch on concurrently.
    pub(super) fn advance(&self, slots: &impl Scan) -> bool {
        // Relaxed: an old value makes the compare-and-swap fail.
        let epoch = self.0.load(Ordering::Relaxed);
        // F2: a state that was published before a fence before this one is found below [R2].
        full_fence();
        let ages = slots.is_large() && epoch % slots.age_every() == 0;
        let permits = slots.scan(|state| match state.look(epoch) {
            Look::Pinned => Verdict::Stop,
            Look::Idle { age } if ages && state.has_aged(age) => Verdict::Leave,
            Look::Idle { .. } => Verdict::Idle,
            Look::Current => Verdict::Stay,
        });
        if !permits {
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
    pub(super) fn advance_twice(&self, slots: &impl Scan) -> bool {
        self.advance(slots) && self.advance(slots)
    }
}
