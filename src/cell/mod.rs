//! A value with a version: [`VersionedCell`].
//!
//! A cell is one word, the address of a node with the value and its version. To read is to pin and to load
//! the word; to write is to replace the node by a compare-and-swap. PROTOCOL.md beside this file has
//! the steps and the rules that are cited here in brackets.

pub(crate) mod clock;
mod current;
pub(crate) mod dropped;
mod future;
mod head;
pub(crate) mod limit;
#[cfg(latchwork_loom)]
pub mod model;
mod node;
mod owned;
mod owner;
mod patience;
mod policy;
mod read;
mod version;
pub(crate) mod wait;
pub(crate) mod waiters;
mod when;
mod write;

use core::fmt;
use core::marker::PhantomData;
use core::panic::{RefUnwindSafe, UnwindSafe};

pub(crate) use current::{Current, NodeRef, Owned};
pub use future::{CompareAndSetFuture, SetFuture, SwapFuture, UpdateFuture};
pub(crate) use head::{Head, Word};
pub(crate) use node::{Header, Node};
pub use owned::OwnedVersioned;
pub(crate) use owner::{Owner, Owners, Rank, Status};
pub use policy::{Conflict, RetryPolicy, UpdateError};
pub use read::{ReadPin, Versioned, VersionedRef, pin};
pub use version::{ParseVersionError, Version};
pub use wait::{ChangedFuture, ChangedValueFuture};
pub(crate) use when::When;

use crate::reclaim;

/// A value that many threads read while some replace it, with a [`Version`] that counts the writes.
///
/// A reader gets the value as it was at one moment and keeps it for as long as it likes; it waits for nobody,
/// and nobody waits for it. A writer replaces the whole value. Optimistic writers say which version
/// they have read, and fail if somebody wrote in between.
///
/// | | what it does to shared memory |
/// |---|---|
/// | [`read`](Self::read) | pins (an atomic exchange on this thread's own line) and loads |
/// | [`read_in`](Self::read_in) | loads |
/// | [`read_owned`](Self::read_owned) | as `read`, and two atomic additions to a count that all its readers share |
/// | any write | replaces a pointer by a compare-and-swap, and stamps what it put there |
///
/// # Which to use
/// Values that are read far more often than written, and values that must be read without waiting. A few words that
/// are only added to are better served by an atomic, and a value that is mostly *written* by a
/// `parking_lot::Mutex`. If you need no version and no conditional writes, and readers hold on to values for long,
/// `arc-swap` serves as well.
///
/// # Progress
/// Reads are wait-free: a load of the cell, never a retry; one that comes upon a node in the moment in which it is written helps to
/// date it. Writes are lock-free but for two cases: whoever replaces a value that others wait for takes a lock to wake them, and a
/// transaction that has had to climb its ladder is waited for.
///
/// # Memory
/// A replaced value is dropped later and on any thread that writes cells, once no [`Versioned`] and no
/// [`ReadPin`] that was there at its replacement is left. What waits is in [`stats`](crate::stats());
/// [`flush`](crate::flush) drops what can be dropped now. A thread that stops writing keeps up to about 500 replaced values (more, if
/// pins have held back more) until it writes again, flushes or ends. The memory of dropped values is kept by the thread that drops them,
/// for its next writes.
///
/// A cell is one word. Its value stands beside 32 bytes in memory of its own: a cache line of 64 bytes, which no other value shares, if it has at most
/// 32; threads take such lines from the allocator 62 at a time. A line that is not used any more goes back with the last of its 62.
///
/// A value is dropped where it lies, so the thread that drops it needs no room for it on its stack. A value is moved into the cell
/// by the caller: put a value of many kilobytes into a [`Box`] or an [`Arc`](std::sync::Arc).
///
/// A write begins by dropping some values that are due, of any cell and type: hold no lock that a
/// destructor takes. If one panics, so does the write, before it has happened.
///
/// # Memory ordering
/// A read synchronises with the write whose value it returns, and each write with the one before.
///
/// # Fork
/// Cells work in the child of a process with threads. A thread that was pinned at the fork stops reclamation in the child for
/// good. See [`docs::fork`](crate::docs::fork).
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
/// let version = cell.compare_and_set(snapshot.version(), vec![1, 2, 3]).expect("nobody else writes");
///
/// // Another who read the same version comes too late, and gets the value back.
/// let conflict = cell.compare_and_set(snapshot.version(), vec![0]).unwrap_err();
/// assert_eq!((conflict.current, conflict.value), (version, vec![0]));
///
/// assert_eq!(*snapshot, [1, 2]); // what was read stays
/// ```
#[doc(alias = "TVar")]
#[doc(alias = "ArcSwap")]
pub struct VersionedCell<T: Send + Sync + 'static> {
    head: Head,
    /// It owns a `T`, which decides what may cross threads; and it is invariant in it, since `set` replaces the value
    /// through a shared reference. A covariant cell would accept a value under one type and return it under another.
    value: PhantomData<(T, fn(T) -> T)>,
}

// A panic in a closure or a clone leaves the value as it was, and nobody changes it in place but by `get_mut`.
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

    /// Makes a cell with this value at a given version: one that goes on where another
    /// left off, say before a restart, so that no version is used twice.
    ///
    /// # Panics
    /// If the version is above [`Version::MAX_INITIAL`]: too few would be left.
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
            "version {version} leaves fewer than 2^63 writes"
        );
        Self::at(version, value)
    }

    fn at(version: Version, value: T) -> Self {
        let node = reclaim::with(|local| local.allocate(Node::first(version, value)));
        VersionedCell {
            head: Head::new(node.cast()),
            value: PhantomData,
        }
    }

    /// Debug builds: panics if the caller is inside the closure of a transaction that has this cell in its log.
    #[inline(always)]
    #[cfg_attr(debug_assertions, track_caller)]
    fn check_direct(&self) {
        crate::reclaim::inside::check_direct::<T>(self.head.address());
    }

    #[inline(always)]
    pub(crate) fn head(&self) -> &Head {
        &self.head
    }

    /// Returns the value, unless somebody has an owned snapshot of it: then that.
    ///
    /// # Errors
    /// An [`OwnedVersioned`] of the value, if there is another.
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

    /// Lets the caller change the value in place, which counts as a write. `None` while
    /// somebody has an owned snapshot of it.
    ///
    /// # Examples
    /// ```
    /// let mut cell = latchwork::VersionedCell::new(1);
    /// *cell.get_mut().expect("nobody shares it") += 1;
    /// assert_eq!((cell.get(), cell.version().get()), (2, 1));
    /// ```
    pub fn get_mut(&mut self) -> Option<&mut T> {
        self.value_mut()
    }

    /// Returns a clone of the value. The value is pinned while it is cloned.
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

/// For tests: runs `f` as code of no closure, so that debug builds allow direct accesses inside transactions.
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
