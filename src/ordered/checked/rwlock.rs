//! A read-write lock that learns when it is taken.

use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use super::watch::{Hold, Learned, Watch};

/// A `parking_lot` read-write lock that learns, in checked builds, which locks are held when it is taken, for reading or for writing. See [the module](super).
///
/// No poisoning.
///
/// # Examples
/// ```
/// use latchwork::ordered::checked::RwLock;
/// let limit = RwLock::new(5);
/// *limit.write() += 1;
/// let (one, other) = (limit.read(), limit.try_read());
/// assert_eq!((*one, other.as_deref()), (6, Some(&6)));
/// ```
pub struct RwLock<T: ?Sized> {
    watch: Watch,
    inner: parking_lot::RwLock<T>,
}

impl<T> RwLock<T> {
    /// Makes an unlocked lock. In checked builds, reports name it by where this is called.
    #[cfg_attr(any(debug_assertions, feature = "order-checks"), track_caller)]
    pub const fn new(value: T) -> Self {
        RwLock {
            watch: Watch::new(),
            inner: parking_lot::RwLock::new(value),
        }
    }

    /// Returns the value.
    pub fn into_inner(self) -> T {
        self.inner.into_inner()
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Locks for reading. A thread that reads already must not: it might wait for a writer that waits for it.
    ///
    /// # Blocking
    /// While somebody writes, or waits to.
    ///
    /// # Panics
    /// In checked builds, if it breaks the order; see [the module](super).
    #[inline]
    #[cfg_attr(any(debug_assertions, feature = "order-checks"), track_caller)]
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        let learned = self.watch.before();
        let inner = self.inner.read();
        RwLockReadGuard::new(self.watch.taken(learned), inner)
    }

    /// As [`read`](Self::read) if it would not block, and then in any order.
    #[inline]
    #[cfg_attr(any(debug_assertions, feature = "order-checks"), track_caller)]
    pub fn try_read(&self) -> Option<RwLockReadGuard<'_, T>> {
        let inner = self.inner.try_read()?;
        Some(RwLockReadGuard::new(
            self.watch.taken(Learned::NOTHING),
            inner,
        ))
    }

    /// Locks for writing.
    ///
    /// # Blocking
    /// Until nobody else holds it.
    ///
    /// # Panics
    /// In checked builds, if it breaks the order; see [the module](super).
    #[inline]
    #[cfg_attr(any(debug_assertions, feature = "order-checks"), track_caller)]
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        let learned = self.watch.before();
        let inner = self.inner.write();
        RwLockWriteGuard::new(self.watch.taken(learned), inner)
    }

    /// As [`write`](Self::write) if it would not block, and then in any order.
    #[inline]
    #[cfg_attr(any(debug_assertions, feature = "order-checks"), track_caller)]
    pub fn try_write(&self) -> Option<RwLockWriteGuard<'_, T>> {
        let inner = self.inner.try_write()?;
        Some(RwLockWriteGuard::new(
            self.watch.taken(Learned::NOTHING),
            inner,
        ))
    }

    /// Returns the value, which nobody else can reach.
    pub fn get_mut(&mut self) -> &mut T {
        self.inner.get_mut()
    }
}

impl<T: Default> Default for RwLock<T> {
    #[cfg_attr(any(debug_assertions, feature = "order-checks"), track_caller)]
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> From<T> for RwLock<T> {
    #[cfg_attr(any(debug_assertions, feature = "order-checks"), track_caller)]
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// A [`RwLock`] that is locked for reading. It stays on its thread, whose order it is part of.
#[must_use = "the lock is given back at once"]
pub struct RwLockReadGuard<'a, T: ?Sized> {
    // Dropped first: for others the lock is free after it is off this thread's list.
    _hold: Hold,
    inner: parking_lot::RwLockReadGuard<'a, T>,
    // Whatever `parking_lot` was built with.
    stays: PhantomData<*const ()>,
}

impl<'a, T: ?Sized> RwLockReadGuard<'a, T> {
    #[inline(always)]
    fn new(hold: Hold, inner: parking_lot::RwLockReadGuard<'a, T>) -> Self {
        RwLockReadGuard {
            _hold: hold,
            inner,
            stays: PhantomData,
        }
    }
}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// A [`RwLock`] that is locked for writing. It stays on its thread, whose order it is part of.
#[must_use = "the lock is given back at once"]
pub struct RwLockWriteGuard<'a, T: ?Sized> {
    // Dropped first: for others the lock is free after it is off this thread's list.
    _hold: Hold,
    inner: parking_lot::RwLockWriteGuard<'a, T>,
    // Whatever `parking_lot` was built with.
    stays: PhantomData<*const ()>,
}

impl<'a, T: ?Sized> RwLockWriteGuard<'a, T> {
    #[inline(always)]
    fn new(hold: Hold, inner: parking_lot::RwLockWriteGuard<'a, T>) -> Self {
        RwLockWriteGuard {
            _hold: hold,
            inner,
            stays: PhantomData,
        }
    }
}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
