//! How the retired objects of one type are released.
#![allow(unsafe_code)]

use core::ptr::NonNull;

use super::alloc::{Pool, Shape, return_to_allocator};
use crate::sync::tuning::{GARBAGE_BATCH as BATCH, GARBAGE_BATCH_BYTES as BATCH_BYTES};
use crate::sync::{AtomicU32, Canary, Ordering};

/// The functions and the memory of one type of objects.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(super) shape: Shape,
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
    pub(super) is_large: bool,
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

    #[inline]
    pub(super) fn free(&self) -> Option<Free> {
        self.free
    }

    #[inline]
    pub(super) fn count_at(&self) -> Option<usize> {
        self.count_at
    }

    #[inline]
    pub(super) fn is_inert(&self) -> bool {
        self.is_inert
    }
}

/// Returns whether an object with a count of references has only one. Then no thread can add
/// another: to add one requires a reference, or a pin from before the object was retired [R3].
///
/// # Safety
/// The object is of a kind that has its count at this offset, and the caller has a reference.
#[inline(always)]
pub(super) unsafe fn has_one_share(object: NonNull<u8>, count_at: usize) -> bool {
    // SAFETY: inside the object, by the contract of `counted_at`.
    let count = unsafe { object.add(count_at) };
    // SAFETY: as above; the object is alive, by the reference.
    let count = unsafe { count.cast::<AtomicU32>().as_ref() };
    // Acquire: synchronises with the last use of the object by each other owner. Pairs with the
    // Release with which it has dropped its reference [R3].
    count.load(Ordering::Acquire) == 1
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

    pub(super) fn bytes(&self) -> usize {
        self.kind.shape.layout.size()
    }

    /// `true`: the object is the caller's.
    ///
    /// # Safety
    /// Its grace period is over [R2], or the reference is the caller's.
    #[inline]
    pub(super) unsafe fn drop_share(&self) -> bool {
        // SAFETY: `Kind::of` vouches for the function, the caller for the time.
        unsafe { (self.kind.drop_share)(self.object) }
    }

    /// Frees the memory, when no thread is left.
    ///
    /// # Safety
    /// The object was destroyed, and its memory is the caller's.
    pub(super) unsafe fn return_to_allocator(&self) {
        match self.kind.free {
            // SAFETY: the caller's contract.
            None => unsafe { return_to_allocator(self.object, self.kind.shape.layout) },
            // SAFETY: as above; `Kind::freed_by` vouches for the function.
            Some(free) => unsafe { free(self.object, &Pool::OF_ALLOCATOR) },
        }
    }

    /// Leaves only the memory.
    ///
    /// # Safety
    /// [`drop_share`](Self::drop_share) has returned `true` to the caller.
    #[inline]
    pub(super) unsafe fn destroy(&self) {
        if !self.kind.is_inert {
            // SAFETY: `Kind::of` vouches for the function, and the object is the caller's.
            unsafe { (self.kind.destroy)(self.object) }
        }
    }
}
