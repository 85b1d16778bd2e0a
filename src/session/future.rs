//! Locking a key in a session, from a task.

use core::borrow::Borrow;
use core::fmt;
use core::future::Future;
use core::hash::{BuildHasher, Hash};
use core::pin::Pin;
use core::task::{Context, Poll};
use std::time::Instant;

use super::lock::Need;
use super::{LockError, Policy, Session};
use crate::RandomState;
use crate::lock_table::{KeyId, Search};
use crate::sync::now;
use crate::wait::{Notify, Spin};
use crate::waits_for::{At, Held};
use crate::word::Mode;

/// Locks a key in a session. Returned by [`Session::lock_async`] and [`Session::lock_shared_async`].
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
        // A task has no clock, and without one a turn may never begin [D12].
        session.lost = false;
        let upgrade = match session.need(want.hash, want.mode) {
            Need::Nothing => return Poll::Ready(Ok(())),
            Need::Lock if session.try_take(want) => return Poll::Ready(Ok(())),
            Need::Lock => false,
            Need::Upgrade => true,
        };
        // To clone a waker is to run user code: it happens before anything is pinned or locked.
        let mut notify = Some(Notify::Task(cx.waker().clone()));
        let mut begun = || {
            session.begin(want, upgrade, Spin::none(), || {
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
        // A task has no clock: it looks for a deadlock at once, unless it never shall.
        if session.searches() && !upgrade {
            session.detect(Search::Due);
        }
        self.look(cx, false)
    }

    fn look(&mut self, cx: &mut Context<'_>, renew: bool) -> Poll<Result<(), LockError>> {
        // Most polls are the one that gets the key, and then no waker is cloned.
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
            // A panic of user code came out of the poll that ended the wait.
            Step::Waits { .. } if this.session.pending.is_none() => {
                panic!("polled after its wait has ended")
            }
            Step::Waits { deadline } => match this.look(cx, true) {
                Poll::Pending if deadline.is_some_and(|at| at <= now()) => {
                    Poll::Ready(this.session.give_up(LockError::TimedOut))
                }
                polled => polled,
            },
            Step::Done => panic!("polled after it was ready"),
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
    /// Locks `key` exclusively without blocking the thread. See [`lock`](Self::lock).
    ///
    /// The key is hashed now and not borrowed by the future. Nothing happens until the future is polled. Its
    /// session looks for a deadlock as soon as it waits, since a task has no clock.
    ///
    /// # Deadlocks
    /// A session whose future is not polled does nothing, and keeps all that it holds.
    ///
    /// - Before the first poll it does not wait: it counts as one that runs, and no circle goes through it.
    /// - Afterwards it is in the queue and is seen. If it is told of a deadlock, its waker is woken and its place in the queue is gone;
    ///   but the circle goes on until the future is polled and the session releases something. Nobody else is
    ///   told of it meanwhile: the session waits no more, and only has not heard.
    /// - If it is dropped instead, the report is in [`LockTable::deadlocks`](crate::LockTable::deadlocks) alone.
    ///
    /// So poll a future that was woken, or drop it and [release all](Self::release_all).
    ///
    /// # Blocking
    /// Never blocks the thread. A future that is ready at once does not yield to the executor: see
    /// [`docs::tasks`](crate::docs::tasks) for what a loop must do.
    ///
    /// # Cancel safety
    /// Dropping the future at any point leaves the session as it was before: it gives up its place in the queue, and
    /// passes on the key if it was granted. If the future is forgotten, the next call of the session, or its end,
    /// does so.
    ///
    /// # Panics
    /// The future panics if it is polled after it was ready.
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

    /// Locks `key` shared without blocking the thread. See [`lock_async`](Self::lock_async).
    ///
    /// # Blocking
    /// Never blocks the thread, and does not yield to the executor if it is ready at once ([`docs::tasks`](crate::docs::tasks)).
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
