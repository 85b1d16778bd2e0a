//! A mutex that learns when it is taken.

use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use super::watch::{Hold, Learned, Watch};

/// A `parking_lot` mutex that learns, in checked builds, which locks are held when it is taken. See [the module](super).
///
/// No poisoning.
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
    /// Makes an unlocked lock. In checked builds, reports name it by where this is called.
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
    /// Locks.
    ///
    /// # Blocking
    /// Until nobody else holds it.
    ///
    /// # Panics
    /// In checked builds, if it breaks the order; see [the module](super).
    #[inline]
    #[cfg_attr(any(debug_assertions, feature = "order-checks"), track_caller)]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        let learned = self.watch.before();
        let inner = self.inner.lock();
        MutexGuard::new(self.watch.taken(learned), inner)
    }

    /// As [`lock`](Self::lock) if it would not block, and then in any order.
    #[inline]
    #[cfg_attr(any(debug_assertions, feature = "order-checks"), track_caller)]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let inner = self.inner.try_lock()?;
        Some(MutexGuard::new(self.watch.taken(Learned::NOTHING), inner))
    }

    /// Returns the value, which nobody else can reach.
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

/// A locked [`Mutex`]. It stays on its thread, whose order it is part of.
#[must_use = "the lock is given back at once"]
pub struct MutexGuard<'a, T: ?Sized> {
    // Dropped first: for others the lock is free after it is off this thread's list.
    _hold: Hold,
    inner: parking_lot::MutexGuard<'a, T>,
    // Whatever `parking_lot` was built with.
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
