//! One thread locks and unlocks keys that nobody holds: the table, its floor, and other crates.

mod settings;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion};
use latchwork::{LockTable, RandomState};
use latchwork_bench::peers::{
    Dash, Exclusive, KeyLock, Keyed, Lockmap, PaddedMutexes, PaddedRwLocks, Pool, Shared,
};
use latchwork_bench::workload::{KEYS, distinct_keys, each_key, text_keys};

/// Measures one lock of `keys` after the other.
fn over<K: Copy>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    keys: &[K],
    locks: impl KeyLock<K>,
) {
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|times| {
            let start = std::time::Instant::now();
            each_key(&locks, keys, times);
            start.elapsed()
        });
    });
}

fn numbers(criterion: &mut Criterion, name: &str, keys: &[u64]) {
    let mut group = criterion.benchmark_group(name);
    let hasher = RandomState::default;
    over(
        &mut group,
        "exclusive",
        keys,
        Exclusive(LockTable::<u64>::new()),
    );
    over(&mut group, "shared", keys, Shared(LockTable::<u64>::new()));
    over(
        &mut group,
        "padded mutexes",
        keys,
        PaddedMutexes::<KEYS>::new(hasher()),
    );
    over(
        &mut group,
        "padded rwlocks, read",
        keys,
        PaddedRwLocks::<KEYS>::new(hasher()),
    );
    over(&mut group, "lockmap", keys, Lockmap::new());
    over(&mut group, "keyed-lock", keys, Keyed::new());
    over(&mut group, "lockable", keys, Pool::new());
    over(&mut group, "dashmap", keys, Dash::new());
    group.finish();
}

fn text(criterion: &mut Criterion) {
    let keys = text_keys();
    let mut group = criterion.benchmark_group("uncontended: &str, 4096 keys");
    let hasher = RandomState::default;
    over(
        &mut group,
        "exclusive",
        keys,
        Exclusive(LockTable::<str>::new()),
    );
    over(
        &mut group,
        "padded mutexes",
        keys,
        PaddedMutexes::<KEYS>::new(hasher()),
    );
    over(&mut group, "lockmap", keys, Lockmap::new());
    group.finish();
}

fn main() {
    let mut criterion = settings::criterion();
    numbers(
        &mut criterion,
        "uncontended: u64, one key",
        &[distinct_keys(1, 1)[0]; 64],
    );
    numbers(
        &mut criterion,
        "uncontended: u64, 4096 keys",
        &distinct_keys(KEYS, 2),
    );
    text(&mut criterion);
    criterion.final_summary();
}
