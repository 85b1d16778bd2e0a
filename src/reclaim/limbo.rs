//! The retired objects of one thread, until no thread can see them any more.
#![allow(unsafe_code)]

use core::cell::Cell;
use core::mem::MaybeUninit;
use core::ptr::NonNull;
use std::sync::Arc;

use super::nodes::Shape;
use super::participant::CellPin;
use super::shared::Shared;
use super::{BATCH, BATCH_BYTES};
use crate::sync::{AtomicU32, Ordering, recently};

/// How the retired objects of one type are released.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(super) shape: Shape,
    /// Releases the reference that the retired object had to itself. `true`: it was the last, and
    /// only the memory is left. May run user code.
    release: unsafe fn(NonNull<u8>) -> bool,
    destructor: Destructor,
}

/// Whether releasing an object may run user code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destructor {
    None,
    OfUser,
}

impl Destructor {
    /// That of what has a `T` in it.
    pub(crate) const fn of<T>() -> Self {
        match core::mem::needs_drop::<T>() {
            true => Destructor::OfUser,
            false => Destructor::None,
        }
    }
}

impl Kind {
    /// # Safety
    /// `release` is right for objects of type `N` that were retired, and runs user code, or panics,
    /// only with [`Destructor::OfUser`].
    pub(crate) const unsafe fn of<N>(
        release: unsafe fn(NonNull<u8>) -> bool,
        destructor: Destructor,
    ) -> Self {
        Kind {
            shape: Shape::of::<N>(),
            release,
            destructor,
        }
    }

    /// A few of them may have as many bytes as the limit allows.
    #[inline]
    pub(super) fn is_large(&self) -> bool {
        self.shape.layout.size() >= BATCH_BYTES / BATCH
    }
}

/// An object that was unlinked and that readers may still see.
#[derive(Debug)]
pub(super) struct Retired {
    pub(super) object: NonNull<u8>,
    pub(super) kind: &'static Kind,
}

// SAFETY: the thread that retires an object guarantees that any thread may release it.
unsafe impl Send for Retired {}

impl Retired {
    #[inline]
    pub(super) fn is_plain(&self) -> bool {
        self.kind.destructor == Destructor::None
    }

    /// `true`: the memory is the caller's.
    ///
    /// # Safety
    /// Its grace period is over [R2].
    #[inline]
    pub(super) unsafe fn release(&self) -> bool {
        // SAFETY: `Kind::of` vouches for the function, the caller for the time.
        unsafe { (self.kind.release)(self.object) }
    }
}

/// The last retired objects: a list that costs two stores and a comparison, until it is full.
pub(super) struct Fresh {
    objects: Box<[Cell<MaybeUninit<Retired>>; BATCH]>,
    /// How many of them are there.
    len: Cell<usize>,
}

impl Fresh {
    pub(super) fn new() -> Self {
        Fresh {
            objects: Box::new([const { Cell::new(MaybeUninit::uninit()) }; BATCH]),
            len: Cell::new(0),
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len.get()
    }

    /// `true`: the list must be emptied now.
    #[inline]
    #[must_use]
    pub(super) fn push(&self, retired: Retired) -> bool {
        let (len, is_large) = (self.len.get(), retired.kind.is_large());
        self.objects[len].set(MaybeUninit::new(retired));
        self.len.set(len + 1);
        len + 1 == BATCH || is_large
    }

    /// Moves all of them to the end of `list`.
    fn empty_into(&self, list: &mut Vec<Retired>) {
        let len = self.len.replace(0);
        list.reserve(len);
        let first = self.objects.as_ptr().cast::<Retired>();
        let room = list.spare_capacity_mut().as_mut_ptr().cast::<Retired>();
        // SAFETY: the first so many are there, and are forgotten here; the list has room for them.
        unsafe { first.copy_to_nonoverlapping(room, len) };
        // SAFETY: so many were just moved there.
        unsafe { list.set_len(list.len() + len) };
    }
}

/// Reports that a grace period is over.
#[derive(Debug)]
struct Ticket(AtomicU32);

const PENDING: u32 = 0;
const OVER: u32 = 1;

impl Ticket {
    fn is_over(&self) -> bool {
        // Acquire: the accesses of readers to the objects happen before their release. Pairs with
        // the Release in `punch`, which the epochs order after those accesses [R2].
        self.0.load(Ordering::Acquire) == OVER
    }

    fn punch(&self) {
        // Release: as above.
        self.0.store(OVER, Ordering::Release);
    }
}

/// Objects, and how many bytes they have without what their values own.
#[derive(Debug, Default)]
pub(super) struct Stage {
    objects: Vec<Retired>,
    bytes: usize,
}

impl Stage {
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.objects.len()
    }

    #[inline]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Notes the bytes of those that were added after so many.
    fn weigh(&mut self, before: usize) {
        let added = self.objects[before..].iter();
        self.bytes += added.map(|r| r.kind.shape.layout.size()).sum::<usize>();
    }

    /// Removes the last one, if there is one and it `is_meant`.
    #[inline]
    pub(super) fn pop_if(&mut self, is_meant: impl FnOnce(&Retired) -> bool) -> Option<Retired> {
        if !is_meant(self.objects.last()?) {
            return None;
        }
        let retired = self.objects.pop()?;
        self.bytes -= retired.kind.shape.layout.size();
        Some(retired)
    }

    pub(super) fn into_objects(self) -> Vec<Retired> {
        self.objects
    }

    /// Moves all of `other` here. The shorter list is the one that moves.
    pub(super) fn take_in(&mut self, other: &mut Self) {
        if self.len() < other.len() {
            core::mem::swap(self, other);
        }
        self.bytes += core::mem::take(&mut other.bytes);
        self.objects.append(&mut other.objects);
    }

    /// Gives memory back after a burst.
    pub(super) fn shrink(&mut self) {
        if self.objects.capacity() > 4 * super::LIMIT && self.len() < super::LIMIT {
            self.objects.shrink_to(super::LIMIT);
        }
    }
}

#[cfg(test)]
impl FromIterator<Retired> for Stage {
    fn from_iter<I: IntoIterator<Item = Retired>>(objects: I) -> Self {
        let mut stage = Stage {
            objects: objects.into_iter().collect(),
            bytes: 0,
        };
        stage.weigh(0);
        stage
    }
}

/// Three stages: `fresh` (retired), `waiting` (retired before the ticket was issued), `due` (the
/// ticket's grace period is over).
#[derive(Debug, Default)]
pub(super) struct Limbo {
    fresh: Stage,
    waiting: Stage,
    pub(super) due: Stage,
    /// The ticket, and when it was issued, by [`recently`].
    ticket: Option<(Arc<Ticket>, u64)>,
}

impl Limbo {
    /// Objects that no thread may release yet.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.fresh.len() + self.waiting.len()
    }

    /// Their bytes.
    #[inline]
    pub(super) fn bytes(&self) -> usize {
        self.fresh.bytes() + self.waiting.bytes()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() + self.due.len() == 0
    }

    /// Since when the oldest objects wait for pins, if some do, by [`recently`].
    pub(super) fn since(&self) -> Option<u64> {
        self.ticket.as_ref().map(|(_, since)| *since)
    }

    /// Moves the last retired objects here.
    pub(super) fn take_in(&mut self, fresh: &Fresh) {
        let before = self.fresh.len();
        fresh.empty_into(&mut self.fresh.objects);
        self.fresh.weigh(before);
    }

    /// Adopts objects that no thread can see any more.
    pub(super) fn adopt(&mut self, mut objects: Stage) {
        self.due.take_in(&mut objects);
    }

    /// Moves objects on by a stage where their grace period is over.
    pub(super) fn turn(&mut self, pin: &CellPin) {
        self.collect();
        if self.ticket.is_none() && self.fresh.len() > 0 {
            self.waiting.take_in(&mut self.fresh);
            let ticket = Arc::new(Ticket(AtomicU32::new(PENDING)));
            let punched = ticket.clone();
            // SAFETY: a ticket may be punched by any thread.
            unsafe { pin.after_grace(move || punched.punch()) };
            self.ticket = Some((ticket, recently()));
        }
        pin.advance();
        self.collect();
    }

    /// Moves objects whose grace period is over to the reclaimable ones.
    fn collect(&mut self) {
        if !self.ticket.as_ref().is_some_and(|(t, _)| t.is_over()) {
            return;
        }
        self.ticket = None;
        self.due.take_in(&mut self.waiting);
        self.waiting.shrink();
        self.fresh.shrink();
    }

    /// The thread ends: once no thread can see the objects, others release them [R5].
    pub(super) fn abandon(&mut self, pin: &CellPin, shared: &Arc<Shared>) {
        self.ticket = None;
        let mut all = core::mem::take(&mut self.fresh);
        all.take_in(&mut self.waiting);
        all.take_in(&mut self.due);
        let shared = shared.clone();
        shared.await_orphans();
        // SAFETY: retired objects may change hands, and so may their list.
        unsafe { pin.after_grace(move || shared.orphan(all)) };
        pin.advance();
    }
}

#[cfg(test)]
mod tests {
    use super::super::LIMIT;
    use super::*;

    /// Nothing to release, and no memory to keep.
    fn retired<T: 'static>() -> Retired {
        // SAFETY: it accesses no object, and reports that none is over.
        let kind = const { &unsafe { Kind::of::<T>(|_| false, Destructor::None) } };
        let object = NonNull::dangling();
        Retired { object, kind }
    }

    fn stage(small: usize, large: usize) -> Stage {
        let small = (0..small).map(|_| retired::<u64>());
        small
            .chain((0..large).map(|_| retired::<[u64; 10]>()))
            .collect()
    }

    #[test]
    fn a_stage_knows_its_bytes() {
        let mut all = stage(3, 2);
        assert_eq!((all.len(), all.bytes()), (5, 3 * 8 + 2 * 80));
        assert!(all.pop_if(|_| false).is_none());
        assert!(
            all.pop_if(|last| last.kind.shape.layout.size() == 80)
                .is_some()
        );
        assert_eq!((all.len(), all.bytes()), (4, 3 * 8 + 80));
        for (mut more, len, bytes) in [(stage(1, 0), 5, 112), (stage(20, 1), 26, 352)] {
            all.take_in(&mut more);
            assert_eq!((more.len(), more.bytes()), (0, 0));
            assert_eq!((all.len(), all.bytes()), (len, bytes));
        }
    }

    /// Of two lists the longer one stays in place, because a move takes time in proportion to the
    /// length, under a pin.
    #[test]
    fn the_fewer_are_moved() {
        for lens in [(10, 1_000), (1_000, 10)] {
            let (mut one, mut other) = (stage(lens.0, 0), stage(lens.1, 0));
            // There is room for the fewer in each.
            one.objects.reserve_exact(10);
            other.objects.reserve_exact(10);
            let longer = [&one, &other].into_iter().max_by_key(|s| s.len());
            let place = longer.map(|s| s.objects.as_ptr());
            one.take_in(&mut other);
            assert_eq!(Some(one.objects.as_ptr()), place);
        }
    }

    #[test]
    fn a_stage_gives_room_back_after_a_burst() {
        for (room, len, shrinks) in [
            (16 * LIMIT, 10, true),
            (16 * LIMIT, LIMIT, false),
            (4 * LIMIT, 10, false),
            (2 * LIMIT, 10, false),
        ] {
            let mut burst = stage(len, 0);
            burst.objects.reserve_exact(room - len);
            let before = burst.objects.capacity();
            burst.shrink();
            let after = burst.objects.capacity();
            assert_eq!(after < before, shrinks, "{room} {len}");
            assert!(!shrinks || after <= 2 * LIMIT);
        }
    }

    #[test]
    fn large_objects_are_looked_at_one_by_one() {
        type Large = [u8; BATCH_BYTES / BATCH];
        assert!(retired::<Large>().kind.is_large());
        assert!(!retired::<[u8; BATCH_BYTES / BATCH - 1]>().kind.is_large());
        let fresh = Fresh::new();
        for n in 1..=BATCH {
            assert_eq!(fresh.push(retired::<u64>()), n == BATCH);
        }
        let mut limbo = Limbo::default();
        assert!(limbo.is_empty());
        limbo.take_in(&fresh);
        assert!(fresh.push(retired::<Large>()));
        assert_eq!((limbo.len(), limbo.bytes()), (BATCH, 8 * BATCH));
        assert!(!limbo.is_empty());
    }
}
