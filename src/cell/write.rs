//! Writes, which replace the value of a cell.

use super::{
    Conflict, OwnedVersioned, RetryPolicy, UpdateError, Version, Versioned, VersionedCell, waiters,
};
use crate::mvcc::contention::{Lost, Patience};
use crate::mvcc::{Pinned, Published};
use crate::reclaim::{self, CellPin, Local};

impl<T: Send + Sync + 'static> VersionedCell<T> {
    /// Replaces the value, and returns the version of the new one.
    ///
    /// # Blocking
    /// No write waits for another write. A write blocks the thread while a transaction that has
    /// escalated owns the cell, until the attempt of that transaction ends. This includes the time
    /// in which its closure sleeps. On a current-thread runtime the write can hang indefinitely if
    /// the closure waits for another task. [`set_async`](Self::set_async) and its siblings wait
    /// without blocking the thread, and [`try_update`](Self::try_update) bounds the wait.
    ///
    /// # Panics
    /// Panics inside the closure of a transaction that owns the cell: write through the
    /// [`Tx`](crate::Tx) instead. In debug builds, panics inside the closure of a transaction that
    /// has read or written the cell; see [`atomically`](crate::atomically()#direct-access). All
    /// other writes panic in the same cases.
    ///
    /// # Examples
    /// ```
    /// let cell = latchwork::VersionedCell::new(1);
    /// let version = cell.set(2);
    /// assert_eq!((cell.get(), cell.version()), (2, version));
    /// ```
    #[doc(alias = "store")]
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn set(&self, value: T) -> Version {
        self.check_direct();
        self.replace(value, |written| written.version())
    }

    /// Replaces the value, and returns the old one, which pins this thread.
    ///
    /// # Blocking
    /// Blocks the thread as [`set`](Self::set) does, without a deadline.
    ///
    /// # Panics
    /// Panics as [`set`](Self::set) does.
    ///
    /// # Examples
    /// ```
    /// let cell = latchwork::VersionedCell::new("a");
    /// assert_eq!(*cell.swap("b"), "a");
    /// ```
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn swap(&self, value: T) -> Versioned<'_, T> {
        self.check_direct();
        self.replace(value, |written| Versioned::of(written.into_old()))
    }

    /// Replaces the value if its version is `expected`, and returns the version of the new one.
    ///
    /// # Blocking
    /// Blocks the thread as [`set`](Self::set) does, without a deadline. It does not wait if the
    /// version already differs. Tasks can use
    /// [`compare_and_set_async`](Self::compare_and_set_async).
    ///
    /// # Errors
    /// Returns a [`Conflict`] that contains the value if another write has happened since
    /// `expected`, or if `expected` is not a version of this cell.
    ///
    /// # Panics
    /// Panics as [`set`](Self::set) does.
    ///
    /// # Examples
    /// ```
    /// use latchwork::VersionedCell;
    /// let cell = VersionedCell::new(1);
    /// let seen = cell.read();
    /// assert!(cell.compare_and_set(seen.version(), *seen + 1).is_ok());
    /// assert!(cell.compare_and_set(seen.version(), *seen + 1).is_err());
    /// assert_eq!(cell.get(), 2);
    /// ```
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn compare_and_set(&self, expected: Version, value: T) -> Result<Version, Conflict<T>> {
        self.check_direct();
        let mut patience = Patience::new();
        let mut kept = Some(value);
        loop {
            let attempt = self.attempt(|local, pin| {
                let basis = self.head.basis(pin);
                let current = basis.value.value().version();
                let value = kept.take().expect("a failed attempt returns the value");
                if current != expected {
                    return Err((value, Err(current)));
                }
                self.head
                    .replace_basis(local, &patience, basis, value)
                    .map_err(|(value, lost)| (value, Ok(lost)))
            });
            match attempt {
                Ok(version) => return Ok(version),
                Err((value, Err(current))) => {
                    return Err(Conflict {
                        expected,
                        current,
                        value,
                    });
                }
                Err((value, Ok(lost))) => {
                    kept = Some(value);
                    patience.step_back(lost);
                }
            }
        }
    }

    /// Replaces the value by the result of `f`, and returns the version of the new one.
    ///
    /// `f` runs pinned. After each write of another thread in between, `f` is called again, after a
    /// pause. If `f` writes this cell itself, `update` never returns.
    ///
    /// # Blocking
    /// Blocks the thread as [`set`](Self::set) does, without a deadline, and may call `f` again
    /// during that wait. Tasks can use [`update_async`](Self::update_async).
    ///
    /// # Panics
    /// Panics if `f` panics; nothing is written then. Panics as [`set`](Self::set) does.
    ///
    /// # Examples
    /// ```
    /// let cell = latchwork::VersionedCell::new(1);
    /// cell.update(|n| n + 1);
    /// assert_eq!(cell.get(), 2);
    /// ```
    #[doc(alias = "rcu")]
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn update(&self, mut f: impl FnMut(&T) -> T) -> Version {
        self.check_direct();
        let mut patience = Patience::new();
        loop {
            match self.update_once(&patience, &mut f) {
                Ok(version) => return version,
                Err(lost) => patience.step_back(lost),
            }
        }
    }

    /// Replaces the value by the result of `f`, and returns the new value with its version.
    ///
    /// The value is the one that this call has written, including when another thread has replaced
    /// it since. A [`get`](Self::get) after [`update`](Self::update) may return the value of a
    /// later write. The snapshot pins this thread.
    ///
    /// # Blocking
    /// Blocks as [`update`](Self::update) does, without a deadline.
    ///
    /// # Panics
    /// Panics if `f` panics; then the value is unchanged. Panics as [`set`](Self::set) does.
    ///
    /// # Examples
    /// ```
    /// let cell = latchwork::VersionedCell::new(1);
    /// let new = cell.update_and_get(|n| n + 1);
    /// assert_eq!((*new, new.version().get()), (2, 1));
    /// ```
    #[doc(alias = "updateAndGet")]
    #[cfg_attr(debug_assertions, track_caller)]
    #[must_use = "`update` does the same without pinning the new value"]
    pub fn update_and_get(&self, mut f: impl FnMut(&T) -> T) -> Versioned<'_, T> {
        self.check_direct();
        match self.modify(|value| Some(f(value)), Published::into_new) {
            Ok(new) => new,
            Err(_) => unreachable!("there is a value for each attempt"),
        }
    }

    /// Replaces the value by the result of `f`, and returns the previous value, unless `f` returns
    /// `None`.
    ///
    /// This is the `fetch_update` of the atomics of `std`. `f` runs again, after a pause, each time
    /// that another write has replaced the value in between. `f` runs pinned. The snapshot that is
    /// returned pins this thread.
    ///
    /// [`update`](Self::update) always writes and returns the version of the new value,
    /// [`update_and_get`](Self::update_and_get) returns the new value itself, and
    /// [`try_update`](Self::try_update) has a limit of attempts and returns an error of the
    /// closure.
    ///
    /// # Blocking
    /// Blocks as [`update`](Self::update) does, without a deadline.
    ///
    /// # Errors
    /// Returns the current value if `f` returns `None` for it. Then the value is unchanged.
    ///
    /// # Panics
    /// Panics if `f` panics; then the value is unchanged. Panics as [`set`](Self::set) does.
    ///
    /// # Examples
    /// ```
    /// let stock = latchwork::VersionedCell::new(1_u32);
    /// let sold = stock.fetch_update(|n| n.checked_sub(1)).expect("one is left");
    /// assert_eq!((*sold, sold.version().get()), (1, 0));
    ///
    /// let empty = stock.fetch_update(|n| n.checked_sub(1)).unwrap_err();
    /// assert_eq!((*empty, empty.version().get()), (0, 1));
    /// ```
    #[doc(alias = "rcu")]
    #[doc(alias = "getAndUpdate")]
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn fetch_update(
        &self,
        f: impl FnMut(&T) -> Option<T>,
    ) -> Result<Versioned<'_, T>, Versioned<'_, T>> {
        self.check_direct();
        self.modify(f, Published::into_old)
    }

    /// Replaces the value by the result of `f`, within the limits of a policy.
    ///
    /// # Blocking
    /// Blocks the thread while a transaction that has escalated owns the cell, within the limits of
    /// the policy. Each attempt that encounters the owner counts, and a deadline ends the wait. A
    /// timeout starts with the call. Tasks can use [`update_async`](Self::update_async) with a
    /// timeout of the runtime.
    ///
    /// # Errors
    /// - [`UpdateError::Contended`] if every attempt that the policy allows failed, because another
    ///   thread wrote the cell or a transaction owned it.
    /// - [`UpdateError::TimedOut`] if an attempt failed and the deadline has passed.
    /// - [`UpdateError::Aborted`] with the error that `f` returned.
    ///
    /// # Panics
    /// Panics if `f` panics; nothing is written then. Panics as [`set`](Self::set) does.
    ///
    /// # Examples
    /// ```
    /// use latchwork::{RetryPolicy, VersionedCell, cell::UpdateError};
    ///
    /// let balance = VersionedCell::new(10_u32);
    /// let take = |n: u32| {
    ///     balance.try_update(&RetryPolicy::attempts(3), |b| b.checked_sub(n).ok_or("no funds"))
    /// };
    /// assert!(take(4).is_ok());
    /// assert_eq!(take(7), Err(UpdateError::Aborted("no funds")));
    /// assert_eq!(balance.get(), 6);
    /// ```
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn try_update<E>(
        &self,
        policy: &RetryPolicy,
        mut f: impl FnMut(&T) -> Result<T, E>,
    ) -> Result<Version, UpdateError<E>> {
        self.check_direct();
        let deadline = policy.start();
        let mut patience = Patience::new();
        let mut attempts = 0_u32;
        loop {
            let attempt = self.attempt(|local, pin| {
                let basis = self.head.basis(pin);
                let value = f(basis.value.value().get()).map_err(Err)?;
                self.head
                    .replace_basis(local, &patience, basis, value)
                    .map_err(|(_, lost)| Ok(lost))
            });
            let lost = match attempt {
                Ok(version) => return Ok(version),
                Err(Err(error)) => return Err(UpdateError::Aborted(error)),
                Err(Ok(lost)) => lost,
            };
            attempts = attempts.saturating_add(1);
            policy.after(attempts, deadline)?;
            patience.step_back(lost);
        }
    }

    /// Makes one attempt of a task to replace the value, which stays in `kept` if the attempt
    /// fails.
    pub(super) fn set_once(
        &self,
        patience: &Patience,
        kept: &mut Option<T>,
    ) -> Result<Version, Lost> {
        self.attempt(|local, pin| {
            let value = kept.take().expect("a failed attempt returns the value");
            self.head
                .replace(local, patience, pin, value)
                .map_err(|(value, lost)| {
                    *kept = Some(value);
                    lost
                })
        })
    }

    /// Writes as [`set_once`](Self::set_once) does, if the version is `expected`.
    pub(super) fn compare_and_set_once(
        &self,
        patience: &Patience,
        expected: Version,
        kept: &mut Option<T>,
    ) -> Result<Result<Version, Conflict<T>>, Lost> {
        let attempt = self.attempt(|local, pin| {
            let basis = self.head.basis(pin);
            let current = basis.value.value().version();
            let value = kept.take().expect("a failed attempt returns the value");
            if current != expected {
                return Err(Ok(Conflict {
                    expected,
                    current,
                    value,
                }));
            }
            self.head
                .replace_basis(local, patience, basis, value)
                .map_err(|(value, lost)| {
                    *kept = Some(value);
                    Err(lost)
                })
        });
        match attempt {
            Ok(version) => Ok(Ok(version)),
            Err(Ok(conflict)) => Ok(Err(conflict)),
            Err(Err(lost)) => Err(lost),
        }
    }

    /// Makes one attempt to replace the value by the result of `f`.
    #[inline]
    pub(super) fn update_once(
        &self,
        patience: &Patience,
        f: &mut impl FnMut(&T) -> T,
    ) -> Result<Version, Lost> {
        self.attempt(|local, pin| {
            let basis = self.head.basis(pin);
            let value = f(basis.value.value().get());
            self.head
                .replace_basis(local, patience, basis, value)
                .map_err(|(_, lost)| lost)
        })
    }

    /// One attempt of a task to replace the value, which stays in `kept` if the attempt is lost.
    /// Returns the previous value.
    pub(super) fn swap_once(
        &self,
        patience: &Patience,
        kept: &mut Option<T>,
    ) -> Result<OwnedVersioned<T>, Lost> {
        let mut old = None;
        self.attempt(|local, pin| {
            let value = kept.take().expect("an attempt returns the value");
            let published = self.head.replace(local, patience, pin, value);
            let written = published.map_err(|(value, lost)| {
                *kept = Some(value);
                lost
            })?;
            old = Some(OwnedVersioned::of(written.old()));
            Ok(written)
        })?;
        Ok(old.expect("the attempt has replaced a value"))
    }

    /// Replaces the value by the result of `f`, and returns the snapshot that `select` makes of the
    /// write. `Err`: `f` has returned `None` for this value.
    #[inline]
    fn modify<'c>(
        &'c self,
        mut f: impl FnMut(&T) -> Option<T>,
        select: impl FnOnce(Published<'c, T>) -> Pinned<'c, T>,
    ) -> Result<Versioned<'c, T>, Versioned<'c, T>> {
        let mut patience = Patience::new();
        reclaim::with(|local| {
            local.collect_some();
            loop {
                let basis = self.head.basis(local.pin());
                let Some(value) = f(basis.value.value().get()) else {
                    return Err(Versioned::of(basis.value));
                };
                match self.head.replace_basis(local, &patience, basis, value) {
                    Ok(written) => {
                        let (version, is_waited) = (written.version(), written.is_waited());
                        let snapshot = Versioned::of(select(written));
                        self.tell(version, is_waited);
                        return Ok(snapshot);
                    }
                    Err((value, lost)) => {
                        drop(value);
                        patience.step_back(lost);
                    }
                }
            }
        })
    }

    /// Installs `value` unconditionally.
    #[inline]
    fn replace<'c, R>(&'c self, value: T, f: impl FnOnce(Published<'c, T>) -> R) -> R {
        let mut patience = Patience::new();
        let mut kept = Some(value);
        reclaim::with(|local| {
            local.collect_some();
            loop {
                let pin = local.pin();
                let value = kept.take().expect("a failed attempt returns the value");
                match self.head.replace(local, &patience, pin, value) {
                    Ok(written) => {
                        let (version, is_waited) = (written.version(), written.is_waited());
                        let result = f(written);
                        self.tell(version, is_waited);
                        return result;
                    }
                    Err((value, lost)) => {
                        kept = Some(value);
                        patience.step_back(lost);
                    }
                }
            }
        })
    }

    /// Makes one attempt: drops some reclaimable values, runs `f` pinned, and wakes the waiters.
    #[inline]
    fn attempt<'c, E>(
        &'c self,
        f: impl FnOnce(&Local, CellPin) -> Result<Published<'c, T>, E>,
    ) -> Result<Version, E> {
        reclaim::with(|local| {
            local.collect_some();
            let written = f(local, local.pin())?;
            let (version, is_waited) = (written.version(), written.is_waited());
            drop(written);
            self.tell(version, is_waited);
            Ok(version)
        })
    }

    /// Wakes the waiters for a version before `written`, if there are any.
    #[inline]
    fn tell(&self, written: Version, is_waited: bool) {
        if is_waited {
            waiters::wake(self.head().address(), written);
        }
    }
}
