//! A concurrent hash map with versions, transactions and snapshots: [`VersionedMap`].
//!
//! An index leads from a key to its entry, which is the cell of its versions. [The
//! protocol](crate::docs::internals::maps) has the steps and the rules that the code cites in
//! brackets.

mod batch;
mod bury;
mod entry;
mod error;
mod guard;
mod index;
mod lock;
mod lock_future;
mod locked;
#[cfg(latchwork_loom)]
mod model;
mod read;
mod scan;
mod shared;
mod slot;
mod table;
mod txn;
mod wait;
mod write;

use core::fmt;
use core::hash::{BuildHasher, Hash};
use core::panic::UnwindSafe;

pub use batch::{Batch, Cancelled, Reason};
pub use error::{MapConflict, Occupied};
pub use guard::{EntryGuard, EntryRef, EntrySession, EntrySet};
use index::Index;
pub use lock_future::EntryLockFuture;
pub use scan::{IntoIter, Iter};
pub use wait::MapChangedFuture;

use crate::hash::{RandomState, spreads_all_bits};

/// Stores values by key, each with a version, for threads that read without waiting.
///
/// A reader gets the value that was current when it read. It waits for no writer, lock, or growth
/// of the map, and excludes no other thread. A write replaces the value of one key as a whole. The
/// [`Version`](crate::cell::Version) of a key grows with each write for as long as the map exists,
/// also over a removal, and may skip numbers while the key is absent. So an optimistic writer
/// passes the version that it has read, and fails if another thread has written, or has removed and
/// inserted the key, since.
///
/// | operation | effect on shared memory |
/// |---|---|
/// | [`get`](Self::get) | pins (one atomic exchange on a line of this thread) and loads |
/// | [`get_in`](Self::get_in) | loads |
/// | [`update`](Self::update) | one compare-and-swap of a pointer, and one of a commit timestamp |
/// | [`insert`](Self::insert) of a new key | the same, and additions to counters |
/// | [`lock`](Self::lock) of a present key that is free | one compare-and-swap of a pointer |
///
/// # Which to use
/// Use a map without versions, such as `papaya`, if you need neither conditional writes nor
/// snapshots of several keys, and if the last nanosecond of a read counts. Use a
/// [`LockTable`](crate::LockTable) beside a map if a holder of a key does I/O.
///
/// # Blocking
/// Reads never block. A write blocks the thread while a transaction that has escalated owns the
/// key, and while the key is locked.
///
/// # Progress
/// Reads are wait-free, and writes are lock-free, with the exceptions of
/// [`VersionedCell`](crate::VersionedCell#progress). The map grows while threads read and write it:
/// each write of a new key copies a bounded number of words.
///
/// # Memory
/// A replaced or removed value is dropped as that of a cell is: later, by any thread that writes,
/// once no pin protects it. The entry of a removed key is freed after a grace period: by later
/// inserts and removals of any keys, or by [`flush`](Self::flush). The index has 16 bytes for each
/// entry, at least, and shrinks when it grows the next time, or by
/// [`shrink_to_fit`](Self::shrink_to_fit).
///
/// An entry with a value of at most 32 bytes is one block, which has the key, the value and its
/// version: 64 bytes for `u64` to `u64`. A read accesses this block and a slot of the index. A new
/// value has memory of its own, and the place in the block is empty until a later update uses it:
/// once no pin protects the value that was there.
/// An [`OwnedVersioned`](crate::cell::OwnedVersioned) of a value in the block keeps the memory of
/// the whole block, which includes that of a large key, after the key was removed and dropped.
///
/// # Keys
/// The hash of a key must not change while the map has it, and `Eq` must be an equivalence that
/// does not change. Otherwise a key may have several entries, a method may find the entry of
/// another key, and a lock may panic or wait for itself. No such key causes undefined behavior.
///
/// Destructors of values run in methods that write, lock or resize, before a key is locked and
/// after it is unlocked. If the thread holds guards of other keys, a destructor that writes these
/// keys deadlocks. A draft that is replaced, removed or discarded is dropped while its key is
/// locked. Its destructor must not wait for that key: a write or a lock there may deadlock, and
/// `try_lock` returns `None`.
///
/// # Panics
/// A method with a key panics if the hasher or `Eq` panics. The map is unchanged then. Panics
/// if an entry lies at an address of more than 48 bits.
///
/// # Examples
/// ```
/// use latchwork::VersionedMap;
///
/// let stock: VersionedMap<String, u32> = VersionedMap::new();
/// stock.insert("apples".into(), 7);
/// let version = stock.get("apples").expect("it was inserted").version();
/// stock.compare_and_set("apples", version, 6).expect("no other writer");
/// assert!(stock.compare_and_set("apples", version, 5).is_err());
/// ```
#[doc(alias = "HashMap")]
#[doc(alias = "DashMap")]
pub struct VersionedMap<K, V, S = RandomState>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    hasher: S,
    index: Index<K, V>,
    locks: lock::Locks,
}

// A panic in a closure, a hasher or a comparison leaves the map as it was.
impl<K, V, S: UnwindSafe> UnwindSafe for VersionedMap<K, V, S>
where
    K: Send + Sync + core::panic::RefUnwindSafe + 'static,
    V: Send + Sync + core::panic::RefUnwindSafe + 'static,
{
}
impl<K, V, S: core::panic::RefUnwindSafe> core::panic::RefUnwindSafe for VersionedMap<K, V, S>
where
    K: Send + Sync + core::panic::RefUnwindSafe + 'static,
    V: Send + Sync + core::panic::RefUnwindSafe + 'static,
{
}

impl<K: Send + Sync + 'static, V: Send + Sync + 'static> VersionedMap<K, V> {
    /// Makes an empty map.
    ///
    /// # Examples
    /// ```
    /// let map = latchwork::VersionedMap::<u32, String>::new();
    /// assert!(map.is_empty());
    /// ```
    #[must_use]
    pub fn new() -> Self {
        Self::with_hasher(RandomState::default())
    }

    /// Makes an empty map that has room for `capacity` keys without growth.
    ///
    /// # Panics
    /// Panics if there is no memory.
    ///
    /// # Examples
    /// ```
    /// let map = latchwork::VersionedMap::<u32, String>::with_capacity(1000);
    /// assert!(map.stats().capacity >= 1000);
    /// ```
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self::with_capacity_and_hasher(capacity, RandomState::default())
    }
}

impl<K: Send + Sync + 'static, V: Send + Sync + 'static, S> VersionedMap<K, V, S> {
    /// Makes an empty map with a hasher.
    ///
    /// # Examples
    /// ```
    /// let hasher = std::hash::RandomState::new();
    /// let map = latchwork::VersionedMap::<u32, u32, _>::with_hasher(hasher);
    /// assert_eq!(map.len(), 0);
    /// ```
    #[must_use]
    pub fn with_hasher(hasher: S) -> Self {
        Self::with_capacity_and_hasher(0, hasher)
    }

    /// Makes an empty map with a hasher, that has room for `capacity` keys without growth.
    ///
    /// # Panics
    /// Panics if there is no memory.
    #[must_use]
    pub fn with_capacity_and_hasher(capacity: usize, hasher: S) -> Self {
        match Index::with_capacity(capacity) {
            Ok(index) => VersionedMap {
                hasher,
                index,
                locks: lock::Locks::new(),
            },
            Err(error) => panic!("a map of capacity {capacity} cannot be made: {error}"),
        }
    }

    /// Returns the hasher.
    pub fn hasher(&self) -> &S {
        &self.hasher
    }

    /// Returns the number of keys that have values.
    ///
    /// It is exact while no thread writes. Beside writers, it may miss some of their inserts or
    /// removals. Use [`View`](crate::txn::View) for the number at one instant.
    ///
    /// # Blocking
    /// Never blocks.
    ///
    /// # Examples
    /// ```
    /// let map = latchwork::VersionedMap::new();
    /// map.insert(1, ());
    /// map.insert(2, ());
    /// map.remove(&1);
    /// assert_eq!(map.len(), 1);
    /// ```
    pub fn len(&self) -> usize {
        self.index.shared.values()
    }

    /// Returns whether no key has a value, as [`len`](Self::len) does.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Frees the entries of removed keys that no thread can observe, and all retired values that no
    /// pin protects, as [`latchwork::flush`](crate::flush) does.
    ///
    /// # Blocking
    /// Blocks while another thread does such work for this map.
    ///
    /// # Panics
    /// Panics if the destructor of a key or a value panics.
    ///
    /// # Examples
    /// ```
    /// let map = latchwork::VersionedMap::new();
    /// (0..100).for_each(|n| drop(map.insert(n, ())));
    /// (0..100).for_each(|n| drop(map.remove(&n)));
    /// map.flush();
    /// assert_eq!(map.stats().entries, 0);
    /// ```
    pub fn flush(&self) {
        self.index.flush();
    }

    /// For tests: runs `f` while this thread is in the middle of the work that it does for others.
    #[doc(hidden)]
    pub fn while_stopped<R>(&self, f: impl FnOnce() -> R) -> R {
        let _stopped = self.index.shared.maintenance().lock();
        f()
    }

    /// For tests: the number of slots of the first table that were copied to the next ones.
    #[doc(hidden)]
    pub fn copied_slots(&self) -> usize {
        self.index.shared.maintenance().lock().copied
    }

    /// Returns the number of keys, of entries, and the size of the index.
    ///
    /// # Examples
    /// ```
    /// let map = latchwork::VersionedMap::new();
    /// map.insert(1, "a");
    /// let stats = map.stats();
    /// assert_eq!((stats.len, stats.entries), (1, 1));
    /// ```
    pub fn stats(&self) -> MapStats {
        let (capacity, index_bytes) = self.index.sizes();
        MapStats {
            len: self.len(),
            entries: self.index.shared.entries(),
            removed: self.index.shared.records(),
            capacity,
            index_bytes,
        }
    }
}

impl<K, V, S> VersionedMap<K, V, S>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: BuildHasher,
{
    /// The hash of a key, of 48 bits. Its low bits select slots, and its high bits are a tag.
    #[inline(always)]
    fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u64 {
        let hash = self.hasher.hash_one(key);
        let hash = match spreads_all_bits::<S>() {
            true => hash,
            false => mix(hash),
        };
        hash >> (u64::BITS - slot::HASH_BITS) | slot::HASH_BIT
    }
}

/// Spreads the bits of a hash. Each half of the product depends on other bits.
#[inline(always)]
fn mix(hash: u64) -> u64 {
    let product = u128::from(hash) * 0x9E37_79B9_7F4A_7C15;
    (product >> u64::BITS) as u64 ^ product as u64
}

/// The size of a [`VersionedMap`].
///
/// Returned by [`VersionedMap::stats`]. It is weakly consistent while threads write.
///
/// # Examples
/// See [`VersionedMap::stats`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MapStats {
    /// The number of keys that have values.
    pub len: usize,
    /// The number of entries: of these keys, and of absent keys that were not freed.
    pub entries: usize,
    /// The number of records of entries that wait to be freed. An entry may have several.
    pub removed: usize,
    /// The number of entries for which the newest table was made.
    pub capacity: usize,
    /// The size of all tables of the index in bytes, without the entries.
    pub index_bytes: usize,
}

impl<K: Send + Sync + 'static, V: Send + Sync + 'static, S: Default> Default
    for VersionedMap<K, V, S>
{
    fn default() -> Self {
        Self::with_hasher(S::default())
    }
}

impl<K, V, S> fmt::Debug for VersionedMap<K, V, S>
where
    K: Send + Sync + fmt::Debug + 'static,
    V: Send + Sync + fmt::Debug + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pin = crate::pin();
        let mut map = f.debug_map();
        map.entries(self.iter_in(&pin).map(|(key, value)| (key, value.get())));
        map.finish()
    }
}
