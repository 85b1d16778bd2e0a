//! Published crates that lock by key, each by its fastest call for a key that no thread holds.
//!
//! Keys are owned by the peer's map: string keys are `&'static str`, so that no peer is charged for
//! copying a string.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::hash::Hash;

use dashmap::DashMap;
use keyed_lock::sync::KeyedLock;
use lockable::LockPool;
use lockmap::{Entry, LockMap};

use super::{HoldThree, KeyLock};

/// `lockmap`: a sharded map of entries, each locked on its own. `entry` of an absent key locks it
/// without a value.
#[derive(Debug)]
pub struct Lockmap<K: Eq + Hash>(pub LockMap<K, ()>);

/// `keyed-lock`, the blocking variant.
#[expect(
    missing_debug_implementations,
    reason = "the crate's own type has none"
)]
pub struct Keyed<K: Eq + Hash + Clone>(pub KeyedLock<K>);

/// `lockable`'s `LockPool` by `blocking_lock`.
#[expect(
    missing_debug_implementations,
    reason = "the crate's own type has none"
)]
pub struct Pool<K: Eq + Hash + Clone>(pub LockPool<K>);

/// `lockable`'s `LockPool` by `try_lock`, for keys that no other thread locks.
#[expect(
    missing_debug_implementations,
    reason = "the crate's own type has none"
)]
pub struct TryPool<K: Eq + Hash + Clone>(pub LockPool<K>);

/// `dashmap`: an entry held, then removed. It locks a whole shard of the map, so this is no lock by
/// key.
#[derive(Debug)]
pub struct Dash<K: Eq + Hash>(pub DashMap<K, ()>);

/// `scc`: an entry held, then removed. It locks a whole bucket of the map, so this is no lock by
/// key.
#[derive(Debug)]
pub struct Scc<K: Eq + Hash>(pub scc::HashMap<K, ()>);

/// Gives a peer `new` and `Default`.
macro_rules! make {
    ($peer:ident, $new:expr, $($bound:tt)+) => {
        impl<K: $($bound)+> $peer<K> {
            /// Creates an empty one.
            #[must_use]
            pub fn new() -> Self {
                Self($new)
            }
        }

        impl<K: $($bound)+> Default for $peer<K> {
            fn default() -> Self {
                Self::new()
            }
        }
    };
}

make!(Lockmap, LockMap::new(), Eq + Hash);
make!(Keyed, KeyedLock::new(), Eq + Hash + Clone);
make!(Pool, LockPool::new(), Eq + Hash + Clone + Debug);
make!(TryPool, LockPool::new(), Eq + Hash + Clone + Debug);
make!(Dash, DashMap::new(), Eq + Hash);
make!(Scc, scc::HashMap::new(), Eq + Hash);

impl<K: Eq + Hash + Copy + Send + Sync> KeyLock<K> for Lockmap<K> {
    #[inline]
    fn hold<R>(&self, key: K, body: impl FnOnce() -> R) -> R {
        let _entry = self.0.entry(key);
        body()
    }
}

impl<K: Eq + Hash + Copy + Send + Sync> KeyLock<K> for Keyed<K> {
    #[inline]
    fn hold<R>(&self, key: K, body: impl FnOnce() -> R) -> R {
        let _guard = self.0.lock(key);
        body()
    }
}

impl<K: Eq + Hash + Copy + Send + Sync + Debug> KeyLock<K> for Pool<K> {
    #[inline]
    fn hold<R>(&self, key: K, body: impl FnOnce() -> R) -> R {
        let _guard = self.0.blocking_lock(key);
        body()
    }
}

impl<K: Eq + Hash + Copy + Send + Sync + Debug> KeyLock<K> for TryPool<K> {
    #[inline]
    fn hold<R>(&self, key: K, body: impl FnOnce() -> R) -> R {
        let _guard = self.0.try_lock(key).expect("only one thread locks");
        body()
    }
}

impl<K: Eq + Hash + Copy + Send + Sync> KeyLock<K> for Dash<K> {
    #[inline]
    fn hold<R>(&self, key: K, body: impl FnOnce() -> R) -> R {
        let held = self.0.entry(key).or_insert(());
        let result = body();
        drop(held);
        self.0.remove(&key);
        result
    }
}

impl<K: Eq + Hash + Copy + Send + Sync> KeyLock<K> for Scc<K> {
    #[inline]
    fn hold<R>(&self, key: K, body: impl FnOnce() -> R) -> R {
        let held = self.0.entry_sync(key).or_insert(());
        let result = body();
        let _removed = held.remove_entry();
        result
    }
}

impl HoldThree for Lockmap<u64> {
    #[inline]
    fn hold_three<R>(&self, keys: [u64; 3], body: impl FnOnce() -> R) -> R {
        let _entries: Vec<(u64, Entry<'_, u64, ()>)> = self.0.batch_lock(BTreeSet::from(keys));
        body()
    }
}
