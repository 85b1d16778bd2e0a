//! The guards of a latch.

use core::fmt;
use core::ops::Deref;

use super::OptimisticLatch;
use crate::word::Mode;

/// Holds a latch shared, and releases it when it is dropped. [`OptimisticLatch::shared`] returns
/// it.
///
/// # Examples
/// ```
/// let latch = latchwork::latch::OptimisticLatch::new(1);
/// let (one, other) = (latch.shared().unwrap(), latch.shared().unwrap());
/// assert_eq!(*one + *other, 2);
/// assert!(latch.try_exclusive().is_none());
/// ```
#[must_use = "the latch is released at once"]
pub struct SharedGuard<'l, T: ?Sized>(&'l OptimisticLatch<T>);

/// Holds a latch exclusively, and releases it when it is dropped. [`OptimisticLatch::exclusive`]
/// returns it.
///
/// It derefs to `&T` and not to `&mut T`, because optimistic readers read the value at the same
/// time.
///
/// # Examples
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
/// let latch = latchwork::latch::OptimisticLatch::new(AtomicU64::new(0));
/// let guard = latch.exclusive().unwrap();
/// guard.store(1, Relaxed);
/// assert!(latch.try_shared().is_none());
/// ```
#[must_use = "the latch is released at once"]
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

    /// Marks the latch as obsolete, permanently, and releases it. Each thread that waits for the
    /// latch, or tries to acquire it later, gets [`Obsolete`](super::Obsolete).
    ///
    /// First unlink the node, and mark it afterwards, so that a thread that restarts does not find
    /// the node again.
    ///
    /// # Blocking
    /// Never blocks.
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
