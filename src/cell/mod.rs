//! A value with a version: [`VersionedCell`].
//!
//! A cell is one word: the address of a node, which contains the value and its version. A read pins
//! the thread and loads the word. A write replaces the node by a compare-and-swap. [The
//! protocol](crate::docs::internals::cells) has the steps and the rules that the code cites in
//! brackets.

mod future;
pub(crate) mod limit;
#[cfg(latchwork_loom)]
pub mod model;
mod owned;
mod policy;
pub(crate) mod read;
pub(crate) mod wait;
mod write;

use core::fmt;
use core::panic::{RefUnwindSafe, UnwindSafe};

pub use future::{CompareAndSetFuture, SetFuture, SwapFuture, UpdateFuture};
pub use owned::OwnedVersioned;
pub use policy::{Conflict, RetryPolicy, UpdateError};
pub use read::{ReadPin, Versioned, VersionedRef, pin};
pub use wait::{ChangedFuture, ChangedValueFuture};

pub(crate) use crate::mvcc::{
    Current, Head, Header, Node, NodeRef, Owned, Rank, Room, Tenant, Tenants, Word,
    contention as patience, dead, waiters,
};
use crate::mvcc::{Moment, ValueHead};
pub use crate::mvcc::{ParseVersionError, Version};
use crate::reclaim;

/// Stores a value that many threads read without waiting and that each write replaces as a whole.
///
/// A reader gets the value that was current when it read, and keeps it for as long as it needs. It
/// never waits for a writer, and no writer waits for it. The [`Version`] of a cell counts its
/// writes. An optimistic writer passes the version that it has read, and fails if another thread
/// has written since.
///
/// | operation | effect on shared memory |
/// |---|---|
/// | [`read`](Self::read) | pins (one atomic exchange on a line of this thread) and loads |
/// | [`read_in`](Self::read_in) | loads |
/// | [`read_owned`](Self::read_owned) | as `read`, and two additions to a count of its readers |
/// | a write | one compare-and-swap of a pointer, and one store of a commit timestamp |
///
/// # Which to use
/// Use a cell for a value that is read far more often than written, or that must be read without
/// waiting. An atomic is better for a small number, and a `parking_lot::Mutex` for a value that is
/// mostly written. If you need neither versions nor conditional writes, and readers keep values for
/// long, `arc-swap` is an alternative. See [`docs::choosing`](crate::docs::choosing).
///
/// # Blocking
/// Reads never block. A write blocks the thread while a transaction that has escalated owns the
/// cell: see [`set`](Self::set). [`wait_changed`](Self::wait_changed) blocks until another thread
/// writes. Tasks use [`set_async`](Self::set_async) and [`changed`](Self::changed) instead.
///
/// # Progress
/// Reads are wait-free, after the first use of a cell by the thread. A read loads the cell once and
/// never retries; if the loaded node has no commit timestamp yet, the read helps to set it. The
/// first use registers the thread: it locks a mutex of the registry for a short time, and may
/// allocate. A thread that was idle registers again by a compare-and-swap that may repeat.
///
/// Writes are lock-free with three exceptions. A writer acquires a lock to wake the waiters of a
/// cell. It waits for an escalated transaction that owns the cell. It acquires locks to allocate
/// nodes and to reclaim replaced values, which no thread holds while it runs user code.
///
/// # Memory
/// A replaced value is dropped later, by any thread that writes cells. It is dropped once no
/// [`Versioned`] and no [`ReadPin`] remains that existed when the value was replaced.
/// [`stats`](crate::stats()) reports the number of values that wait, and [`flush`](crate::flush)
/// drops all that can be dropped now. The values of a thread that stops writing, or ends, wait
/// until any thread writes for some 10 milliseconds or calls `flush`. The thread that drops a value
/// keeps the memory for its next writes.
///
/// A cell is one word. Its node has a header of 32 bytes and the value. A value of at most 32 bytes
/// has a cache line of 64 bytes, which no other value shares. Threads acquire up to 62 such lines
/// at a time. The lines are allocated 16 pages at a time, and freed once no thread has a line of
/// these pages.
///
/// A cell or an [`OwnedVersioned`] that is dropped inside the destructor of a value is dropped
/// after that destructor, by the same call. So a chain of cells of any length needs the stack of
/// one destructor.
///
/// A value is dropped in place, so the thread that drops it needs no space for it on its stack. The
/// caller moves a value into the cell. Store a value of many kilobytes in a [`Box`] or an
/// [`Arc`](std::sync::Arc).
///
/// A write first drops some reclaimable values, of any cell and any type. Do not write while you
/// hold a lock that one of their destructors acquires.
///
/// # Panics
/// A write panics if such a destructor panics; the cell then keeps its value.
///
/// # Memory ordering
/// A read synchronises with the write whose value it returns. Each write synchronises with the
/// previous one.
///
/// # Fork
/// Cells work in the child of a process with threads, which reclaims what it replaces. See
/// [`docs::fork`](crate::docs::fork).
///
/// # In a static
/// A cell allocates its first value, so it needs a [`LazyLock`](std::sync::LazyLock):
///
/// ```
/// use std::sync::LazyLock;
/// use latchwork::VersionedCell;
///
/// static CONFIG: LazyLock<VersionedCell<String>> = LazyLock::new(|| VersionedCell::new(String::new()));
/// CONFIG.set("a = 1".to_owned());
/// assert_eq!(*CONFIG.read(), "a = 1");
/// ```
///
/// # Examples
/// ```
/// use latchwork::VersionedCell;
///
/// let cell = VersionedCell::new(vec![1, 2]);
/// let snapshot = cell.read();
/// let version = cell.compare_and_set(snapshot.version(), vec![1, 2, 3]).expect("no other writer");
///
/// // A second writer that has read the same version is refused, and gets its value back.
/// let conflict = cell.compare_and_set(snapshot.version(), vec![0]).unwrap_err();
/// assert_eq!((conflict.current, conflict.value), (version, vec![0]));
///
/// assert_eq!(*snapshot, [1, 2]); // what was read stays
/// ```
#[doc(alias = "TVar")]
#[doc(alias = "ArcSwap")]
pub struct VersionedCell<T: Send + Sync + 'static> {
    head: ValueHead<T>,
}

// A panic in a closure or a clone leaves the value as it was, and only `get_mut` changes it in
// place.
impl<T: Send + Sync + 'static + RefUnwindSafe> UnwindSafe for VersionedCell<T> {}

impl<T: Send + Sync + 'static> VersionedCell<T> {
    /// Makes a cell with this value, at [`Version::FIRST`].
    ///
    /// # Examples
    /// ```
    /// let cell = latchwork::VersionedCell::new(1);
    /// assert_eq!(cell.version(), latchwork::cell::Version::FIRST);
    /// ```
    pub fn new(value: T) -> Self {
        Self::at(Version::FIRST, value)
    }

    /// Creates a cell with this value and this version.
    ///
    /// A cell that restores saved state continues the earlier count of versions, so that no version
    /// is used twice.
    ///
    /// # Panics
    /// Panics if the version is greater than [`Version::MAX_INITIAL`], which would leave too few
    /// versions.
    ///
    /// # Examples
    /// ```
    /// use latchwork::{VersionedCell, cell::Version};
    /// let cell = VersionedCell::with_version("restored", Version::new(41));
    /// assert_eq!(cell.set("new"), Version::new(42));
    /// ```
    pub fn with_version(value: T, version: Version) -> Self {
        assert!(
            version <= Version::MAX_INITIAL,
            "version {version} is greater than `Version::MAX_INITIAL`, {}; pass a smaller version",
            Version::MAX_INITIAL
        );
        Self::at(version, value)
    }

    fn at(version: Version, value: T) -> Self {
        Self::of_head(ValueHead::new(version, value))
    }

    /// Makes the cell of an entry of a map. No method that users call is called while the head has
    /// no value.
    pub(crate) fn of_head(head: ValueHead<T>) -> Self {
        VersionedCell { head }
    }

    /// Debug builds: panics if the caller is inside the closure of a transaction that has this cell
    /// in its log.
    #[inline(always)]
    #[cfg_attr(debug_assertions, track_caller)]
    pub(crate) fn check_direct(&self) {
        crate::reclaim::inside::check_direct::<T>(self.head().address());
    }

    #[inline(always)]
    pub(crate) fn head(&self) -> &Head {
        self.head.untyped()
    }

    /// Returns the value that the cell had at a timestamp.
    #[inline]
    pub(crate) fn as_of<'p>(&self, moment: &'p Moment) -> &'p T {
        self.head.as_of(moment).get()
    }

    /// Returns the value, or `Err` with an [`OwnedVersioned`] if the value is still shared.
    ///
    /// # Errors
    /// Returns an [`OwnedVersioned`] of the value if another one exists.
    ///
    /// # Examples
    /// ```
    /// let cell = latchwork::VersionedCell::new("a".to_owned());
    /// assert_eq!(cell.into_inner().unwrap(), "a");
    ///
    /// let cell = latchwork::VersionedCell::new("a".to_owned());
    /// let snapshot = cell.read_owned();
    /// assert_eq!(*cell.into_inner().unwrap_err(), "a");
    /// # drop(snapshot);
    /// ```
    pub fn into_inner(self) -> Result<T, OwnedVersioned<T>> {
        OwnedVersioned::of_cell(self).into_value()
    }

    /// Returns a mutable reference to the value, and counts as a write.
    ///
    /// Returns `None` if an [`OwnedVersioned`] shares the value.
    ///
    /// # Examples
    /// ```
    /// let mut cell = latchwork::VersionedCell::new(1);
    /// *cell.get_mut().expect("no reader shares it") += 1;
    /// assert_eq!((cell.get(), cell.version().get()), (2, 1));
    /// ```
    pub fn get_mut(&mut self) -> Option<&mut T> {
        self.head.value_mut()
    }

    /// Returns a clone of the value. The thread is pinned during the clone.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(latchwork::VersionedCell::new(7).get(), 7);
    /// ```
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn get(&self) -> T
    where
        T: Clone,
    {
        self.read().clone()
    }
}

/// For tests: runs `f` as code of no closure, so that debug builds allow direct accesses inside
/// transactions.
#[doc(hidden)]
pub fn outside_of_closures<R>(f: impl FnOnce() -> R) -> R {
    let _outside = reclaim::inside::Inside::no_closure();
    f()
}

impl<T: Send + Sync + 'static + Default> Default for VersionedCell<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: Send + Sync + 'static> From<T> for VersionedCell<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: Send + Sync + 'static + fmt::Debug> fmt::Debug for VersionedCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Debug output of what a closure keeps is not an access by the closure.
        let snapshot = self.read_unchecked();
        f.debug_struct("VersionedCell")
            .field("version", &snapshot.version().get())
            .field("value", &*snapshot)
            .finish()
    }
}
