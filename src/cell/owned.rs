//! Values that outlive their cell without a pin.
#![allow(unsafe_code)]

use core::fmt;
use core::marker::PhantomData;
use core::ops::Deref;
use core::panic::{RefUnwindSafe, UnwindSafe};
use core::ptr::NonNull;

use super::read::{fmt_snapshot, pin_cells};
use super::{Header, Node, NodeRef, Version, Versioned, VersionedCell, VersionedRef};
use crate::mvcc::dropped;
use crate::reclaim;

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
pub struct OwnedVersioned<T: Send + Sync + 'static>(NonNull<Header>, PhantomData<T>);

// SAFETY: it shares a `T` between threads, and the last owner drops it: as `Arc`.
unsafe impl<T: Send + Sync + 'static> Send for OwnedVersioned<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync + 'static> Sync for OwnedVersioned<T> {}

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
        OwnedVersioned::of(self.node())
    }
}

impl<T: Send + Sync + 'static> VersionedRef<'_, T> {
    /// Returns the same value without a pin. See [`VersionedCell::read_owned`].
    #[allow(
        clippy::should_implement_trait,
        reason = "the trait would clone the value"
    )]
    pub fn to_owned(self) -> OwnedVersioned<T> {
        OwnedVersioned::of(self.node())
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
        OwnedVersioned::of(self.current(&pin_cells()))
    }

    /// Returns the value for a write in place, if no [`OwnedVersioned`] shares it.
    pub(super) fn value_mut(&mut self) -> Option<&mut T> {
        let node = self.load().node();
        // Checked through a shared reference: other threads may be using the node and its count.
        // SAFETY: the current node belongs to the cell, and is alive.
        if !unsafe { node.as_ref() }.is_unshared() {
            return None;
        }
        // SAFETY: there is no other reference, and no other thread reads the cell while it is
        // borrowed exclusively [R3].
        let node = unsafe { node.cast::<Node<T>>().as_mut() };
        // SAFETY: no transaction touches the cell now, so that its node has a value.
        Some(unsafe { node.write_in_place() })
    }
}

impl<T: Send + Sync + 'static> Drop for VersionedCell<T> {
    fn drop(&mut self) {
        let word = self.load();
        if word.is_waited() {
            dropped::note(word.node());
        }
        // Releases the reference of the cell to its node: no thread can read it through the cell
        // any more.
        drop(OwnedVersioned::<T>(word.node(), PhantomData));
    }
}

impl<T: Send + Sync + 'static> OwnedVersioned<T> {
    /// Creates one more reference to a node that the caller may use, and that has a value.
    pub(crate) fn of(node: NodeRef<'_>) -> Self {
        node.header().share();
        OwnedVersioned(node.as_ptr(), PhantomData)
    }

    /// Acquires the reference that the cell owns.
    pub(crate) fn of_cell(cell: VersionedCell<T>) -> Self {
        let node = cell.load().node();
        core::mem::forget(cell);
        OwnedVersioned(node, PhantomData)
    }

    /// Releases the reference to a node in the room of an entry of a map.
    #[cold]
    fn release_in_room(&self) {
        // SAFETY: called once, when this value is dropped; as there.
        reclaim::with(|local| unsafe { local.release_now(self.0.cast(), Node::<T>::OF_ENTRY) });
    }

    fn node(&self) -> NodeRef<'_> {
        // SAFETY: alive, by the share [R3].
        unsafe { NodeRef::new(self.0) }
    }

    /// Returns the version of the value.
    pub fn version(&self) -> Version {
        self.node().version()
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
        if !self.node().header().is_unshared() {
            return Err(self);
        }
        let node = self.0.cast::<Node<T>>();
        core::mem::forget(self);
        // SAFETY: the caller has the only reference, so no other thread can reach the node [R3]. It
        // was in a cell of `T`, so it is no claim.
        Ok(reclaim::with(|local| unsafe {
            Node::into_value(node, local)
        }))
    }
}

impl<T: Send + Sync + 'static> Clone for OwnedVersioned<T> {
    fn clone(&self) -> Self {
        Self::of(self.node())
    }
}

impl<T: Send + Sync + 'static> Drop for OwnedVersioned<T> {
    fn drop(&mut self) {
        if self.node().header().is_in_room() {
            return self.release_in_room();
        }
        // SAFETY: this value owns one reference to the node, and releases it here [R3].
        reclaim::with(|local| unsafe { local.release_now(self.0.cast(), Node::<T>::KIND) });
    }
}

impl<T: Send + Sync + 'static> Deref for OwnedVersioned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: it was in a cell of `T`, and has a value.
        unsafe { self.node().value() }
    }
}

impl<T: Send + Sync + 'static + fmt::Debug> fmt::Debug for OwnedVersioned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_snapshot("OwnedVersioned", self.version(), &**self, f)
    }
}
