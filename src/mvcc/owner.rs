//! A transaction, as its cells see it: its status, and the rules by which others may abort it.
//!
//! # Word
//! | status | bits 0-1 | bit 2 | bits 3-63 |
//! |---|---|---|---|
//! | undecided | 0 | 0 | floor: its stamp will not be earlier |
//! | closing | 0 | 1 | floor; a thread that would raise it commits the transaction instead |
//! | prepared | 1 | | its stamp, if its reads are still valid |
//! | committed | 2 | | its stamp |
//! | aborted | 3 | | 0 |
//!
//! Changed by compare-and-swap, but for the mark of closing, which its owner sets once; committed
//! and aborted are final.

#![allow(unsafe_code)]

use core::cell::Cell;
use core::mem::MaybeUninit;
use core::ptr::NonNull;

use super::clock;
use super::stamp::When;
use crate::reclaim::{CellPin, Destructor, Kind, Local, Retired};
use crate::sync::tuning::{OWNERS, PATIENCE, max_pushes};
use crate::sync::{AtomicU64, Canary, Ordering, plain_thread_local, store_load_fence};

plain_thread_local! {
    // The age of the thread's running transaction. It does not change while a thread is torn down
    // and each call of `reclaim::with` makes another `Local`. Otherwise a thread would wait for
    // itself [R9].
    static TXN_AGE: Cell<u64> = Cell::new(u64::MAX);
}

/// The packed word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Undecided(u64),
    Closing(u64),
    Prepared(u64),
    Committed(u64),
    Aborted,
}

const CLOSING: u64 = 1 << 2;

impl Status {
    #[inline]
    fn from_bits(bits: u64) -> Self {
        let moment = bits >> 3;
        // By itself: as most are.
        if bits & 7 == 0 {
            return Status::Undecided(moment);
        }
        match bits & 3 {
            0 => Status::Closing(moment),
            1 => Status::Prepared(moment),
            2 => Status::Committed(moment),
            _ => Status::Aborted,
        }
    }

    #[inline]
    fn bits(self) -> u64 {
        match self {
            Status::Undecided(floor) => floor << 3,
            Status::Closing(floor) => floor << 3 | CLOSING,
            Status::Prepared(stamp) => stamp << 3 | 1,
            Status::Committed(stamp) => stamp << 3 | 2,
            Status::Aborted => 3,
        }
    }

    #[inline]
    pub(crate) fn is_decided(self) -> bool {
        matches!(self, Status::Committed(_) | Status::Aborted)
    }
}

/// The priority of two transactions that need the same cell: the lesser one prevails. Ranked
/// transactions have escalated and have an age. Those without an age yield to all ranked ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank(u64);

impl Rank {
    pub(crate) const NONE: Rank = Rank(u64::MAX);

    /// The lower age is the older transaction.
    pub(crate) fn of_age(age: u64) -> Self {
        Rank(age)
    }

    /// Returns the rank of the oldest transaction whose closure this thread runs. All that the
    /// thread does inside it has this rank [X6].
    pub(crate) fn of_thread() -> Self {
        Rank(TXN_AGE.with(Cell::get))
    }

    /// Lets the thread also act with this rank. Returns the previous rank of the thread.
    pub(crate) fn enter(self) -> Self {
        let before = Self::of_thread();
        TXN_AGE.with(|place| place.set(self.min(before).0));
        before
    }

    /// Lets the thread act with this rank alone.
    pub(crate) fn restore(self) {
        TXN_AGE.with(|place| place.set(self.0));
    }

    #[inline]
    pub(crate) fn is_ranked(self) -> bool {
        self != Self::NONE
    }

    /// Returns whether a transaction of this rank may abort an owner of rank `other`, after so many
    /// rounds of waiting. An older one may. Among those without an age, one that has waited long
    /// enough may. A ranked one is certain to finish, and can finish only if others yield [X6].
    pub(crate) fn goes_before(self, other: Rank, rounds: u32) -> bool {
        self < other || (!other.is_ranked() && rounds >= PATIENCE)
    }
}

/// Memory for the owners of a few attempts of one thread, one after the other: it is allocated and
/// retired once for all of them.
pub(crate) struct Owners([MaybeUninit<Owner>; OWNERS]);

impl Owners {
    pub(crate) const KIND: &'static Kind = {
        // Those that were never used need no destructor, and neither do the others, but for
        // canaries.
        const { assert!(OWNERS == 1 || !core::mem::needs_drop::<Owner>()) };
        // SAFETY: no thread has retired owners, and dropping them needs no further action.
        &unsafe { Kind::of::<Self>(Self::drop_share, Self::destroy, Destructor::None) }
    };

    fn new() -> Self {
        Owners([const { MaybeUninit::uninit() }; OWNERS])
    }

    /// Makes the owner at `i`.
    ///
    /// # Safety
    /// `owners` is alive and this thread's, and there is none at `i` yet.
    #[inline]
    unsafe fn make(owners: NonNull<Self>, i: usize, owner: Owner) -> NonNull<Owner> {
        assert!(i < OWNERS);
        // SAFETY: the block is alive.
        let first = unsafe { &raw mut (*owners.as_ptr()).0 };
        // SAFETY: an array is not null.
        let first = unsafe { NonNull::new_unchecked(first.cast::<Owner>()) };
        // SAFETY: inside the array.
        let slot = unsafe { first.add(i) };
        // SAFETY: no other thread has the address yet.
        unsafe { slot.write(owner) };
        slot
    }

    /// # Safety
    /// As for [`destroy`](Self::destroy).
    unsafe fn drop_share(_: NonNull<u8>) -> bool {
        true
    }

    /// # Safety
    /// `object` is a block of owners that no thread can reach.
    unsafe fn destroy(object: NonNull<u8>) {
        if core::mem::needs_drop::<Owner>() {
            // SAFETY: the only one, and it was made.
            unsafe { object.cast::<Owner>().drop_in_place() };
        }
    }
}

/// The owner of a running attempt. The attempt has the block in which the owner lies, until the
/// owner ends.
pub(crate) struct OwnerSlot {
    owner: NonNull<Owner>,
    /// The place of the owner in the block.
    number: usize,
}

impl OwnerSlot {
    /// Makes an undecided owner for an attempt of this thread.
    #[inline(always)]
    pub(crate) fn new(local: &Local, rank: Rank) -> Self {
        let (block, number) = match local.take_block() {
            Some((block, used)) => (block.cast(), used),
            None => (local.allocate(Owners::new()), 0),
        };
        let owner = Owner::new(rank, local.thread());
        // SAFETY: this attempt has the block, which is not retired yet; each owner in it is made
        // once.
        let owner = unsafe { Owners::make(block, number, owner) };
        OwnerSlot { owner, number }
    }

    #[inline(always)]
    pub(crate) fn as_ptr(&self) -> NonNull<Owner> {
        self.owner
    }

    /// Returns the owner, which the pin keeps: the block is retired later [R1].
    #[inline(always)]
    pub(crate) fn owner<'p>(&self, _: &'p CellPin) -> &'p Owner {
        // SAFETY: it was made, and its block is not retired before `end`. From then on, the pin,
        // which is from before, keeps the block.
        unsafe { &*self.owner.as_ptr() }
    }

    /// Returns the word of the nodes of the owner.
    #[inline(always)]
    pub(crate) fn when(&self) -> When {
        When::owner(self.owner.as_ptr().expose_provenance())
    }

    fn block(&self) -> NonNull<u8> {
        // SAFETY: the first owner of the same block.
        unsafe { self.owner.sub(self.number) }.cast()
    }

    /// Ends the owner: the thread keeps the block for its next one, or retires the block.
    ///
    /// # Safety
    /// Each node of the owner has been unlinked or stamped [X1], and the caller does not use the
    /// owner again. `pin` belongs to this thread.
    #[inline(always)]
    pub(crate) unsafe fn end(self, local: &Local, pin: &CellPin) {
        let (block, used) = (self.block(), self.number + 1);
        if used < OWNERS {
            // SAFETY: the owners before this one have ended, and this one ends here [X1].
            local.keep_block(pin, unsafe { Retired::new(block, Owners::KIND) }, used);
        } else {
            // SAFETY: as above.
            local.retire(pin, unsafe { Retired::new(block, Owners::KIND) });
        }
    }
}

/// One attempt of one transaction.
#[repr(align(16))]
#[derive(Debug)]
pub(crate) struct Owner {
    status: AtomicU64,
    rank: Rank,
    /// Names the thread that runs it, among those alive.
    thread: usize,
    canary: Canary,
}

impl Owner {
    #[inline]
    pub(crate) fn new(rank: Rank, thread: usize) -> Self {
        Owner {
            // A reader of the previous version need not postpone it until the clock advances.
            status: AtomicU64::new(Status::Undecided(clock::now()).bits()),
            rank,
            thread,
            canary: Canary::new(),
        }
    }

    #[inline]
    pub(crate) fn rank(&self) -> Rank {
        self.canary.check();
        self.rank
    }

    /// Returns the key of the waiters for the end of the transaction. No other owner, and no cell,
    /// has this address as long as the transaction is undecided [X10].
    pub(crate) fn address(&self) -> usize {
        core::ptr::from_ref(self).addr()
    }

    /// # Panics
    /// Panics if a transaction of `thread` owns the cell, because it cannot end while this thread
    /// waits for it.
    pub(crate) fn check_not_of(&self, thread: usize) {
        assert!(
            !self.is_of(thread),
            "cell is owned by a running transaction of this thread; access it through `Tx`"
        );
    }

    pub(crate) fn is_of(&self, thread: usize) -> bool {
        self.canary.check();
        self.thread == thread
    }

    #[inline]
    pub(crate) fn status(&self) -> Status {
        self.canary.check();
        // Acquire: synchronises with the writes of a committed transaction. Pairs with the Release
        // in `change` [X2].
        Status::from_bits(self.status.load(Ordering::Acquire))
    }

    /// Changes the status, unless it is another by now: then that.
    #[inline]
    pub(crate) fn change(&self, from: Status, to: Status) -> Result<(), Status> {
        self.canary.check();
        // Release: publishes the writes of the owner [X2]. A thread that finds the floor or the
        // commit timestamp reads no earlier clock than the caller has [C4] [X5]. The caller has
        // read the previous status by `status`. Relaxed on failure: a caller that acts on the
        // current status loads it again, or fences.
        let changed = self.status.compare_exchange(
            from.bits(),
            to.bits(),
            Ordering::Release,
            Ordering::Relaxed,
        );
        changed.map(drop).map_err(Status::from_bits)
    }

    /// Makes the transaction commit after the caller, which will act upon the previous version. If
    /// the transaction has validated its reads, it validates them again [X3]. If it may have read
    /// an earlier clock, it reads the clock again, or is committed [X5]. Returns the resulting
    /// status.
    pub(crate) fn doubt(&self) -> Status {
        let now = clock::now();
        self.change_while(|status| match status {
            Status::Prepared(at) => Some(Status::Undecided(at.max(now))),
            Status::Undecided(at) if at < now => Some(Status::Undecided(now)),
            Status::Closing(at) if at < now => Some(Self::committed_now()),
            _ => None,
        })
    }

    /// Makes the transaction commit after `moment` if it is undecided, and returns the resulting
    /// status [X5].
    pub(crate) fn postpone(&self, moment: u64) -> Status {
        self.change_while(|status| match status {
            Status::Undecided(at) | Status::Prepared(at) if at <= moment => {
                Some(Status::Undecided(moment + 1))
            }
            // It relies only on cells that it owns, and has been postponed often enough.
            Status::Closing(at) if at <= moment => Some(Self::committed_now()),
            _ => None,
        })
    }

    /// Returns the status to which another thread changes a closing transaction that it has found.
    fn committed_now() -> Status {
        // A thread that begins a snapshot from now on finds the nodes that the owner has installed,
        // as the caller does [X5].
        crate::sync::full_fence();
        Status::Committed(clock::commit_timestamp())
    }

    /// Commits a transaction that owns every cell that it has read, and has installed every node.
    /// Returns its stamp. `None`: it was aborted.
    #[inline(always)]
    pub(crate) fn commit(&self) -> Option<u64> {
        let status = self.status();
        // A model may close it at once.
        if max_pushes() > 0 && matches!(status, Status::Undecided(_)) {
            if let Some(stamp) = self.commit_from(status) {
                return Some(stamp);
            }
        }
        self.commit_slow()
    }

    #[cold]
    #[inline(never)]
    fn commit_slow(&self) -> Option<u64> {
        let mut pushes = 0;
        loop {
            let status = if pushes >= max_pushes() {
                // From now on a snapshot that finds the transaction decides instead [X9].
                self.close()
            } else {
                self.status()
            };
            match status {
                Status::Aborted => return None,
                Status::Committed(stamp) => return Some(stamp),
                Status::Undecided(_) | Status::Closing(_) | Status::Prepared(_) => {}
            }
            if let Some(stamp) = self.commit_from(status) {
                return Some(stamp);
            }
            pushes += 1;
        }
    }

    /// Commits at the present timestamp, unless the status is another one by now.
    #[inline(always)]
    fn commit_from(&self, status: Status) -> Option<u64> {
        // A thread that begins a snapshot from now on finds the installed nodes [X5].
        store_load_fence();
        let stamp = clock::commit_timestamp();
        let changed = self.change(status, Status::Committed(stamp));
        changed.is_ok().then_some(stamp)
    }

    /// Changes the status to the next one until there is none. Returns the resulting status.
    #[inline]
    fn change_while(&self, next: impl Fn(Status) -> Option<Status>) -> Status {
        let mut status = self.status();
        while let Some(later) = next(status) {
            match self.change(status, later) {
                Ok(()) => return later,
                Err(now) => status = now,
            }
        }
        status
    }

    /// Closes an owner that relies only on cells that it owns. From now on no thread postpones it.
    /// A snapshot that would have to postpone it commits it instead, at a timestamp after its own
    /// [X9]. Returns the resulting status.
    pub(crate) fn close(&self) -> Status {
        self.canary.check();
        // Release: as in `change`; a thread that commits for the owner continues this release
        // sequence. No Acquire: on each path from here the owner fences before it acts on the
        // previous status.
        let before = self.status.fetch_or(CLOSING, Ordering::Release);
        Status::from_bits(before | CLOSING)
    }

    /// Aborts the transaction if it is undecided, and returns the resulting status.
    pub(crate) fn kill(&self) -> Status {
        self.change_while(|status| (!status.is_decided()).then_some(Status::Aborted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_its_bits() {
        let all = [
            Status::Undecided(0),
            Status::Undecided(7),
            Status::Closing(7),
            Status::Prepared(7),
            Status::Committed(u64::MAX >> 3),
            Status::Aborted,
        ];
        for status in all {
            assert_eq!(Status::from_bits(status.bits()), status);
        }
        assert!(Rank::of_age(0) < Rank::of_age(1) && Rank::of_age(1) < Rank::NONE);
    }

    #[test]
    fn the_elder_goes_first_and_nobody_kills_it() {
        let [elder, younger] = [0, 1].map(Rank::of_age);
        assert!(elder.goes_before(younger, 0) && elder.goes_before(Rank::NONE, 0));
        for rounds in [0, PATIENCE, u32::MAX] {
            assert!(!younger.goes_before(elder, rounds));
            assert!(!Rank::NONE.goes_before(elder, rounds));
        }
        assert!(Rank::NONE.goes_before(Rank::NONE, PATIENCE));
        assert!(!Rank::NONE.goes_before(Rank::NONE, PATIENCE - 1));
    }

    fn an_owner(status: Status) -> Owner {
        let owner = Owner::new(Rank::NONE, 0);
        // Relaxed: no other thread has it.
        owner.status.store(status.bits(), Ordering::Relaxed);
        owner
    }

    #[test]
    fn who_reads_beneath_puts_off_what_may_have_read_an_earlier_clock() {
        let far = clock::now() + (1 << 40);
        let doubted = |status| an_owner(status).doubt();
        assert!(matches!(
            doubted(Status::Undecided(0)),
            Status::Undecided(1..)
        ));
        assert!(matches!(
            doubted(Status::Prepared(0)),
            Status::Undecided(1..)
        ));
        assert!(matches!(
            doubted(Status::Closing(0)),
            Status::Committed(1..)
        ));
        assert_eq!(doubted(Status::Prepared(far)), Status::Undecided(far));
        for stays in [
            Status::Undecided(far),
            Status::Closing(far),
            Status::Committed(0),
            Status::Aborted,
        ] {
            assert_eq!(doubted(stays), stays);
        }
    }

    #[test]
    fn a_snapshot_puts_off_what_would_be_in_its_way() {
        for status in [Status::Undecided(5), Status::Prepared(5)] {
            assert_eq!(an_owner(status).postpone(5), Status::Undecided(6));
            assert_eq!(an_owner(status).postpone(4), status);
        }
        let closing = Status::Closing(5);
        assert!(an_owner(closing).postpone(5).is_decided());
        assert_eq!(an_owner(closing).postpone(4), closing);
        for status in [Status::Undecided(5), closing] {
            assert_eq!(an_owner(status).close(), closing);
        }
        assert_eq!(an_owner(closing).kill(), Status::Aborted);
        assert_eq!(an_owner(Status::Committed(5)).kill(), Status::Committed(5));
    }

    /// A block of owners is for several attempts: each has one of its own, and the last one retires
    /// the block. An attempt inside another one has another block.
    #[test]
    fn owners_of_a_block_are_used_once_each() {
        let run = |local: &Local| {
            let pin = local.pin();
            let mut made = Vec::new();
            for n in 1..=OWNERS {
                let outer = OwnerSlot::new(local, Rank::NONE);
                let inner = OwnerSlot::new(local, Rank::NONE);
                assert_ne!(inner.block(), outer.block());
                assert_eq!((outer.number + 1, inner.number), (n, 0));
                made.push(outer.as_ptr());
                // SAFETY: neither has nodes.
                unsafe { inner.end(local, &pin) };
                // SAFETY: as above.
                unsafe { outer.end(local, &pin) };
            }
            made.sort_unstable();
            made.dedup();
            assert_eq!(made.len(), OWNERS);
        };
        // A thread that has no block yet.
        let thread = std::thread::spawn(move || crate::reclaim::with(run));
        thread.join().expect("it does not panic");
    }

    #[test]
    fn a_thread_goes_by_the_elder_until_it_is_restored() {
        let outer = Rank::of_age(7).enter();
        assert_eq!((outer, Rank::of_thread()), (Rank::NONE, Rank::of_age(7)));
        assert_eq!(Rank::of_age(9).enter(), Rank::of_age(7));
        assert_eq!(Rank::of_thread(), Rank::of_age(7));
        outer.restore();
        assert_eq!(Rank::of_thread(), Rank::NONE);
    }
}
