//! Reading a cell under a pin.

use core::fmt;
use core::ops::Deref;

use super::{Version, VersionedCell};
use crate::mvcc::{Pinned, ValueRef};
use crate::reclaim::{self, CellPin};

impl<T: Send + Sync + 'static> VersionedCell<T> {
    /// Returns the current value, and pins the thread for as long as the caller keeps it.
    ///
    /// A read loads the cell once; it never retries. The pin holds back *every* value that any
    /// thread replaces, so drop the result soon. Use [`read_owned`](Self::read_owned) for a value
    /// that you keep.
    ///
    /// # Blocking
    /// Never blocks.
    ///
    /// # Panics
    /// In debug builds, panics inside the closure of a transaction that has read or written this
    /// cell; see [`atomically`](crate::atomically()#direct-access). Every other read also does so.
    ///
    /// # Memory ordering
    /// Synchronises with the write of the value.
    ///
    /// # Examples
    /// ```
    /// let cell = latchwork::VersionedCell::new("a".to_owned());
    /// let snapshot = cell.read();
    /// cell.set("b".to_owned());
    /// assert_eq!((snapshot.as_str(), cell.read().as_str()), ("a", "b"));
    /// ```
    #[doc(alias = "load")]
    #[inline]
    #[cfg_attr(debug_assertions, track_caller)]
    #[must_use = "a value that is read and dropped at once has no use"]
    pub fn read(&self) -> Versioned<'_, T> {
        self.check_direct();
        self.read_unchecked()
    }

    /// Reads as [`read`](Self::read) does, for internal code: debug builds do not check for a
    /// transaction.
    #[inline]
    pub(super) fn read_unchecked(&self) -> Versioned<'_, T> {
        Versioned(self.head.read(pin_cells()))
    }

    /// Returns the current value, which an existing pin keeps.
    ///
    /// Reads that share a pin also share its cost.
    ///
    /// # Blocking
    /// Never blocks.
    ///
    /// # Examples
    /// ```
    /// use latchwork::VersionedCell;
    /// let cells: Vec<_> = (1..=10).map(VersionedCell::new).collect();
    /// let pin = latchwork::pin();
    /// let sum: i32 = cells.iter().map(|cell| *cell.read_in(&pin)).sum();
    /// assert_eq!(sum, 55); // each value as it was when it was read; not all at one moment
    /// ```
    #[inline]
    #[cfg_attr(debug_assertions, track_caller)]
    #[must_use = "a value that is read and dropped at once has no use"]
    pub fn read_in<'p>(&'p self, pin: &'p ReadPin) -> VersionedRef<'p, T> {
        self.check_direct();
        VersionedRef(self.head.current(&pin.0))
    }

    /// Returns the current version. Never blocks.
    ///
    /// # Examples
    /// ```
    /// let cell = latchwork::VersionedCell::new(1);
    /// cell.set(2);
    /// assert_eq!(cell.version().get(), 1);
    /// ```
    #[inline]
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn version(&self) -> Version {
        self.check_direct();
        self.version_now()
    }

    #[inline]
    pub(super) fn version_now(&self) -> Version {
        self.head.current(&pin_cells()).version()
    }
}

#[inline]
pub(crate) fn pin_cells() -> CellPin {
    reclaim::with(reclaim::Local::pin)
}

/// Pins this thread for reads of cells, until the pin is dropped.
///
/// Pins nest. While a pin exists, no value that is replaced on any thread is dropped. So keep it
/// briefly, and not while the thread waits. A pin is one exchange on a cache line of its thread; it
/// collects nothing and runs no destructor.
///
/// # Blocking
/// Never blocks.
///
/// # Examples
/// ```
/// let cell = latchwork::VersionedCell::new(1);
/// let pin = latchwork::pin();
/// assert_eq!(*cell.read_in(&pin) + *cell.read_in(&pin), 2);
/// ```
#[must_use = "a pin that is dropped at once protects no read"]
pub fn pin() -> ReadPin {
    ReadPin(pin_cells())
}

/// Keeps the values that [`VersionedCell::read_in`] returns. Created by [`pin`]; stays on its
/// thread.
///
/// # Examples
/// ```compile_fail,E0277
/// let pin = latchwork::pin();
/// std::thread::spawn(move || drop(pin)); // a pin is not `Send`
/// ```
/// ```
/// let pin = latchwork::pin();
/// std::thread::scope(|s| { s.spawn(|| drop(latchwork::pin())); }); // another thread has its own
/// drop(pin);
/// ```
pub struct ReadPin(CellPin);

impl ReadPin {
    #[inline(always)]
    pub(crate) fn cells(&self) -> &CellPin {
        &self.0
    }
}

impl fmt::Debug for ReadPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadPin").finish_non_exhaustive()
    }
}

/// Keeps a value as it was when it was read. It pins its thread; see [`VersionedCell::read`].
///
/// # Examples
/// ```
/// let cell = latchwork::VersionedCell::new(vec![1]);
/// let snapshot = cell.read();
/// assert_eq!((snapshot.len(), snapshot.version().get()), (1, 0));
/// ```
pub struct Versioned<'c, T: Send + Sync + 'static>(Pinned<'c, T>);

impl<'c, T: Send + Sync + 'static> Versioned<'c, T> {
    #[inline(always)]
    pub(crate) fn of(value: Pinned<'c, T>) -> Self {
        Versioned(value)
    }

    #[inline]
    pub(super) fn value(&self) -> ValueRef<'_, T> {
        self.0.value()
    }

    /// Returns the version of the value.
    #[inline]
    pub fn version(&self) -> Version {
        self.value().version()
    }
}

impl<T: Send + Sync + 'static> Deref for Versioned<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.value().get()
    }
}

impl<T: Send + Sync + 'static + fmt::Debug> fmt::Debug for Versioned<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_snapshot("Versioned", self.version(), &**self, f)
    }
}

/// Refers to a value as it was when it was read. A [`ReadPin`] keeps the value.
///
/// # Examples
/// ```
/// let cell = latchwork::VersionedCell::new(1);
/// let pin = latchwork::pin();
/// let snapshot = cell.read_in(&pin);
/// assert_eq!((*snapshot, snapshot.version()), (1, latchwork::cell::Version::FIRST));
/// ```
pub struct VersionedRef<'p, T: Send + Sync + 'static>(ValueRef<'p, T>);

impl<T: Send + Sync + 'static> Clone for VersionedRef<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Send + Sync + 'static> Copy for VersionedRef<'_, T> {}

impl<'p, T: Send + Sync + 'static> VersionedRef<'p, T> {
    #[inline(always)]
    pub(crate) fn of(value: ValueRef<'p, T>) -> Self {
        VersionedRef(value)
    }

    /// Returns the version of the value.
    #[inline]
    pub fn version(self) -> Version {
        self.0.version()
    }

    #[inline]
    pub(super) fn value(self) -> ValueRef<'p, T> {
        self.0
    }

    /// Returns the value, which is valid for as long as the pin lives.
    #[inline]
    pub fn get(self) -> &'p T {
        self.0.get()
    }
}

impl<T: Send + Sync + 'static> Deref for VersionedRef<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.get()
    }
}

impl<T: Send + Sync + 'static + fmt::Debug> fmt::Debug for VersionedRef<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_snapshot("VersionedRef", self.version(), &**self, f)
    }
}

pub(super) fn fmt_snapshot(
    name: &str,
    version: Version,
    value: &dyn fmt::Debug,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    f.debug_struct(name)
        .field("version", &version.get())
        .field("value", value)
        .finish()
}
