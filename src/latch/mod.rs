//! Latches for the nodes of concurrent data structures: optimistic reads, hand-over-hand traversal,
//! and links to nodes that can be removed while threads read them.
//!
//! | | purpose |
//! |---|---|
//! | [`OptimisticLatch`] | a lock with a version; readers may read without a lock |
//! | [`Coupled`], [`traverse`] | hand-over-hand traversal |
//! | [`Link`], [`Unlinked`] | a place for a node that can be removed while threads read it |
//!
//! # Why nothing here is a data race
//! An optimistic reader reads while another thread may write, and validates afterwards. So that
//! this is sound for any caller, a latch returns `&T` to *each* thread, including its exclusive
//! holder. The data that changes under the latch must be atomics, [`Link`]s or
//! [`VersionedCell`](crate::VersionedCell)s. Atomics may be `Relaxed`, because the latch orders
//! them. The values that a closure reads in one attempt may be inconsistent; the result of such an
//! attempt is discarded. Values in links and cells are valid as long as the reader's
//! [pin](crate::pin).
//!
//! # What blocks
//! [`OptimisticLatch::shared`], [`OptimisticLatch::exclusive`] and the fallbacks of the optimistic
//! reads block the thread. They have no async form. On a current-thread runtime they can hang
//! indefinitely if a task awaits while it holds a latch, because the holder never runs. Release
//! each latch before an `await`.
//!
//! # Sources
//! [The protocol](crate::docs::internals::latches) contains the steps and the rules that the code
//! cites in brackets. Optimistic lock coupling is by Leis, Scheibner, Kemper and Neumann (DaMoN
//! 2016). The fences of a version that is read twice are by Boehm (MSPC 2012). Unlike their
//! latches, this one parks its waiters in a queue.
//!
//! The examples `sorted_list` and `btree` build two structures on this module.

mod couple;
mod error;
mod guard;
mod link;
mod raw;
mod word;

use core::fmt;

pub use couple::{Coupled, Coupling, traverse};
pub use error::{Obsolete, Restart};
pub use guard::{ExclusiveGuard, SharedGuard};
pub use link::{Link, Unlinked};

use crate::park::Spin;
use crate::sync::tuning::OPTIMISTIC_ATTEMPTS;
use crate::word::Mode;
use raw::{Entered, RawLatch};

/// The version of a latch at one instant. Each exclusive hold of the latch and each
/// [`get_mut`](OptimisticLatch::get_mut) advances it.
///
/// A version is valid for the latch that returned it and for no other. A latch that is assigned or
/// swapped into the same place is another one. Versions repeat after 2^48 exclusive holds.
///
/// # Examples
/// ```
/// let latch = latchwork::latch::OptimisticLatch::new(());
/// let before = latch.version().unwrap();
/// drop(latch.shared().unwrap());
/// assert_eq!(latch.version().unwrap(), before); // a shared hold changes nothing
/// drop(latch.exclusive().unwrap());
/// assert_ne!(latch.version().unwrap(), before);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatchVersion(u64);

/// A lock with a version, beside the value that it protects, whose readers may read without a lock.
/// It adds 8 bytes to the value.
///
/// | | accesses to shared memory |
/// |---|---|
/// | [`optimistic_read`](Self::optimistic_read) | two loads, and those of the closure |
/// | [`shared`](Self::shared) | counts the reader in and out: two read-modify-writes |
/// | [`exclusive`](Self::exclusive) | two read-modify-writes; the second one makes a new version |
/// | [`upgrade`](Self::upgrade) | one read-modify-write, if no thread has written since |
///
/// Each form returns `&T`: [the module](self) explains why, and which types a value may contain.
///
/// # Blocking
/// A waiter spins briefly and then parks in a queue. A bounded number of exclusive acquisitions may
/// overtake an exclusive waiter. Threads that share the latch yield to the queue; so readers and
/// writers cannot starve each other.
///
/// There is no async form. On a current-thread runtime a waiter can hang indefinitely, because the
/// holder never runs: release each latch before an `await`.
///
/// # Panics and forgetting
/// A panic under a guard releases the latch, with a new version if it was exclusive. A value that
/// is half written at the panic stays half written. A forgotten guard keeps the latch held, and has
/// no other effect. At most 2,047 threads share a latch at once; one more waits until all of them
/// have released it.
///
/// # Deadlocks
/// A latch is not re-entrant. A thread that waits for a latch that it holds in a conflicting mode
/// deadlocks with itself, as with a mutex. An optimistic read of a latch that its own thread holds
/// exclusively also deadlocks, because it falls back to a shared lock. With several latches,
/// traverse the structure in one direction ([`Coupled`]), or use
/// [`try_exclusive`](Self::try_exclusive) against that direction.
///
/// # When something else is better
/// Use [`VersionedCell`](crate::VersionedCell) for one value that is read far more often than
/// written; its reads never repeat. Use `parking_lot::RwLock` for plain data under one lock. Both
/// permit plain data as a value, where this latch needs atomics.
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
///     // The two loads may be inconsistent here; such a result is discarded.
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
    /// Makes a free latch.
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

    /// Makes a free latch.
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
    /// Returns the value for a change in place, which counts as a write: each earlier version
    /// becomes invalid.
    ///
    /// The caller borrows the latch exclusively, so no thread waits for it. A latch whose guard was
    /// forgotten stays held, and an obsolete latch stays obsolete.
    ///
    /// # Blocking
    /// Never blocks.
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

    /// Returns the value without a lock or a check: for data that never changes, or reads that need
    /// not be consistent.
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

    /// Reads the value without a lock, and returns a consistent result.
    ///
    /// It calls the closure optimistically a bounded number of times, until no thread has written
    /// during the call. Then it falls back to a shared lock.
    ///
    /// The closure may see a value that another thread has written in part, and its result is
    /// discarded then. It must tolerate that: each index must be checked, and each loop must end
    /// for any value. The closure is called up to nine times.
    ///
    /// # Blocking
    /// Blocks the thread while the latch is held exclusively, after spinning. There is no async
    /// form: see [the type](Self#blocking). A read that finds the latch free does not block, and
    /// blocks no other thread.
    ///
    /// # Errors
    /// Returns [`Obsolete`] if the latch is obsolete.
    ///
    /// # Panics
    /// Panics if the closure panics. The last attempt then releases its shared lock; the others
    /// hold nothing.
    ///
    /// # Deadlocks
    /// Deadlocks if the thread itself holds the latch exclusively.
    ///
    /// # Memory ordering
    /// The closure reads the values that some exclusive holder left, and the return happens after
    /// that holder's release.
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
    /// Blocks the thread while the latch is held exclusively, after spinning. There is no async
    /// form: see [the type](Self#blocking).
    ///
    /// # Errors
    /// Returns [`Obsolete`] if the latch is obsolete.
    ///
    /// # Deadlocks
    /// Deadlocks if the thread itself holds the latch exclusively.
    ///
    /// # Examples
    /// ```
    /// let latch = latchwork::latch::OptimisticLatch::new(7);
    /// let version = latch.version()?;
    /// let seen = *latch.peek();
    /// assert!(latch.is_current(version)); // so `seen` is consistent
    /// assert_eq!(seen, 7);
    /// # Ok::<(), latchwork::latch::Obsolete>(())
    /// ```
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
        // In the queue, with the waiters that share; and while the latch is shared, or a stream of
        // writers might always be ahead [O10].
        let shared = self.shared()?;
        let seen = self.raw.peek().content();
        drop(shared);
        Ok(LatchVersion(seen))
    }

    /// Returns whether the reads since `version` are consistent: no thread has held the latch
    /// exclusively since.
    ///
    /// # Blocking
    /// Never blocks.
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

    /// Acquires the latch exclusively if no thread has done so since `version`, so that the reads
    /// since are still valid.
    ///
    /// # Blocking
    /// Never blocks.
    ///
    /// # Errors
    /// Returns [`Restart::Changed`] if a thread has held the latch exclusively since, or holds it
    /// in any mode now. Two readers that both waited to upgrade would wait for each other. Returns
    /// [`Restart::Obsolete`] if the latch is obsolete.
    ///
    /// # Examples
    /// ```
    /// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    /// let latch = latchwork::latch::OptimisticLatch::new(AtomicU64::new(1));
    /// let version = latch.version()?;
    /// let double = 2 * latch.peek().load(Relaxed);
    /// latch.upgrade(version)?.store(double, Relaxed); // no thread has written since
    /// assert!(latch.upgrade(version).is_err()); // the store was a write
    /// # Ok::<(), latchwork::latch::Restart>(())
    /// ```
    #[inline]
    pub fn upgrade(&self, version: LatchVersion) -> Result<ExclusiveGuard<'_, T>, Restart> {
        self.raw.upgrade(version.0)?;
        Ok(ExclusiveGuard::new(self))
    }

    /// Acquires the latch shared, together with other threads that share it.
    ///
    /// # Blocking
    /// Blocks the thread while another thread holds the latch exclusively or waits for it. There is
    /// no async form: see [the type](Self#blocking).
    ///
    /// # Errors
    /// Returns [`Obsolete`] if the latch is obsolete, including when it becomes so during the wait.
    ///
    /// # Deadlocks
    /// Deadlocks if the thread itself holds the latch exclusively, or holds it shared while another
    /// thread waits.
    ///
    /// # Examples
    /// ```
    /// let latch = latchwork::latch::OptimisticLatch::new(7);
    /// let guard = latch.shared()?;
    /// assert_eq!(*guard, 7);
    /// # Ok::<(), latchwork::latch::Obsolete>(())
    /// ```
    #[inline]
    pub fn shared(&self) -> Result<SharedGuard<'_, T>, Obsolete> {
        self.raw.lock(Mode::Shared)?;
        Ok(SharedGuard::new(self))
    }

    /// Acquires the latch exclusively.
    ///
    /// # Blocking
    /// Blocks the thread while another thread holds the latch. There is no async form: see [the
    /// type](Self#blocking).
    ///
    /// # Errors
    /// Returns [`Obsolete`] if the latch is obsolete, including when it becomes so during the wait.
    ///
    /// # Deadlocks
    /// Deadlocks if the thread itself holds the latch in either mode.
    ///
    /// # Examples
    /// ```
    /// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    /// let latch = latchwork::latch::OptimisticLatch::new(AtomicU64::new(1));
    /// let guard = latch.exclusive()?;
    /// guard.store(guard.load(Relaxed) + 1, Relaxed);
    /// # Ok::<(), latchwork::latch::Obsolete>(())
    /// ```
    #[inline]
    pub fn exclusive(&self) -> Result<ExclusiveGuard<'_, T>, Obsolete> {
        self.raw.lock(Mode::Exclusive)?;
        Ok(ExclusiveGuard::new(self))
    }

    /// Acquires the latch shared if that does not wait. Returns `None` otherwise, including when
    /// the latch is obsolete.
    ///
    /// # Blocking
    /// Never blocks.
    ///
    /// # Examples
    /// ```
    /// let latch = latchwork::latch::OptimisticLatch::new(7);
    /// assert!(latch.try_shared().is_some());
    /// let _guard = latch.exclusive().unwrap();
    /// assert!(latch.try_shared().is_none());
    /// ```
    #[inline]
    pub fn try_shared(&self) -> Option<SharedGuard<'_, T>> {
        let holds = self.raw.try_enter(Mode::Shared) == Entered::Holds;
        holds.then(|| SharedGuard::new(self))
    }

    /// Acquires the latch exclusively if that does not wait. Returns `None` otherwise, including
    /// when the latch is obsolete.
    ///
    /// # Blocking
    /// Never blocks.
    ///
    /// # Examples
    /// ```
    /// let latch = latchwork::latch::OptimisticLatch::new(7);
    /// let guard = latch.try_exclusive();
    /// assert!(guard.is_some() && latch.try_exclusive().is_none());
    /// ```
    #[inline]
    pub fn try_exclusive(&self) -> Option<ExclusiveGuard<'_, T>> {
        let holds = self.raw.try_enter(Mode::Exclusive) == Entered::Holds;
        holds.then(|| ExclusiveGuard::new(self))
    }

    /// Returns whether the latch is obsolete; see [`ExclusiveGuard::mark_obsolete`].
    ///
    /// # Examples
    /// ```
    /// use latchwork::latch::{ExclusiveGuard, OptimisticLatch};
    /// let latch = OptimisticLatch::new(7);
    /// assert!(!latch.is_obsolete());
    /// ExclusiveGuard::mark_obsolete(latch.exclusive().unwrap());
    /// assert!(latch.is_obsolete());
    /// ```
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
