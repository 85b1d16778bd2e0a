//! Waits for a write of a cell.

use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::{OwnedVersioned, Version, VersionedCell};
pub(crate) use crate::mvcc::enlist::enlist;
use crate::park::{Notify, Wait};
use crate::reclaim::inside;
use crate::sync::{Parker, now};

impl<T: Send + Sync + 'static> VersionedCell<T> {
    /// Waits until the version differs from `seen`, and returns the new version.
    ///
    /// Returns at once if the version already differs, including when `seen` is not a version of
    /// this cell. Several writes may cause one wake-up: compare the versions to count them. A
    /// writer pays for waiters only while there are some.
    ///
    /// # Blocking
    /// Blocks the thread until another thread writes the cell. On a current-thread runtime it can
    /// hang indefinitely, because the task that writes never runs; use [`changed`](Self::changed)
    /// in tasks.
    ///
    /// Drop each [`Versioned`](crate::cell::Versioned) and [`ReadPin`](crate::cell::ReadPin) of
    /// this thread first. While the thread sleeps, they hold back the replaced values of all cells.
    /// To keep a value, use [`read_owned`](Self::read_owned).
    ///
    /// # Panics
    /// Panics inside the closure of a transaction that owns this cell. In debug builds, panics
    /// inside the closure of a transaction that has read or written this cell; see
    /// [`atomically`](crate::atomically). In debug builds, panics if the thread would sleep while
    /// it is pinned, including inside the closure of [`update`](Self::update),
    /// [`snapshot`](crate::snapshot()) or a transaction.
    ///
    /// # Examples
    /// ```
    /// let cell = latchwork::VersionedCell::new(0);
    /// let seen = cell.version();
    /// std::thread::scope(|s| {
    ///     s.spawn(|| cell.set(1));
    ///     assert!(cell.wait_changed(seen) > seen);
    /// });
    /// ```
    #[doc(alias = "watch")]
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn wait_changed(&self, seen: Version) -> Version {
        self.wait_until(seen, None)
            .unwrap_or_else(|| unreachable!("there is no deadline"))
    }

    /// Waits as [`wait_changed`](Self::wait_changed) does, and returns `None` if the timeout
    /// expires first.
    ///
    /// A timeout that overflows [`Instant`] waits indefinitely.
    ///
    /// # Blocking
    /// Blocks the thread until another thread writes the cell, or for the timeout. On a
    /// current-thread runtime it delays all other tasks, including the one that would write. Use
    /// [`changed`](Self::changed) with a timeout of the runtime in tasks. While the thread sleeps,
    /// its pins hold back the replaced values of all cells.
    ///
    /// # Panics
    /// Panics as [`wait_changed`](Self::wait_changed) does.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// let cell = latchwork::VersionedCell::new(0);
    /// assert_eq!(cell.wait_changed_for(cell.version(), Duration::from_millis(1)), None);
    /// ```
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn wait_changed_for(&self, seen: Version, timeout: Duration) -> Option<Version> {
        self.wait_until(seen, now().checked_add(timeout))
    }

    /// Waits until the version differs from `seen`, and returns the value with its version.
    ///
    /// Value and version belong together. After [`wait_changed`](Self::wait_changed), a separate
    /// read may return the value of a later write than the version. In terms of
    /// `tokio::sync::watch` this is `changed` and `borrow_and_update` in one step, so the name is
    /// that of `wait_changed` with the additional result.
    ///
    /// The value is an [`OwnedVersioned`], which pins no thread. A watcher can therefore keep the
    /// last value while it waits for the next one.
    ///
    /// # Blocking
    /// Blocks as [`wait_changed`](Self::wait_changed) does. A task uses
    /// [`changed_value`](Self::changed_value).
    ///
    /// # Panics
    /// Panics as [`wait_changed`](Self::wait_changed) does.
    ///
    /// # Examples
    /// ```
    /// let cell = latchwork::VersionedCell::new("old");
    /// std::thread::scope(|s| {
    ///     s.spawn(|| cell.set("new"));
    ///     let mut config = cell.read_owned();
    ///     while *config != "new" {
    ///         config = cell.wait_changed_value(config.version());
    ///     }
    /// });
    /// ```
    #[doc(alias = "watch")]
    #[doc(alias = "borrow_and_update")]
    #[cfg_attr(debug_assertions, track_caller)]
    #[must_use = "`wait_changed` waits without a count of the value's owners"]
    pub fn wait_changed_value(&self, seen: Version) -> OwnedVersioned<T> {
        self.wait_value_until(seen, None)
            .unwrap_or_else(|| unreachable!("there is no deadline"))
    }

    /// As [`wait_changed_value`](Self::wait_changed_value), but returns `None` if the version is
    /// still `seen` after the timeout.
    ///
    /// A timeout that overflows [`Instant`] waits indefinitely.
    ///
    /// # Blocking
    /// Blocks for as long as the timeout.
    ///
    /// # Panics
    /// Panics as [`wait_changed`](Self::wait_changed) does.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// let cell = latchwork::VersionedCell::new(0);
    /// let seen = cell.version();
    /// assert!(cell.wait_changed_value_for(seen, Duration::from_millis(1)).is_none());
    /// cell.set(1);
    /// let changed = cell.wait_changed_value_for(seen, Duration::from_millis(1));
    /// assert_eq!(changed.map(|value| *value), Some(1));
    /// ```
    #[cfg_attr(debug_assertions, track_caller)]
    #[must_use = "`wait_changed_for` waits without a count of the value's owners"]
    pub fn wait_changed_value_for(
        &self,
        seen: Version,
        timeout: Duration,
    ) -> Option<OwnedVersioned<T>> {
        self.wait_value_until(seen, now().checked_add(timeout))
    }

    #[cfg_attr(debug_assertions, track_caller)]
    fn wait_value_until(
        &self,
        seen: Version,
        deadline: Option<Instant>,
    ) -> Option<OwnedVersioned<T>> {
        self.check_direct();
        loop {
            if let Some(changed) = self.value_after(seen) {
                return Some(changed);
            }
            self.wait_until(seen, deadline)?;
        }
    }

    /// The current value, if its version is not `seen`.
    fn value_after(&self, seen: Version) -> Option<OwnedVersioned<T>> {
        let current = self.read_unchecked();
        (current.version() != seen).then(|| current.to_owned())
    }

    #[cfg_attr(debug_assertions, track_caller)]
    fn wait_until(&self, seen: Version, deadline: Option<Instant>) -> Option<Version> {
        self.check_direct();
        let (parker, unparker) = Parker::new();
        let wait = match enlist(self.head(), seen, Notify::Thread(unparker)) {
            Ok(wait) => wait,
            Err(version) => return Some(version),
        };
        inside::check_unpinned(None, deadline);
        wait.block_on(&parker, deadline);
        // A write at the deadline counts.
        let version = self.version_now();
        (version != seen).then_some(version)
    }

    /// Returns a future that waits until the version differs from `seen`, and returns the new
    /// version.
    ///
    /// The future is ready at once, without a yield to the executor, if the version already
    /// differs. It keeps no pin. A [`Versioned`](crate::cell::Versioned) or a pin that its task
    /// keeps across the `.await` holds back the replaced values of all cells; no build detects
    /// this.
    ///
    /// # Panics
    /// The future panics if it is polled inside the closure of a transaction that owns this cell.
    ///
    /// # Cancel safety
    /// Cancel safe: a future that is dropped leaves no waiter behind. A later call with the same
    /// `seen` misses no write.
    ///
    /// # Examples
    /// ```
    /// # pollster::block_on(async {
    /// let cell = latchwork::VersionedCell::new(0);
    /// let seen = cell.version();
    /// cell.set(1);
    /// assert_eq!(cell.changed(seen).await.get(), 1);
    /// # })
    /// ```
    #[doc(alias = "watch")]
    pub fn changed(&self, seen: Version) -> ChangedFuture<'_, T> {
        ChangedFuture {
            cell: self,
            seen,
            waiting: None,
        }
    }

    /// Returns a future that is ready once the version differs from `seen`, with the value and its
    /// version.
    ///
    /// This is [`wait_changed_value`](Self::wait_changed_value) for a task: `changed` and
    /// `borrow_and_update` of `tokio::sync::watch` in one step. The value is an [`OwnedVersioned`],
    /// so the task may keep it across an `.await`, and may keep the last value while it waits for
    /// the next one.
    ///
    /// # Cancel safety
    /// A future that is dropped leaves nothing behind. A later future for the same version returns
    /// the value that this one would have returned, or a later value.
    ///
    /// # Examples
    /// ```
    /// # pollster::block_on(async {
    /// let cell = latchwork::VersionedCell::new("old");
    /// let seen = cell.version();
    /// let version = cell.set("new");
    /// let changed = cell.changed_value(seen).await;
    /// assert_eq!((*changed, changed.version()), ("new", version));
    /// # })
    /// ```
    #[doc(alias = "watch")]
    #[doc(alias = "borrow_and_update")]
    pub fn changed_value(&self, seen: Version) -> ChangedValueFuture<'_, T> {
        ChangedValueFuture(self.changed(seen))
    }
}

/// The place of a waiter in the queue of a cell, an owner or a lock.
pub(crate) use crate::park::Wait as Place;

/// Waits until the version of a cell changes. Created by [`VersionedCell::changed`].
///
/// # Examples
/// ```
/// use latchwork::VersionedCell;
///
/// async fn follow(cell: &VersionedCell<u32>) {
///     let mut seen = cell.version();
///     while cell.get() < 3 {
///         seen = cell.changed(seen).await;
///     }
/// }
/// let cell = VersionedCell::new(0);
/// std::thread::scope(|s| {
///     s.spawn(|| (1..=3).for_each(|n| drop(cell.set(n))));
///     pollster::block_on(follow(&cell));
/// });
/// ```
#[must_use = "futures do nothing unless polled"]
pub struct ChangedFuture<'c, T: Send + Sync + 'static> {
    cell: &'c VersionedCell<T>,
    seen: Version,
    waiting: Option<Wait>,
}

impl<T: Send + Sync + 'static> Future for ChangedFuture<'_, T> {
    type Output = Version;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Version> {
        let version = self.cell.version_now();
        if version != self.seen {
            self.waiting = None;
            return Poll::Ready(version);
        }
        if let Some(wait) = &self.waiting
            && wait.poll(context).is_pending()
        {
            return Poll::Pending;
        }
        let notify = Notify::Task(context.waker().clone());
        match enlist(self.cell.head(), self.seen, notify) {
            Ok(wait) => {
                self.waiting = Some(wait);
                Poll::Pending
            }
            Err(version) => {
                self.waiting = None;
                Poll::Ready(version)
            }
        }
    }
}

impl<T: Send + Sync + 'static> fmt::Debug for ChangedFuture<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChangedFuture")
            .field("seen", &self.seen)
            .field("is_waiting", &self.waiting.is_some())
            .finish_non_exhaustive()
    }
}

/// Waits for a write, and returns the value. Made by [`VersionedCell::changed_value`].
///
/// # Examples
/// ```
/// use latchwork::VersionedCell;
///
/// async fn follow(cell: &VersionedCell<u32>) {
///     let mut value = cell.read_owned();
///     while *value < 3 {
///         value = cell.changed_value(value.version()).await;
///     }
/// }
/// let cell = VersionedCell::new(0);
/// std::thread::scope(|s| {
///     s.spawn(|| (1..=3).for_each(|n| drop(cell.set(n))));
///     pollster::block_on(follow(&cell));
/// });
/// ```
#[must_use = "futures do nothing unless polled"]
pub struct ChangedValueFuture<'c, T: Send + Sync + 'static>(ChangedFuture<'c, T>);

impl<T: Send + Sync + 'static> Future for ChangedValueFuture<'_, T> {
    type Output = OwnedVersioned<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<OwnedVersioned<T>> {
        let changed = &mut self.0;
        loop {
            if let Some(value) = changed.cell.value_after(changed.seen) {
                changed.waiting = None;
                return Poll::Ready(value);
            }
            // A version may be named before it is written: then it can be written between the two
            // looks.
            if Pin::new(&mut *changed).poll(context).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl<T: Send + Sync + 'static> fmt::Debug for ChangedValueFuture<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChangedValueFuture")
            .field("seen", &self.0.seen)
            .field("is_waiting", &self.0.waiting.is_some())
            .finish_non_exhaustive()
    }
}
