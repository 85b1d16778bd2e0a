//! The loops that run on the maps.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::hint::black_box;
use std::time::Instant;

use latchwork::cell::Version;
use latchwork::{RandomState, VersionedMap, atomically, snapshot};
use parking_lot::Mutex;

use super::subjects::{Dash, Map, Ours, hasher};
use crate::crew::{Job, Part};
use crate::transactions::{Bank, FUNDS, Step};
use crate::workload::Rng;

/// The key with a number. An odd factor keeps different numbers different, and leaves no two keys
/// that follow each other near to each other.
#[inline(always)]
pub fn key(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Numbers below a power of two, each once before any of them returns, in no order that a cache can
/// predict.
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    at: u64,
    mask: u64,
}

impl Walk {
    /// A walk over the numbers below `count`, which is a power of two, that begins where `seed`
    /// determines.
    ///
    /// # Panics
    /// Panics if `count` is no power of two.
    pub fn new(count: usize, seed: u64) -> Self {
        assert!(count.is_power_of_two(), "a mask needs a power of two");
        let mask = count as u64 - 1;
        let at = Rng::new(seed).next() & mask;
        Self { at, mask }
    }

    /// The next number.
    #[inline(always)]
    pub fn step(&mut self) -> u64 {
        // A linear congruential generator of full period (Hull and Dobell): an odd increment, and a
        // factor that is one more than a multiple of four. The high bits are the unpredictable
        // ones, so they are put below.
        let mixed = self.at ^ (self.at >> (self.mask.count_ones() / 2));
        self.at = (self.at.wrapping_mul(0x0005_deec_e66d) + 0xb) & self.mask;
        mixed
    }
}

/// A map with the keys of the numbers below `keys`, each of which was updated so many times.
pub fn filled<M: Map>(keys: usize, updates: usize) -> M {
    let map = M::with_capacity(keys);
    for number in 0..keys as u64 {
        map.insert(key(number), number);
    }
    for _ in 0..updates {
        (0..keys as u64).for_each(|number| map.update(key(number)));
    }
    map
}

/// Reads so many times under one protection.
#[inline(never)]
pub fn gets_held<M: Map>(map: &M, walk: &mut Walk, times: u64) {
    let held = map.hold();
    for _ in 0..times {
        let value = map.get_held(&held, key(walk.step()));
        debug_assert!(value.is_some());
        black_box(value);
    }
}

/// As [`gets_held`], of random keys of `keys`. A [`Walk`] returns after all of them: a processor
/// may learn the branches of a walk that is not long, and cannot learn these.
#[inline(never)]
pub fn random_gets_held<M: Map>(map: &M, rng: &mut Rng, keys: u64, times: u64) {
    let held = map.hold();
    for _ in 0..times {
        let value = map.get_held(&held, key(rng.next() & (keys - 1)));
        debug_assert!(value.is_some());
        black_box(value);
    }
}

/// Reads so many times, each under a protection of its own.
#[inline(never)]
pub fn gets<M: Map>(map: &M, walk: &mut Walk, times: u64) {
    for _ in 0..times {
        let value = map.get(key(walk.step()));
        debug_assert!(value.is_some());
        black_box(value);
    }
}

/// Looks for absent keys so many times, each under a protection of its own.
#[inline(never)]
pub fn misses<M: Map>(map: &M, walk: &mut Walk, times: u64) {
    for _ in 0..times {
        let value = map.get(key(!walk.step()));
        debug_assert!(value.is_none());
        black_box(value);
    }
}

/// Updates so many times.
#[inline(never)]
pub fn updates<M: Map>(map: &M, walk: &mut Walk, times: u64) {
    for _ in 0..times {
        map.update(key(walk.step()));
    }
}

/// Removes the oldest of `alive` keys and inserts a new one, so many times. `next` is the number of
/// the new one.
#[inline(never)]
pub fn churn<M: Map>(map: &M, alive: u64, next: &mut u64, times: u64) {
    for _ in 0..times {
        map.remove(key(*next - alive));
        map.insert(key(*next), *next);
        *next += 1;
    }
}

/// Inserts new keys into a new map, and returns nanoseconds for each. The end of the map is not
/// part of it.
pub fn each_insert<M: Map>(capacity: usize, keys: usize) -> f64 {
    let map = M::with_capacity(capacity);
    let start = Instant::now();
    inserts(&map, keys);
    let took = start.elapsed();
    drop(map);
    took.as_secs_f64() * 1e9 / keys as f64
}

#[inline(never)]
fn inserts<M: Map>(map: &M, keys: usize) {
    for number in 0..keys as u64 {
        map.insert(key(number), number);
    }
}

/// Sums all values once, and returns nanoseconds for each.
pub fn each_of_scan<M: Map>(map: &M, keys: usize) -> f64 {
    let start = Instant::now();
    black_box(map.sum());
    start.elapsed().as_secs_f64() * 1e9 / keys as f64
}

/// The keys of one member of a crew are these many; another member has others.
const OWN: u64 = 1 << 14;

/// A mix of operations by members that share a map, as in conc-map-bench (Jon Gjengset): of a
/// hundred so many are reads, and the others are inserts, removals and updates in the parts that
/// `others` states.
fn mix<M: Map>(reads: u64, inserts: u64, removals: u64) -> Job {
    let map = M::with_capacity(4 * OWN as usize);
    for number in 0..2 * OWN {
        map.insert(key(number), number);
    }
    std::sync::Arc::new(move |part: Part<'_>| {
        // A member inserts and removes keys of its own, so the result of an operation does not
        // depend on another member. It reads and updates keys of both.
        let mut rng = Rng::new(part.index as u64 + 1);
        let first = 1 << 40 | (part.index as u64) << 32;
        let (mut oldest, mut next) = (first, first);
        for _ in 0..part.times {
            let random = rng.next();
            let chosen = key((random >> 8) % (2 * OWN));
            match random % 100 {
                n if n < reads => {
                    black_box(map.get(chosen));
                }
                n if n < reads + inserts => {
                    map.insert(key(next), random);
                    next += 1;
                }
                n if n < reads + inserts + removals => {
                    if oldest < next {
                        map.remove(key(oldest));
                        oldest += 1;
                    }
                }
                _ => map.update(chosen),
            }
        }
        // The next run begins with the map of this one.
        (oldest..next).for_each(|number| map.remove(key(number)));
    })
}

/// 98 reads, an insert, a removal.
pub fn read_heavy<M: Map>() -> Job {
    mix::<M>(98, 1, 1)
}

/// 10 reads, 40 inserts, 40 removals, 10 updates.
pub fn exchange<M: Map>() -> Job {
    mix::<M>(10, 40, 40)
}

/// Accounts that are keys of a map.
#[derive(Debug)]
pub struct ByKey(pub VersionedMap<u64, i64, RandomState>);

impl Bank for ByKey {
    fn new(accounts: usize) -> Self {
        let map = VersionedMap::with_capacity_and_hasher(accounts, hasher());
        (0..accounts as u64).for_each(|at| drop(map.insert(at, FUNDS)));
        Self(map)
    }

    fn step(&self, step: &Step, change: impl Fn(&mut [i64])) -> i64 {
        atomically(|tx| {
            let mut sum = 0;
            for &at in &step.reads {
                sum += tx.get(&self.0, &(at as u64))?.copied().unwrap_or_default();
            }
            let mut funds = Vec::with_capacity(step.writes.len());
            for &at in &step.writes {
                funds.push(tx.get(&self.0, &(at as u64))?.copied().unwrap_or_default());
            }
            change(&mut funds);
            for (&at, funds) in step.writes.iter().zip(funds) {
                tx.insert(&self.0, at as u64, funds)?;
            }
            Ok(sum)
        })
    }

    fn transfer(&self, from: usize, to: usize) {
        let (from, to) = (from as u64, to as u64);
        atomically(|tx| {
            let funds = *tx.get(&self.0, &from)?.expect("an account");
            tx.insert(&self.0, from, funds - 1)?;
            let funds = *tx.get(&self.0, &to)?.expect("an account");
            tx.insert(&self.0, to, funds + 1)?;
            Ok(())
        });
    }

    fn total(&self) -> i64 {
        snapshot(|s| s.iter(&self.0).map(|(_, funds)| *funds).sum())
    }
}

/// The keys of a batch.
pub const BATCH: usize = 4;

/// Puts four keys on condition of their versions, so many times: they are `keys` in turn.
#[inline(never)]
pub fn batches(map: &Ours, first: u64, keys: u64, times: u64) {
    let version = |number| map.version(&key(number)).expect("it is present");
    let mut versions: Vec<Version> = (first..first + keys).map(version).collect();
    let mut at = 0;
    for value in 0..times {
        let numbers: [usize; BATCH] = std::array::from_fn(|i| (at + i) % keys as usize);
        let batch = numbers.into_iter().fold(map.transact(), |batch, i| {
            batch.put_if(key(first + i as u64), versions[i], value)
        });
        let written = batch.commit().expect("no other thread writes these keys");
        for (i, version) in numbers.into_iter().zip(written) {
            versions[i] = version.expect("it is present");
        }
        at = (at + BATCH) % keys as usize;
    }
}

/// A mutex around a map whose values have versions.
pub type Locked = Mutex<HashMap<u64, (u64, u64), RandomState>>;

/// Such a map with the keys of the numbers below `keys`.
pub fn locked(keys: u64) -> Locked {
    let mut map = HashMap::with_capacity_and_hasher(keys as usize, hasher());
    map.extend((0..keys).map(|number| (key(number), (0, number))));
    Mutex::new(map)
}

/// As [`batches`], of a map under a mutex.
#[inline(never)]
pub fn locked_batches(map: &Locked, keys: u64, times: u64) {
    let mut versions: Vec<u64> = {
        let map = map.lock();
        (0..keys).map(|number| map[&key(number)].0).collect()
    };
    let mut at = 0;
    for value in 0..times {
        let numbers: [usize; BATCH] = std::array::from_fn(|i| (at + i) % keys as usize);
        let written = put_all(map, numbers.map(|i| (key(i as u64), versions[i], value)));
        let written = written.expect("no other thread writes these keys");
        for (i, version) in numbers.into_iter().zip(written) {
            versions[i] = version;
        }
        at = (at + BATCH) % keys as usize;
    }
}

fn put_all<S: BuildHasher>(
    map: &Mutex<HashMap<u64, (u64, u64), S>>,
    items: [(u64, u64, u64); BATCH],
) -> Option<Vec<u64>> {
    let mut map = map.lock();
    let holds = |(key, version, _): &(u64, u64, u64)| map.get(key).is_some_and(|v| v.0 == *version);
    if !items.iter().all(holds) {
        return None;
    }
    let mut written = Vec::with_capacity(BATCH);
    for (key, version, value) in items {
        map.insert(key, (version + 1, value));
        written.push(version + 1);
    }
    Some(written)
}

/// Each member puts batches of keys of its own.
pub fn own_batches() -> Job {
    let map: Ours = filled(2 * OWN as usize, 0);
    std::sync::Arc::new(move |part| batches(&map, part.index as u64 * OWN, 64, part.times))
}

/// The first member updates keys. Another one scans the map at the same time, or does nothing.
pub fn updates_beside<const SCANS: bool>() -> Job {
    let map: Ours = filled(OWN as usize, 0);
    std::sync::Arc::new(move |part: Part<'_>| {
        if part.is_first {
            let mut walk = Walk::new(OWN as usize, 1);
            return updates(&map, &mut walk, part.times);
        }
        // Relaxed: it carries no data.
        let is_done = || {
            part.first_is_done
                .load(std::sync::atomic::Ordering::Relaxed)
        };
        while SCANS && !is_done() {
            black_box(map.sum());
        }
    })
}

/// Locks a key, replaces its value and commits, so many times.
#[inline(never)]
pub fn locked_sets(map: &Ours, walk: &mut Walk, times: u64) {
    for value in 0..times {
        let mut entry = map.lock(&key(walk.step()));
        entry.set(value);
        entry.commit();
    }
}

/// Replaces a value under the lock of its shard, so many times.
#[inline(never)]
pub fn dash_sets(map: &Dash, walk: &mut Walk, times: u64) {
    for value in 0..times {
        *map.get_mut(&key(walk.step())).expect("it is present") = value;
    }
}

/// The sizes of a map while keys are inserted and removed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sizes {
    /// The most bytes of the index.
    pub index_bytes: usize,
    /// The most entries.
    pub entries: usize,
    /// The most records of entries that wait to be freed.
    pub removed: usize,
    /// The entries after a flush at the end.
    pub left: usize,
}

/// Inserts so many keys one after another, and removes each once `alive` later ones were inserted.
pub fn sizes_of_churn(keys: u64, alive: u64) -> Sizes {
    let map: Ours = Map::with_capacity(0);
    let mut sizes = Sizes::default();
    for number in 0..keys {
        Map::insert(&map, key(number), number);
        if number >= alive {
            Map::remove(&map, key(number - alive));
        }
        if number % 1024 == 0 {
            let stats = map.stats();
            sizes.index_bytes = sizes.index_bytes.max(stats.index_bytes);
            sizes.entries = sizes.entries.max(stats.entries);
            sizes.removed = sizes.removed.max(stats.removed);
        }
    }
    (keys.saturating_sub(alive)..keys).for_each(|number| Map::remove(&map, key(number)));
    map.flush();
    sizes.left = map.stats().entries;
    sizes
}
