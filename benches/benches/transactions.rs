//! One thread moves money between cells that nobody else uses, and adds it up: transactions and snapshots, and what
//! else would do.

mod settings;

use std::time::Instant;

use criterion::Criterion;
use latchwork::{VersionedCell, atomically};
use latchwork_bench::transactions::{
    ACCOUNTS, Bank, Cells, FUNDS, Locks, Ordered, Stm, pairs, sums_of_two, totals, transfers,
};

/// Measures each of these, which do as many operations as they are told.
fn over(criterion: &mut Criterion, name: &str, contenders: &[(&str, &dyn Fn(u64))]) {
    let mut group = criterion.benchmark_group(name);
    for (name, run) in contenders {
        group.bench_function(*name, |bencher| {
            bencher.iter_custom(|times| {
                let start = Instant::now();
                run(times);
                start.elapsed()
            });
        });
    }
    group.finish();
}

fn two_of_many(criterion: &mut Criterion) {
    let (cells, stm, locks) = (
        &Cells::new(ACCOUNTS),
        &Stm::new(ACCOUNTS),
        &Ordered::new(ACCOUNTS),
    );
    let pairs = &pairs(ACCOUNTS, 1);
    let transfer: &[(&str, &dyn Fn(u64))] = &[
        ("cells", &|times| transfers(cells, pairs, times)),
        ("stm", &|times| transfers(stm, pairs, times)),
        ("ordered mutexes", &|times| transfers(locks, pairs, times)),
    ];
    over(criterion, "transactions: transfer", transfer);
    let read: &[(&str, &dyn Fn(u64))] = &[
        ("cells", &|times| sums_of_two(cells, pairs, times)),
        ("stm", &|times| sums_of_two(stm, pairs, times)),
        ("ordered mutexes", &|times| sums_of_two(locks, pairs, times)),
    ];
    over(criterion, "transactions: read two cells", read);
}

fn one(criterion: &mut Criterion) {
    let cell = &VersionedCell::new(0_u64);
    let update: &[(&str, &dyn Fn(u64))] = &[
        ("transaction", &|times| {
            (0..times).for_each(|_| atomically(|tx| tx.update(cell, |n| n + 1)));
        }),
        ("update", &|times| {
            (0..times).for_each(|_| {
                cell.update(|n| n + 1);
            });
        }),
    ];
    over(criterion, "transactions: one cell", update);
}

fn seen<const N: usize>(criterion: &mut Criterion) {
    let (cells, locks) = (
        &[(); N].map(|()| VersionedCell::new(FUNDS)),
        &Locks::<N>::default(),
    );
    let total: &[(&str, &dyn Fn(u64))] = &[
        ("snapshot", &|times| totals(cells, times)),
        ("ordered mutexes", &|times| locks.totals(times)),
    ];
    over(criterion, &format!("snapshots: {N} cells"), total);
}

fn main() {
    let mut criterion = settings::criterion();
    two_of_many(&mut criterion);
    one(&mut criterion);
    seen::<2>(&mut criterion);
    seen::<32>(&mut criterion);
    criterion.final_summary();
}
