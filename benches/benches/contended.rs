//! Several threads increment counters under the locks of a few keys.

mod settings;

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use latchwork::{Fairness, LockTable, RandomState};
use latchwork_bench::peers::{Exclusive, KeyLock, Lockmap, PaddedMutexes};
use latchwork_bench::throughput;
use latchwork_bench::workload::{Counters, increments, spread_keys};

fn crowd<const N: usize>(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group(format!("increments, keys: {N}"));
    group.throughput(Throughput::Elements(1));
    let hasher = RandomState::default();
    let keys = spread_keys(N, &hasher);
    let table = |fairness| {
        let builder = LockTable::<u64>::builder().hasher(hasher.clone());
        Exclusive(builder.fairness(fairness).build())
    };
    let eventual = table(Fairness::Eventual);
    let fifo = table(Fairness::Fifo);
    let mutexes = PaddedMutexes::<N>::new(hasher.clone());
    let lockmap = Lockmap::new();
    for threads in [2, 8] {
        let mut over = |name, run: &dyn Fn(u64) -> Duration| {
            group.bench_function(BenchmarkId::new(name, threads), |bencher| {
                bencher.iter_custom(run);
            });
        };
        over("table", &|times| timed(&eventual, &keys, threads, times));
        over("table, fifo", &|times| timed(&fifo, &keys, threads, times));
        over("padded mutexes", &|times| {
            timed(&mutexes, &keys, threads, times)
        });
        over("lockmap", &|times| timed(&lockmap, &keys, threads, times));
    }
    group.finish();
}

/// How long `threads` threads take for `times` increments together, from what they do in one short run.
fn timed<L: KeyLock<u64>>(locks: &L, keys: &[u64], threads: usize, times: u64) -> Duration {
    const SPAN: Duration = Duration::from_millis(10);
    let counters = Counters::new(keys.len());
    let run = throughput::run(threads, SPAN, |index, stop| {
        increments(locks, keys, &counters, index as u64, stop)
    });
    assert_eq!(counters.sum(), run.done, "two threads were inside at once");
    run.took.mul_f64(times as f64 / run.done as f64)
}

fn main() {
    let mut criterion = settings::criterion();
    crowd::<16>(&mut criterion);
    crowd::<1>(&mut criterion);
    criterion.final_summary();
}
