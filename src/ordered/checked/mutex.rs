//! A mutex that records the order of its acquisitions.

use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use super::watch::{Hold, Learned, Watch};

/// A `parking_lot` mutex that records, in checked builds, which locks the thread holds when it
/// acquires the mutex. See [the module](super).
///
/// The mutex has no poisoning: a panic under the guard unlocks it.
///
/// # Examples
/// ```
/// use latchwork::ordered::checked::Mutex;
/// static NAMES: Mutex<Vec<&str>> = Mutex::new(Vec::new());
/// NAMES.lock().push("a");
/// assert_eq!(*NAMES.lock(), ["a"]);
/// ```
pub struct Mutex<T: ?Sized> {
    watch: Watch,
    inner: parking_lot::Mutex<T>,
}

impl<T> Mutex<T> {
    /// Makes an unlocked mutex. In checked builds, reports name it by the place of this call.
    #[cfg_attr(any(debug_assertions, feature = "order-checks"), track_caller)]
    pub const fn new(value: T) -> Self {
        Mutex {
            watch: Watch::new(),
            inner: parking_lot::Mutex::new(value),
        }
    }

    /// Returns the value.
    pub fn into_inner(self) -> T {
        self.inner.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Locks the mutex.
    ///
    /// # Blocking
    /// Blocks the thread until no other thread holds the mutex. There is no async form: see [the
    /// module](super).
    ///
    /// # Panics
    /// Panics in checked builds if the acquisition violates a recorded order, or if the thread
    /// holds the mutex. See [the module](super).
    ///
    /// # Deadlocks
    /// Deadlocks in other builds if the thread holds the mutex.
    #[inline]
    #[cfg_attr(any(debug_assertions, feature = "order-checks"), track_caller)]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        let learned = self.watch.before();
        let inner = self.inner.lock();
        MutexGuard::new(self.watch.taken(learned), inner)
    }

    /// Locks the mutex if it is free, in any order, and returns `None` otherwise.
    ///
    /// # Blocking
    /// Never blocks.
    ///
    /// # Examples
    /// ```
    /// use latchwork::ordered::checked::Mutex;
    /// let mutex = Mutex::new(1);
    /// let guard = mutex.lock();
    /// assert!(mutex.try_lock().is_none());
    /// drop(guard);
    /// assert!(mutex.try_lock().is_some());
    /// ```
    #[inline]
    #[cfg_attr(any(debug_assertions, feature = "order-checks"), track_caller)]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let inner = self.inner.try_lock()?;
        Some(MutexGuard::new(self.watch.taken(Learned::NOTHING), inner))
    }

    /// Returns the value. The caller borrows the mutex exclusively.
    pub fn get_mut(&mut self) -> &mut T {
        self.inner.get_mut()
    }
}

impl<T: Default> Default for Mutex<T> {
    #[cfg_attr(any(debug_assertions, feature = "order-checks"), track_caller)]
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> From<T> for Mutex<T> {
    #[cfg_attr(any(debug_assertions, feature = "order-checks"), track_caller)]
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// Holds a [`Mutex`], and unlocks it when it is dropped. The guard stays on its thread, to whose
/// order it belongs.
#[must_use = "the mutex is unlocked at once"]
pub struct MutexGuard<'a, T: ?Sized> {
    // Dropped first: the lock becomes free for other threads after this thread's list omits it.
    _hold: Hold,
    inner: parking_lot::MutexGuard<'a, T>,
    // Not `Send`, whatever the features of `parking_lot`.
    stays: PhantomData<*const ()>,
}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    #[inline(always)]
    fn new(hold: Hold, inner: parking_lot::MutexGuard<'a, T>) -> Self {
        MutexGuard {
            _hold: hold,
            inner,
            stays: PhantomData,
        }
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
