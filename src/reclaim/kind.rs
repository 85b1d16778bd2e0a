//! The end of an object, step by step. Each step is a type, which the next one consumes:
//!
//! | type | the holder may |
//! |---|---|
//! | [`Retired`] | release the object once its grace period is over: it is unlinked |
//! | [`Share`] | drop a reference to the object now |
//! | [`Last`] | destroy the object: it was the last share |
//!
//! A [`Waiting`] turns retired objects into shares when an epoch permits it [R2].
#![allow(unsafe_code)]

use core::ptr::NonNull;
use std::collections::VecDeque;

use super::alloc::{NodePool, Pool, Shape};
use super::epoch::{Reach, Tag};
use crate::sync::tuning::{GARBAGE_BATCH as BATCH, GARBAGE_BATCH_BYTES as BATCH_BYTES};
use crate::sync::{AtomicU32, Canary, Ordering};

/// The functions and the memory of one type of objects.
#[derive(Debug)]
pub(crate) struct Kind {
    shape: Shape,
    /// Drops the reference that the object had to itself. `true`: it was the last. Runs no user
    /// code, and returns `true` again if it has done so for the same caller.
    drop_share: unsafe fn(NonNull<u8>) -> bool,
    /// Ends an object whose last reference was dropped; only its memory is left. May run user code.
    destroy: unsafe fn(NonNull<u8>),
    /// Where the count of its references is, as an offset.
    count_at: Option<usize>,
    destructor: Destructor,
    /// Nothing is left to be done by `destroy`. A checker has something to do for each object.
    is_inert: bool,
    /// Frees the memory of an object that was destroyed, in place of the pool of its shape.
    free: Option<Free>,
    /// The next write collects.
    is_large: bool,
}

/// Frees the memory of an object.
type Free = unsafe fn(NonNull<u8>, &Pool<'_>);

/// Whether releasing an object may run user code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destructor {
    None,
    OfUser,
}

impl Destructor {
    /// That of an object with a `T` in it.
    pub(crate) const fn of<T>() -> Self {
        match core::mem::needs_drop::<T>() {
            true => Destructor::OfUser,
            false => Destructor::None,
        }
    }
}

impl Kind {
    /// # Safety
    /// The functions are right for retired objects of type `N`, and `destroy` runs user code, or
    /// panics, only with [`Destructor::OfUser`].
    pub(crate) const unsafe fn of<N>(
        drop_share: unsafe fn(NonNull<u8>) -> bool,
        destroy: unsafe fn(NonNull<u8>),
        destructor: Destructor,
    ) -> Self {
        let shape = Shape::of::<N>();
        // A few of them may have as many bytes as the limit allows.
        let is_large = shape.layout.size() >= BATCH_BYTES / BATCH;
        Kind {
            shape,
            drop_share,
            destroy,
            count_at: None,
            destructor,
            is_inert: matches!(destructor, Destructor::None) && !core::mem::needs_drop::<Canary>(),
            free: None,
            is_large,
        }
    }

    /// With a count of references, so that an object with one reference is released without a call
    /// of `drop_share`.
    ///
    /// # Safety
    /// An object has an [`AtomicU32`] at this offset. If it is 1 for a caller with a reference,
    /// `drop_share` would return `true`, after no more than an Acquire load of the count [R3].
    pub(crate) const unsafe fn counted_at(mut self, offset: usize) -> Self {
        self.count_at = Some(offset);
        self
    }

    /// With a function that frees the memory of an object that was destroyed.
    ///
    /// # Safety
    /// The function is right for the memory of each object. It runs no user code.
    pub(crate) const unsafe fn freed_by(mut self, free: Free) -> Self {
        self.free = Some(free);
        self
    }
}

/// Returns whether an object with a count of references has only one. Then no thread can add
/// another: to add one requires a reference, or a pin from before the object was retired [R3].
///
/// # Safety
/// The object is of a kind that has its count at this offset, and the caller has a reference.
#[inline(always)]
unsafe fn has_one_share(object: NonNull<u8>, count_at: usize) -> bool {
    // SAFETY: inside the object, by the contract of `counted_at`.
    let count = unsafe { object.add(count_at) };
    // SAFETY: as above; the object is alive, by the reference.
    let count = unsafe { count.cast::<AtomicU32>().as_ref() };
    // Acquire: synchronises with the last use of the object by each other owner. Pairs with the
    // Release with which it has dropped its reference [R3].
    count.load(Ordering::Acquire) == 1
}

/// An object that was unlinked and that readers may still see, with the share that it had to
/// itself. A value that is dropped leaks the object.
#[derive(Debug)]
pub(crate) struct Retired {
    object: NonNull<u8>,
    kind: &'static Kind,
}

// SAFETY: the thread that retires an object guarantees that any thread may release it.
unsafe impl Send for Retired {}

impl Retired {
    /// # Safety
    /// `object` is from `allocate`, is of this kind and may change threads. It is unlinked by a
    /// thread that is pinned, and is retired only by this value [R1].
    #[inline(always)]
    pub(crate) unsafe fn new(object: NonNull<u8>, kind: &'static Kind) -> Self {
        Retired { object, kind }
    }

    /// Returns the address of an object that is not retired yet.
    #[inline(always)]
    pub(super) fn into_object(self) -> NonNull<u8> {
        self.object
    }

    #[inline(always)]
    pub(super) fn is_large(&self) -> bool {
        self.kind.is_large
    }

    #[inline]
    fn is_plain(&self) -> bool {
        self.kind.destructor == Destructor::None
    }

    fn bytes(&self) -> usize {
        self.kind.shape.layout.size()
    }
}

/// A reference to an object that its holder may drop.
#[derive(Debug)]
pub(crate) struct Share(Retired);

impl Share {
    /// # Safety
    /// `object` is from `allocate`, is of this kind, and the share belongs to the caller: it is of
    /// a reference, or the grace period of the object is over [R2].
    #[inline(always)]
    pub(crate) unsafe fn new(object: NonNull<u8>, kind: &'static Kind) -> Self {
        Share(Retired { object, kind })
    }

    /// The reference of a retired object that no other thread can use.
    ///
    /// # Safety
    /// Every pin has ended, and no thread can begin another.
    #[cfg(any(latchwork_loom, latchwork_shuttle))]
    pub(super) unsafe fn of_retired(retired: Retired) -> Self {
        Share(retired)
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.bytes()
    }

    /// Drops the share. Runs no user code.
    #[inline]
    pub(super) fn give_up(self) -> Option<Last> {
        // SAFETY: `Kind::of` vouches for the function, and the share is there by the contract of
        // each constructor.
        let is_last = unsafe { (self.0.kind.drop_share)(self.0.object) };
        is_last.then_some(Last(self.0))
    }

    #[cfg(all(test, not(any(latchwork_loom, latchwork_shuttle))))]
    pub(super) fn address(&self) -> usize {
        self.0.object.addr().get()
    }
}

/// An object whose last share was dropped.
#[derive(Debug)]
pub(super) struct Last(Retired);

impl Last {
    #[inline]
    pub(super) fn is_plain(&self) -> bool {
        self.0.is_plain()
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.bytes()
    }

    /// The share again: to drop it has the same result.
    pub(super) fn into_share(self) -> Share {
        Share(self.0)
    }

    /// Destroys the object where it lies, and frees its memory, including when its destructor
    /// panics. May run user code, unless the object is plain.
    #[inline]
    pub(super) fn end(self, pool: Pool<'_>) {
        let Retired { object, kind } = self.0;
        let memory = Memory(object, kind, pool);
        if !kind.is_inert {
            // SAFETY: `Kind::of` vouches for the function, and the last share was dropped.
            unsafe { (kind.destroy)(object) }
        }
        drop(memory);
    }
}

/// The memory of an object that is being destroyed.
struct Memory<'a>(NonNull<u8>, &'static Kind, Pool<'a>);

impl Drop for Memory<'_> {
    #[inline]
    fn drop(&mut self) {
        let Memory(object, kind, pool) = self;
        match kind.free {
            // SAFETY: from `allocate` with this shape, and destroyed by the holder of the last
            // share.
            None => unsafe { pool.put(*object, &kind.shape) },
            // SAFETY: as above; `Kind::freed_by` vouches for the function.
            Some(free) => unsafe { free(*object, pool) },
        }
    }
}

/// A number of objects, and of their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) objects: usize,
    pub(super) bytes: usize,
}

impl Size {
    /// That of one object.
    #[inline]
    pub(super) fn of(bytes: usize) -> Self {
        Size { objects: 1, bytes }
    }
}

/// Objects that were unlinked before the epoch was loaded that is their tag.
pub(super) struct Absorbed<I> {
    tag: Tag,
    objects: I,
}

impl<I: Iterator<Item = Retired>> Absorbed<I> {
    /// # Safety
    /// Each object was unlinked before the tag was determined [R2].
    pub(super) unsafe fn new(tag: Tag, objects: I) -> Self {
        Absorbed { tag, objects }
    }

    pub(super) fn tag(&self) -> Tag {
        self.tag
    }
}

/// Retired objects that left their buffer at one epoch, in order. They become shares when the epoch
/// permits it [R2].
///
/// A process has one epoch. So a reach that covers the tag is of the epoch that the tag is of.
#[derive(Debug)]
pub(super) struct Waiting {
    tag: Tag,
    objects: VecDeque<Retired>,
}

impl Waiting {
    /// With the memory of an empty list: objects in it would be of another epoch [R2].
    pub(super) fn new(tag: Tag, memory: VecDeque<Retired>) -> Self {
        assert!(memory.is_empty(), "objects of another epoch");
        let objects = memory;
        Waiting { tag, objects }
    }

    /// Ends the list without a release. Returns its memory, with the objects in it.
    pub(super) fn into_memory(self) -> VecDeque<Retired> {
        self.objects
    }

    pub(super) fn has_tag(&self, tag: Tag) -> bool {
        self.tag == tag
    }

    #[inline]
    pub(super) fn is_covered_by(&self, reach: Reach) -> bool {
        reach.covers(self.tag)
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.objects.len()
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// Adds objects with the same tag. Returns their size.
    #[allow(
        clippy::manual_inspect,
        reason = "`inspect` hides the length of the iterator, which `extend` trusts"
    )]
    pub(super) fn extend(&mut self, absorbed: Absorbed<impl Iterator<Item = Retired>>) -> Size {
        assert!(self.has_tag(absorbed.tag), "objects of another epoch");
        let (before, mut bytes) = (self.objects.len(), 0);
        self.objects.extend(absorbed.objects.map(|retired| {
            bytes += retired.bytes();
            retired
        }));
        let objects = self.objects.len() - before;
        Size { objects, bytes }
    }

    /// Removes the oldest object, if it is reclaimable.
    #[inline]
    pub(super) fn pop(&mut self, reach: Reach) -> Option<Share> {
        if !self.is_covered_by(reach) {
            return None;
        }
        self.objects.pop_front().map(Share)
    }

    /// Removes the oldest object, if it is reclaimable and runs user code.
    pub(super) fn pop_with_destructor(&mut self, reach: Reach) -> Option<Share> {
        let first = self.objects.front()?;
        if first.is_plain() {
            return None;
        }
        self.pop(reach)
    }

    /// Removes the oldest reclaimable objects, in order and at most `n`, while they run user code.
    /// Calls `f` for each, and returns their size.
    #[inline]
    pub(super) fn pop_some(&mut self, n: usize, reach: Reach, f: impl FnMut(Share)) -> Size {
        let mut size = Size::default();
        if !self.is_covered_by(reach) {
            return size;
        }
        let (objects, _) = self.objects.as_slices();
        let some = &objects[..objects.len().min(n)];
        for retired in some.iter().take_while(|retired| !retired.is_plain()) {
            size.objects += 1;
            size.bytes += retired.bytes();
        }
        self.objects.drain(..size.objects).map(Share).for_each(f);
        size
    }

    /// Releases the oldest reclaimable objects, in order and at most `n`, while they run no user
    /// code. Returns their size.
    #[inline]
    pub(super) fn release_plain(&mut self, n: usize, reach: Reach, nodes: &NodePool) -> Size {
        let mut size = Size::default();
        if !self.is_covered_by(reach) {
            return size;
        }
        let (objects, _) = self.objects.as_slices();
        let mut rest = &objects[..objects.len().min(n)];
        while let Some(first) = rest.first().filter(|first| first.is_plain()) {
            let same = |retired: &&Retired| core::ptr::eq(retired.kind, first.kind);
            let (run, others) = rest.split_at(rest.iter().take_while(same).count());
            // SAFETY: their grace periods are over [R2], and they are removed below: a plain object
            // neither panics nor runs code that could use this list.
            unsafe { release_run(first.kind, run, nodes) };
            size.objects += run.len();
            size.bytes += run.len() * first.bytes();
            rest = others;
        }
        self.objects.drain(..size.objects);
        size
    }
}

/// Drops the shares that some plain objects of one kind had to themselves, and ends each object
/// whose last share it was.
///
/// # Safety
/// The shares belong to the caller, which does not use the objects again.
#[inline]
unsafe fn release_run(kind: &'static Kind, objects: &[Retired], nodes: &NodePool) {
    let is_last = |retired: &&Retired| {
        let has_one = kind.count_at.is_some_and(|at| {
            // SAFETY: the caller's contract.
            unsafe { has_one_share(retired.object, at) }
        });
        has_one || drop_share_slow(retired)
    };
    if kind.is_inert && kind.free.is_none() {
        let memory = objects.iter().filter(is_last).map(|retired| retired.object);
        // SAFETY: only the memory is left of each, and it is ours. The iterator uses no pool.
        unsafe { nodes.put_all(memory, &kind.shape) };
    } else {
        for &Retired { object, kind } in objects.iter().filter(is_last) {
            Last(Retired { object, kind }).end(Pool::of(nodes));
        }
    }

    #[cold]
    fn drop_share_slow(retired: &Retired) -> bool {
        // SAFETY: the contract of the function around it.
        unsafe { (retired.kind.drop_share)(retired.object) }
    }
}

#[cfg(all(test, not(any(latchwork_loom, latchwork_shuttle))))]
pub(super) mod tests {
    use core::cell::RefCell;

    use super::*;

    std::thread_local! {
        /// The addresses of the objects whose shares were dropped.
        pub(in crate::reclaim) static SEEN: RefCell<Vec<usize>> =
            const { RefCell::new(Vec::new()) };
    }

    /// Objects that do not exist, in the order of their addresses, plain or not, of so many bytes.
    pub(in crate::reclaim) fn absorbed<T: 'static>(
        epoch: u64,
        range: core::ops::Range<usize>,
        plain: bool,
    ) -> Absorbed<impl Iterator<Item = Retired>> {
        Absorbed {
            tag: Tag::at(epoch),
            objects: objects::<T>(range, plain),
        }
    }

    /// Shares of such objects.
    pub(in crate::reclaim) fn shares<T: 'static>(
        range: core::ops::Range<usize>,
        plain: bool,
    ) -> impl Iterator<Item = Share> {
        objects::<T>(range, plain).map(Share)
    }

    /// Such objects whose shares were dropped, with a destructor.
    pub(in crate::reclaim) fn lasts<T: 'static>(
        range: core::ops::Range<usize>,
    ) -> impl Iterator<Item = Last> {
        objects::<T>(range, false).map(Last)
    }

    fn objects<T: 'static>(
        range: core::ops::Range<usize>,
        plain: bool,
    ) -> impl Iterator<Item = Retired> {
        fn note(object: NonNull<u8>) -> bool {
            SEEN.with_borrow_mut(|seen| seen.push(object.addr().get()));
            false
        }
        const fn kind<T>(destructor: Destructor) -> Kind {
            // SAFETY: they access no object.
            unsafe { Kind::of::<T>(note, |_| (), destructor) }
        }
        let (none, of_user) =
            const { (&kind::<T>(Destructor::None), &kind::<T>(Destructor::OfUser)) };
        let kind = if plain { none } else { of_user };
        let one = move |n: usize| Retired {
            object: NonNull::new(core::ptr::without_provenance_mut(n)).expect("not null"),
            kind,
        };
        range.map(one)
    }
}
