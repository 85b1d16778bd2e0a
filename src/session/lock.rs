//! Locking a key in a session, from a thread.

use core::borrow::Borrow;
use core::hash::{BuildHasher, Hash};

use super::holds::Need;
use super::{LockError, Session};
use crate::deadlock::{At, Held};
use crate::word::Mode;

impl<K: ?Sized, S: BuildHasher> Session<'_, K, S> {
    /// Locks `key` exclusively for this session.
    ///
    /// If the session holds the key shared, this upgrades it: it waits until the other readers have
    /// released the key, ahead of all queued waiters.
    ///
    /// # Blocking
    /// Blocks the thread until no other owner holds the key, or until the [policy](Session::policy)
    /// ends the wait. On a current-thread runtime it can hang indefinitely, because the holder
    /// never runs: use [`lock_async`](Self::lock_async) in a task.
    ///
    /// If the session was the victim of a deadlock and holds no key, its first lock also waits for
    /// other victims that retry. It waits for at most 1 millisecond each and 16 milliseconds in
    /// all.
    ///
    /// # Errors
    /// Returns a [`LockError`] according to the policy. The session holds the same keys as before.
    ///
    /// # Panics
    /// Panics if the hasher panics.
    ///
    /// # Deadlocks
    /// Deadlocks between sessions are detected: see [`Session`]. The thread deadlocks with itself
    /// if it holds a guard of the key.
    ///
    /// # Examples
    /// ```
    /// use latchwork::{LockTable, Mode};
    /// let table: LockTable<str> = LockTable::new();
    /// let mut session = table.session();
    /// session.lock_shared("a")?;
    /// session.lock("a")?;
    /// assert_eq!(session.mode("a"), Some(Mode::Exclusive));
    /// # Ok::<_, latchwork::session::LockError>(())
    /// ```
    #[inline]
    #[cfg_attr(feature = "lock-places", track_caller)]
    pub fn lock<Q>(&mut self, key: &Q) -> Result<(), LockError>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        self.acquire(self.table.hash(key), Mode::Exclusive, At::here())
    }

    /// Locks `key` together with any number of other shared holders.
    ///
    /// Does nothing if the session holds the key in either mode: a key that is held exclusively
    /// stays exclusive.
    ///
    /// # Blocking
    /// Blocks the thread while another owner holds the key exclusively or an exclusive waiter is
    /// queued before, or until the [policy](Session::policy) ends the wait. On a current-thread
    /// runtime it can hang indefinitely, because the holder never runs: use
    /// [`lock_shared_async`](Self::lock_shared_async) in a task.
    ///
    /// # Errors
    /// Returns the same errors as [`lock`](Self::lock).
    ///
    /// # Panics
    /// Panics if the hasher panics.
    ///
    /// # Deadlocks
    /// Detects the same deadlocks as [`lock`](Self::lock).
    ///
    /// # Examples
    /// ```
    /// let table: latchwork::LockTable<str> = latchwork::LockTable::new();
    /// let (mut one, mut two) = (table.session(), table.session());
    /// one.lock_shared("a")?;
    /// two.lock_shared("a")?; // both hold the key
    /// # Ok::<_, latchwork::session::LockError>(())
    /// ```
    #[inline]
    #[cfg_attr(feature = "lock-places", track_caller)]
    pub fn lock_shared<Q>(&mut self, key: &Q) -> Result<(), LockError>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        self.acquire(self.table.hash(key), Mode::Shared, At::here())
    }

    #[inline(always)]
    fn acquire(&mut self, hash: u64, mode: Mode, at: At) -> Result<(), LockError> {
        let want = Held { hash, mode, at };
        match self.need(hash, mode) {
            Need::Nothing => Ok(()),
            Need::Lock if self.try_take(want) => Ok(()),
            Need::Lock => self.lock_slow(want, false),
            Need::Upgrade => self.lock_slow(want, true),
        }
    }
}
