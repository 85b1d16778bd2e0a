//! How much several threads do on a map together: ours and others' in turn, so that the machine is
//! the same for all.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Barrier, Mutex, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_skiplist::SkipMap;

/// What is measured.
pub(crate) trait Map: Sync {
    fn get(&self, key: u64) -> Option<u64>;
    fn insert(&self, key: u64, value: u64);
    fn remove(&self, key: u64);
}

impl Map for Mutex<BTreeMap<u64, u64>> {
    fn get(&self, key: u64) -> Option<u64> {
        self.lock().expect("no poison").get(&key).copied()
    }

    fn insert(&self, key: u64, value: u64) {
        self.lock().expect("no poison").insert(key, value);
    }

    fn remove(&self, key: u64) {
        self.lock().expect("no poison").remove(&key);
    }
}

impl Map for RwLock<BTreeMap<u64, u64>> {
    fn get(&self, key: u64) -> Option<u64> {
        self.read().expect("no poison").get(&key).copied()
    }

    fn insert(&self, key: u64, value: u64) {
        self.write().expect("no poison").insert(key, value);
    }

    fn remove(&self, key: u64) {
        self.write().expect("no poison").remove(&key);
    }
}

impl Map for SkipMap<u64, u64> {
    fn get(&self, key: u64) -> Option<u64> {
        SkipMap::get(self, &key).map(|entry| *entry.value())
    }

    fn insert(&self, key: u64, value: u64) {
        SkipMap::insert(self, key, value);
    }

    fn remove(&self, key: u64) {
        SkipMap::remove(self, &key);
    }
}

/// What the threads do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) threads: u64,
    /// Keys are below this; half of them are there at any time.
    pub(crate) keys: u64,
    pub(crate) percent_reads: u64,
    pub(crate) span: Duration,
}

/// Numbers without a pattern (xorshift64*, Vigna 2016).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % n
    }
}

/// Puts every other key in, in no order.
pub(crate) fn fill(map: &dyn Map, load: Load) {
    let mut random = Random::new(1);
    let mut keys: Vec<u64> = (0..load.keys).step_by(2).collect();
    for place in (1..keys.len()).rev() {
        keys.swap(place, random.below(place as u64 + 1) as usize);
    }
    keys.iter().for_each(|key| map.insert(*key, *key));
}

/// Operations a second.
pub(crate) fn throughput(map: &dyn Map, load: Load) -> f64 {
    let (stop, ready) = (
        AtomicBool::new(false),
        Barrier::new(load.threads as usize + 1),
    );
    thread::scope(|s| {
        let threads: Vec<_> = (0..load.threads)
            .map(|n| {
                let (stop, ready) = (&stop, &ready);
                s.spawn(move || {
                    let (mut random, mut done, mut found) = (Random::new(n + 2), 0_u64, 0);
                    ready.wait();
                    while !stop.load(Relaxed) {
                        let key = random.below(load.keys);
                        match random.below(200) {
                            p if p < 2 * load.percent_reads => {
                                found += u64::from(map.get(key).is_some());
                            }
                            p if p % 2 == 0 => map.insert(key, key),
                            _ => map.remove(key),
                        }
                        done += 1;
                    }
                    std::hint::black_box(found);
                    done
                })
            })
            .collect();
        ready.wait();
        let start = Instant::now();
        thread::sleep(load.span);
        stop.store(true, Relaxed);
        let took = start.elapsed();
        let done: u64 = threads
            .into_iter()
            .map(|t| t.join().expect("no panic"))
            .sum();
        done as f64 / took.as_secs_f64()
    })
}

/// Measures all of them in turn, `rounds` times; the median of each.
pub(crate) fn compare(maps: &[(&str, &dyn Map)], load: Load, rounds: usize) -> Vec<f64> {
    maps.iter().for_each(|(_, map)| fill(*map, load));
    let mut rates = vec![Vec::new(); maps.len()];
    for _ in 0..rounds {
        for ((_, map), rates) in maps.iter().zip(&mut rates) {
            rates.push(throughput(*map, load));
        }
    }
    rates
        .into_iter()
        .map(|mut rates| {
            rates.sort_by(f64::total_cmp);
            rates[rates.len() / 2]
        })
        .collect()
}

/// Prints a line for each map: millions a second, and the first one's ratio to it.
pub(crate) fn print(maps: &[(&str, &dyn Map)], load: Load, rounds: usize) {
    println!(
        "{} threads, {} keys, {} % reads:",
        load.threads, load.keys, load.percent_reads
    );
    let rates = compare(maps, load, rounds);
    for ((name, _), rate) in maps.iter().zip(&rates) {
        println!(
            "  {name:<24} {:>8.2} million a second {:>8.2} x",
            rate / 1e6,
            rates[0] / rate
        );
    }
}

/// The span of a round: from the command line in milliseconds, or what is right for this build.
pub(crate) fn span() -> Duration {
    let given = std::env::args().nth(1).map(|text| {
        text.parse().unwrap_or_else(|_| {
            eprintln!("give the milliseconds of a round, or nothing");
            std::process::exit(2)
        })
    });
    Duration::from_millis(given.unwrap_or(if cfg!(debug_assertions) { 10 } else { 200 }))
}
