//! Locking a key in a session, from a thread.

use core::borrow::Borrow;
use core::hash::{BuildHasher, Hash};

use super::holds::Hold;
use super::{LockError, Policy, Session};
use crate::sync::planted;
use crate::waits_for::{At, Held};
use crate::word::Mode;

/// What is left to do for a key that a session wants.
pub(super) enum Need {
    Nothing,
    Lock,
    /// It is held shared.
    Upgrade,
}

impl<K: ?Sized, S: BuildHasher> Session<'_, K, S> {
    /// Locks `key` for this session alone. If the session holds it shared, this waits for the other readers to
    /// leave, ahead of all who are queued.
    ///
    /// # Blocking
    /// Until nobody else holds the key, or as the [policy](Session::policy) says. The first lock of a session that was the victim of
    /// a deadlock and holds nothing also waits for other victims that retry, for at most 1 millisecond each and 16 milliseconds in all.
    ///
    /// # Errors
    /// [`LockError`], as the policy says; what is held is held as before.
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

    /// Locks `key` together with any number of other shared holders. If the session holds it, in either mode, this does
    /// nothing: a key that is held exclusively stays exclusive.
    ///
    /// # Blocking
    /// Until nobody else holds the key exclusively and nobody who wants it exclusively is queued before,
    /// or as the [policy](Session::policy) says.
    ///
    /// # Errors
    /// As for [`lock`](Self::lock).
    #[inline]
    #[cfg_attr(feature = "lock-places", track_caller)]
    pub fn lock_shared<Q>(&mut self, key: &Q) -> Result<(), LockError>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        self.acquire(self.table.hash(key), Mode::Shared, At::here())
    }

    #[inline]
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

impl<K: ?Sized, S> Session<'_, K, S> {
    #[inline]
    pub(super) fn need(&mut self, hash: u64, mode: Mode) -> Need {
        self.settle();
        match self.held.get(hash) {
            Some(hold) if hold.mode >= mode || planted("upgrade beside readers") => Need::Nothing,
            Some(_) => Need::Upgrade,
            None => Need::Lock,
        }
    }

    /// Takes a key that is free, unless others must be asked first.
    #[inline]
    pub(super) fn try_take(&mut self, want: Held) -> bool {
        let taken = self.policy != Policy::WaitDie
            && !self.announced
            && !self.lost
            && self.table.raw().try_lock(want.hash, want.mode);
        if taken {
            self.take(want);
        }
        taken
    }

    /// Writes down that a key is held from now on.
    #[inline]
    pub(super) fn take(&mut self, held: Held) {
        let taken = self.tick();
        self.held.push(Hold {
            hash: held.hash,
            mode: held.mode,
            taken,
            upgraded: None,
            at: held.at,
        });
    }

    /// Writes down that a key that was shared is exclusive from now on.
    pub(super) fn upgraded(&mut self, held: Held) {
        let now = self.tick();
        let hold = self.held.get_mut(held.hash).expect("it is held shared");
        hold.mode = Mode::Exclusive;
        hold.at = held.at;
        hold.upgraded = Some(now);
    }
}
