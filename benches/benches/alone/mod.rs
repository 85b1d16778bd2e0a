//! Asks one thread for the same operation over and over, each contender in turn, and prints how
//! long it took at the worst.

use std::cell::Cell;
use std::time::Instant;

use criterion::Criterion;
use latchwork_bench::times::Times;

/// Operations that are timed together for their percentiles: one alone takes less than a look at
/// the clock.
const BATCH: u64 = 64;

/// How many batches are timed.
const BATCHES: u64 = 10_000;

/// Measures each of these, which do as many operations as they are told, as one group.
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
        // None where criterion's command line leaves it out, and one where it only wants to see it
        // run.
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
