//! Replacing the value of a cell.
#![allow(unsafe_code)]

use core::ptr::NonNull;

use crossbeam_utils::Backoff;

use super::{
    Conflict, Node, RetryPolicy, Snapshot, UpdateError, Version, VersionedCell, Word, waiters,
};
use crate::reclaim::{self, CellPin, Local};

/// A write that happened.
#[must_use]
struct Written<T> {
    version: Version,
    old: NonNull<Node<T>>,
    is_waited: bool,
}

impl<T: Send + Sync + 'static> VersionedCell<T> {
    /// Replaces the value, and returns the version of the new one.
    ///
    /// # Examples
    /// ```
    /// let cell = latchwork::VersionedCell::new(1);
    /// let version = cell.set(2);
    /// assert_eq!((cell.get(), cell.version()), (2, version));
    /// ```
    pub fn set(&self, value: T) -> Version {
        self.write(|local, pin| self.replace(local, pin, value))
    }

    /// Replaces the value, and returns the old one, which pins this thread.
    ///
    /// # Examples
    /// ```
    /// let cell = latchwork::VersionedCell::new("a");
    /// assert_eq!(*cell.swap("b"), "a");
    /// ```
    pub fn swap(&self, value: T) -> Snapshot<'_, T> {
        reclaim::with(|local| {
            local.tidy();
            let pin = local.pin();
            let written = self.replace(local, &pin, value);
            let old = Snapshot::of(self, written.old, pin);
            self.tell(&written);
            old
        })
    }

    /// Replaces the value if its version is `expected`, and returns the version of the new one.
    ///
    /// # Errors
    /// A [`Conflict`] with the value, if somebody wrote since, or the version is not one of this cell.
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
    pub fn compare_and_set(&self, expected: Version, value: T) -> Result<Version, Conflict<T>> {
        self.try_write(|local, pin| {
            let mut value = value;
            let mut seen = self.load();
            loop {
                let current = self.at_pin(pin, seen).version();
                if current != expected {
                    return Err(Conflict {
                        expected,
                        current,
                        value,
                    });
                }
                // Fails once more at the same version if somebody has begun to wait for it.
                (value, seen) = match self.publish(local, pin, seen, value) {
                    Ok(written) => return Ok(written),
                    Err(lost) => lost,
                };
            }
        })
    }

    /// Replaces the value by what `f` makes of it, and returns the version of the new one.
    ///
    /// `f` is called again, after a pause, whenever somebody else has written in between. It runs pinned. If it
    /// writes this cell itself, it is always called again: for ever.
    ///
    /// # Panics
    /// If `f` does; then nothing is written.
    ///
    /// # Examples
    /// ```
    /// let cell = latchwork::VersionedCell::new(1);
    /// cell.update(|n| n + 1);
    /// assert_eq!(cell.get(), 2);
    /// ```
    pub fn update(&self, mut f: impl FnMut(&T) -> T) -> Version {
        let updated = self.try_update(&RetryPolicy::forever(), |value| {
            Ok::<T, core::convert::Infallible>(f(value))
        });
        match updated {
            Ok(version) => version,
            Err(_) => unreachable!("it goes on for ever"),
        }
    }

    /// As [`update`](Self::update), but stops when the policy or the closure says so.
    ///
    /// # Errors
    /// [`UpdateError::Contended`] after as many attempts as the policy allows, each lost to another write;
    /// [`UpdateError::TimedOut`] when an attempt was lost and the deadline is past;
    /// [`UpdateError::Aborted`] with what `f` returned.
    ///
    /// # Panics
    /// If `f` does; then nothing is written.
    ///
    /// # Examples
    /// ```
    /// use latchwork::{RetryPolicy, UpdateError, VersionedCell};
    ///
    /// let balance = VersionedCell::new(10_u32);
    /// let take = |n: u32| {
    ///     balance.try_update(&RetryPolicy::attempts(3), |b| b.checked_sub(n).ok_or("no funds"))
    /// };
    /// assert!(take(4).is_ok());
    /// assert_eq!(take(7), Err(UpdateError::Aborted("no funds")));
    /// assert_eq!(balance.get(), 6);
    /// ```
    pub fn try_update<E>(
        &self,
        policy: &RetryPolicy,
        mut f: impl FnMut(&T) -> Result<T, E>,
    ) -> Result<Version, UpdateError<E>> {
        let backoff = Backoff::new();
        let mut attempts = 0_u32;
        loop {
            let attempt = self.try_write(|local, pin| {
                let mut seen = self.load();
                let value = f(self.at_pin(pin, seen).value());
                let mut value = value.map_err(|e| Some(UpdateError::Aborted(e)))?;
                loop {
                    match self.publish(local, pin, seen, value) {
                        Ok(written) => return Ok(written),
                        // Somebody has begun to wait, and nobody has written [C3].
                        Err((back, marked)) if marked.node() == seen.node() => {
                            (value, seen) = (back, marked);
                        }
                        Err(_) => return Err(None),
                    }
                }
            });
            match attempt {
                Ok(version) => return Ok(version),
                Err(Some(error)) => return Err(error),
                Err(None) => attempts = attempts.saturating_add(1),
            }
            policy.after(attempts)?;
            backoff.snooze();
        }
    }

    /// One write: what is due first, then `f`, pinned, then whoever waits.
    fn write(&self, f: impl FnOnce(&Local, &CellPin) -> Written<T>) -> Version {
        let written =
            self.try_write(|local, pin| Ok::<_, core::convert::Infallible>(f(local, pin)));
        match written {
            Ok(version) => version,
            Err(never) => match never {},
        }
    }

    #[inline]
    fn try_write<E>(
        &self,
        f: impl FnOnce(&Local, &CellPin) -> Result<Written<T>, E>,
    ) -> Result<Version, E> {
        reclaim::with(|local| {
            local.tidy();
            let pin = local.pin();
            let written = f(local, &pin);
            drop(pin);
            let written = written?;
            self.tell(&written);
            Ok(written.version)
        })
    }

    /// Puts `value` in, whatever is there.
    fn replace(&self, local: &Local, pin: &CellPin, value: T) -> Written<T> {
        let backoff = Backoff::new();
        let (mut value, mut seen) = (value, self.load());
        loop {
            (value, seen) = match self.publish(local, pin, seen, value) {
                Ok(written) => return written,
                Err(lost) => lost,
            };
            backoff.spin();
        }
    }

    /// Puts a node with `value` in the place of `seen`, or gives the value back with what is there
    /// instead. `seen` was loaded under `pin`.
    #[inline]
    fn publish(
        &self,
        local: &Local,
        pin: &CellPin,
        seen: Word<T>,
        value: T,
    ) -> Result<Written<T>, (T, Word<T>)> {
        // Stamped before it is covered: its stamp could not be told afterwards [C4].
        let version = self.at_pin(pin, seen).version().next();
        let node = local.allocate(Node::after(seen.node(), version, value));
        match self.head.replace(seen, node) {
            Ok(()) => {
                // SAFETY: published by this thread, under the pin [R1].
                unsafe { node.as_ref() }.stamp_published();
                // SAFETY: unlinked by this compare-and-swap and no other [C2], under this thread's
                // pin; every node of this type is of this kind.
                unsafe { local.retire(pin, seen.node(), Node::<T>::KIND) };
                Ok(Written {
                    version,
                    old: seen.node(),
                    is_waited: seen.is_waited(),
                })
            }
            Err(newer) => {
                // SAFETY: it was not published, so that it is ours.
                let unused = unsafe { local.take_back(node) };
                Err((unused.into_value(), newer))
            }
        }
    }

    /// Wakes those who wait for a version before `written`.
    #[inline]
    fn tell(&self, written: &Written<T>) {
        if written.is_waited {
            waiters::wake(self.address(), written.version);
        }
    }
}
