//! One thread locks three keys together: the table, its floor, and a crate that locks sets of keys.

mod settings;

use std::time::Instant;

use latchwork::{LockTable, RandomState};
use latchwork_bench::peers::{Exclusive, HoldThree, Lockmap, PaddedMutexes, TryAll, TryThree};
use latchwork_bench::workload::{KEYS, distinct_triples, each_triple};

fn main() {
    let mut criterion = settings::criterion();
    let triples = distinct_triples(KEYS, 3);
    let mut group = criterion.benchmark_group("three of 4096 keys");
    let mutexes = || PaddedMutexes::<KEYS>::new(RandomState::default());
    let mut over = |name, run: &dyn Fn(u64)| {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|times| {
                let start = Instant::now();
                run(times);
                start.elapsed()
            });
        });
    };
    over("lock_all", &of(Exclusive(LockTable::new()), &triples));
    over("try_lock_all", &of(TryAll(LockTable::new()), &triples));
    over("padded mutexes, sorted", &of(mutexes(), &triples));
    over(
        "padded mutexes, sorted, tried",
        &of(TryThree(mutexes()), &triples),
    );
    over("lockmap, batch_lock", &of(Lockmap::new(), &triples));
    group.finish();
    criterion.final_summary();
}

fn of<'a, L: HoldThree + 'a>(locks: L, triples: &'a [[u64; 3]]) -> impl Fn(u64) + 'a {
    move |times| each_triple(&locks, triples, times)
}
