//! One thread moves money between cells that no other thread uses, and sums them: transactions and
//! snapshots, and their alternatives.

mod alone;
mod settings;

use criterion::Criterion;
use latchwork::{VersionedCell, atomically};
use latchwork_bench::transactions::{
    ACCOUNTS, Bank, ByLockmap, ByTable, Cells, FUNDS, Global, Happy, Locks, Ordered, OrderedRw,
    Stm, Striped, pairs, sums_of_two, totals, transfers,
};

type Pairs = [(usize, usize)];

fn transfer<B: Bank>(pairs: &Pairs) -> impl Fn(u64) {
    let bank = B::new(ACCOUNTS);
    move |times| transfers(&bank, pairs, times)
}

fn read<B: Bank>(pairs: &Pairs) -> impl Fn(u64) {
    let bank = B::new(ACCOUNTS);
    move |times| sums_of_two(&bank, pairs, times)
}

/// Asks every bank for the same.
macro_rules! banks {
    ($criterion:expr, $name:literal, $asked:ident, $pairs:expr) => {
        alone::ask(
            $criterion,
            $name,
            &[
                ("cells", &$asked::<Cells>($pairs)),
                ("LockTable, lock_all", &$asked::<ByTable>($pairs)),
                ("stm", &$asked::<Stm>($pairs)),
                ("ordered mutexes", &$asked::<Ordered>($pairs)),
                ("ordered rwlocks", &$asked::<OrderedRw>($pairs)),
                ("64 mutexes, ordered", &$asked::<Striped>($pairs)),
                ("happylock", &$asked::<Happy>($pairs)),
                ("lockmap, batch_lock", &$asked::<ByLockmap>($pairs)),
                ("one mutex", &$asked::<Global>($pairs)),
            ],
        )
    };
}

fn two_of_many(criterion: &mut Criterion) {
    let pairs = &pairs(ACCOUNTS, 1);
    banks!(criterion, "transactions: transfer", transfer, pairs);
    banks!(criterion, "transactions: read two cells", read, pairs);
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
    alone::ask(criterion, "transactions: one cell", update);
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
    alone::ask(criterion, &format!("snapshots: {N} cells"), total);
}

fn main() {
    let mut criterion = settings::criterion();
    two_of_many(&mut criterion);
    one(&mut criterion);
    seen::<2>(&mut criterion);
    seen::<32>(&mut criterion);
    criterion.final_summary();
}
