//! A read-write lock that records the order of its acquisitions.

use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use super::watch::{Hold, Learned, Watch};

/// A `parking_lot` read-write lock that records, in checked builds, which locks the thread holds
/// when it acquires the lock. Reads and writes count alike. See [the module](super).
///
/// The lock has no poisoning: a panic under a guard unlocks it.
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
    /// Makes an unlocked lock. In checked builds, reports name it by the place of this call.
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
    /// Locks for reading.
    ///
    /// # Blocking
    /// Blocks the thread while another thread writes, or waits to write. There is no async form:
    /// see [the module](super).
    ///
    /// # Panics
    /// Panics in checked builds if the acquisition violates a recorded order, or if the thread
    /// holds the lock. See [the module](super).
    ///
    /// # Deadlocks
    /// May deadlock in other builds if the thread holds the lock: a second read can wait for a
    /// writer that waits for the first one.
    #[inline]
    #[cfg_attr(any(debug_assertions, feature = "order-checks"), track_caller)]
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        let learned = self.watch.before();
        let inner = self.inner.read();
        RwLockReadGuard::new(self.watch.taken(learned), inner)
    }

    /// Locks for reading if that does not wait, in any order, and returns `None` otherwise.
    ///
    /// # Blocking
    /// Never blocks.
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
    /// Blocks the thread until no other thread holds the lock. There is no async form: see [the
    /// module](super).
    ///
    /// # Panics
    /// Panics in checked builds if the acquisition violates a recorded order, or if the thread
    /// holds the lock. See [the module](super).
    ///
    /// # Deadlocks
    /// Deadlocks in other builds if the thread holds the lock.
    #[inline]
    #[cfg_attr(any(debug_assertions, feature = "order-checks"), track_caller)]
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        let learned = self.watch.before();
        let inner = self.inner.write();
        RwLockWriteGuard::new(self.watch.taken(learned), inner)
    }

    /// Locks for writing if that does not wait, in any order, and returns `None` otherwise.
    ///
    /// # Blocking
    /// Never blocks.
    #[inline]
    #[cfg_attr(any(debug_assertions, feature = "order-checks"), track_caller)]
    pub fn try_write(&self) -> Option<RwLockWriteGuard<'_, T>> {
        let inner = self.inner.try_write()?;
        Some(RwLockWriteGuard::new(
            self.watch.taken(Learned::NOTHING),
            inner,
        ))
    }

    /// Returns the value. The caller borrows the lock exclusively.
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

/// Holds a [`RwLock`] for reading, and unlocks it when it is dropped. The guard stays on its
/// thread, to whose order it belongs.
#[must_use = "the lock is unlocked at once"]
pub struct RwLockReadGuard<'a, T: ?Sized> {
    // Dropped first: the lock becomes free for other threads after this thread's list omits it.
    _hold: Hold,
    inner: parking_lot::RwLockReadGuard<'a, T>,
    // Not `Send`, whatever the features of `parking_lot`.
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

/// Holds a [`RwLock`] for writing, and unlocks it when it is dropped. The guard stays on its
/// thread, to whose order it belongs.
#[must_use = "the lock is unlocked at once"]
pub struct RwLockWriteGuard<'a, T: ?Sized> {
    // Dropped first: the lock becomes free for other threads after this thread's list omits it.
    _hold: Hold,
    inner: parking_lot::RwLockWriteGuard<'a, T>,
    // Not `Send`, whatever the features of `parking_lot`.
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
