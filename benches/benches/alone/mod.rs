//! Runs the same operation repeatedly on one thread, each contender in turn, and prints its longest
//! durations.

use std::cell::Cell;
use std::time::Instant;

use criterion::Criterion;
use latchwork_bench::times::Times;

/// Operations that are timed together for their percentiles: a single one is shorter than one read
/// of the clock.
const BATCH: u64 = 64;

/// How many batches are timed.
const BATCHES: u64 = 10_000;

/// Measures each contender as one group. A contender does the number of operations that its
/// argument states.
pub(crate) fn ask(criterion: &mut Criterion, name: &str, contenders: &[(&str, &dyn Fn(u64))]) {
    let mut group = criterion.benchmark_group(name);
    for (name, run) in contenders {
        let asked = Cell::new(0);
        group.bench_function(*name, |bencher| {
            bencher.iter_custom(|times| {
                asked.set(asked.get() + times);
                let start = Instant::now();
                run(times);
                start.elapsed()
            });
        });
        // None where criterion's command line excludes it, and one where criterion only checks that
        // it runs.
        let mut batches = Times::new(1);
        for _ in 0..asked.get().min(BATCHES) {
            batches.around(|| run(BATCH));
        }
        if !batches.is_empty() {
            println!("{:24}{BATCH} together: {}\n", "", batches.in_words());
        }
    }
    group.finish();
}
