//! Futures that lock a key without blocking a thread.

use core::borrow::Borrow;
use core::fmt;
use core::future::Future;
use core::hash::{BuildHasher, Hash};
use core::pin::Pin;
use core::task::{Context, Poll};
use std::sync::Arc;

use super::guard::{ExclusiveGuard, OwnedExclusiveGuard, OwnedSharedGuard, SharedGuard};
use super::key::KeyId;
use super::raw::{Acquired, KeyWait, Patience, RawTable, TableRef};
use super::table::LockTable;
use crate::RandomState;
use crate::deadlock::Owner;
use crate::park::{Notify, Spin, Waiter, Wakeup, polled_again};
use crate::word::Mode;

/// The acquisition of keys by a task, one after another.
///
/// The table is in one of the two fields: a wait keeps it.
pub(super) struct Acquiring<T: TableRef> {
    /// `None` while the task waits, and once the table was removed.
    table: Option<T>,
    wait: Option<KeyWait<T>>,
}

impl<T: TableRef> Acquiring<T> {
    pub(super) fn new(table: T) -> Self {
        Acquiring {
            table: Some(table),
            wait: None,
        }
    }

    /// Returns the table, or `None` once it was removed.
    #[inline]
    pub(super) fn table(&self) -> Option<&T> {
        match &self.wait {
            Some(wait) => Some(wait.awaited().table()),
            None => self.table.as_ref(),
        }
    }

    /// Removes the table once the task no longer waits.
    #[inline]
    pub(super) fn take_table(&mut self) -> T {
        self.table.take().expect("it does not wait")
    }

    /// Returns the wait, while there is one.
    #[inline]
    pub(super) fn wait(&self) -> Option<&KeyWait<T>> {
        self.wait.as_ref()
    }

    /// Leaves the queue, and releases the key if it was granted. The table is dropped.
    pub(super) fn cancel(&mut self) {
        drop(self.wait.take());
    }

    /// Acquires a free key (`Ready`), or queues. `owner` returns the owner of the waiter.
    #[inline(always)]
    pub(super) fn start(
        &mut self,
        hash: u64,
        mode: Mode,
        cx: &Context<'_>,
        owner: impl FnOnce(&T) -> Option<Owner>,
    ) -> Poll<()> {
        let own = self.table.as_ref().expect("it does not wait");
        let table = own.raw();
        // The attempt has no waiter yet, and is made only where it can succeed.
        if !table.is_taken(hash, mode) && table.try_lock(hash, mode) {
            return Poll::Ready(());
        }
        // Made before anything is pinned or locked: the clone of a waker is user code [W3].
        let notify = Notify::Task(cx.waker().clone());
        let waiter = Waiter::take_for(owner(own), mode, notify);
        let patience = Patience::Queue {
            spin: Spin::none(),
            waiter: &mut || waiter.clone(),
        };
        let short = table.queue_at_root(hash, mode, &waiter);
        match short.unwrap_or_else(|| table.acquire(hash, mode, patience)) {
            Acquired::Queued(place) => {
                let wait = place.wait(self.take_table(), hash, waiter);
                self.wait.insert(wait).observe();
                Poll::Pending
            }
            Acquired::Holds => {
                table.holding(hash, mode, || Waiter::recycle(waiter));
                Poll::Ready(())
            }
            Acquired::Busy => unreachable!("it has the patience to queue"),
        }
    }

    /// Ends a wait that is granted. The drop of an `unused` waker is user code, as are the waiters
    /// in `wakeup`: if they panic, the key is unlocked.
    #[inline(always)]
    pub(super) fn hold(&mut self, unused: Option<Notify>, wakeup: &mut Wakeup) {
        // Removed before a waker is dropped or used: if that panics, the wait has ended.
        let wait = self.wait.take().expect("it waits");
        wait.hold(|table| self.table.insert(table).raw(), unused, wakeup);
    }
}

struct Locking<T: TableRef> {
    acquiring: Acquiring<T>,
    hash: u64,
    mode: Mode,
}

impl<T: TableRef> Locking<T> {
    fn new(table: T, hash: u64, mode: Mode) -> Self {
        Locking {
            acquiring: Acquiring::new(table),
            hash,
            mode,
        }
    }

    #[inline]
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(T, u64)> {
        let hash = self.hash;
        self.acquire(cx).map(|table| (table, hash))
    }

    #[inline(never)]
    fn acquire(&mut self, cx: &mut Context<'_>) -> Poll<T> {
        let Some(wait) = self.acquiring.wait() else {
            if self.acquiring.table().is_none() {
                polled_again("future of a lock")
            }
            let begun = self.acquiring.start(self.hash, self.mode, cx, |_| None);
            return begun.map(|()| self.acquiring.take_table());
        };
        let mut wakeup = Wakeup::default();
        match wait.poll_by(cx, &mut wakeup) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(unused) => {
                self.acquiring.hold(unused, &mut wakeup);
                Poll::Ready(self.acquiring.take_table())
            }
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
                    .field("queued", &self.0.acquiring.wait().is_some())
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
