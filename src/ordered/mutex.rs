//! A mutex of a level.

use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use super::{Above, Level, LevelToken, lock_by_address};

/// A `parking_lot` mutex of level `L`, which borrows a [`LevelToken`] of a lower level to lock. See
/// [the module](super).
///
/// The mutex has no poisoning: a panic under the guard unlocks it.
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
/// A second lock of the same mutex would deadlock, and does not compile:
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
/// A second lock with the token that the first guard borrows does not compile either:
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
    /// Makes an unlocked mutex of level `L`.
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

    /// Locks several mutexes of one level, in the order of their addresses. Returns the guards in
    /// the order of the iterator.
    ///
    /// Calls that acquire locks of one level this way cannot deadlock with each other.
    ///
    /// # Blocking
    /// Blocks the thread until all mutexes are locked, and holds some of them during the wait.
    /// There is no async form: see [the module](super).
    ///
    /// # Panics
    /// Panics if a mutex occurs twice; nothing is locked then.
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
    /// Locks the mutex. Returns the guard, and the token for the levels that may be locked under
    /// it.
    ///
    /// # Blocking
    /// Blocks the thread until no other thread holds the mutex. On a current-thread runtime it can
    /// hang indefinitely if a task awaits while it holds the guard. There is no async form: see
    /// [the module](super).
    ///
    /// # Deadlocks
    /// Cannot deadlock with other locks of levels, because the type system orders them.
    ///
    /// # Examples
    /// ```
    /// use latchwork::ordered::{OrderedMutex, RootToken};
    /// latchwork::levels! {
    ///     pub Names;
    /// }
    /// let names: OrderedMutex<Names, Vec<&str>> = OrderedMutex::new(Vec::new());
    /// let mut root = RootToken::take().expect("this thread has no other");
    /// let (mut guard, _token) = names.lock(&mut root);
    /// guard.push("a");
    /// ```
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

    /// Locks the mutex as [`lock`](Self::lock) does if it is free, and returns `None` otherwise.
    ///
    /// # Blocking
    /// Never blocks.
    ///
    /// # Examples
    /// ```
    /// use latchwork::ordered::{OrderedMutex, RootToken};
    /// latchwork::levels! {
    ///     pub Names;
    /// }
    /// let names: OrderedMutex<Names, u32> = OrderedMutex::new(1);
    /// let mut root = RootToken::take().expect("this thread has no other");
    /// let (guard, _token) = names.try_lock(&mut root).expect("no thread holds it");
    /// assert_eq!(*guard, 1);
    /// ```
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

    /// Returns whether a thread holds the mutex. The result may be out of date when the caller
    /// reads it.
    pub fn is_locked(&self) -> bool {
        self.inner.is_locked()
    }

    /// Returns the value. The caller borrows the mutex exclusively, so no token is needed.
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

/// Holds an [`OrderedMutex`], and unlocks it when it is dropped. The guard stays on its thread, to
/// whose order it belongs.
///
/// # Examples
/// ```
/// use latchwork::ordered::{OrderedMutex, RootToken};
/// latchwork::levels! {
///     pub Names;
/// }
/// let names: OrderedMutex<Names, u32> = OrderedMutex::new(1);
/// let mut root = RootToken::take().expect("this thread has no other");
/// let (guard, _token) = names.lock(&mut root);
/// assert!(names.is_locked());
/// drop(guard);
/// assert!(!names.is_locked());
/// ```
#[must_use = "the mutex is unlocked at once"]
pub struct OrderedMutexGuard<'g, T: ?Sized> {
    inner: parking_lot::MutexGuard<'g, T>,
    // Not `Send`, whatever the features of `parking_lot`.
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
