//! Locking a key in a session, from a task.

use core::borrow::Borrow;
use core::fmt;
use core::future::Future;
use core::hash::{BuildHasher, Hash};
use core::pin::Pin;
use core::task::{Context, Poll};
use std::time::Instant;

use super::holds::Need;
use super::{LockError, Policy, Session};
use crate::RandomState;
use crate::deadlock::{At, Held, Search};
use crate::lock_table::KeyId;
use crate::park::{Notify, Spin, polled_again};
use crate::sync::now;
use crate::word::Mode;

const NAME: &str = "`SessionLockFuture`";

/// Locks a key in a session. [`Session::lock_async`] and [`Session::lock_shared_async`] return it.
///
/// # Cancel safety
/// Dropping the future at any point leaves the session as it was before. See
/// [`Session::lock_async`].
///
/// # Panics
/// Panics if it is polled after it was ready, or after a panic in a poll ended its wait.
///
/// # Examples
/// ```
/// let table: latchwork::LockTable<u64> = latchwork::LockTable::new();
/// let mut session = table.session();
/// pollster::block_on(session.lock_async(&1))?;
/// # Ok::<_, latchwork::session::LockError>(())
/// ```
#[must_use = "a future does nothing until it is polled"]
pub struct SessionLockFuture<'s, 't, K: ?Sized, S = RandomState> {
    session: &'s mut Session<'t, K, S>,
    want: Held,
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    New,
    Waits { deadline: Option<Instant> },
    Done,
}

impl<K: ?Sized, S> SessionLockFuture<'_, '_, K, S> {
    fn start(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LockError>> {
        let (session, want) = (&mut *self.session, self.want);
        let need = session.need(want.hash, want.mode);
        // A task has no clock, and without one a turn may never begin [D12].
        session.lost = false;
        let upgrade = match need {
            Need::Nothing => return Poll::Ready(Ok(())),
            Need::Lock if session.try_take(want) => return Poll::Ready(Ok(())),
            Need::Lock => false,
            Need::Upgrade => true,
        };
        // To clone a waker is to run user code: it happens before anything is pinned or locked.
        let mut notify = Some(Notify::Task(cx.waker().clone()));
        let mut begun = || {
            session.begin(want, upgrade, Spin::none, || {
                notify.take().expect("one waiter at most is made")
            })
        };
        if begun()? {
            return Poll::Ready(Ok(()));
        }
        // Without a timeout no clock is read: some targets have none.
        let deadline = match session.policy {
            Policy::Timeout(_) => session.deadline(now()),
            _ => None,
        };
        self.step = Step::Waits { deadline };
        // A task has no clock: it searches for a deadlock at once, unless detection is disabled.
        if session.searches() && !upgrade {
            session.detect(Search::Due);
        }
        self.look(cx, false)
    }

    fn look(&mut self, cx: &mut Context<'_>, renew: bool) -> Poll<Result<(), LockError>> {
        // Most polls get the key, and then no waker is cloned.
        let mut done = self.session.look(&mut None);
        if done.is_none() && renew {
            let mut renewal = Some(Notify::Task(cx.waker().clone()));
            done = self.session.look(&mut renewal);
        }
        match done {
            Some(done) => Poll::Ready(done),
            None => Poll::Pending,
        }
    }
}

impl<K: ?Sized, S> Future for SessionLockFuture<'_, '_, K, S> {
    type Output = Result<(), LockError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let polled = match this.step {
            Step::New => this.start(cx),
            // A panic of user code has propagated out of the poll that ended the wait.
            Step::Waits { .. } if this.session.pending.is_none() => polled_again(NAME),
            Step::Waits { deadline } => match this.look(cx, true) {
                Poll::Pending if deadline.is_some_and(|at| at <= now()) => {
                    Poll::Ready(this.session.give_up(LockError::TimedOut))
                }
                polled => polled,
            },
            Step::Done => polled_again(NAME),
        };
        if polled.is_ready() {
            this.step = Step::Done;
        }
        polled
    }
}

impl<K: ?Sized, S> Drop for SessionLockFuture<'_, '_, K, S> {
    fn drop(&mut self) {
        if self.step != Step::Done {
            self.session.settle();
        }
    }
}

impl<K: ?Sized, S> fmt::Debug for SessionLockFuture<'_, '_, K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionLockFuture")
            .field("key_id", &KeyId(self.want.hash))
            .field("step", &self.step)
            .finish_non_exhaustive()
    }
}

impl<'t, K: ?Sized, S: BuildHasher> Session<'t, K, S> {
    /// Locks `key` exclusively without blocking the thread. [`lock`](Self::lock) is the blocking
    /// form.
    ///
    /// The call hashes the key, and the future does not borrow it. Nothing happens until the future
    /// is polled. The session searches for a deadlock as soon as it waits, since a task has no
    /// clock.
    ///
    /// # Blocking
    /// Never blocks the thread. A future that is ready at once does not yield to the executor:
    /// [`docs::tasks`](crate::docs::tasks) states what a loop must do.
    ///
    /// # Errors
    /// The future returns a [`LockError`] according to the [policy](Session::policy). The session
    /// holds the same keys as before.
    ///
    /// # Panics
    /// Panics if the hasher panics. The future panics if it is polled after it was ready, or after
    /// a panic in a poll ended its wait.
    ///
    /// # Deadlocks
    /// A session whose future is not polled does nothing, and keeps all its keys.
    ///
    /// - Before the first poll the session does not wait. It counts as a running session, and no
    ///   cycle includes it.
    /// - Afterwards it is in the queue, and detection sees it. If it becomes the victim of a
    ///   deadlock, its waker is woken and it loses its position in the queue. The cycle remains
    ///   until the future is polled and the session releases a key. No other session gets an error
    ///   for that cycle, because the victim waits no more.
    /// - If the future is dropped instead, only
    ///   [`LockTable::deadlocks`](crate::LockTable::deadlocks) returns the report.
    ///
    /// So poll a future that was woken, or drop it and [release all](Self::release_all) keys.
    ///
    /// # Cancel safety
    /// Dropping the future at any point leaves the session as it was before. The future leaves the
    /// queue, and releases the key if it was granted. If the future is forgotten, the next call of
    /// the session does so, or the end of the session.
    ///
    /// # Examples
    /// ```
    /// # pollster::block_on(async {
    /// let table: latchwork::LockTable<str> = latchwork::LockTable::new();
    /// let mut session = table.session();
    /// session.lock_async("user:9").await?;
    /// session.lock_shared_async("user:10").await?;
    /// # Ok::<_, latchwork::session::LockError>(()) });
    /// ```
    #[cfg_attr(feature = "lock-places", track_caller)]
    pub fn lock_async<Q>(&mut self, key: &Q) -> SessionLockFuture<'_, 't, K, S>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        self.future(key, Mode::Exclusive, At::here())
    }

    /// Locks `key` shared without blocking the thread. [`lock_shared`](Self::lock_shared) is the
    /// blocking form.
    ///
    /// # Blocking
    /// Never blocks the thread. A future that is ready at once does not yield to the executor: see
    /// [`docs::tasks`](crate::docs::tasks).
    ///
    /// # Errors
    /// The future returns the same errors as that of [`lock_async`](Self::lock_async).
    ///
    /// # Panics
    /// Panics as [`lock_async`](Self::lock_async) does.
    ///
    /// # Deadlocks
    /// The section of [`lock_async`](Self::lock_async) applies.
    ///
    /// # Cancel safety
    /// Dropping the future at any point leaves the session as it was before, as for
    /// [`lock_async`](Self::lock_async).
    ///
    /// # Examples
    /// ```
    /// # pollster::block_on(async {
    /// let table: latchwork::LockTable<str> = latchwork::LockTable::new();
    /// let (mut one, mut two) = (table.session(), table.session());
    /// one.lock_shared_async("a").await?;
    /// two.lock_shared_async("a").await?; // both hold the key
    /// # Ok::<_, latchwork::session::LockError>(()) });
    /// ```
    #[cfg_attr(feature = "lock-places", track_caller)]
    pub fn lock_shared_async<Q>(&mut self, key: &Q) -> SessionLockFuture<'_, 't, K, S>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        self.future(key, Mode::Shared, At::here())
    }

    fn future<Q>(&mut self, key: &Q, mode: Mode, at: At) -> SessionLockFuture<'_, 't, K, S>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        let hash = self.table.hash(key);
        SessionLockFuture {
            want: Held { hash, mode, at },
            session: self,
            step: Step::New,
        }
    }
}
