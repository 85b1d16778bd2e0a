//! Several keys held at once.

use core::borrow::Borrow;
use core::fmt;
use core::hash::{BuildHasher, Hash};
use std::sync::Arc;

use super::index::RawTable;
use super::keys::{Key, Keys};
use super::{FencingToken, LockTable};
use crate::RandomState;
use crate::word::Mode;

/// The keys at the first places of a set, unlocked from the last on when this is dropped.
pub(super) struct Locked<'a> {
    pub(super) table: &'a RawTable,
    pub(super) keys: &'a Keys,
    pub(super) first: usize,
}

impl Locked<'_> {
    #[inline]
    fn unlock_last(&mut self) {
        self.first -= 1;
        if let Some((hash, mode)) = self.keys.at(self.first) {
            self.table.unlock(hash, mode);
        }
    }
}

impl Drop for Locked<'_> {
    #[inline]
    fn drop(&mut self) {
        let rest = Rest(self);
        while rest.0.first > 0 {
            rest.0.unlock_last();
        }
        core::mem::forget(rest);
    }
}

/// What is left to give back when a waker has panicked.
struct Rest<'a, 'b>(&'b mut Locked<'a>);

impl Drop for Rest<'_, '_> {
    #[cold]
    fn drop(&mut self) {
        while self.0.first > 0 {
            self.0.unlock_last();
        }
    }
}

/// Locks one key after the other by `lock`, which is given its place and itself, until it refuses one: then what is locked is given
/// back, as it is if it panics [L2].
#[inline(always)]
pub(super) fn lock_each(table: &RawTable, keys: &Keys, lock: impl Fn(usize, Key) -> bool) -> bool {
    let mut locked = Locked {
        table,
        keys,
        first: 0,
    };
    for i in 0..keys.len() {
        if !lock(i, keys.get(i)) {
            return false;
        }
        locked.first += 1;
    }
    core::mem::forget(locked);
    true
}

/// Several keys held at once, given back together when dropped.
///
/// Returned by [`LockTable::lock_all`] and its try, timed and async forms. Up to eight keys allocate
/// nothing.
///
/// # Examples
/// ```
/// use latchwork::{LockTable, Mode};
/// let table: LockTable<str> = LockTable::new();
/// let mut set = table.lock_all([("a", Mode::Exclusive), ("b", Mode::Shared)]);
/// assert_eq!(set.len(), 2);
/// assert!(set.contains("a"));
/// assert_eq!(set.mode("b"), Some(Mode::Shared));
/// assert!(set.unlock("a")); // the others stay
/// assert_eq!(table.locked_count(), 1);
/// ```
#[must_use = "the keys are given back at once if the set is not used"]
pub struct LockSet<'t, K: ?Sized, S = RandomState> {
    pub(super) table: &'t LockTable<K, S>,
    /// All are locked.
    pub(super) keys: Keys,
}

/// A [`LockSet`] that owns a share of its table, and so borrows nothing.
///
/// Returned by [`LockTable::lock_all_owned`] and its async form.
///
/// # Examples
/// ```
/// use latchwork::{LockTable, Mode};
/// use std::sync::Arc;
/// let table: Arc<LockTable<str>> = Arc::default();
/// let set = table.lock_all_owned([("a", Mode::Exclusive), ("b", Mode::Shared)]);
/// std::thread::spawn(move || drop(set)).join().unwrap();
/// assert_eq!(table.locked_count(), 0);
/// ```
#[must_use = "the keys are given back at once if the set is not used"]
pub struct OwnedLockSet<K: ?Sized, S = RandomState> {
    pub(super) table: Arc<LockTable<K, S>>,
    /// All are locked.
    pub(super) keys: Keys,
}

macro_rules! set {
    ($name:ident, [$($generics:tt)*], $type:ty) => {
        impl<$($generics)*> $type {
            /// Returns the number of distinct keys held.
            pub fn len(&self) -> usize {
                self.keys.len()
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

            /// Returns a number greater than every token taken before for `key`, or `None` if the
            /// set does not hold it exclusively. See
            /// [`ExclusiveGuard::token`](super::ExclusiveGuard::token).
            pub fn token<Q>(&self, key: &Q) -> Option<FencingToken>
            where
                K: Borrow<Q>,
                Q: Hash + ?Sized,
                S: BuildHasher,
            {
                let hash = self.table.hash(key);
                (self.keys.mode(hash) == Some(Mode::Exclusive))
                    .then(|| FencingToken::new(self.table.raw.token(hash)))
            }

            /// Unlocks one key and keeps the others. Returns whether the set held it.
            ///
            /// Searches for the key by halves, so that all keys of a set of n, unlocked one by one in any order, take time in
            /// proportion to n log n.
            pub fn unlock<Q>(&mut self, key: &Q) -> bool
            where
                K: Borrow<Q>,
                Q: Hash + ?Sized,
                S: BuildHasher,
            {
                let hash = self.table.hash(key);
                match self.keys.remove(hash) {
                    Some(mode) => {
                        self.table.raw.unlock(hash, mode);
                        true
                    }
                    None => false,
                }
            }
        }

        impl<$($generics)*> Drop for $type {
            #[inline]
            fn drop(&mut self) {
                drop(Locked {
                    table: &self.table.raw,
                    keys: &self.keys,
                    first: self.keys.places(),
                });
            }
        }

        impl<$($generics)*> fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let keys = self.keys.iter();
                f.debug_map()
                    .entries(keys.map(|(hash, mode)| (super::KeyId(hash), mode)))
                    .finish()
            }
        }
    };
}
set!(LockSet, ['t, K: ?Sized, S], LockSet<'t, K, S>);
set!(OwnedLockSet, [K: ?Sized, S], OwnedLockSet<K, S>);
