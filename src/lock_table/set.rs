//! Sets: several keys that are held at once.

use core::borrow::Borrow;
use core::fmt;
use core::hash::{BuildHasher, Hash};
use std::sync::Arc;

use super::fence::FencingToken;
use super::key::KeyId;
use super::keys::{Key, Keys};
use super::raw::RawTable;
use super::table::LockTable;
use crate::RandomState;
use crate::word::Mode;

/// The keys at the first places of a set. When this is dropped, they are unlocked, the last one
/// first.
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
        let (table, keys) = (self.table, self.keys);
        let rest = Rest(self);
        if let Some(few) = keys.few(rest.0.first) {
            for (hash, mode) in few.rev() {
                rest.0.first -= 1;
                table.unlock(hash, mode);
            }
            core::mem::forget(rest);
        }
    }
}

/// The keys that are still locked: those of a long set, or after a waker has panicked.
struct Rest<'a, 'b>(&'b mut Locked<'a>);

impl Drop for Rest<'_, '_> {
    #[cold]
    fn drop(&mut self) {
        while self.0.first > 0 {
            self.0.unlock_last();
        }
    }
}

/// Locks the keys one after another by `lock`, which receives each place and key. If `lock` refuses
/// a key or panics, all locked keys are released [L2].
#[inline(always)]
pub(super) fn lock_each(table: &RawTable, keys: &Keys, lock: impl Fn(usize, Key) -> bool) -> bool {
    let mut locked = Locked {
        table,
        keys,
        first: 0,
    };
    if let Some(few) = keys.few(keys.len()) {
        for key in few {
            if !lock(locked.first, key) {
                return false;
            }
            locked.first += 1;
        }
    } else if !lock_each_of_many(&mut locked, &lock) {
        return false;
    }
    core::mem::forget(locked);
    true
}

#[cold]
fn lock_each_of_many(locked: &mut Locked<'_>, lock: &impl Fn(usize, Key) -> bool) -> bool {
    for i in 0..locked.keys.len() {
        if !lock(i, locked.keys.get(i)) {
            return false;
        }
        locked.first += 1;
    }
    true
}

/// Holds several keys at once, and releases all of them when dropped.
///
/// Returned by [`LockTable::lock_all`] and its try, timed and async forms. A set of up to eight
/// keys allocates nothing.
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
#[must_use = "the keys are released at once if the set is not used"]
pub struct LockSet<'t, K: ?Sized, S = RandomState> {
    pub(super) table: &'t LockTable<K, S>,
    /// All of them are locked.
    pub(super) keys: Keys,
}

/// A [`LockSet`] that shares ownership of its table, and so borrows nothing.
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
#[must_use = "the keys are released at once if the set is not used"]
pub struct OwnedLockSet<K: ?Sized, S = RandomState> {
    pub(super) table: Arc<LockTable<K, S>>,
    /// All of them are locked.
    pub(super) keys: Keys,
}

macro_rules! set {
    ($name:ident, [$($generics:tt)*], $type:ty) => {
        impl<$($generics)*> $type {
            /// Returns the number of distinct keys that the set holds.
            pub fn len(&self) -> usize {
                self.keys.len()
            }

            /// Returns whether the set holds no key.
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// Returns the mode in which the set holds `key`, or `None` if it does not hold the
            /// key.
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

            /// Returns a number that is greater than every earlier token of `key`.
            ///
            /// Returns `None` if the set does not hold the key exclusively. See
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

            /// Unlocks one key and keeps the others. Returns whether the set held the key.
            ///
            /// The search is binary. To unlock all n keys of a set one by one takes time in
            /// proportion to n log n, in any order.
            ///
            /// # Panics
            /// Panics if the hasher panics. Also panics if the waker of the next holder panics; the
            /// key has been released then.
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
                    .entries(keys.map(|(hash, mode)| (KeyId(hash), mode)))
                    .finish()
            }
        }
    };
}
set!(LockSet, ['t, K: ?Sized, S], LockSet<'t, K, S>);
set!(OwnedLockSet, [K: ?Sized, S], OwnedLockSet<K, S>);
