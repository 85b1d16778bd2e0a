//! One thread, and no other thread uses the cells.

use std::hint::black_box;
use std::time::Instant;

use latchwork::{VersionedCell, atomically, snapshot};
use latchwork_bench::ratio::{Contender, Plan, compare, timed};
use latchwork_bench::transactions::{
    ACCOUNTS, Bank, Cells, FUNDS, Locks, Ordered, Stm, pairs, sums_of_two, totals, transfers,
    updates_of_two,
};

use super::super::Question;
use super::{ORDERED, STM};
use crate::row::Row;

pub(in super::super) const QUESTION: Question = Question {
    name: "transactions",
    title: "Transactions and snapshots: one thread",
    prose: "One thread, and no other thread uses the cells. *Transfer*: of 1,024 accounts, one has one less \
            afterwards and another one more, including by `update_all`. *Two cells read*: the same accounts, summed \
            in pairs. `stm` is the crate stm 0.4: transactions over boxed values that keep a log by address. The \
            mutexes hold the values themselves, and each thread locks them in one order. That allocates nothing, and \
            a thread that is suspended while it holds one blocks all threads that request it. No cell is written \
            between two snapshots, so that a snapshot does not advance its clock. A million cells are read in the \
            order in which they were made.",
    measure,
};

/// How many cells are many.
const MANY: usize = 1_000_000;

fn transfer<B: Bank + 'static>(plan: Plan) -> Contender<'static> {
    let (bank, pairs) = (B::new(ACCOUNTS), pairs(ACCOUNTS, 1));
    timed(plan.span, move |times| transfers(&bank, &pairs, times))
}

fn update_two(plan: Plan) -> Contender<'static> {
    let (cells, pairs) = (Cells::new(ACCOUNTS), pairs(ACCOUNTS, 1));
    timed(plan.span, move |times| {
        updates_of_two(&cells, &pairs, times)
    })
}

fn two<B: Bank + 'static>(plan: Plan) -> Contender<'static> {
    let (bank, pairs) = (B::new(ACCOUNTS), pairs(ACCOUNTS, 2));
    timed(plan.span, move |times| sums_of_two(&bank, &pairs, times))
}

fn one(plan: Plan) -> Contender<'static> {
    let cell = VersionedCell::new(0_u64);
    timed(plan.span, move |times| {
        for _ in 0..times {
            atomically(|tx| tx.update(&cell, |n| n + 1));
        }
    })
}

fn update(plan: Plan) -> Contender<'static> {
    let cell = VersionedCell::new(0_u64);
    timed(plan.span, move |times| {
        for _ in 0..times {
            cell.update(|n| n + 1);
        }
    })
}

fn seen<const N: usize>(plan: Plan) -> Contender<'static> {
    let cells = [(); N].map(|()| VersionedCell::new(FUNDS));
    timed(plan.span, move |times| totals(&cells, times))
}

fn locked<const N: usize>(plan: Plan) -> Contender<'static> {
    let locks = Locks::<N>::default();
    timed(plan.span, move |times| locks.totals(times))
}

/// Nanoseconds a cell of one run over all of them.
fn each(cells: &[VersionedCell<i64>], total: impl Fn(&[VersionedCell<i64>]) -> i64) -> f64 {
    let start = Instant::now();
    let total = black_box(total(cells));
    let took = start.elapsed();
    assert_eq!(total, cells.len() as i64 * FUNDS, "nobody writes");
    took.as_secs_f64() * 1e9 / cells.len() as f64
}

fn many(plan: Plan) -> Row {
    let plan = Plan {
        rounds: plan.rounds / 4,
        rebuilds: 1,
        ..plan
    };
    let cells = Cells::new(MANY).0;
    let result = compare(plan, || {
        let in_a_snapshot = |cells: &[VersionedCell<i64>]| {
            snapshot(|s| cells.iter().map(|cell| *s.read(cell)).sum::<i64>())
        };
        let under_a_pin = |cells: &[VersionedCell<i64>]| {
            let pin = latchwork::pin();
            cells.iter().map(|cell| *cell.read_in(&pin)).sum()
        };
        let cells = &*cells;
        (
            Box::new(move || each(cells, in_a_snapshot)),
            Box::new(move || each(cells, under_a_pin)),
        )
    });
    let what = "a snapshot of 1,000,000 cells";
    Row::time(what, "reading them under one `ReadPin`", &result)
        .against_itself()
        .at_most(1.5)
}

fn measure(plan: Plan) -> Vec<Row> {
    let row = |what: &str, subject: fn(Plan) -> _, against: &str, baseline: fn(Plan) -> _| {
        let result = compare(plan, || (subject(plan), baseline(plan)));
        Row::time(what, against, &result)
    };
    let (ours, stm, ordered) = (transfer::<Cells>, transfer::<Stm>, transfer::<Ordered>);
    vec![
        row("transfer", ours, STM, stm).at_most(0.45),
        row("transfer", ours, ORDERED, ordered).at_most(8.0),
        row("`update_all` of two", update_two, ORDERED, ordered).at_most(4.0),
        row("two cells read", two::<Cells>, STM, two::<Stm>).at_most(0.2),
        row("two cells read", two::<Cells>, ORDERED, two::<Ordered>).at_most(1.2),
        row("one cell read and written", one, "`update`", update)
            .against_itself()
            .at_most(1.5),
        row("a snapshot of 2 cells", seen::<2>, ORDERED, locked::<2>).at_most(1.6),
        row("a snapshot of 32 cells", seen::<32>, ORDERED, locked::<32>).at_most(0.35),
        many(plan),
    ]
}
