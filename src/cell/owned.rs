//! Values that outlive their cell without a pin.

use core::fmt;
use core::ops::Deref;
use core::panic::{RefUnwindSafe, UnwindSafe};

use super::read::{fmt_snapshot, pin_cells};
use super::{Version, Versioned, VersionedCell, VersionedRef};
use crate::mvcc::{Shared, ValueRef};

/// Shares ownership of a value with its cell, without a pin.
///
/// It holds back only its own value. Use it for a value that is kept for long, sent to another
/// thread, or held across an `.await`. All owned references to one value share one count. Each
/// costs two atomic additions to it, so many threads that read one value at once contend for its
/// cache line.
///
/// # Examples
/// ```
/// let cell = latchwork::VersionedCell::new("a".to_owned());
/// let snapshot = cell.read_owned();
/// drop(cell);
/// let length = std::thread::spawn(move || snapshot.len()).join().unwrap();
/// assert_eq!(length, 1);
/// ```
pub struct OwnedVersioned<T: Send + Sync + 'static>(Shared<T>);

// It lends a value, and no thread can change the value: again as `Arc`.
impl<T: Send + Sync + 'static + RefUnwindSafe> UnwindSafe for OwnedVersioned<T> {}
impl<T: Send + Sync + 'static + RefUnwindSafe> RefUnwindSafe for OwnedVersioned<T> {}

impl<T: Send + Sync + 'static> Versioned<'_, T> {
    /// Returns the same value without a pin. See [`VersionedCell::read_owned`].
    ///
    /// # Examples
    /// ```
    /// let cell = latchwork::VersionedCell::new("a");
    /// let owned = cell.read().to_owned();
    /// assert_eq!(std::thread::spawn(move || *owned).join().unwrap(), "a");
    /// ```
    #[allow(
        clippy::should_implement_trait,
        reason = "the trait would clone the value"
    )]
    pub fn to_owned(&self) -> OwnedVersioned<T> {
        OwnedVersioned::of(self.value())
    }
}

impl<T: Send + Sync + 'static> VersionedRef<'_, T> {
    /// Returns the same value without a pin. See [`VersionedCell::read_owned`].
    #[allow(
        clippy::should_implement_trait,
        reason = "the trait would clone the value"
    )]
    pub fn to_owned(self) -> OwnedVersioned<T> {
        OwnedVersioned::of(self.value())
    }
}

impl<T: Send + Sync + 'static> VersionedCell<T> {
    /// Returns the current value, and keeps it without a pin.
    ///
    /// Costs two atomic additions more than [`read`](Self::read): one now, and one when the result
    /// is dropped.
    ///
    /// # Blocking
    /// Never blocks.
    ///
    /// # Panics
    /// Panics as [`read`](Self::read) does. The process aborts if 2³¹ references to one value are
    /// leaked.
    ///
    /// # Examples
    /// ```
    /// let cell = latchwork::VersionedCell::new(1);
    /// let snapshot = cell.read_owned();
    /// cell.set(2);
    /// assert_eq!((*snapshot, snapshot.version().get()), (1, 0));
    /// ```
    #[cfg_attr(debug_assertions, track_caller)]
    #[must_use = "a value that is read and dropped at once has no use"]
    pub fn read_owned(&self) -> OwnedVersioned<T> {
        self.check_direct();
        OwnedVersioned::of(self.head.current(&pin_cells()))
    }
}

impl<T: Send + Sync + 'static> OwnedVersioned<T> {
    pub(crate) fn of(value: ValueRef<'_, T>) -> Self {
        OwnedVersioned(value.share())
    }

    pub(crate) fn of_cell(cell: VersionedCell<T>) -> Self {
        OwnedVersioned(cell.head.into_shared())
    }

    fn value(&self) -> ValueRef<'_, T> {
        self.0.value()
    }

    /// Returns the version of the value.
    pub fn version(&self) -> Version {
        self.value().version()
    }

    /// Returns the value, or `Err` with this reference if the value is still shared.
    ///
    /// # Errors
    /// Returns `Err` if the cell still has the value, or if another [`OwnedVersioned`] of it
    /// exists. Also returns `Err` if the value was replaced and a pin may still keep it.
    ///
    /// # Examples
    /// ```
    /// let cell = latchwork::VersionedCell::new("a".to_owned());
    /// let snapshot = cell.read_owned();
    /// let snapshot = snapshot.into_value().unwrap_err(); // the cell has it
    /// drop(cell);
    /// assert_eq!(snapshot.into_value().unwrap(), "a");
    /// ```
    pub fn into_value(self) -> Result<T, Self> {
        self.0.into_value().map_err(OwnedVersioned)
    }
}

impl<T: Send + Sync + 'static> Clone for OwnedVersioned<T> {
    fn clone(&self) -> Self {
        Self::of(self.value())
    }
}

impl<T: Send + Sync + 'static> Deref for OwnedVersioned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value().get()
    }
}

impl<T: Send + Sync + 'static + fmt::Debug> fmt::Debug for OwnedVersioned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_snapshot("OwnedVersioned", self.version(), &**self, f)
    }
}
