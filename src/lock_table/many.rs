//! Several keys at once, in one order for all callers.

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
use super::party::{Party, SetParty, SetWait};
use super::set::{LockSet, Locked, OwnedLockSet, lock_each};
use super::{LockTable, deadline};
use crate::RandomState;
use crate::sync::now;
use crate::waits_for::At;
use crate::word::{Mode, SlotWord};

/// Locks several keys, one after the other. Returned by [`LockTable::lock_all_async`].
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

/// Locks several keys and borrows nothing. Returned by [`LockTable::lock_all_async_owned`].
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
    /// Gone when the future is done.
    table: Option<T>,
    keys: Keys,
    /// How many of the keys are locked, the first ones.
    locked: usize,
    acquiring: Acquiring,
    at: At,
    /// What the graph has of its present wait.
    wait: SetWait,
}

impl<T: SetHandle> LockingAll<T> {
    fn new(table: T, keys: Keys, at: At) -> Self {
        LockingAll {
            table: Some(table),
            keys,
            locked: 0,
            acquiring: Acquiring::default(),
            at,
            wait: SetWait::default(),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(T, Keys)> {
        let table = self.table.as_ref().expect("polled after it was ready");
        while self.locked < self.keys.len() {
            let (hash, mode) = self.keys.get(self.locked);
            let mut party = SetParty {
                sessions: table.sessions(),
                keys: &self.keys,
                locked: self.locked,
                at: self.at,
                wait: &mut self.wait,
            };
            match self.acquiring.poll(table.raw(), hash, mode, cx, &mut party) {
                Poll::Ready(()) => self.locked += 1,
                Poll::Pending => {
                    // A task has no clock: it publishes as soon as it waits.
                    let ticket = self.acquiring.ticket().expect("it is queued");
                    // User code: what is published stays so, until this is polled again or dropped.
                    party.publish(table.raw(), ticket).run();
                    return Poll::Pending;
                }
            }
        }
        self.locked = 0;
        let keys = core::mem::replace(&mut self.keys, Keys::new());
        let table = self.table.take().expect("there a moment ago");
        Poll::Ready((table, keys))
    }
}

impl<T: SetHandle> Drop for LockingAll<T> {
    fn drop(&mut self) {
        if let Some(table) = &self.table {
            // Goes after the place in the queue, also if a waker panics there [L2].
            let _locked = Locked {
                table: table.raw(),
                keys: &self.keys,
                first: self.locked,
            };
            self.wait.leave(table.sessions());
            self.acquiring.abandon(table.raw());
        }
    }
}

macro_rules! future {
    ($name:ident, [$($generics:tt)*], $type:ty, $set:ident, $set_type:ty) => {
        // Nothing in it is pinned: a waiter has its own place in memory.
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
    /// Locks the key at place `i` of a set, whose root slot has `found` in it. Those before it are locked.
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
        let set = SetParty {
            sessions: &self.sessions,
            keys,
            locked: i,
            at,
            wait: &mut SetWait::default(),
        };
        let key = keys.get(i);
        self.raw.lock_slow_of_set(key, found, deadline, set)
    }
}

impl<K: ?Sized, S: BuildHasher> LockTable<K, S> {
    /// Locks all of `keys`, each in its mode.
    ///
    /// A key that is given twice, or two keys of one identity, are locked once, in the stronger
    /// mode. No keys are an empty set. Up to eight keys allocate nothing.
    ///
    /// # Blocking
    /// Until all are held. They are taken in ascending order of [`KeyId`](super::KeyId), each kept
    /// while the next is waited for.
    ///
    /// # Deadlocks
    /// Callers that hold nothing else of this table never deadlock among each other, because all of them lock keys in one
    /// order.
    ///
    /// Beside [sessions](crate::Session), which lock in any order, a deadlock is possible, and is detected. A call that has
    /// waited for a key for one millisecond publishes the keys that it has acquired and the key that it waits for. (A future
    /// publishes as soon as it is pending.) The cycle ends in a session, which gets
    /// [`LockError::Deadlock`](crate::session::LockError::Deadlock); the set never fails, and acquires its keys once that session has
    /// released its own. Sessions that [never detect](crate::Session::detect_after) are not seen.
    ///
    /// The promise ends where the table does not see who waits. A caller that already holds one of the keys waits for
    /// itself. A thread that holds a guard or another set of this table and waits in `lock_all` or in
    /// [`lock`](LockTable::lock) may deadlock, and no cycle through it is detected.
    ///
    /// # Panics
    /// If the hasher or the iterator panics; nothing is held then.
    ///
    /// # Examples
    /// ```
    /// use latchwork::{LockTable, Mode};
    /// let accounts: LockTable<u32> = LockTable::new();
    /// let both = accounts.lock_all([(&17, Mode::Exclusive), (&4, Mode::Exclusive)]);
    /// // … move money …
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
        // The keys move last: what was written word by word is read at once only now.
        LockSet {
            table: self,
            keys: sorted,
        }
    }

    /// Locks all of `keys` if none has to be waited for, or none.
    ///
    /// # Blocking
    /// Never.
    ///
    /// # Panics
    /// As [`lock_all`](Self::lock_all).
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
        lock_each(&self.raw, &sorted, |_, (hash, mode)| {
            self.raw.try_lock(hash, mode)
        })
        .then(|| LockSet {
            table: self,
            keys: sorted,
        })
    }

    /// Locks all of `keys` within `timeout`, or none.
    ///
    /// # Blocking
    /// Blocks for at most `timeout`, which is for all keys together. At the deadline it tries once more, so that a free key is
    /// not refused. A timeout that overflows [`Instant`](std::time::Instant) waits indefinitely.
    ///
    /// # Panics
    /// As [`lock_all`](Self::lock_all).
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

    /// Locks all of `keys` without blocking the thread. See [`lock_all`](Self::lock_all).
    ///
    /// Keys are hashed now and not borrowed by the future, which locks them as it is polled.
    ///
    /// # Blocking
    /// Never blocks the thread, and does not yield to the executor if it is ready at once ([`docs::tasks`](crate::docs::tasks)).
    ///
    /// # Cancel safety
    /// A future that is dropped gives back all that it has locked and its place in the queue.
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

    /// As [`lock_all`](Self::lock_all), with a set that owns a share of the table.
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

    /// As [`lock_all_async`](Self::lock_all_async), with a future and a set that own a share of
    /// the table.
    ///
    /// # Blocking
    /// Never blocks the thread, and does not yield to the executor if it is ready at once ([`docs::tasks`](crate::docs::tasks)).
    ///
    /// # Cancel safety
    /// The same.
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

    /// A hasher or an iterator that panics does so before anything is locked [L2].
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
