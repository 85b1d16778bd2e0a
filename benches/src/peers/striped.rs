//! The floor: an array of locks, each on a cache line of its own, indexed by the key's hash.
//!
//! Two keys of one index share a lock, so this is no lock by key; it is the least cost of one. It
//! hashes with the same type of hasher as the lock table and masks the same low bits, and its
//! length is a constant, so that the compiler leaves out the bounds check.

use std::hash::{BuildHasher, Hash};

use crossbeam_utils::CachePadded;
use latchwork::RandomState;
use parking_lot::{Mutex, RwLock};

use super::{HoldThree, KeyLock};

/// `N` locks of type `L`; `N` is a power of two.
#[derive(Debug)]
pub struct Striped<L, const N: usize, S = RandomState> {
    locks: Box<[CachePadded<L>; N]>,
    hasher: S,
}

/// An array of mutexes.
pub type PaddedMutexes<const N: usize> = Striped<Mutex<()>, N>;

/// An array of the standard library's mutexes.
pub type PaddedStdMutexes<const N: usize> = Striped<std::sync::Mutex<()>, N>;

/// How many locks there are where many keys share them.
pub const STRIPES: usize = 64;

/// An array of reader-writer locks; as a [`KeyLock`] locked shared.
pub type PaddedRwLocks<const N: usize> = Striped<RwLock<()>, N>;

/// An array of the standard library's reader-writer locks; as a [`KeyLock`] locked shared.
pub type PaddedStdRwLocks<const N: usize> = Striped<std::sync::RwLock<()>, N>;

impl<L: Default, const N: usize, S: BuildHasher> Striped<L, N, S> {
    /// Creates an array whose indices come from `hasher`.
    #[must_use]
    pub fn new(hasher: S) -> Self {
        const { assert!(N.is_power_of_two(), "a mask needs a power of two") };
        let locks: Box<[CachePadded<L>]> = (0..N).map(|_| CachePadded::default()).collect();
        let Ok(locks) = locks.try_into() else {
            unreachable!("N locks were made")
        };
        Self { locks, hasher }
    }

    #[inline]
    fn index(&self, key: impl Hash) -> usize {
        self.hasher.hash_one(key) as usize & (N - 1)
    }

    /// The lock of `key`, and of others.
    #[inline]
    pub(super) fn of(&self, key: impl Hash) -> &L {
        &self.locks[self.index(key)]
    }
}

impl<K: Copy + Hash, const N: usize, S: BuildHasher + Sync> KeyLock<K>
    for Striped<std::sync::Mutex<()>, N, S>
{
    #[inline]
    fn hold<R>(&self, key: K, body: impl FnOnce() -> R) -> R {
        let _guard = self.of(key).lock().expect("nobody panics");
        body()
    }
}

impl<K: Copy + Hash, const N: usize, S: BuildHasher + Sync> KeyLock<K>
    for Striped<Mutex<()>, N, S>
{
    #[inline]
    fn hold<R>(&self, key: K, body: impl FnOnce() -> R) -> R {
        let _guard = self.of(key).lock();
        body()
    }
}

impl<K: Copy + Hash, const N: usize, S: BuildHasher + Sync> KeyLock<K>
    for Striped<RwLock<()>, N, S>
{
    #[inline]
    fn hold<R>(&self, key: K, body: impl FnOnce() -> R) -> R {
        let _guard = self.of(key).read();
        body()
    }
}

impl<K: Copy + Hash, const N: usize, S: BuildHasher + Sync> KeyLock<K>
    for Striped<std::sync::RwLock<()>, N, S>
{
    #[inline]
    fn hold<R>(&self, key: K, body: impl FnOnce() -> R) -> R {
        let _guard = self.of(key).read().expect("nobody panics");
        body()
    }
}

impl<const N: usize, S: BuildHasher + Sync> HoldThree for Striped<Mutex<()>, N, S> {
    #[inline]
    fn hold_three<R>(&self, keys: [u64; 3], body: impl FnOnce() -> R) -> R {
        let at = self.three(keys);
        let _first = self.locks[at[0]].lock();
        let _second = (at[1] != at[0]).then(|| self.locks[at[1]].lock());
        let _third = (at[2] != at[1]).then(|| self.locks[at[2]].lock());
        body()
    }
}

impl<const N: usize, S: BuildHasher> Striped<Mutex<()>, N, S> {
    /// The indices of three keys in the order in which to lock them.
    #[inline]
    fn three(&self, keys: [u64; 3]) -> [usize; 3] {
        let mut at = keys.map(|key| self.index(key));
        at.sort_unstable();
        at
    }
}

/// An array of mutexes of which three are tried together.
#[derive(Debug)]
pub struct TryThree<const N: usize>(pub PaddedMutexes<N>);

impl<const N: usize> HoldThree for TryThree<N> {
    #[inline]
    fn hold_three<R>(&self, keys: [u64; 3], body: impl FnOnce() -> R) -> R {
        let at = self.0.three(keys);
        let take = |at: usize| self.0.locks[at].try_lock().expect("only one thread locks");
        let _first = take(at[0]);
        let _second = (at[1] != at[0]).then(|| take(at[1]));
        let _third = (at[2] != at[1]).then(|| take(at[2]));
        body()
    }
}
