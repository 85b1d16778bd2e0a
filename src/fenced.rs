//! A value that refuses late writers: [`FencedCell`].
//!
//! The seen fence and the value are stored together in a [`VersionedCell`], so that each write
//! replaces both at once.

use core::error::Error;
use core::fmt;
use core::ops::Deref;

use crate::cell::{RetryPolicy, UpdateError, Version, Versioned, VersionedCell};
use crate::lock_table::Fence;

/// A value that rejects writes of old lock holders: the resource's side of a [`Fence`].
///
/// A holder may lose its lock without a notification, because it was paused or the lock was broken.
/// Such a holder may still write late.
///
/// Each write of a `FencedCell` includes a fence. The cell accepts the write if the token is
/// greater than the seen token, or if both fences are equal. Otherwise it returns the value in a
/// [`StaleFence`]. Fences are made by
/// [`ExclusiveGuard::fence`](crate::table::ExclusiveGuard::fence), or by a lock service.
///
/// A cell belongs to one key of one table or service. Tokens of different keys have no relation, so
/// a cell that receives fences of two keys refuses one of the two holders at random.
///
/// # Which writes are refused
/// The cell sees a fence when it accepts a write with it, and not when the lock is acquired. A late
/// write is therefore accepted until a newer holder has written. A holder that computes its write
/// from an earlier read should use [`update`](Self::update), which reads the latest value.
///
/// # Progress
/// Reads are wait-free. Writes are lock-free, and never wait for a reader.
///
/// # After a restart
/// A new cell has seen no fence and accepts any. To restore a value, write it with the last fence
/// that the cell had seen.
///
/// # Memory ordering
/// A read synchronises with the write whose value it returns.
///
/// # Examples
/// ```
/// use latchwork::table::{Fence, FencedCell, FencingToken};
///
/// let report = FencedCell::new("empty");
/// let first = Fence::new(FencingToken::new(1), 0);
/// let second = Fence::new(FencingToken::new(2), 0);
/// report.write(second, "by the second holder")?;
/// report.write(second, "by the second holder, again")?;
///
/// let stale = report.write(first, "by the first holder, late").unwrap_err();
/// assert_eq!((stale.offered, stale.seen), (first, second));
/// assert_eq!(stale.value, "by the first holder, late");
/// assert_eq!(*report.read(), "by the second holder, again");
/// # Ok::<(), latchwork::table::StaleFence<&str>>(())
/// ```
pub struct FencedCell<T: Send + Sync + 'static> {
    cell: VersionedCell<Fenced<T>>,
}

struct Fenced<T> {
    seen: Option<Fence>,
    value: T,
}

impl<T> Fenced<T> {
    /// Returns the seen fence as the error if it excludes `offered`.
    fn check(&self, offered: Fence) -> Result<(), Fence> {
        match self.seen {
            Some(seen) if !offered.may_follow(seen) => Err(seen),
            _ => Ok(()),
        }
    }
}

impl<T: Send + Sync + 'static> FencedCell<T> {
    /// Makes a cell with `value` that has seen no fence.
    pub fn new(value: T) -> Self {
        FencedCell {
            cell: VersionedCell::new(Fenced { seen: None, value }),
        }
    }

    /// Replaces the value if the cell accepts `fence`, and returns the version of the new value.
    ///
    /// # Blocking
    /// Never blocks. It retries if another write was installed concurrently.
    ///
    /// # Errors
    /// Returns [`StaleFence`] with the value if the cell has seen a greater token, or the same
    /// token with another nonce.
    ///
    /// # Panics
    /// Panics if the destructor of a reclaimable value panics, as each write of a
    /// [`VersionedCell`] does; the cell keeps its value then.
    pub fn write(&self, fence: Fence, value: T) -> Result<Version, StaleFence<T>> {
        let mut next = Fenced {
            seen: Some(fence),
            value,
        };
        loop {
            let current = self.cell.read();
            if let Err(seen) = current.check(fence) {
                return Err(StaleFence {
                    offered: fence,
                    seen,
                    value: next.value,
                });
            }
            let version = current.version();
            // Unpinned before the write: a pin would hold the replaced value back.
            drop(current);
            match self.cell.compare_and_set(version, next) {
                Ok(version) => return Ok(version),
                Err(conflict) => next = conflict.value,
            }
        }
    }

    /// Replaces the value by the result of `f` if the cell accepts `fence`.
    ///
    /// Returns the version of the new value. `f` runs pinned, and is called again if another write
    /// was installed concurrently. It is not called once the fence is stale.
    ///
    /// # Blocking
    /// Never blocks. If `f` itself writes this cell, the call never returns.
    ///
    /// # Errors
    /// Returns [`StaleFence`], without a value, if the cell has seen a greater token, or the same
    /// token with another nonce.
    ///
    /// # Panics
    /// Panics if `f` panics, or where [`write`](Self::write) does; the cell keeps its value then.
    ///
    /// # Examples
    /// ```
    /// use latchwork::{LockTable, table::FencedCell};
    /// let (table, hits): (LockTable<str>, _) = (LockTable::new(), FencedCell::new(0));
    /// let guard = table.lock("hits");
    /// hits.update(guard.fence(), |n| n + 1)?;
    /// assert_eq!(*hits.read(), 1);
    /// # Ok::<(), latchwork::table::StaleFence<()>>(())
    /// ```
    pub fn update(
        &self,
        fence: Fence,
        mut f: impl FnMut(&T) -> T,
    ) -> Result<Version, StaleFence<()>> {
        let updated = self.cell.try_update(&RetryPolicy::forever(), |current| {
            current.check(fence)?;
            Ok(Fenced {
                seen: Some(fence),
                value: f(&current.value),
            })
        });
        updated.map_err(|error| match error {
            UpdateError::Aborted(seen) => StaleFence {
                offered: fence,
                seen,
                value: (),
            },
            _ => unreachable!("the policy has no limit"),
        })
    }

    /// Returns a reference to the current value. The reference pins its thread, as that of
    /// [`VersionedCell::read`] does.
    ///
    /// # Blocking
    /// Never blocks.
    #[doc(alias = "load")]
    pub fn read(&self) -> FencedRef<'_, T> {
        FencedRef(self.cell.read())
    }

    /// Returns the fence of the last accepted write, or `None` if there was none.
    ///
    /// # Blocking
    /// Never blocks.
    ///
    /// # Examples
    /// ```
    /// use latchwork::table::{Fence, FencedCell, FencingToken};
    /// let cell = FencedCell::new(0);
    /// assert_eq!(cell.seen(), None);
    /// let fence = Fence::new(FencingToken::new(7), 0);
    /// cell.write(fence, 1)?;
    /// assert_eq!(cell.seen(), Some(fence));
    /// # Ok::<(), latchwork::table::StaleFence<i32>>(())
    /// ```
    pub fn seen(&self) -> Option<Fence> {
        self.cell.read().seen
    }
}

impl<T: Send + Sync + 'static + Default> Default for FencedCell<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: Send + Sync + 'static> From<T> for FencedCell<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: Send + Sync + 'static + fmt::Debug> fmt::Debug for FencedCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let current = self.cell.read();
        f.debug_struct("FencedCell")
            .field("version", &current.version())
            .field("seen", &current.seen)
            .field("value", &current.value)
            .finish()
    }
}

/// A reference to a value of a [`FencedCell`], with the fence that wrote the value.
///
/// It pins its thread, as [`VersionedCell::read`] describes.
///
/// # Examples
/// ```
/// let cell = latchwork::table::FencedCell::new(vec![1]);
/// let read = cell.read();
/// assert_eq!((read.len(), read.version().get(), read.fence()), (1, 0, None));
/// ```
#[must_use = "the value is released at once if it is not used"]
pub struct FencedRef<'c, T: Send + Sync + 'static>(Versioned<'c, Fenced<T>>);

impl<T: Send + Sync + 'static> FencedRef<'_, T> {
    /// Returns the version of the value.
    pub fn version(&self) -> Version {
        self.0.version()
    }

    /// Returns the fence that wrote the value, or `None` for the first value of the cell.
    pub fn fence(&self) -> Option<Fence> {
        self.0.seen
    }
}

impl<T: Send + Sync + 'static> Deref for FencedRef<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T: Send + Sync + 'static + fmt::Debug> fmt::Debug for FencedRef<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FencedRef")
            .field("version", &self.version())
            .field("fence", &self.fence())
            .field("value", &**self)
            .finish()
    }
}

/// The error of a refused write: the [`FencedCell`] has seen a newer fence. It returns the value.
///
/// # Examples
/// ```
/// use latchwork::table::{Fence, FencedCell, FencingToken};
/// let cell = FencedCell::new("a");
/// cell.write(Fence::new(FencingToken::new(5), 1), "b").expect("it has seen no fence");
/// let other = cell.write(Fence::new(FencingToken::new(5), 2), "c").unwrap_err();
/// let text = "write refused: fencing token 5 is stale, because the cell has seen token 5 from \
///             another holder; acquire the lock again to get a newer token";
/// assert_eq!(other.to_string(), text);
/// let late = cell.write(Fence::new(FencingToken::new(4), 1), "c").unwrap_err();
/// let text = "write refused: fencing token 4 is stale, because the cell has seen token 5; \
///             acquire the lock again to get a newer token";
/// assert_eq!(late.to_string(), text);
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct StaleFence<T> {
    /// The fence of the refused write.
    pub offered: Fence,
    /// The fence that the cell had seen when it refused the write.
    pub seen: Fence,
    /// The value that was not written.
    pub value: T,
}

impl<T> fmt::Debug for StaleFence<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaleFence")
            .field("offered", &self.offered)
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Display for StaleFence<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (offered, seen) = (self.offered.token, self.seen.token);
        write!(
            f,
            "write refused: fencing token {offered} is stale, because the cell has seen token {seen}"
        )?;
        if offered == seen {
            f.write_str(" from another holder")?;
        }
        f.write_str("; acquire the lock again to get a newer token")
    }
}

impl<T> Error for StaleFence<T> {}
