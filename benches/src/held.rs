//! What locks cost while they are held: bytes.

use keyed_lock::sync::KeyedLock;
use latchwork::LockTable;
use lockable::LockPool;
use lockmap::LockMap;

use crate::heap::growth;

/// The memory of one way to lock by key, for each key that is held.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// The name of the contender.
    pub name: &'static str,
    /// Heap bytes, beside the guard.
    pub heap: f64,
    /// Bytes of the guard.
    pub guard: usize,
}

/// Locks all of `keys` and returns the guards, with the heap bytes that were allocated beside the
/// guards themselves.
pub fn hold_all<'k, G>(keys: &'k [u64], lock: impl FnMut(&'k u64) -> G) -> (Vec<G>, i64) {
    let mut guards = Vec::with_capacity(keys.len());
    let ((), heap) = growth(|| guards.extend(keys.iter().map(lock)));
    (guards, heap)
}

fn held<'k, G>(name: &'static str, keys: &'k [u64], lock: impl FnMut(&'k u64) -> G) -> Held {
    let (guards, heap) = hold_all(keys, lock);
    Held {
        name,
        heap: heap.max(0) as f64 / guards.len() as f64,
        guard: size_of::<G>(),
    }
}

/// Holds all of `keys` in the lock table.
#[must_use]
pub fn of_table(keys: &[u64]) -> Held {
    let table = LockTable::<u64>::new();
    held("LockTable", keys, |key| table.lock(key))
}

/// Holds all of `keys` in each of the crates that keep an entry for each.
#[must_use]
pub fn of_peers(keys: &[u64]) -> [Held; 3] {
    let lockmap = LockMap::<u64, ()>::new();
    let keyed = KeyedLock::<u64>::new();
    let pool = LockPool::<u64>::new();
    [
        held("lockmap", keys, |&key| lockmap.entry(key)),
        held("keyed-lock", keys, |&key| keyed.lock(key)),
        held("lockable", keys, |&key| pool.try_lock(key)),
    ]
}
