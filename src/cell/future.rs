//! Asynchronous writes, which wait for a transaction that owns the cell without blocking a thread.

use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

use super::{Conflict, OwnedVersioned, VersionedCell};
use crate::mvcc::contention::{Lost, Patience};
use crate::mvcc::enlist::{WithoutAge, enlist_with_owner_of};
use crate::mvcc::{Head, Version};
use crate::park::{Notify, Wait, polled_again};

/// The state of a write between two polls.
enum State {
    /// The next poll tries to write.
    Tries,
    /// Waits for the end of a transaction that owns the cell [X10].
    Waits(Wait),
    /// The future was ready, or a poll has panicked.
    Ended,
}

impl State {
    fn is_waiting(&self) -> bool {
        matches!(self, State::Waits(_))
    }

    /// Makes attempts until one ends the write, or must wait for an owner that has an age.
    fn poll<R>(
        &mut self,
        context: &Context<'_>,
        head: &Head,
        mut attempt: impl FnMut(&Patience) -> Result<R, Lost>,
    ) -> Poll<R> {
        let notify = || Notify::Task(context.waker().clone());
        // `Ended` remains if user code panics below.
        match core::mem::replace(self, State::Ended) {
            State::Tries => {}
            State::Waits(wait) => {
                if wait.poll(context).is_pending() {
                    *self = State::Waits(wait);
                    return Poll::Pending;
                }
            }
            State::Ended => polled_again("future of a write"),
        }
        let mut patience = Patience::new();
        loop {
            let lost = match attempt(&patience) {
                Ok(result) => return Poll::Ready(result),
                Err(lost) => lost,
            };
            if lost == Lost::Owned {
                match enlist_with_owner_of(head, notify()) {
                    Ok(Some(wait)) => {
                        *self = State::Waits(wait);
                        return Poll::Pending;
                    }
                    Ok(None) => continue,
                    // The owner is aborted once the writer's patience is exhausted.
                    Err(WithoutAge) => {}
                }
            }
            patience.step_back(lost);
        }
    }
}

impl<T: Send + Sync + 'static> VersionedCell<T> {
    /// Replaces the value as [`set`](Self::set) does, without blocking the thread.
    ///
    /// The future writes in its first poll, without a yield to the executor, unless a transaction
    /// that has escalated owns the cell. Then it registers the waker, and the end of that
    /// transaction wakes the task. Use a timeout of the runtime, such as `tokio::time::timeout`, to
    /// bound the wait.
    ///
    /// # Panics
    /// The future panics where [`set`](Self::set) does. It also panics if it is polled after it was
    /// ready, or after a poll that panicked.
    ///
    /// # Cancel safety
    /// Cancel safe: a future that is dropped before it was ready has written nothing. It drops the
    /// value.
    ///
    /// # Examples
    /// ```
    /// # pollster::block_on(async {
    /// let cell = latchwork::VersionedCell::new(1);
    /// let version = cell.set_async(2).await;
    /// assert_eq!((cell.get(), cell.version()), (2, version));
    /// # })
    /// ```
    pub fn set_async(&self, value: T) -> SetFuture<'_, T> {
        SetFuture {
            cell: self,
            value: Some(value),
            state: State::Tries,
        }
    }

    /// As [`swap`](Self::swap), as a future that waits without blocking the thread while a
    /// transaction owns the cell. See [`set_async`](Self::set_async).
    ///
    /// The future returns an [`OwnedVersioned`], where `swap` returns a snapshot that pins its
    /// thread: a task may keep the previous value across an `.await`.
    ///
    /// # Panics
    /// The future panics where [`set_async`](Self::set_async) does.
    ///
    /// # Cancel safety
    /// A future that is dropped has written nothing unless it was ready, and drops the value.
    ///
    /// # Examples
    /// ```
    /// # pollster::block_on(async {
    /// let cell = latchwork::VersionedCell::new("a");
    /// let previous = cell.swap_async("b").await;
    /// assert_eq!((*previous, cell.get()), ("a", "b"));
    /// # })
    /// ```
    pub fn swap_async(&self, value: T) -> SwapFuture<'_, T> {
        SwapFuture {
            cell: self,
            value: Some(value),
            state: State::Tries,
        }
    }

    /// Replaces the value as [`compare_and_set`](Self::compare_and_set) does, without blocking the
    /// thread.
    ///
    /// The version is compared when the future is polled, and again after each wait. The future
    /// waits as that of [`set_async`](Self::set_async) does, and does not yield if it is ready at
    /// once.
    ///
    /// # Errors
    /// The future returns a [`Conflict`] that contains the value, as
    /// [`compare_and_set`](Self::compare_and_set) does.
    ///
    /// # Panics
    /// The future panics where that of [`set_async`](Self::set_async) does.
    ///
    /// # Cancel safety
    /// Cancel safe: a future that is dropped before it was ready has written nothing. It drops the
    /// value.
    ///
    /// # Examples
    /// ```
    /// # pollster::block_on(async {
    /// let cell = latchwork::VersionedCell::new(1);
    /// let seen = cell.version();
    /// assert!(cell.compare_and_set_async(seen, 2).await.is_ok());
    /// assert!(cell.compare_and_set_async(seen, 3).await.is_err());
    /// # })
    /// ```
    pub fn compare_and_set_async(&self, expected: Version, value: T) -> CompareAndSetFuture<'_, T> {
        CompareAndSetFuture {
            cell: self,
            expected,
            value: Some(value),
            state: State::Tries,
        }
    }

    /// Replaces the value as [`update`](Self::update) does, without blocking the thread.
    ///
    /// `f` runs inside `poll`, pinned, once for each attempt. The future waits as that of
    /// [`set_async`](Self::set_async) does, and does not yield if it is ready at once.
    ///
    /// # Panics
    /// The future panics if `f` panics; nothing is written then. It panics where that of
    /// [`set_async`](Self::set_async) does.
    ///
    /// # Cancel safety
    /// Cancel safe: a future that is dropped before it was ready has written nothing.
    ///
    /// # Examples
    /// ```
    /// # pollster::block_on(async {
    /// let cell = latchwork::VersionedCell::new(1);
    /// cell.update_async(|n| n + 1).await;
    /// assert_eq!(cell.get(), 2);
    /// # })
    /// ```
    pub fn update_async<F: FnMut(&T) -> T>(&self, f: F) -> UpdateFuture<'_, T, F> {
        UpdateFuture {
            cell: self,
            f,
            state: State::Tries,
        }
    }
}

/// Replaces the value of a cell. Created by [`VersionedCell::set_async`].
///
/// # Examples
/// See [`VersionedCell::set_async`].
#[must_use = "futures do nothing unless polled"]
pub struct SetFuture<'c, T: Send + Sync + 'static> {
    cell: &'c VersionedCell<T>,
    value: Option<T>,
    state: State,
}

/// Replaces the value of a cell, and returns the previous one. Made by
/// [`VersionedCell::swap_async`].
///
/// # Examples
/// See [`VersionedCell::swap_async`].
#[must_use = "futures do nothing unless polled"]
pub struct SwapFuture<'c, T: Send + Sync + 'static> {
    cell: &'c VersionedCell<T>,
    value: Option<T>,
    state: State,
}

/// Replaces the value of a cell if its version is the expected one. Created by
/// [`VersionedCell::compare_and_set_async`].
///
/// # Examples
/// See [`VersionedCell::compare_and_set_async`].
#[must_use = "futures do nothing unless polled"]
pub struct CompareAndSetFuture<'c, T: Send + Sync + 'static> {
    cell: &'c VersionedCell<T>,
    expected: Version,
    value: Option<T>,
    state: State,
}

/// Replaces the value of a cell by the result of a closure. Created by
/// [`VersionedCell::update_async`].
///
/// # Examples
/// See [`VersionedCell::update_async`].
#[must_use = "futures do nothing unless polled"]
pub struct UpdateFuture<'c, T: Send + Sync + 'static, F> {
    cell: &'c VersionedCell<T>,
    f: F,
    state: State,
}

// Neither the value nor the closure is ever pinned.
impl<T: Send + Sync + 'static> Unpin for SetFuture<'_, T> {}
impl<T: Send + Sync + 'static> Unpin for SwapFuture<'_, T> {}
impl<T: Send + Sync + 'static> Unpin for CompareAndSetFuture<'_, T> {}
impl<T: Send + Sync + 'static, F> Unpin for UpdateFuture<'_, T, F> {}

impl<T: Send + Sync + 'static> Future for SetFuture<'_, T> {
    type Output = Version;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Version> {
        let SetFuture { cell, value, state } = self.get_mut();
        state.poll(context, cell.head(), |patience| {
            cell.set_once(patience, value)
        })
    }
}

impl<T: Send + Sync + 'static> Future for SwapFuture<'_, T> {
    type Output = OwnedVersioned<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<OwnedVersioned<T>> {
        let SwapFuture { cell, value, state } = self.get_mut();
        state.poll(context, cell.head(), |patience| {
            cell.swap_once(patience, value)
        })
    }
}

impl<T: Send + Sync + 'static> Future for CompareAndSetFuture<'_, T> {
    type Output = Result<Version, Conflict<T>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let CompareAndSetFuture {
            cell,
            expected,
            value,
            state,
        } = self.get_mut();
        state.poll(context, cell.head(), |patience| {
            cell.compare_and_set_once(patience, *expected, value)
        })
    }
}

impl<T: Send + Sync + 'static, F: FnMut(&T) -> T> Future for UpdateFuture<'_, T, F> {
    type Output = Version;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Version> {
        let UpdateFuture { cell, f, state } = self.get_mut();
        state.poll(context, cell.head(), |patience| {
            cell.update_once(patience, f)
        })
    }
}

impl<T: Send + Sync + 'static> fmt::Debug for SetFuture<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_future("SetFuture", &self.state, f)
    }
}

impl<T: Send + Sync + 'static> fmt::Debug for SwapFuture<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_future("SwapFuture", &self.state, f)
    }
}

impl<T: Send + Sync + 'static> fmt::Debug for CompareAndSetFuture<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_future("CompareAndSetFuture", &self.state, f)
    }
}

impl<T: Send + Sync + 'static, F> fmt::Debug for UpdateFuture<'_, T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_future("UpdateFuture", &self.state, f)
    }
}

fn fmt_future(name: &str, state: &State, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.debug_struct(name)
        .field("is_waiting", &state.is_waiting())
        .finish_non_exhaustive()
}
