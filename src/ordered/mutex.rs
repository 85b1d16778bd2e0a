//! A mutex of a level.

use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use super::{Above, Level, LevelToken, lock_by_address};

/// A `parking_lot` mutex of level `L`, which takes a [`LevelToken`] of a lower level to lock. See [the module](super).
///
/// No poisoning: a panic under the guard unlocks.
///
/// # Examples
/// ```
/// use latchwork::ordered::{OrderedMutex, RootToken};
/// latchwork::levels! {
///     pub Names;
/// }
/// let names: OrderedMutex<Names, Vec<&str>> = OrderedMutex::new(Vec::new());
/// let mut root = RootToken::take().expect("this thread has no other");
/// names.lock(&mut root).0.push("a");
/// assert_eq!(names.into_inner(), ["a"]);
/// ```
/// To lock the same mutex again would be to wait for itself, and does not compile:
/// ```compile_fail,E0277
/// # use latchwork::ordered::{OrderedMutex, RootToken};
/// # latchwork::levels! {
/// #     pub Names;
/// # }
/// let names: OrderedMutex<Names, Vec<&str>> = OrderedMutex::new(Vec::new());
/// let mut root = RootToken::take().expect("this thread has no other");
/// let (one, mut key) = names.lock(&mut root);
/// let (two, _) = names.lock(&mut key);
/// ```
/// Nor does it with the key that is lent to the first guard:
/// ```compile_fail,E0499
/// # use latchwork::ordered::{OrderedMutex, RootToken};
/// # latchwork::levels! {
/// #     pub Names;
/// # }
/// let names: OrderedMutex<Names, Vec<&str>> = OrderedMutex::new(Vec::new());
/// let mut root = RootToken::take().expect("this thread has no other");
/// let (one, _) = names.lock(&mut root);
/// let (two, _) = names.lock(&mut root);
/// drop(one);
/// ```
pub struct OrderedMutex<L, T: ?Sized> {
    /// Invariant: a level must not become another by coercion.
    level: PhantomData<fn(L) -> L>,
    inner: parking_lot::Mutex<T>,
}

impl<L: Level, T> OrderedMutex<L, T> {
    /// Makes an unlocked mutex.
    pub const fn new(value: T) -> Self {
        OrderedMutex {
            level: PhantomData,
            inner: parking_lot::Mutex::new(value),
        }
    }

    /// Returns the value.
    pub fn into_inner(self) -> T {
        self.inner.into_inner()
    }

    /// Locks several mutexes of one level, in the order of their addresses, so that whoever else does so is in no ring with the caller. The
    /// guards come in the order of the iterator.
    ///
    /// # Blocking
    /// Until all of them are locked, while it holds some.
    ///
    /// # Panics
    /// If a mutex is given twice; nothing is locked then.
    ///
    /// # Examples
    /// ```
    /// use latchwork::ordered::{OrderedMutex, RootToken};
    /// latchwork::levels! {
    ///     pub Account;
    /// }
    /// let accounts = [100, 0, 7].map(OrderedMutex::<Account, i64>::new);
    /// let mut root = RootToken::take().expect("this thread has no other");
    /// let (mut both, _) = OrderedMutex::lock_all([&accounts[2], &accounts[0]], &mut root);
    /// *both[0] += 30;
    /// *both[1] -= 30;
    /// drop(both);
    /// assert_eq!(accounts.map(OrderedMutex::into_inner), [70, 0, 37]);
    /// ```
    pub fn lock_all<'g, K: Level>(
        mutexes: impl IntoIterator<Item = &'g Self>,
        _: &'g mut LevelToken<'_, K>,
    ) -> (Vec<OrderedMutexGuard<'g, T>>, LevelToken<'g, L>)
    where
        L: Above<K> + 'g,
        T: 'g,
    {
        let guards = lock_by_address(mutexes, |lock| OrderedMutexGuard::new(lock.inner.lock()));
        (guards, LevelToken::after::<K>())
    }
}

impl<L: Level, T: ?Sized> OrderedMutex<L, T> {
    /// Locks, and returns the guard and the key for what may be locked under it.
    ///
    /// # Blocking
    /// Until nobody else holds it.
    #[inline]
    pub fn lock<'g, K: Level>(
        &'g self,
        _: &'g mut LevelToken<'_, K>,
    ) -> (OrderedMutexGuard<'g, T>, LevelToken<'g, L>)
    where
        L: Above<K>,
    {
        (
            OrderedMutexGuard::new(self.inner.lock()),
            LevelToken::after::<K>(),
        )
    }

    /// As [`lock`](Self::lock), if it would not block.
    #[inline]
    pub fn try_lock<'g, K: Level>(
        &'g self,
        _: &'g mut LevelToken<'_, K>,
    ) -> Option<(OrderedMutexGuard<'g, T>, LevelToken<'g, L>)>
    where
        L: Above<K>,
    {
        let guard = self.inner.try_lock()?;
        Some((OrderedMutexGuard::new(guard), LevelToken::after::<K>()))
    }

    /// Returns whether somebody holds it: over by the time that the caller looks at it.
    pub fn is_locked(&self) -> bool {
        self.inner.is_locked()
    }

    /// Returns the value, which nobody else can reach: no key is needed.
    pub fn get_mut(&mut self) -> &mut T {
        self.inner.get_mut()
    }
}

impl<L: Level, T: Default> Default for OrderedMutex<L, T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<L: Level, T> From<T> for OrderedMutex<L, T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<L, T: ?Sized + fmt::Debug> fmt::Debug for OrderedMutex<L, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OrderedMutex")
            .field("level", &core::any::type_name::<L>())
            .field("inner", &&self.inner)
            .finish()
    }
}

/// A locked [`OrderedMutex`]. It stays on its thread, whose order it is part of.
#[must_use = "the mutex is unlocked at once"]
pub struct OrderedMutexGuard<'g, T: ?Sized> {
    inner: parking_lot::MutexGuard<'g, T>,
    // Whatever `parking_lot` was built with.
    stays: PhantomData<*const ()>,
}

impl<'g, T: ?Sized> OrderedMutexGuard<'g, T> {
    #[inline(always)]
    fn new(inner: parking_lot::MutexGuard<'g, T>) -> Self {
        OrderedMutexGuard {
            inner,
            stays: PhantomData,
        }
    }
}

impl<T: ?Sized> Deref for OrderedMutexGuard<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T: ?Sized> DerefMut for OrderedMutexGuard<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for OrderedMutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
