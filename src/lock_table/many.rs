//! Locks several keys at once, in one order for all callers.

use core::borrow::Borrow;
use core::fmt;
use core::future::Future;
use core::hash::{BuildHasher, Hash};
use core::pin::Pin;
use core::task::{Context, Poll};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::future::Acquiring;
use super::handle::SetHandle;
use super::keys::{Key, Keys};
use super::lock::deadline;
use super::party::{SetParty, SetWait};
use super::raw::Party;
use super::set::{LockSet, Locked, OwnedLockSet, lock_each};
use super::table::LockTable;
use crate::RandomState;
use crate::deadlock::At;
use crate::park::{Wakeup, polled_again};
use crate::sync::now;
use crate::word::{Mode, SlotWord};

/// Locks several keys, one after another. Returned by [`LockTable::lock_all_async`].
///
/// # Examples
/// ```
/// use latchwork::{LockTable, Mode};
/// let table: LockTable<u64> = LockTable::new();
/// let keys = [(&1, Mode::Exclusive), (&2, Mode::Shared)];
/// let set = pollster::block_on(table.lock_all_async(keys));
/// assert_eq!(set.len(), 2);
/// ```
#[must_use = "a future does nothing until it is polled"]
pub struct LockAllFuture<'t, K: ?Sized, S = RandomState>(LockingAll<&'t LockTable<K, S>>);

/// Locks several keys, and borrows nothing. Returned by [`LockTable::lock_all_async_owned`].
///
/// # Examples
/// ```
/// use latchwork::{LockTable, Mode};
/// let table: std::sync::Arc<LockTable<u64>> = Default::default();
/// let keys = [(&1, Mode::Exclusive), (&2, Mode::Shared)];
/// let set = pollster::block_on(table.lock_all_async_owned(keys));
/// assert_eq!(set.len(), 2);
/// ```
#[must_use = "a future does nothing until it is polled"]
pub struct OwnedLockAllFuture<K: ?Sized, S = RandomState>(LockingAll<Arc<LockTable<K, S>>>);

struct LockingAll<T: SetHandle> {
    acquiring: Acquiring<T>,
    keys: Keys,
    /// The number of locked keys, which are the first ones.
    locked: usize,
    at: At,
    /// The node of the graph for the present wait.
    node: SetWait,
}

impl<T: SetHandle> LockingAll<T> {
    fn new(table: T, keys: Keys, at: At) -> Self {
        LockingAll {
            acquiring: Acquiring::new(table),
            keys,
            locked: 0,
            at,
            node: SetWait::default(),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(T, Keys)> {
        if self.acquiring.table().is_none() {
            polled_again("future of `lock_all`")
        }
        while self.locked < self.keys.len() {
            if self.poll_next(cx).is_pending() {
                return Poll::Pending;
            }
            self.locked += 1;
        }
        self.locked = 0;
        let keys = core::mem::replace(&mut self.keys, Keys::new());
        Poll::Ready((self.acquiring.take_table(), keys))
    }

    /// Polls for the next key.
    fn poll_next(&mut self, cx: &Context<'_>) -> Poll<()> {
        let (keys, node, acquiring) = (&self.keys, &mut self.node, &mut self.acquiring);
        let (locked, at) = (self.locked, self.at);
        let (hash, mode) = keys.get(locked);
        if let Some(wait) = acquiring.wait() {
            let mut wakeup = Wakeup::default();
            if let Poll::Ready(unused) = wait.poll_by(cx, &mut wakeup) {
                node.leave(wait.awaited().table().detector());
                acquiring.hold(unused, &mut wakeup);
                return Poll::Ready(());
            }
        } else {
            let owner = |table: &T| SetParty::new(table.detector(), keys, locked, at, node).owner();
            if acquiring.start(hash, mode, cx, owner).is_ready() {
                return Poll::Ready(());
            }
        }
        // A task has no clock: it publishes as soon as it waits. The wakers are user code: the
        // published wait stays until the next poll or the drop.
        let wait = acquiring.wait().expect("it is queued");
        let detector = wait.awaited().table().detector();
        let mut party = SetParty::new(detector, keys, locked, at, node);
        party.publish(wait).run();
        Poll::Pending
    }
}

impl<T: SetHandle> Drop for LockingAll<T> {
    fn drop(&mut self) {
        // The wait drops its table, and the keys are unlocked after it.
        if let Some(table) = self.acquiring.table().cloned() {
            // Dropped after the place in the queue, including when a waker panics there [L2].
            let _locked = Locked {
                table: table.raw(),
                keys: &self.keys,
                first: self.locked,
            };
            self.node.leave(table.detector());
            self.acquiring.cancel();
        }
    }
}

macro_rules! future {
    ($name:ident, [$($generics:tt)*], $type:ty, $set:ident, $set_type:ty) => {
        // Nothing in the future is pinned: a waiter has its own allocation.
        impl<$($generics)*> Unpin for $type {}

        impl<$($generics)*> Future for $type {
            type Output = $set_type;

            fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<$set_type> {
                self.0.poll(cx).map(|(table, keys)| $set { table, keys })
            }
        }

        impl<$($generics)*> fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name))
                    .field("keys", &self.0.keys.len())
                    .field("locked", &self.0.locked)
                    .finish_non_exhaustive()
            }
        }
    };
}
future!(LockAllFuture, ['t, K: ?Sized, S], LockAllFuture<'t, K, S>, LockSet, LockSet<'t, K, S>);
future!(OwnedLockAllFuture, [K: ?Sized, S], OwnedLockAllFuture<K, S>, OwnedLockSet, OwnedLockSet<K, S>);

impl<K: ?Sized, S> LockTable<K, S> {
    /// Locks the key at place `i` of a set, in whose root slot the caller has found `found`.
    ///
    /// All earlier keys of the set are locked.
    #[cold]
    #[inline(never)]
    fn lock_next(
        &self,
        keys: &Keys,
        i: usize,
        found: SlotWord,
        deadline: Option<Instant>,
        at: At,
    ) -> bool {
        let mut node = SetWait::default();
        let mut set = SetParty::new(&self.detector, keys, i, at, &mut node);
        let key = keys.get(i);
        self.raw.lock_slow_of_set(key, found, deadline, &mut set)
    }
}

impl<K: ?Sized, S: BuildHasher> LockTable<K, S> {
    /// Locks all of `keys`, each in its mode.
    ///
    /// A key that occurs twice is locked once, in the stronger mode; so are two keys with one
    /// identity. Without keys, the result is an empty set. A set of up to eight keys allocates
    /// nothing.
    ///
    /// # Blocking
    /// Blocks the thread until all keys are held. The keys are locked in ascending order of
    /// [`KeyId`](super::KeyId), and each is kept while the thread waits for the next.
    ///
    /// On a current-thread runtime the call can block indefinitely, because the task that holds a
    /// key never runs: use [`lock_all_async`](Self::lock_all_async) there.
    ///
    /// # Panics
    /// Panics if the hasher or the iterator panics; no key is locked then.
    ///
    /// # Deadlocks
    /// Callers that hold no other key of this table never deadlock with each other, because all of
    /// them lock keys in one order.
    ///
    /// Beside [sessions](crate::Session), which lock in any order, a deadlock is possible, and is
    /// detected. A call that has waited for a key for one millisecond publishes its acquired keys
    /// and the key that it waits for. A future publishes them as soon as it is pending. The
    /// deadlock is then reported to a session of the cycle, as
    /// [`LockError::Deadlock`](crate::session::LockError::Deadlock). The set never fails: it
    /// acquires its keys once that session has released its own.
    ///
    /// A cycle is not detected if it includes:
    /// - a session that [never detects](crate::Session::detect_after);
    /// - a thread that waits here, or in [`lock`](LockTable::lock), while it holds a guard or
    ///   another set of this table.
    ///
    /// A caller that already holds one of the keys deadlocks with itself.
    ///
    /// # Examples
    /// ```
    /// use latchwork::{LockTable, Mode};
    /// let accounts: LockTable<u32> = LockTable::new();
    /// let both = accounts.lock_all([(&17, Mode::Exclusive), (&4, Mode::Exclusive)]);
    /// // … transfer money …
    /// drop(both);
    /// ```
    #[inline]
    #[cfg_attr(feature = "lock-places", track_caller)]
    pub fn lock_all<'q, Q>(
        &self,
        keys: impl IntoIterator<Item = (&'q Q, Mode)>,
    ) -> LockSet<'_, K, S>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized + 'q,
    {
        let at = At::here();
        let mut sorted = Keys::new();
        sorted.fill(self.hashes(keys));
        lock_each(&self.raw, &sorted, |i, (hash, mode)| {
            match self.raw.claim_root(hash, mode) {
                Ok(()) => true,
                Err(found) => self.lock_next(&sorted, i, found, None, at),
            }
        });
        // The keys move last: only now are the words that were written one by one read at once.
        LockSet {
            table: self,
            keys: sorted,
        }
    }

    /// Locks all of `keys` if each is available without waiting, and otherwise locks none of them.
    ///
    /// # Blocking
    /// Never blocks.
    ///
    /// # Panics
    /// Panics if the hasher or the iterator panics; no key is locked then.
    ///
    /// # Examples
    /// ```
    /// use latchwork::{LockTable, Mode};
    /// let table: LockTable<u32> = LockTable::new();
    /// let held = table.lock(&2);
    /// assert!(table.try_lock_all([(&1, Mode::Shared), (&2, Mode::Shared)]).is_none());
    /// assert_eq!(table.locked_count(), 1);
    /// # drop(held);
    /// ```
    #[inline]
    pub fn try_lock_all<'q, Q>(
        &self,
        keys: impl IntoIterator<Item = (&'q Q, Mode)>,
    ) -> Option<LockSet<'_, K, S>>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized + 'q,
    {
        let mut sorted = Keys::new();
        sorted.fill(self.hashes(keys));
        let locked = lock_each(&self.raw, &sorted, |_, (hash, mode)| {
            self.raw.try_lock(hash, mode)
        });
        if !locked {
            return None;
        }
        // As in `lock_all`, the keys move last.
        Some(LockSet {
            table: self,
            keys: sorted,
        })
    }

    /// Locks all of `keys` within `timeout`, and otherwise locks none of them.
    ///
    /// # Blocking
    /// Blocks the thread for at most `timeout` for all keys together. At the deadline it
    /// makes one more attempt, so that a free key is not refused. A timeout that overflows
    /// [`Instant`](std::time::Instant) waits indefinitely. In a task, use
    /// [`lock_all_async`](Self::lock_all_async) with the timeout of the runtime.
    ///
    /// # Panics
    /// Panics if the hasher or the iterator panics; no key is locked then.
    ///
    /// # Examples
    /// ```
    /// use latchwork::{LockTable, Mode};
    /// use std::time::Duration;
    /// let table: LockTable<u32> = LockTable::new();
    /// let held = table.lock(&2);
    /// let keys = [(&1, Mode::Shared), (&2, Mode::Shared)];
    /// assert!(table.try_lock_all_for(keys, Duration::from_millis(1)).is_none());
    /// # drop(held);
    /// ```
    #[cfg_attr(feature = "lock-places", track_caller)]
    pub fn try_lock_all_for<'q, Q>(
        &self,
        keys: impl IntoIterator<Item = (&'q Q, Mode)>,
        timeout: Duration,
    ) -> Option<LockSet<'_, K, S>>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized + 'q,
    {
        let at = At::here();
        let deadline = deadline(timeout);
        let mut sorted = Keys::new();
        sorted.fill(self.hashes(keys));
        lock_each(&self.raw, &sorted, |i, (hash, mode)| {
            if deadline.is_some_and(|deadline| deadline <= now()) {
                return self.raw.try_lock(hash, mode);
            }
            match self.raw.claim_root(hash, mode) {
                Ok(()) => true,
                Err(found) => self.lock_next(&sorted, i, found, deadline, at),
            }
        })
        .then(|| LockSet {
            table: self,
            keys: sorted,
        })
    }

    /// Locks all of `keys` without blocking the thread, in the order of
    /// [`lock_all`](Self::lock_all).
    ///
    /// The call hashes the keys, and the future does not borrow them. The future locks the keys as
    /// it is polled.
    ///
    /// # Blocking
    /// Never blocks the thread. A future that is ready at once does not yield to the executor
    /// ([`docs::tasks`](crate::docs::tasks)).
    ///
    /// # Panics
    /// Panics if the hasher or the iterator panics. The future panics if it is polled after it has
    /// returned the set.
    ///
    /// # Cancel safety
    /// The future may be dropped at any point. It releases all keys that it has locked then, and
    /// leaves the queue.
    ///
    /// # Examples
    /// ```
    /// # pollster::block_on(async {
    /// use latchwork::{LockTable, Mode};
    /// let table: LockTable<u32> = LockTable::new();
    /// let set = table.lock_all_async([(&1, Mode::Exclusive), (&2, Mode::Shared)]).await;
    /// assert_eq!(set.len(), 2);
    /// # });
    /// ```
    #[cfg_attr(feature = "lock-places", track_caller)]
    pub fn lock_all_async<'q, Q>(
        &self,
        keys: impl IntoIterator<Item = (&'q Q, Mode)>,
    ) -> LockAllFuture<'_, K, S>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized + 'q,
    {
        let at = At::here();
        let mut sorted = Keys::new();
        sorted.fill(self.hashes(keys));
        LockAllFuture(LockingAll::new(self, sorted, at))
    }

    /// Locks all of `keys`, with a set that shares ownership of the table.
    ///
    /// # Blocking
    /// Blocks the thread as [`lock_all`](Self::lock_all) does. In a task, use
    /// [`lock_all_async_owned`](Self::lock_all_async_owned): on a current-thread runtime the call
    /// can block indefinitely.
    ///
    /// # Panics
    /// Panics if the hasher or the iterator panics; no key is locked then.
    ///
    /// # Deadlocks
    /// Deadlocks where [`lock_all`](Self::lock_all) does.
    ///
    /// # Examples
    /// ```
    /// use latchwork::{LockTable, Mode};
    /// use std::sync::Arc;
    /// let table: Arc<LockTable<u32>> = Arc::default();
    /// let set = table.lock_all_owned([(&1, Mode::Exclusive), (&2, Mode::Shared)]);
    /// std::thread::spawn(move || drop(set)).join().unwrap();
    /// assert_eq!(table.locked_count(), 0);
    /// ```
    #[cfg_attr(feature = "lock-places", track_caller)]
    pub fn lock_all_owned<'q, Q>(
        self: &Arc<Self>,
        keys: impl IntoIterator<Item = (&'q Q, Mode)>,
    ) -> OwnedLockSet<K, S>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized + 'q,
    {
        let LockSet { keys, .. } = &mut self.lock_all(keys);
        OwnedLockSet {
            table: self.clone(),
            keys: core::mem::replace(keys, Keys::new()),
        }
    }

    /// Locks all of `keys` without blocking the thread, with a future and a set that share
    /// ownership of the table.
    ///
    /// # Blocking
    /// Never blocks the thread. A future that is ready at once does not yield to the executor
    /// ([`docs::tasks`](crate::docs::tasks)).
    ///
    /// # Cancel safety
    /// The future may be dropped at any point. It releases all keys that it has locked then, and
    /// leaves the queue.
    ///
    /// # Examples
    /// ```
    /// # pollster::block_on(async {
    /// use latchwork::{LockTable, Mode};
    /// use std::sync::Arc;
    /// let table: Arc<LockTable<u32>> = Arc::default();
    /// let set = table.lock_all_async_owned([(&1, Mode::Exclusive), (&2, Mode::Shared)]).await;
    /// assert_eq!(set.len(), 2);
    /// # });
    /// ```
    #[cfg_attr(feature = "lock-places", track_caller)]
    pub fn lock_all_async_owned<'q, Q>(
        self: &Arc<Self>,
        keys: impl IntoIterator<Item = (&'q Q, Mode)>,
    ) -> OwnedLockAllFuture<K, S>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized + 'q,
    {
        let at = At::here();
        let mut sorted = Keys::new();
        sorted.fill(self.hashes(keys));
        OwnedLockAllFuture(LockingAll::new(self.clone(), sorted, at))
    }

    /// A hasher or an iterator that panics does so before any key is locked [L2].
    #[inline]
    fn hashes<'q, Q>(
        &self,
        keys: impl IntoIterator<Item = (&'q Q, Mode)>,
    ) -> impl Iterator<Item = Key>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized + 'q,
    {
        keys.into_iter().map(|(key, mode)| (self.hash(key), mode))
    }
}
