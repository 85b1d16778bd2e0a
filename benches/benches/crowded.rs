//! One thread locks and unlocks one more key beside many that are held.

mod settings;

use std::time::Instant;

use criterion::BenchmarkId;
use latchwork::LockTable;
use latchwork_bench::peers::Exclusive;
use latchwork_bench::workload::{distinct_keys, each_key};

fn main() {
    let mut criterion = settings::criterion();
    let keys = distinct_keys(1_000_000, 21);
    let others = distinct_keys(64, 22);
    let mut group = criterion.benchmark_group("another key beside held ones");
    for held in [0, 1_000, 1_000_000] {
        for concurrency in [None, Some(held)] {
            let builder = LockTable::<u64>::builder();
            let (name, table) = match concurrency {
                None => ("default", builder.build()),
                Some(expected) => ("concurrency told", builder.concurrency(expected).build()),
            };
            let guards: Vec<_> = keys[..held].iter().map(|key| table.lock(key)).collect();
            group.bench_function(BenchmarkId::new(name, held), |bencher| {
                bencher.iter_custom(|times| {
                    let start = Instant::now();
                    each_key(&Exclusive(&table), &others, times);
                    start.elapsed()
                });
            });
            drop(guards);
        }
    }
    group.finish();
    criterion.final_summary();
}
