//! A read-write lock of a level.

use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use super::{Above, Level, LevelToken, lock_by_address};

/// A `parking_lot` read-write lock of level `L`, which borrows a [`LevelToken`] of a lower level to
/// lock. See [the module](super).
///
/// A thread that reads cannot read again by accident. A second read may wait for a writer, which
/// waits for the first one.
///
/// # Examples
/// ```
/// use latchwork::ordered::{OrderedRwLock, RootToken};
/// latchwork::levels! {
///     pub Config;
///     pub Cache;
/// }
/// let config: OrderedRwLock<Config, u32> = OrderedRwLock::new(2);
/// let cache: OrderedRwLock<Cache, Vec<u32>> = OrderedRwLock::new(Vec::new());
/// let mut root = RootToken::take().expect("this thread has no other");
/// let (config, mut key) = config.read(&mut root);
/// let (mut cache, _) = cache.write(&mut key);
/// cache.push(*config);
/// assert_eq!(*cache, [2]);
/// ```
/// A second read does not compile:
/// ```compile_fail,E0277
/// # use latchwork::ordered::{OrderedRwLock, RootToken};
/// # latchwork::levels! {
/// #     pub Config;
/// # }
/// let config: OrderedRwLock<Config, u32> = OrderedRwLock::new(2);
/// let mut root = RootToken::take().expect("this thread has no other");
/// let (one, mut key) = config.read(&mut root);
/// let (two, _) = config.read(&mut key);
/// ```
pub struct OrderedRwLock<L, T: ?Sized> {
    /// Invariant: a level must not become another by coercion.
    level: PhantomData<fn(L) -> L>,
    inner: parking_lot::RwLock<T>,
}

impl<L: Level, T> OrderedRwLock<L, T> {
    /// Makes an unlocked lock of level `L`.
    pub const fn new(value: T) -> Self {
        OrderedRwLock {
            level: PhantomData,
            inner: parking_lot::RwLock::new(value),
        }
    }

    /// Returns the value.
    pub fn into_inner(self) -> T {
        self.inner.into_inner()
    }

    /// Locks several locks of one level for reading, in the order of their addresses. Returns the
    /// guards in the order of the iterator.
    ///
    /// # Blocking
    /// Blocks the thread until all locks are acquired, and holds some of them during the wait.
    /// There is no async form: see [the module](super).
    ///
    /// # Panics
    /// Panics if a lock occurs twice; nothing is locked then.
    ///
    /// # Examples
    /// ```
    /// use latchwork::ordered::{OrderedRwLock, RootToken};
    /// latchwork::levels! {
    ///     pub Config;
    /// }
    /// let parts = [1, 2].map(OrderedRwLock::<Config, u32>::new);
    /// let mut root = RootToken::take().expect("this thread has no other");
    /// let (guards, _token) = OrderedRwLock::read_all(&parts, &mut root);
    /// assert_eq!(*guards[0] + *guards[1], 3);
    /// ```
    pub fn read_all<'g, K: Level>(
        locks: impl IntoIterator<Item = &'g Self>,
        _: &'g mut LevelToken<'_, K>,
    ) -> (Vec<OrderedReadGuard<'g, T>>, LevelToken<'g, L>)
    where
        L: Above<K> + 'g,
        T: 'g,
    {
        let guards = lock_by_address(locks, |lock| OrderedReadGuard::new(lock.inner.read()));
        (guards, LevelToken::after::<K>())
    }

    /// Locks several locks of one level for writing, in the order of their addresses. Returns the
    /// guards in the order of the iterator.
    ///
    /// # Blocking
    /// Blocks the thread until all locks are acquired, and holds some of them during the wait.
    /// There is no async form: see [the module](super).
    ///
    /// # Panics
    /// Panics if a lock occurs twice; nothing is locked then.
    ///
    /// # Examples
    /// ```
    /// use latchwork::ordered::{OrderedRwLock, RootToken};
    /// latchwork::levels! {
    ///     pub Config;
    /// }
    /// let parts = [1, 2].map(OrderedRwLock::<Config, u32>::new);
    /// let mut root = RootToken::take().expect("this thread has no other");
    /// let (mut guards, _token) = OrderedRwLock::write_all(&parts, &mut root);
    /// *guards[1] += *guards[0];
    /// assert_eq!(*guards[1], 3);
    /// ```
    pub fn write_all<'g, K: Level>(
        locks: impl IntoIterator<Item = &'g Self>,
        _: &'g mut LevelToken<'_, K>,
    ) -> (Vec<OrderedWriteGuard<'g, T>>, LevelToken<'g, L>)
    where
        L: Above<K> + 'g,
        T: 'g,
    {
        let guards = lock_by_address(locks, |lock| OrderedWriteGuard::new(lock.inner.write()));
        (guards, LevelToken::after::<K>())
    }
}

impl<L: Level, T: ?Sized> OrderedRwLock<L, T> {
    /// Locks for reading. Returns the guard, and the token for the levels that may be locked under
    /// it.
    ///
    /// # Blocking
    /// Blocks the thread while another thread writes, or waits to write. On a current-thread
    /// runtime it can hang indefinitely if a task awaits while it holds a guard. There is no async
    /// form: see [the module](super).
    ///
    /// # Deadlocks
    /// Cannot deadlock with other locks of levels, because the type system orders them.
    ///
    /// # Examples
    /// ```
    /// use latchwork::ordered::{OrderedRwLock, RootToken};
    /// latchwork::levels! {
    ///     pub Config;
    /// }
    /// let config: OrderedRwLock<Config, u32> = OrderedRwLock::new(2);
    /// let mut root = RootToken::take().expect("this thread has no other");
    /// let (guard, _token) = config.read(&mut root);
    /// assert_eq!(*guard, 2);
    /// ```
    #[inline]
    pub fn read<'g, K: Level>(
        &'g self,
        _: &'g mut LevelToken<'_, K>,
    ) -> (OrderedReadGuard<'g, T>, LevelToken<'g, L>)
    where
        L: Above<K>,
    {
        (
            OrderedReadGuard::new(self.inner.read()),
            LevelToken::after::<K>(),
        )
    }

    /// Locks for reading as [`read`](Self::read) does if that does not wait, and returns `None`
    /// otherwise.
    ///
    /// # Blocking
    /// Never blocks.
    #[inline]
    pub fn try_read<'g, K: Level>(
        &'g self,
        _: &'g mut LevelToken<'_, K>,
    ) -> Option<(OrderedReadGuard<'g, T>, LevelToken<'g, L>)>
    where
        L: Above<K>,
    {
        let guard = self.inner.try_read()?;
        Some((OrderedReadGuard::new(guard), LevelToken::after::<K>()))
    }

    /// Locks for writing. Returns the guard, and the token for the levels that may be locked under
    /// it.
    ///
    /// # Blocking
    /// Blocks the thread until no other thread holds the lock. On a current-thread runtime it can
    /// hang indefinitely if a task awaits while it holds a guard. There is no async form: see [the
    /// module](super).
    ///
    /// # Deadlocks
    /// Cannot deadlock with other locks of levels, because the type system orders them.
    ///
    /// # Examples
    /// ```
    /// use latchwork::ordered::{OrderedRwLock, RootToken};
    /// latchwork::levels! {
    ///     pub Config;
    /// }
    /// let config: OrderedRwLock<Config, u32> = OrderedRwLock::new(2);
    /// let mut root = RootToken::take().expect("this thread has no other");
    /// *config.write(&mut root).0 += 1;
    /// assert_eq!(config.into_inner(), 3);
    /// ```
    #[inline]
    pub fn write<'g, K: Level>(
        &'g self,
        _: &'g mut LevelToken<'_, K>,
    ) -> (OrderedWriteGuard<'g, T>, LevelToken<'g, L>)
    where
        L: Above<K>,
    {
        (
            OrderedWriteGuard::new(self.inner.write()),
            LevelToken::after::<K>(),
        )
    }

    /// Locks for writing as [`write`](Self::write) does if that does not wait, and returns `None`
    /// otherwise.
    ///
    /// # Blocking
    /// Never blocks.
    #[inline]
    pub fn try_write<'g, K: Level>(
        &'g self,
        _: &'g mut LevelToken<'_, K>,
    ) -> Option<(OrderedWriteGuard<'g, T>, LevelToken<'g, L>)>
    where
        L: Above<K>,
    {
        let guard = self.inner.try_write()?;
        Some((OrderedWriteGuard::new(guard), LevelToken::after::<K>()))
    }

    /// Returns whether a thread holds the lock. The result may be out of date when the caller reads
    /// it.
    pub fn is_locked(&self) -> bool {
        self.inner.is_locked()
    }

    /// Returns the value. The caller borrows the lock exclusively, so no token is needed.
    pub fn get_mut(&mut self) -> &mut T {
        self.inner.get_mut()
    }
}

impl<L: Level, T: Default> Default for OrderedRwLock<L, T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<L: Level, T> From<T> for OrderedRwLock<L, T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<L, T: ?Sized + fmt::Debug> fmt::Debug for OrderedRwLock<L, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OrderedRwLock")
            .field("level", &core::any::type_name::<L>())
            .field("inner", &&self.inner)
            .finish()
    }
}

/// Holds an [`OrderedRwLock`] for reading, and unlocks it when it is dropped. The guard stays on
/// its thread, to whose order it belongs.
#[must_use = "the lock is unlocked at once"]
pub struct OrderedReadGuard<'g, T: ?Sized> {
    inner: parking_lot::RwLockReadGuard<'g, T>,
    // Not `Send`, whatever the features of `parking_lot`.
    stays: PhantomData<*const ()>,
}

impl<'g, T: ?Sized> OrderedReadGuard<'g, T> {
    #[inline(always)]
    fn new(inner: parking_lot::RwLockReadGuard<'g, T>) -> Self {
        OrderedReadGuard {
            inner,
            stays: PhantomData,
        }
    }
}

impl<T: ?Sized> Deref for OrderedReadGuard<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for OrderedReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Holds an [`OrderedRwLock`] for writing, and unlocks it when it is dropped. The guard stays on
/// its thread, to whose order it belongs.
#[must_use = "the lock is unlocked at once"]
pub struct OrderedWriteGuard<'g, T: ?Sized> {
    inner: parking_lot::RwLockWriteGuard<'g, T>,
    // Not `Send`, whatever the features of `parking_lot`.
    stays: PhantomData<*const ()>,
}

impl<'g, T: ?Sized> OrderedWriteGuard<'g, T> {
    #[inline(always)]
    fn new(inner: parking_lot::RwLockWriteGuard<'g, T>) -> Self {
        OrderedWriteGuard {
            inner,
            stays: PhantomData,
        }
    }
}

impl<T: ?Sized> Deref for OrderedWriteGuard<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T: ?Sized> DerefMut for OrderedWriteGuard<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for OrderedWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
