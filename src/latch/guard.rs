//! Holds of a latch.

use core::fmt;
use core::ops::Deref;

use super::OptimisticLatch;
use crate::word::Mode;

/// A latch that is shared. Made by [`OptimisticLatch::shared`].
///
/// # Examples
/// ```
/// let latch = latchwork::latch::OptimisticLatch::new(1);
/// let (one, other) = (latch.shared().unwrap(), latch.shared().unwrap());
/// assert_eq!(*one + *other, 2);
/// assert!(latch.try_exclusive().is_none());
/// ```
#[must_use = "the latch is given back at once"]
pub struct SharedGuard<'l, T: ?Sized>(&'l OptimisticLatch<T>);

/// A latch that is held alone. Made by [`OptimisticLatch::exclusive`].
///
/// It gives `&T` and not `&mut T`, because optimistic readers look at the value at the same time.
///
/// # Examples
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
/// let latch = latchwork::latch::OptimisticLatch::new(AtomicU64::new(0));
/// let guard = latch.exclusive().unwrap();
/// guard.store(1, Relaxed);
/// assert!(latch.try_shared().is_none());
/// ```
#[must_use = "the latch is given back at once"]
pub struct ExclusiveGuard<'l, T: ?Sized>(&'l OptimisticLatch<T>);

impl<'l, T: ?Sized> SharedGuard<'l, T> {
    #[inline(always)]
    pub(super) fn new(latch: &'l OptimisticLatch<T>) -> Self {
        SharedGuard(latch)
    }

    pub(super) fn latch(guard: &Self) -> &'l OptimisticLatch<T> {
        guard.0
    }
}

impl<'l, T: ?Sized> ExclusiveGuard<'l, T> {
    #[inline(always)]
    pub(super) fn new(latch: &'l OptimisticLatch<T>) -> Self {
        ExclusiveGuard(latch)
    }

    pub(super) fn latch(guard: &Self) -> &'l OptimisticLatch<T> {
        guard.0
    }

    /// Takes the latch out of use, for ever: what it belongs to has been taken out of its structure. Whoever waits for it, or comes later
    /// by an old path, is told [`Obsolete`](super::Obsolete).
    ///
    /// Unlink first and mark afterwards, so that who is told finds a path that does not lead here.
    ///
    /// # Examples
    /// ```
    /// use latchwork::latch::{ExclusiveGuard, OptimisticLatch};
    /// let latch = OptimisticLatch::new(());
    /// let version = latch.version().unwrap();
    /// ExclusiveGuard::mark_obsolete(latch.exclusive().unwrap());
    /// assert!(latch.is_obsolete() && !latch.is_current(version));
    /// assert!(latch.optimistic_read(|()| ()).is_err());
    /// ```
    pub fn mark_obsolete(guard: Self) {
        guard.0.raw.retire();
        core::mem::forget(guard);
    }
}

impl<T: ?Sized> Drop for SharedGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.0.raw.unlock(Mode::Shared);
    }
}

impl<T: ?Sized> Drop for ExclusiveGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.0.raw.unlock(Mode::Exclusive);
    }
}

impl<T: ?Sized> Deref for SharedGuard<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        self.0.peek()
    }
}

impl<T: ?Sized> Deref for ExclusiveGuard<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        self.0.peek()
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for SharedGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedGuard").field(&&**self).finish()
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for ExclusiveGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ExclusiveGuard").field(&&**self).finish()
    }
}
