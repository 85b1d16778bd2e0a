//! The maps, and what the jobs do with each of them.

use std::sync::OnceLock;

use latchwork::{RandomState, VersionedMap, snapshot};

/// The hasher of all maps.
pub fn hasher() -> RandomState {
    static HASHER: OnceLock<RandomState> = OnceLock::new();
    HASHER.get_or_init(RandomState::default).clone()
}

/// A concurrent map.
pub trait Map: Send + Sync + 'static {
    /// The protection that reads may share.
    type Held<'m>
    where
        Self: 'm;

    /// An empty map with room for so many keys.
    fn with_capacity(keys: usize) -> Self;

    /// Begins a protection for some reads.
    fn hold(&self) -> Self::Held<'_>;

    /// Reads under a protection that exists.
    fn get_held<'m>(&'m self, held: &Self::Held<'m>, key: u64) -> Option<u64>;

    /// Reads under a protection of its own.
    fn get(&self, key: u64) -> Option<u64>;

    /// Inserts a value.
    fn insert(&self, key: u64, value: u64);

    /// Adds one to the value of a key that is present.
    fn update(&self, key: u64);

    /// Removes a key that is present.
    fn remove(&self, key: u64);

    /// The sum of all values: for the versioned map of one instant, for the others of none.
    fn sum(&self) -> u64;
}

/// The versioned map.
pub type Ours = VersionedMap<u64, u64, RandomState>;

/// The map of papaya.
pub type Papaya = papaya::HashMap<u64, u64, RandomState>;

/// The map of dashmap.
pub type Dash = dashmap::DashMap<u64, u64, RandomState>;

/// The map of scc.
pub type Scc = scc::HashMap<u64, u64, RandomState>;

impl Map for Ours {
    type Held<'m> = latchwork::cell::ReadPin;

    fn with_capacity(keys: usize) -> Self {
        Self::with_capacity_and_hasher(keys, hasher())
    }

    fn hold(&self) -> latchwork::cell::ReadPin {
        latchwork::pin()
    }

    #[inline]
    fn get_held(&self, held: &latchwork::cell::ReadPin, key: u64) -> Option<u64> {
        self.get_in(held, &key).map(|value| *value)
    }

    #[inline]
    fn get(&self, key: u64) -> Option<u64> {
        Self::get(self, &key).map(|value| *value)
    }

    #[inline]
    fn insert(&self, key: u64, value: u64) {
        drop(Self::insert(self, key, value));
    }

    #[inline]
    fn update(&self, key: u64) {
        let version = Self::update(self, &key, |value| value + 1);
        debug_assert!(version.is_some());
    }

    #[inline]
    fn remove(&self, key: u64) {
        let removed = Self::remove(self, &key);
        debug_assert!(removed.is_some());
    }

    fn sum(&self) -> u64 {
        snapshot(|s| {
            s.iter(self)
                .fold(0_u64, |sum, (_, value)| sum.wrapping_add(*value))
        })
    }
}

impl Map for Papaya {
    type Held<'m> = papaya::LocalGuard<'m>;

    fn with_capacity(keys: usize) -> Self {
        Self::with_capacity_and_hasher(keys, hasher())
    }

    fn hold(&self) -> papaya::LocalGuard<'_> {
        self.guard()
    }

    #[inline]
    fn get_held<'m>(&'m self, held: &papaya::LocalGuard<'m>, key: u64) -> Option<u64> {
        Self::get(self, &key, held).copied()
    }

    #[inline]
    fn get(&self, key: u64) -> Option<u64> {
        self.pin().get(&key).copied()
    }

    #[inline]
    fn insert(&self, key: u64, value: u64) {
        self.pin().insert(key, value);
    }

    #[inline]
    fn update(&self, key: u64) {
        let map = self.pin();
        let updated = map.update(key, |value| value + 1);
        debug_assert!(updated.is_some());
    }

    #[inline]
    fn remove(&self, key: u64) {
        let map = self.pin();
        let removed = map.remove(&key);
        debug_assert!(removed.is_some());
    }

    fn sum(&self) -> u64 {
        let map = self.pin();
        map.values()
            .fold(0_u64, |sum, value| sum.wrapping_add(*value))
    }
}

impl Map for Dash {
    type Held<'m> = ();

    fn with_capacity(keys: usize) -> Self {
        Self::with_capacity_and_hasher(keys, hasher())
    }

    fn hold(&self) {}

    #[inline]
    fn get_held(&self, (): &(), key: u64) -> Option<u64> {
        Map::get(self, key)
    }

    #[inline]
    fn get(&self, key: u64) -> Option<u64> {
        Self::get(self, &key).map(|value| *value)
    }

    #[inline]
    fn insert(&self, key: u64, value: u64) {
        Self::insert(self, key, value);
    }

    #[inline]
    fn update(&self, key: u64) {
        if let Some(mut value) = self.get_mut(&key) {
            *value += 1;
        }
    }

    #[inline]
    fn remove(&self, key: u64) {
        Self::remove(self, &key);
    }

    fn sum(&self) -> u64 {
        self.iter().fold(0_u64, |sum, pair| sum.wrapping_add(*pair))
    }
}

impl Map for Scc {
    type Held<'m> = ();

    fn with_capacity(keys: usize) -> Self {
        Self::with_capacity_and_hasher(keys, hasher())
    }

    fn hold(&self) {}

    #[inline]
    fn get_held(&self, (): &(), key: u64) -> Option<u64> {
        Map::get(self, key)
    }

    #[inline]
    fn get(&self, key: u64) -> Option<u64> {
        self.read_sync(&key, |_, value| *value)
    }

    #[inline]
    fn insert(&self, key: u64, value: u64) {
        self.upsert_sync(key, value);
    }

    #[inline]
    fn update(&self, key: u64) {
        self.update_sync(&key, |_, value| *value += 1);
    }

    #[inline]
    fn remove(&self, key: u64) {
        self.remove_sync(&key);
    }

    fn sum(&self) -> u64 {
        let mut sum = 0_u64;
        self.iter_sync(|_, value| {
            sum = sum.wrapping_add(*value);
            true
        });
        sum
    }
}
