//! Futures that lock a key without blocking a thread.

use core::borrow::Borrow;
use core::fmt;
use core::future::Future;
use core::hash::{BuildHasher, Hash};
use core::pin::Pin;
use core::task::{Context, Poll};
use std::sync::Arc;

use super::guard::{ExclusiveGuard, OwnedExclusiveGuard, OwnedSharedGuard, SharedGuard};
use super::handle::Handle;
use super::key::KeyId;
use super::raw::{Acquired, Party, Patience, RawTable, Ticket, Wait};
use super::table::LockTable;
use crate::RandomState;
use crate::park::{Notify, Signal, Spin, Waiter, Wakeup, polled_again};
use crate::word::Mode;

/// The acquisition of one key by a task.
#[derive(Debug, Default)]
pub(super) struct Acquiring {
    ticket: Option<Ticket>,
    wait: Option<Wait>,
}

impl Acquiring {
    /// Returns `Ready` when the key is held. It must not be called after that, unless for another
    /// key. `party` has left the graph by then [D2].
    #[inline(always)]
    pub(super) fn poll(
        &mut self,
        table: &RawTable,
        hash: u64,
        mode: Mode,
        cx: &mut Context<'_>,
        party: &mut impl Party,
    ) -> Poll<()> {
        let Some(ticket) = &self.ticket else {
            return self.start(table, hash, mode, cx, party);
        };
        let mut wakeup = Wakeup::default();
        // Most polls are the one that acquires the key, and then no waker is cloned.
        if ticket.waiter.signal() == Signal::Waiting || !table.check(ticket, &mut None, &mut wakeup)
        {
            // Cloned before the mutex is locked: the clone of a waker is user code, which may
            // panic.
            let mut renewal = Some(Notify::Task(cx.waker().clone()));
            let holds = table.check(ticket, &mut renewal, &mut wakeup);
            if !holds {
                // A waker that is no longer needed is dropped last: its drop is user code [W3].
                drop(renewal);
                return Poll::Pending;
            }
            party.leave();
            // Removed before a waker is dropped or used: if that panics, the ticket is spent.
            let ticket = self.ticket.take().expect("there a moment ago");
            table.holding(hash, mode, || drop(renewal));
            table.got(ticket, &mut self.wait, &mut wakeup);
            return Poll::Ready(());
        }
        party.leave();
        let ticket = self.ticket.take().expect("there a moment ago");
        table.got(ticket, &mut self.wait, &mut wakeup);
        Poll::Ready(())
    }

    /// Polls for a lock of one key. It is compiled once, in this crate and without a party.
    #[inline(never)]
    fn poll_single(
        &mut self,
        table: &RawTable,
        hash: u64,
        mode: Mode,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        self.poll(table, hash, mode, cx, &mut ())
    }

    /// Returns the place in the queue, if there is one.
    pub(super) fn ticket(&self) -> Option<&Ticket> {
        self.ticket.as_ref()
    }

    #[inline(always)]
    fn start(
        &mut self,
        table: &RawTable,
        hash: u64,
        mode: Mode,
        cx: &mut Context<'_>,
        party: &mut impl Party,
    ) -> Poll<()> {
        // The attempt has no waiter yet, and is made only where it can succeed.
        if !table.is_taken(hash, mode) && table.try_lock(hash, mode) {
            return Poll::Ready(());
        }
        // Made before anything is pinned or locked: the clone of a waker is user code [W3].
        let notify = Notify::Task(cx.waker().clone());
        let waiter = Waiter::take_for(party.owner(), mode, notify);
        let patience = Patience::Queue {
            spin: Spin::none(),
            waiter: &mut || waiter.clone(),
        };
        let short = table.queue_at_root(hash, mode, &waiter);
        match short.unwrap_or_else(|| table.acquire(hash, mode, patience)) {
            Acquired::Queued(place) => {
                self.ticket = Some(Ticket::new(hash, place, waiter));
                self.wait = Some(Wait::begin(hash, mode));
                Poll::Pending
            }
            Acquired::Holds => {
                table.holding(hash, mode, || Waiter::recycle(waiter));
                Poll::Ready(())
            }
            Acquired::Busy => unreachable!("it has the patience to queue"),
        }
    }

    /// Leaves the queue, and releases the key if it was granted.
    pub(super) fn abandon(&mut self, table: &RawTable) {
        if let Some(ticket) = self.ticket.take() {
            table.abandon(ticket);
        }
    }
}

struct Locking<T: Handle> {
    /// `None` once the future is done.
    table: Option<T>,
    hash: u64,
    mode: Mode,
    acquiring: Acquiring,
}

impl<T: Handle> Locking<T> {
    fn new(table: T, hash: u64, mode: Mode) -> Self {
        Locking {
            table: Some(table),
            hash,
            mode,
            acquiring: Acquiring::default(),
        }
    }

    #[inline]
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(T, u64)> {
        let Some(table) = &self.table else {
            polled_again("future of a lock")
        };
        match self
            .acquiring
            .poll_single(table.raw(), self.hash, self.mode, cx)
        {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                let table = self.table.take().expect("there a moment ago");
                Poll::Ready((table, self.hash))
            }
        }
    }
}

impl<T: Handle> Drop for Locking<T> {
    fn drop(&mut self) {
        if let Some(table) = &self.table {
            self.acquiring.abandon(table.raw());
        }
    }
}

macro_rules! future {
    ($(#[$doc:meta])* $name:ident[$($params:tt)*], [$($generics:tt)*], $type:ty, $handle:ty, $guard:ty, $mode:expr) => {
        $(#[$doc])*
        #[must_use = "a future does nothing until it is polled"]
        pub struct $name<$($params)*>(Locking<$handle>);

        impl<$($generics)*> $type {
            pub(super) fn new(table: $handle, hash: u64) -> Self {
                $name(Locking::new(table, hash, $mode))
            }
        }

        // Nothing in the future is pinned: a waiter has its own allocation.
        impl<$($generics)*> Unpin for $type {}

        impl<$($generics)*> Future for $type {
            type Output = $guard;

            #[inline]
            fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<$guard> {
                self.0.poll(cx).map(|(table, hash)| <$guard>::new(table, hash))
            }
        }

        impl<$($generics)*> fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name))
                    .field("key_id", &KeyId(self.0.hash))
                    .field("queued", &self.0.acquiring.ticket.is_some())
                    .finish_non_exhaustive()
            }
        }
    };
}

future! {
    /// Locks a key exclusively. Returned by [`LockTable::lock_async`], which has the details.
    ///
    /// # Examples
    /// ```

    /// let table: latchwork::LockTable<u64> = latchwork::LockTable::new();
    /// let guard = pollster::block_on(table.lock_async(&1));
    /// # drop(guard);
    /// ```
    LockFuture['t], ['t], LockFuture<'t>, &'t RawTable, ExclusiveGuard<'t>, Mode::Exclusive
}
future! {
    /// Locks a key shared. Returned by [`LockTable::lock_shared_async`].
    ///
    /// # Examples
    /// ```

    /// let table: latchwork::LockTable<u64> = latchwork::LockTable::new();
    /// let guard = pollster::block_on(table.lock_shared_async(&1));
    /// # drop(guard);
    /// ```
    SharedLockFuture['t], ['t], SharedLockFuture<'t>, &'t RawTable, SharedGuard<'t>, Mode::Shared
}
future! {
    /// Locks a key exclusively, and borrows nothing. Returned by [`LockTable::lock_async_owned`].
    ///
    /// # Examples
    /// ```

    /// let table: std::sync::Arc<latchwork::LockTable<u64>> = Default::default();
    /// let guard = pollster::block_on(table.lock_async_owned(&1));
    /// # drop(guard);
    /// ```
    OwnedLockFuture[K: ?Sized, S = RandomState], [K: ?Sized, S], OwnedLockFuture<K, S>, Arc<LockTable<K, S>>,
    OwnedExclusiveGuard<K, S>, Mode::Exclusive
}
future! {
    /// Locks a key shared, and borrows nothing. Returned by [`LockTable::lock_shared_async_owned`].
    ///
    /// # Examples
    /// ```

    /// let table: std::sync::Arc<latchwork::LockTable<u64>> = Default::default();
    /// let guard = pollster::block_on(table.lock_shared_async_owned(&1));
    /// # drop(guard);
    /// ```
    OwnedSharedLockFuture[K: ?Sized, S = RandomState], [K: ?Sized, S], OwnedSharedLockFuture<K, S>, Arc<LockTable<K, S>>,
    OwnedSharedGuard<K, S>, Mode::Shared
}

impl<K: ?Sized, S: BuildHasher> LockTable<K, S> {
    /// Locks `key` exclusively without blocking the thread.
    ///
    /// The call hashes the key, and the future does not borrow it. The future does nothing until it
    /// is polled. It locks a free key at its first poll, without a spin and without an allocation.
    /// Tasks and threads wait in one queue, and any executor can run the future.
    ///
    /// A future that was granted the key holds it, even before it is polled. A future that is woken
    /// but not polled delays the waiters behind it. They acquire the free key only at their own
    /// next poll or deadline, and a thread without a deadline waits. So poll every future that is
    /// queued, or drop it.
    ///
    /// # Blocking
    /// Never blocks the thread. A future that is ready at once does not yield to the executor:
    /// [`docs::tasks`](crate::docs::tasks) describes what a loop must do.
    ///
    /// # Panics
    /// Panics if the hasher panics. The future panics if it is polled after it has returned the
    /// guard.
    ///
    /// A waker that panics loses no key: the panic propagates from the call that used the waker,
    /// such as an unlock, after the key was handed over. If two wakers of one grant panic, the
    /// process aborts.
    ///
    /// # Cancel safety
    /// The future may be dropped at any point. It leaves the queue then, and releases the key if
    /// the key was granted to it. A later call queues again, behind the present waiters.
    ///
    /// # Examples
    /// ```
    /// # pollster::block_on(async {
    /// let table: latchwork::LockTable<str> = latchwork::LockTable::new();
    /// let guard = table.lock_async("user:9").await;
    /// # drop(guard);
    /// # });
    /// ```
    #[inline]
    pub fn lock_async<Q>(&self, key: &Q) -> LockFuture<'_>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        LockFuture::new(&self.raw, self.hash(key))
    }

    /// Locks `key` shared without blocking the thread.
    ///
    /// It is polled, woken and panics as the future of [`lock_async`](Self::lock_async) does.
    ///
    /// # Blocking
    /// Never blocks the thread. A future that is ready at once does not yield to the executor:
    /// [`docs::tasks`](crate::docs::tasks) describes what a loop must do.
    ///
    /// # Cancel safety
    /// The future may be dropped at any point. It leaves the queue then, and releases the key if
    /// the key was granted to it.
    ///
    /// # Examples
    /// ```
    /// # pollster::block_on(async {
    /// let table: latchwork::LockTable<str> = latchwork::LockTable::new();
    /// let guard = table.lock_shared_async("user:9").await;
    /// assert!(table.try_lock_shared("user:9").is_some());
    /// # drop(guard);
    /// # });
    /// ```
    #[inline]
    pub fn lock_shared_async<Q>(&self, key: &Q) -> SharedLockFuture<'_>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        SharedLockFuture::new(&self.raw, self.hash(key))
    }
}
