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

/// Distinct keys in ascending order of identity: up to eight in place, more in a vector.
struct Keys {
    ids: [u64; INLINE_KEYS],
    modes: [Mode; INLINE_KEYS],
    len: usize,
    /// All keys, if there are more than eight; otherwise empty.
    many: Vec<Key>,
}

impl Keys {
    #[inline]
    const fn new() -> Self {
        Keys {
            ids: [0; INLINE_KEYS],
            modes: [Mode::Shared; INLINE_KEYS],
            len: 0,
            many: Vec::new(),
        }
    }

    /// Collects `keys` into an empty `self`, sorts them, and keeps of equal ones the stronger mode. It is
    /// filled in place: to move what was written word by word stalls (benchmark `lock_all`).
    #[inline]
    fn fill(&mut self, keys: impl Iterator<Item = Key>) {
        let mut keys = keys;
        let mut repeats = false;
        while let Some(key) = keys.next() {
            if self.len == INLINE_KEYS {
                return self.fill_slow(key, keys);
            }
            (self.ids[self.len], self.modes[self.len]) = key;
            // Hashes come in no order, so a sort that branches on them mispredicts every other time.
            // This one exchanges by conditional moves, all the way down.
            for i in (0..self.len).rev() {
                let (low, high) = (self.ids[i], self.ids[i + 1]);
                let (low_mode, high_mode) = (self.modes[i], self.modes[i + 1]);
                let exchange = low > high;
                repeats |= low == high;
                self.ids[i] = if exchange { high } else { low };
                self.ids[i + 1] = if exchange { low } else { high };
                self.modes[i] = if exchange { high_mode } else { low_mode };
                self.modes[i + 1] = if exchange { low_mode } else { high_mode };
            }
            self.len += 1;
        }
        if repeats {
            self.drop_repeats();
        }
    }

    #[cold]
    fn drop_repeats(&mut self) {
        let len = core::mem::take(&mut self.len);
        for i in 0..len {
            self.insert((self.ids[i], self.modes[i]));
        }
    }

    /// More than eight are given, which may repeat: those in `self`, `key` and `rest`.
    #[cold]
    fn fill_slow(&mut self, key: Key, rest: impl Iterator<Item = Key>) {
        self.drop_repeats();
        let mut rest = core::iter::once(key).chain(rest);
        while let Some(key) = rest.next() {
            if !self.insert(key) {
                let mut many: Vec<Key> = self.iter().collect();
                many.push(key);
                many.extend(rest);
                many.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
                many.dedup_by_key(|key| key.0);
                self.many = many;
                return;
            }
        }
    }

    /// Inserts a key in its place among distinct ones; `false` if there are eight others.
    fn insert(&mut self, (id, mode): Key) -> bool {
        let at = self.ids[..self.len].partition_point(|&other| other < id);
        if at < self.len && self.ids[at] == id {
            self.modes[at] = self.modes[at].max(mode);
            return true;
        }
        if self.len == INLINE_KEYS {
            return false;
        }
        self.ids.copy_within(at..self.len, at + 1);
        self.modes.copy_within(at..self.len, at + 1);
        (self.ids[at], self.modes[at]) = (id, mode);
        self.len += 1;
        true
    }

    #[inline]
    fn len(&self) -> usize {
        if self.many.is_empty() {
            self.len
        } else {
            self.many.len()
        }
    }

    #[inline]
    fn get(&self, i: usize) -> Key {
        if self.many.is_empty() {
            (self.ids[i], self.modes[i])
        } else {
            self.many[i]
        }
    }

    fn iter(&self) -> impl Iterator<Item = Key> {
        (0..self.len()).map(|i| self.get(i))
    }

    fn mode(&self, id: u64) -> Option<Mode> {
        // A few are found faster one by one, many by halves.
        if self.many.is_empty() {
            let at = self.ids[..self.len].iter().position(|&other| other == id)?;
            Some(self.modes[at])
        } else {
            let at = self.many.binary_search_by_key(&id, |key| key.0).ok()?;
            Some(self.many[at].1)
        }
    }
}

/// Several keys held at once, given back together when dropped.
///
/// Returned by [`LockTable::lock_all`] and its try and timed forms. A set is 128 bytes and up to eight keys without allocating.
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
    /// How many of the keys are locked: all, once the set is handed out.
    locked: usize,
}

impl<'t, K: ?Sized, S> LockSet<'t, K, S> {
    /// Returns the number of distinct keys held.
    pub fn len(&self) -> usize {
        self.locked
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
        self.keys.mode(self.table.hash(key))
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

impl<'t, K: ?Sized, S: BuildHasher> LockSet<'t, K, S> {
    #[inline]
    fn empty(table: &'t LockTable<K, S>) -> Self {
        LockSet {
            table,
            keys: Keys::new(),
            locked: 0,
        }
    }

    /// Locks `keys` one after the other by `lock`, until it refuses one: then the set is to be
    /// dropped, which gives back what it has [L2].
    #[inline]
    fn lock_each<'q, Q>(
        &mut self,
        keys: impl IntoIterator<Item = (&'q Q, Mode)>,
        lock: impl Fn(u64, Mode) -> bool,
    ) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized + 'q,
    {
        let table = self.table;
        // Nothing is locked yet: a hasher or an iterator that panics leaves nothing held [L2].
        let keys = keys.into_iter();
        self.keys
            .fill(keys.map(|(key, mode)| (table.hash(key), mode)));
        for i in 0..self.keys.len() {
            let (hash, mode) = self.keys.get(i);
            if !lock(hash, mode) {
                return false;
            }
            self.locked += 1;
        }
        true
    }
}

impl<K: ?Sized, S> Drop for LockSet<'_, K, S> {
    #[inline]
    fn drop(&mut self) {
        for i in (0..self.locked).rev() {
            let (hash, mode) = self.keys.get(i);
            self.table.raw.unlock(hash, mode);
        }
    }
}

impl<K: ?Sized, S> fmt::Debug for LockSet<'_, K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.keys.iter();
        f.debug_map()
            .entries(keys.map(|(hash, mode)| (super::KeyId(hash), mode)))
            .finish()
    }
}

impl<K: ?Sized, S: BuildHasher> LockTable<K, S> {
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
        let mut set = LockSet::empty(self);
        set.lock_each(keys, |hash, mode| {
            self.raw.lock(hash, mode);
            true
        });
        set
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
        let mut set = LockSet::empty(self);
        set.lock_each(keys, |hash, mode| self.raw.try_lock(hash, mode))
            .then_some(set)
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
        let mut set = LockSet::empty(self);
        set.lock_each(keys, |hash, mode| self.raw.lock_until(hash, mode, deadline))
            .then_some(set)
    }
}
