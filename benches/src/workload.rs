//! Keys to lock, and the loops that lock them, written once for every peer.

use std::hash::BuildHasher;
use std::hint::black_box;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

use crate::peers::{HoldThree, KeyLock};

/// The number of keys that the many-key workloads use, and of entries in the array of mutexes: the
/// number of root slots of a default table.
pub const KEYS: usize = 4096;

/// A generator of pseudo-random numbers: SplitMix64 by Sebastiano Vigna.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// Starts a sequence that `seed` determines.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next number; the first 2^64 all differ, so keys drawn from one sequence are
    /// distinct.
    #[inline]
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns whether something happens that has this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        // As many bits as a float has.
        ((self.next() >> 11) as f64) < probability * (1_u64 << 53) as f64
    }
}

/// Returns `count` distinct keys that `seed` determines.
#[must_use]
pub fn distinct_keys(count: usize, seed: u64) -> Vec<u64> {
    let mut rng = Rng::new(seed);
    (0..count).map(|_| rng.next()).collect()
}

/// Returns `count` distinct keys in threes.
#[must_use]
pub fn distinct_triples(count: usize, seed: u64) -> Vec<[u64; 3]> {
    let mut rng = Rng::new(seed);
    (0..count)
        .map(|_| [rng.next(), rng.next(), rng.next()])
        .collect()
}

/// Returns [`KEYS`] distinct string keys such as `user:1234567`, the same ones each time.
///
/// They are `'static` so that peers which own their keys can own a reference, and need not allocate
/// a string.
pub fn text_keys() -> &'static [&'static str] {
    static TEXT: OnceLock<Vec<&'static str>> = OnceLock::new();
    TEXT.get_or_init(|| {
        let mut rng = Rng::new(7);
        (0..KEYS)
            .map(|at| {
                let number = rng.next() % 1000 * KEYS as u64 + at as u64;
                &*Box::leak(format!("user:{number}").into_boxed_str())
            })
            .collect()
    })
}

/// Returns `count` keys whose hashes all differ in the low bits: an array of `count` locks has one
/// for each.
///
/// # Panics
/// If `count` is not a power of two.
#[must_use]
pub fn spread_keys(count: usize, hasher: &impl BuildHasher) -> Vec<u64> {
    assert!(count.is_power_of_two(), "a mask needs a power of two");
    let mut found = vec![None; count];
    let mut missing = count;
    let mut rng = Rng::new(11);
    while missing > 0 {
        let key = rng.next();
        let at = hasher.hash_one(key) as usize & (count - 1);
        if found[at].replace(key).is_none() {
            missing -= 1;
        }
    }
    found.into_iter().flatten().collect()
}

/// Locks and unlocks the keys in order, over and over, `times` locks in all.
///
/// One key repeated is a slice that repeats it: read from memory each time, its hash cannot leave
/// the loop.
#[inline(never)]
pub fn each_key<K: Copy, L: KeyLock<K>>(locks: &L, keys: &[K], times: u64) {
    let mut left = times;
    while left > 0 {
        let pass = left.min(keys.len() as u64);
        for &key in &keys[..pass as usize] {
            locks.hold(key, || black_box(()));
        }
        left -= pass;
    }
}

/// As [`each_key`], with three keys held at a time.
#[inline(never)]
pub fn each_triple<L: HoldThree>(locks: &L, triples: &[[u64; 3]], times: u64) {
    let mut left = times;
    while left > 0 {
        let pass = left.min(triples.len() as u64);
        for &keys in &triples[..pass as usize] {
            locks.hold_three(keys, || black_box(()));
        }
        left -= pass;
    }
}

/// Counters that nothing but a lock protects, one for each key, each on a cache line of its own.
#[derive(Debug)]
pub struct Counters(Vec<CachePadded<AtomicU64>>);

impl Counters {
    /// Creates `count` counters at zero.
    #[must_use]
    pub fn new(count: usize) -> Self {
        Self((0..count).map(|_| CachePadded::default()).collect())
    }

    /// Adds one to a counter in two steps: two threads inside at once lose a count.
    #[inline]
    pub fn bump(&self, at: usize) {
        let counter = &self.0[at];
        counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Returns the sum of the counters, which is the number of operations done if exclusion held.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.0
            .iter()
            .map(|counter| counter.load(Ordering::Relaxed))
            .sum()
    }
}

/// Locks a random one of `keys`, bumps its counter and does `more`.
///
/// # Panics
/// If the number of keys is not a power of two.
#[inline]
pub fn increment<L: KeyLock<u64>>(
    locks: &L,
    keys: &[u64],
    counters: &Counters,
    rng: &mut Rng,
    more: impl FnOnce(),
) {
    assert!(keys.len().is_power_of_two(), "a mask needs a power of two");
    let at = rng.next() as usize & (keys.len() - 1);
    locks.hold(keys[at], || {
        counters.bump(at);
        more();
    });
}

/// Increments until `stop`; returns how often.
#[inline(never)]
pub fn increments<L: KeyLock<u64>>(
    locks: &L,
    keys: &[u64],
    counters: &Counters,
    seed: u64,
    stop: &AtomicBool,
) -> u64 {
    let mut rng = Rng::new(seed);
    let mut done = 0;
    while !stop.load(Ordering::Relaxed) {
        increment(locks, keys, counters, &mut rng, || ());
        done += 1;
    }
    done
}

/// Locks the keys in order, over and over, until `stop`; returns how often.
#[inline(never)]
pub fn until<L: KeyLock<u64>>(locks: &L, keys: &[u64], stop: &AtomicBool) -> u64 {
    let mut done = 0;
    loop {
        for &key in keys {
            if stop.load(Ordering::Relaxed) {
                return done;
            }
            locks.hold(key, || black_box(()));
            done += 1;
        }
    }
}

/// Adds to a counter that no other thread touches until `stop`; returns how often.
///
/// What two cores make of this is what two cores can make of anything: the control of every figure
/// about scaling.
#[inline(never)]
pub fn own_counter(counter: &AtomicU64, stop: &AtomicBool) -> u64 {
    let mut done = 0;
    while !stop.load(Ordering::Relaxed) {
        counter.fetch_add(1, Ordering::Relaxed);
        done += 1;
    }
    done
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use latchwork::RandomState;

    use super::*;

    #[test]
    fn keys_are_distinct() {
        let keys: HashSet<_> = distinct_keys(10_000, 1).into_iter().collect();
        assert_eq!(keys.len(), 10_000);
        let text: HashSet<_> = text_keys().iter().collect();
        assert_eq!(text.len(), KEYS);
    }

    #[test]
    fn spread_keys_fill_an_array_of_their_number() {
        let hasher = RandomState::default();
        let keys = spread_keys(16, &hasher);
        let places: HashSet<_> = keys.iter().map(|&key| hasher.hash_one(key) % 16).collect();
        assert_eq!(places.len(), 16);
    }
}
