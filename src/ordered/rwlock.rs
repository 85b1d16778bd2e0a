//! A read-write lock of a level.

use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use super::{Above, Level, LevelToken, lock_by_address};

/// A `parking_lot` read-write lock of level `L`, which takes a [`LevelToken`] of a lower level to lock. See [the module](super).
///
/// A thread that reads cannot read again by accident, which might wait for a writer that waits for it.
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
/// To read twice does not compile:
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
    /// Makes an unlocked lock.
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

    /// Locks for reading several locks of one level, in the order of their addresses. The guards come in the order of the iterator.
    ///
    /// # Blocking
    /// Until all of them are locked, while it holds some.
    ///
    /// # Panics
    /// If a lock is given twice; nothing is locked then.
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

    /// Locks for writing several locks of one level, in the order of their addresses. The guards come in the order of the iterator.
    ///
    /// # Blocking
    /// Until all of them are locked, while it holds some.
    ///
    /// # Panics
    /// If a lock is given twice; nothing is locked then.
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
    /// Locks for reading, and returns the guard and the key for what may be locked under it.
    ///
    /// # Blocking
    /// While somebody writes, or waits to.
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

    /// As [`read`](Self::read), if it would not block.
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

    /// Locks for writing, and returns the guard and the key for what may be locked under it.
    ///
    /// # Blocking
    /// Until nobody else holds it.
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

    /// As [`write`](Self::write), if it would not block.
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

    /// Returns whether somebody holds it: over by the time that the caller looks at it.
    pub fn is_locked(&self) -> bool {
        self.inner.is_locked()
    }

    /// Returns the value, which nobody else can reach: no key is needed.
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

/// An [`OrderedRwLock`] that is locked for reading. It stays on its thread, whose order it is part of.
#[must_use = "the lock is unlocked at once"]
pub struct OrderedReadGuard<'g, T: ?Sized> {
    inner: parking_lot::RwLockReadGuard<'g, T>,
    // Whatever `parking_lot` was built with.
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

/// An [`OrderedRwLock`] that is locked for writing. It stays on its thread, whose order it is part of.
#[must_use = "the lock is unlocked at once"]
pub struct OrderedWriteGuard<'g, T: ?Sized> {
    inner: parking_lot::RwLockWriteGuard<'g, T>,
    // Whatever `parking_lot` was built with.
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
