//! Single flight: many tasks ask for the same values at once, and each value is made only once.
//!
//! What it teaches: a `SingleFlight` in front of a cache. The first task to ask for a key leads: it
//! computes the value and fills the cache. Tasks that ask meanwhile follow: they wait as tasks, not
//! as threads, and receive a clone. Other keys do not wait, and nothing is stored for a key that is
//! filled. The leader checks the cache once more, because another leader may have filled it after
//! this task missed.
//!
//! Run it with `cargo run --release --example single_flight`.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use latchwork::table::SingleFlight;
use tokio::runtime::Runtime;
use tokio::task::{self, JoinError, JoinSet};

const ROUNDS: usize = 2;
const REQUESTS: usize = 200;

/// What is asked for, and the right answers: how many primes there are up to a limit.
const PRIMES: [(u64, u64); 8] = [
    (10_000, 1_229),
    (20_000, 2_262),
    (30_000, 3_245),
    (40_000, 4_203),
    (50_000, 5_133),
    (60_000, 6_057),
    (70_000, 6_935),
    (80_000, 7_837),
];

#[derive(Default)]
struct Cache {
    /// Locked for a look-up only, never while a value is made.
    values: Mutex<BTreeMap<u64, u64>>,
    flights: SingleFlight<u64, u64>,
    hits: AtomicUsize,
    flown: AtomicUsize,
    late_hits: AtomicUsize,
    fills: AtomicUsize,
}

impl Cache {
    async fn get(&self, limit: u64) -> Result<u64, JoinError> {
        if let Some(count) = self.look_up(limit) {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(count);
        }
        self.flown.fetch_add(1, Ordering::Relaxed);
        // If the task that leads is cancelled, or fails, one of its followers runs its own closure.
        self.flights.try_run_async(limit, || self.fill(limit)).await
    }

    async fn fill(&self, limit: u64) -> Result<u64, JoinError> {
        // Without this second look, a task that missed before the flight of another ended would
        // fill once more.
        if let Some(count) = self.look_up(limit) {
            self.late_hits.fetch_add(1, Ordering::Relaxed);
            return Ok(count);
        }
        let count = task::spawn_blocking(move || primes_up_to(limit)).await?;
        self.values().insert(limit, count);
        self.fills.fetch_add(1, Ordering::Relaxed);
        Ok(count)
    }

    fn look_up(&self, limit: u64) -> Option<u64> {
        self.values().get(&limit).copied()
    }

    fn values(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, u64>> {
        // A map is whole between two calls, whatever became of a thread that held the mutex.
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Slow on purpose: it stands for a query to something far away.
fn primes_up_to(limit: u64) -> u64 {
    let is_prime = |n: &u64| (2..).take_while(|d| d * d <= *n).all(|d| n % d != 0);
    (2..=limit).filter(is_prime).count() as u64
}

fn main() -> Result<(), Box<dyn Error>> {
    Runtime::new()?.block_on(run())
}

async fn run() -> Result<(), Box<dyn Error>> {
    let cache = Arc::new(Cache::default());
    for round in 1..=ROUNDS {
        let mut tasks = JoinSet::new();
        for request in 0..REQUESTS {
            let cache = cache.clone();
            let (limit, expected) = PRIMES[request % PRIMES.len()];
            tasks.spawn(async move { Ok::<_, JoinError>((cache.get(limit).await?, expected)) });
        }
        while let Some(answer) = tasks.join_next().await {
            let (count, expected) = answer??;
            assert_eq!(count, expected, "every task gets the right answer");
        }
        println!("round {round}: {REQUESTS} requests answered");
    }

    let fills = cache.fills.load(Ordering::Relaxed);
    let hits = cache.hits.load(Ordering::Relaxed);
    let late_hits = cache.late_hits.load(Ordering::Relaxed);
    let followers = cache.flown.load(Ordering::Relaxed) - fills - late_hits;
    println!(
        "{:>5} requests for {} keys",
        ROUNDS * REQUESTS,
        PRIMES.len()
    );
    println!("{fills:>5} fills");
    println!("{hits:>5} hits at the first look");
    println!("{late_hits:>5} hits at the second look, by a leader");
    println!("{followers:>5} followers of a leader");

    assert_eq!(fills, PRIMES.len(), "each value is made once");
    assert_eq!(
        fills + hits + late_hits + followers,
        ROUNDS * REQUESTS,
        "each request is counted once"
    );
    assert_eq!(cache.flights.in_flight(), 0, "nothing is left");
    Ok(())
}
