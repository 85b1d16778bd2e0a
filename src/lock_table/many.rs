//! Several keys at once, in one order for all callers.

use core::borrow::Borrow;
use core::fmt;
use core::hash::{BuildHasher, Hash};
use std::time::{Duration, Instant};

use super::{LockTable, deadline};
use crate::RandomState;
use crate::word::Mode;

/// Keys that a set holds without allocating.
const INLINE_KEYS: usize = 8;

type Key = (u64, Mode);

/// Distinct keys in ascending order of identity.
#[derive(Clone)]
enum Keys {
    Few([Key; INLINE_KEYS], u8),
    Many(Vec<Key>),
}

impl Keys {
    /// Collects, sorts, and keeps of equal keys the stronger mode. Nothing is locked yet, so that a
    /// hasher or an iterator that panics leaves nothing held.
    #[inline]
    fn collect(keys: impl Iterator<Item = Key>) -> Self {
        let mut few = [(0, Mode::Shared); INLINE_KEYS];
        let mut len = 0;
        let mut keys = keys;
        while let Some(key) = keys.next() {
            if len == INLINE_KEYS {
                return Self::collect_many(&few, key, keys);
            }
            // Insertion sort: a handful of keys, and each is in cache.
            let mut at = len;
            while at > 0 && few[at - 1].0 > key.0 {
                at -= 1;
            }
            if at > 0 && few[at - 1].0 == key.0 {
                few[at - 1].1 = few[at - 1].1.max(key.1);
                continue;
            }
            few.copy_within(at..len, at + 1);
            few[at] = key;
            len += 1;
        }
        Keys::Few(few, len as u8)
    }

    #[cold]
    fn collect_many(few: &[Key], key: Key, rest: impl Iterator<Item = Key>) -> Self {
        let mut many = Vec::with_capacity(few.len() + 1 + rest.size_hint().0);
        many.extend_from_slice(few);
        many.push(key);
        many.extend(rest);
        many.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
        many.dedup_by_key(|key| key.0);
        Keys::Many(many)
    }

    #[inline]
    fn as_slice(&self) -> &[Key] {
        match self {
            Keys::Few(keys, len) => &keys[..usize::from(*len).min(INLINE_KEYS)],
            Keys::Many(keys) => keys,
        }
    }
}

/// Several keys held at once, given back together when dropped.
///
/// Returned by [`LockTable::lock_all`] and its try and timed forms. A set is at most 160 bytes and
/// holds up to eight keys without allocating.
///
/// # Examples
/// ```
/// use latchwork::{LockTable, Mode};
/// let table: LockTable<str> = LockTable::new();
/// let set = table.lock_all([("a", Mode::Exclusive), ("b", Mode::Shared)]);
/// assert_eq!(set.len(), 2);
/// assert!(set.contains("a"));
/// assert_eq!(set.mode("b"), Some(Mode::Shared));
/// ```
#[must_use = "the keys are given back at once if the set is not used"]
pub struct LockSet<'t, K: ?Sized, S = RandomState> {
    table: &'t LockTable<K, S>,
    keys: Keys,
}

impl<'t, K: ?Sized, S> LockSet<'t, K, S> {
    /// Returns the number of distinct keys held.
    pub fn len(&self) -> usize {
        self.keys.as_slice().len()
    }

    /// Returns whether no key is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how the set holds `key`, or `None` if it does not.
    pub fn mode<Q>(&self, key: &Q) -> Option<Mode>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
        S: BuildHasher,
    {
        let hash = self.table.hash(key);
        let keys = self.keys.as_slice();
        let at = keys.binary_search_by_key(&hash, |key| key.0).ok()?;
        Some(keys[at].1)
    }

    /// Returns whether the set holds `key`, in either mode.
    pub fn contains<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
        S: BuildHasher,
    {
        self.mode(key).is_some()
    }
}

impl<K: ?Sized, S> Drop for LockSet<'_, K, S> {
    #[inline]
    fn drop(&mut self) {
        for &(hash, mode) in self.keys.as_slice().iter().rev() {
            self.table.raw.unlock(hash, mode);
        }
    }
}

impl<K: ?Sized, S> fmt::Debug for LockSet<'_, K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.keys.as_slice().iter();
        f.debug_map()
            .entries(keys.map(|&(hash, mode)| (super::KeyId(hash), mode)))
            .finish()
    }
}

impl<K: ?Sized, S: BuildHasher> LockTable<K, S> {
    #[inline]
    fn keys<'q, Q>(&self, keys: impl IntoIterator<Item = (&'q Q, Mode)>) -> Keys
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized + 'q,
    {
        Keys::collect(keys.into_iter().map(|(key, mode)| (self.hash(key), mode)))
    }

    /// Locks all of `keys`, each in its mode.
    ///
    /// A key that is given twice, or two keys of one identity, are locked once, in the stronger
    /// mode. No keys are an empty set. Up to eight keys allocate nothing.
    ///
    /// # Blocking
    /// Until all are held. They are taken in ascending order of [`KeyId`](super::KeyId), each kept while
    /// the next is waited for.
    ///
    /// # Deadlocks
    /// Callers that hold nothing else of this table never deadlock, because all take keys in one order. A
    /// caller that already holds one of the keys waits for itself.
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
    pub fn lock_all<'q, Q>(
        &self,
        keys: impl IntoIterator<Item = (&'q Q, Mode)>,
    ) -> LockSet<'_, K, S>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized + 'q,
    {
        let keys = self.keys(keys);
        for &(hash, mode) in keys.as_slice() {
            self.raw.lock(hash, mode);
        }
        LockSet { table: self, keys }
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
    /// assert_eq!(table.held(), 1);
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
        self.all_or_nothing(self.keys(keys), |hash, mode| self.raw.try_lock(hash, mode))
    }

    /// Locks all of `keys` within `timeout`, or none.
    ///
    /// # Blocking
    /// For at most `timeout`, which is for all keys together. A timeout past the range of the
    /// clock is none.
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
    pub fn try_lock_all_for<'q, Q>(
        &self,
        keys: impl IntoIterator<Item = (&'q Q, Mode)>,
        timeout: Duration,
    ) -> Option<LockSet<'_, K, S>>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized + 'q,
    {
        let deadline: Option<Instant> = deadline(timeout);
        self.all_or_nothing(self.keys(keys), |hash, mode| {
            self.raw.lock_until(hash, mode, deadline)
        })
    }

    #[inline]
    fn all_or_nothing(
        &self,
        keys: Keys,
        lock: impl Fn(u64, Mode) -> bool,
    ) -> Option<LockSet<'_, K, S>> {
        for (n, &(hash, mode)) in keys.as_slice().iter().enumerate() {
            if !lock(hash, mode) {
                for &(hash, mode) in keys.as_slice()[..n].iter().rev() {
                    self.raw.unlock(hash, mode);
                }
                return None;
            }
        }
        Some(LockSet { table: self, keys })
    }
}
