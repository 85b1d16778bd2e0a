//! Latches of nodes, for structures that many threads walk through: optimistic reads, hand-over-hand traversal, and nodes
//! that are removed under readers.
//!
//! | | for |
//! |---|---|
//! | [`OptimisticLatch`] | a lock with a version beside the value it protects; readers need not take it |
//! | [`Coupled`], [`traverse`] | from latch to latch, the next before the last is given up |
//! | [`Link`], [`Unlinked`] | where a node hangs, so that it can be taken out while others read it |
//!
//! # Why nothing here is a data race
//! An optimistic reader reads while somebody writes, and finds out afterwards. So that this is sound for any caller, *everybody*
//! gets `&T` from a latch, its exclusive holder too: what changes under the latch is atomics, [`Link`]s or
//! [`VersionedCell`](crate::VersionedCell)s, `Relaxed` where they are atomics, because the latch orders them. What a closure
//! reads in one attempt may not belong together; the result of such an attempt is thrown away. What hangs in links and
//! cells stays as long as the reader's [pin](crate::pin).
//!
//! PROTOCOL.md beside this file has the steps and the rules that are cited in brackets. Optimistic lock coupling is by Leis, Scheibner,
//! Kemper and Neumann (DaMoN 2016); the fences of a version that is read twice by Boehm (MSPC 2012). The latch differs in that
//! who waits for it sleeps, in a queue.
//!
//! Two structures are built on this, in `examples/`: `sorted_list` and `btree`.

mod couple;
mod error;
mod guard;
mod link;
mod lot;
mod raw;
mod word;

use core::fmt;

pub use couple::{Coupled, Coupling, traverse};
pub use error::{Obsolete, Restart};
pub use guard::{ExclusiveGuard, SharedGuard};
pub use link::{Link, Unlinked};

use crate::sync::tuning::OPTIMISTIC_ATTEMPTS;
use crate::wait::Spin;
use crate::word::Mode;
use raw::{Entered, RawLatch};

/// What a latch was like when it was read: how often it had been given back by an exclusive holder, or lent by
/// [`get_mut`](OptimisticLatch::get_mut).
///
/// It means something to the latch that it is from and to no other. A latch that is assigned or swapped into the same place is
/// another one. A version comes again after 2^48 exclusive holds.
///
/// # Examples
/// ```
/// let latch = latchwork::latch::OptimisticLatch::new(());
/// let before = latch.version().unwrap();
/// drop(latch.shared().unwrap());
/// assert_eq!(latch.version().unwrap(), before); // who shares changes nothing
/// drop(latch.exclusive().unwrap());
/// assert_ne!(latch.version().unwrap(), before);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatchVersion(u64);

/// A lock beside the value it protects, whose readers may do without it: 8 bytes.
///
/// | | what it does to shared memory |
/// |---|---|
/// | [`optimistic_read`](Self::optimistic_read) | loads the latch, what the closure loads, and the latch again |
/// | [`shared`](Self::shared) | counts the reader in and out: two read-modify-writes |
/// | [`exclusive`](Self::exclusive) | two read-modify-writes, the second of which makes a new version |
/// | [`upgrade`](Self::upgrade) | from a version that was read to exclusive, if nobody has written: one read-modify-write |
///
/// The value is reached through `&T` however the latch is held: see [the module](self) for why, and for what goes into a value.
///
/// # Blocking
/// Who waits spins briefly and then sleeps, in a queue. An exclusive waiter may be passed by another a bounded number of times;
/// who shares stands back for the queue; neither starves the other.
///
/// # Deadlocks
/// A latch is not re-entrant: to wait for one that the thread holds in the way is to wait for ever, as with a mutex. An
/// optimistic read of a latch that its own thread holds exclusively is that too, since it ends by sharing it. With several latches, go
/// one way through the structure ([`Coupled`]), or use [`try_exclusive`](Self::try_exclusive) against the stream.
///
/// # Panics and forgetting
/// A panic under a guard gives the latch back, with a new version where it was exclusive; what it had half written stays so. A forgotten
/// guard keeps the latch held and nothing worse. 2,047 may share a latch at once; one more waits until all of them have left.
///
/// # When something else is better
/// One value that is read far more often than written: [`VersionedCell`](crate::VersionedCell), which has no attempts. Plain data
/// under one lock: `parking_lot::RwLock`. Both let a value be plain data where this wants atomics.
///
/// # Examples
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
/// use latchwork::latch::OptimisticLatch;
///
/// #[derive(Default)]
/// struct Range { from: AtomicU64, to: AtomicU64 }
///
/// let latch = OptimisticLatch::new(Range::default());
/// let range = latch.exclusive()?;
/// range.from.store(10, Relaxed);
/// range.to.store(20, Relaxed);
/// drop(range);
/// let length = latch.optimistic_read(|range| {
///     // The two may be of different moments here, and are not in what is returned.
///     range.to.load(Relaxed).wrapping_sub(range.from.load(Relaxed))
/// })?;
/// assert_eq!(length, 10);
/// # Ok::<(), latchwork::latch::Obsolete>(())
/// ```
#[derive(Default)]
pub struct OptimisticLatch<T: ?Sized> {
    raw: RawLatch,
    value: T,
}

impl<T> OptimisticLatch<T> {
    /// Makes a latch that nobody holds.
    ///
    /// # Examples
    /// ```
    /// use std::sync::atomic::AtomicU64;
    /// use latchwork::latch::OptimisticLatch;
    /// static COUNTER: OptimisticLatch<AtomicU64> = OptimisticLatch::new(AtomicU64::new(0));
    /// assert!(!COUNTER.is_obsolete());
    /// ```
    #[cfg(not(latchwork_loom))]
    pub const fn new(value: T) -> Self {
        OptimisticLatch {
            raw: RawLatch::new(),
            value,
        }
    }

    /// Makes a latch that nobody holds.
    #[cfg(latchwork_loom)]
    pub fn new(value: T) -> Self {
        OptimisticLatch {
            raw: RawLatch::new(),
            value,
        }
    }

    /// Returns the value.
    pub fn into_inner(self) -> T {
        self.value
    }
}

impl<T: ?Sized> OptimisticLatch<T> {
    /// Returns the value for a change in place, which counts as a write: every earlier version is out of date.
    ///
    /// The caller borrows the latch exclusively, so no thread waits for it. Never blocks, and ignores a guard that was
    /// forgotten and a latch that is obsolete: the one stays held, and the other obsolete.
    ///
    /// # Examples
    /// ```
    /// let mut latch = latchwork::latch::OptimisticLatch::new(1);
    /// let version = latch.version().unwrap();
    /// *latch.get_mut() = 2;
    /// assert!(!latch.is_current(version) && latch.upgrade(version).is_err());
    /// ```
    pub fn get_mut(&mut self) -> &mut T {
        self.raw.write_in_place();
        &mut self.value
    }

    /// Returns the value without any latch: for what never changes, or where it does not matter what belongs together.
    ///
    /// # Examples
    /// ```
    /// let latch = latchwork::latch::OptimisticLatch::new("name");
    /// let _guard = latch.exclusive().unwrap();
    /// assert_eq!(*latch.peek(), "name");
    /// ```
    #[inline]
    pub fn peek(&self) -> &T {
        &self.value
    }

    /// Reads the value without taking the latch, as often as it takes to see one moment of it, but a bounded number of times; then
    /// under the latch, shared.
    ///
    /// The closure may see a value of which a part is written already, and its result is then thrown away. It must bear that:
    /// no index that is not checked, no loop that only a whole value ends. It is called up to nine times.
    ///
    /// # Blocking
    /// While the latch is held exclusively, after spinning. A read that finds it free blocks nobody and waits for nobody.
    ///
    /// # Panics
    /// With the closure. Nothing is held then, unless it was the last attempt, whose latch is given back.
    ///
    /// # Errors
    /// [`Obsolete`].
    ///
    /// # Memory ordering
    /// What the closure reads is what some exclusive holder left, and the caller comes after that holder.
    ///
    /// # Examples
    /// ```
    /// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    /// let latch = latchwork::latch::OptimisticLatch::new([const { AtomicU64::new(1) }; 3]);
    /// let sum: u64 = latch.optimistic_read(|values| values.iter().map(|v| v.load(Relaxed)).sum())?;
    /// assert_eq!(sum, 3);
    /// # Ok::<(), latchwork::latch::Obsolete>(())
    /// ```
    #[inline]
    pub fn optimistic_read<R>(&self, mut f: impl FnMut(&T) -> R) -> Result<R, Obsolete> {
        if let Some(seen) = self.raw.begin()? {
            let result = f(&self.value);
            if self.raw.validate(seen).is_ok() {
                return Ok(result);
            }
        }
        self.optimistic_read_slow(f)
    }

    #[cold]
    fn optimistic_read_slow<R>(&self, mut f: impl FnMut(&T) -> R) -> Result<R, Obsolete> {
        let mut spin = Spin::new();
        for _ in 1..OPTIMISTIC_ATTEMPTS {
            spin.spin();
            let Some(seen) = self.raw.begin()? else {
                continue;
            };
            let result = f(&self.value);
            if self.raw.validate(seen).is_ok() {
                return Ok(result);
            }
        }
        let guard = self.shared()?;
        Ok(f(&guard))
    }

    /// Returns the version, for [`is_current`](Self::is_current) or [`upgrade`](Self::upgrade).
    ///
    /// # Blocking
    /// While the latch is held exclusively, after spinning.
    ///
    /// # Errors
    /// [`Obsolete`].
    #[inline]
    pub fn version(&self) -> Result<LatchVersion, Obsolete> {
        match self.raw.begin()? {
            Some(seen) => Ok(LatchVersion(seen)),
            None => self.version_slow(),
        }
    }

    #[cold]
    fn version_slow(&self) -> Result<LatchVersion, Obsolete> {
        let mut spin = Spin::new();
        while spin.may_spin() {
            spin.spin();
            if let Some(seen) = self.raw.begin()? {
                return Ok(LatchVersion(seen));
            }
        }
        // In the queue, with those who wait to share; and while it is shared, or a stream of writers might always be there first [O10].
        let shared = self.shared()?;
        let seen = self.raw.peek().content();
        drop(shared);
        Ok(LatchVersion(seen))
    }

    /// Returns whether what was read of the value since `version` belongs together: nobody has had the latch exclusively since.
    ///
    /// # Examples
    /// ```
    /// let latch = latchwork::latch::OptimisticLatch::new(());
    /// let version = latch.version().unwrap();
    /// assert!(latch.is_current(version));
    /// let _guard = latch.exclusive().unwrap();
    /// assert!(!latch.is_current(version));
    /// ```
    #[inline]
    pub fn is_current(&self, version: LatchVersion) -> bool {
        self.raw.validate(version.0).is_ok()
    }

    /// Takes the latch exclusively if nobody has since `version`, so that what was read is still so. Never waits.
    ///
    /// # Errors
    /// [`Restart`], also if somebody shares the latch at the moment: two who share and both wait to be alone would wait for
    /// each other.
    ///
    /// # Examples
    /// ```
    /// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    /// let latch = latchwork::latch::OptimisticLatch::new(AtomicU64::new(1));
    /// let version = latch.version()?;
    /// let double = 2 * latch.peek().load(Relaxed);
    /// latch.upgrade(version)?.store(double, Relaxed); // nobody has written meanwhile
    /// assert!(latch.upgrade(version).is_err()); // now somebody has
    /// # Ok::<(), latchwork::latch::Restart>(())
    /// ```
    #[inline]
    pub fn upgrade(&self, version: LatchVersion) -> Result<ExclusiveGuard<'_, T>, Restart> {
        self.raw.upgrade(version.0)?;
        Ok(ExclusiveGuard::new(self))
    }

    /// Takes the latch together with others who share it.
    ///
    /// # Blocking
    /// While it is held exclusively, or somebody waits for it.
    ///
    /// # Errors
    /// [`Obsolete`].
    #[inline]
    pub fn shared(&self) -> Result<SharedGuard<'_, T>, Obsolete> {
        self.raw.lock(Mode::Shared)?;
        Ok(SharedGuard::new(self))
    }

    /// Takes the latch alone.
    ///
    /// # Blocking
    /// While anybody holds it.
    ///
    /// # Errors
    /// [`Obsolete`].
    #[inline]
    pub fn exclusive(&self) -> Result<ExclusiveGuard<'_, T>, Obsolete> {
        self.raw.lock(Mode::Exclusive)?;
        Ok(ExclusiveGuard::new(self))
    }

    /// As [`shared`](Self::shared) where that would not wait; `None` also if the latch is obsolete.
    #[inline]
    pub fn try_shared(&self) -> Option<SharedGuard<'_, T>> {
        let holds = self.raw.try_enter(Mode::Shared) == Entered::Holds;
        holds.then(|| SharedGuard::new(self))
    }

    /// As [`exclusive`](Self::exclusive) where that would not wait; `None` also if the latch is obsolete.
    #[inline]
    pub fn try_exclusive(&self) -> Option<ExclusiveGuard<'_, T>> {
        let holds = self.raw.try_enter(Mode::Exclusive) == Entered::Holds;
        holds.then(|| ExclusiveGuard::new(self))
    }

    /// Returns whether the latch is out of use; see [`ExclusiveGuard::mark_obsolete`].
    pub fn is_obsolete(&self) -> bool {
        self.raw.begin().is_err()
    }
}

impl<T> From<T> for OptimisticLatch<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for OptimisticLatch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OptimisticLatch")
            .field("word", &self.raw.peek())
            .field("value", &&self.value)
            .finish()
    }
}
