//! Do two threads that update different cells do twice the work of one?

use arc_swap::ArcSwap;
use crossbeam_utils::CachePadded;
use latchwork::VersionedCell;
use latchwork_bench::cells::{ByHand, Update, Value, updates_until};
use latchwork_bench::ratio::Plan;
use latchwork_bench::throughput;

use super::super::Question;
use super::super::scaling;
use super::{BY_HAND, RCU};
use crate::row::Row;

pub(in super::super) const QUESTION: Question = Question {
    name: "cells-apart",
    title: "Cells: two threads, different cells",
    prose: "Two threads, each updating a cell of its own on a cache line of its own, against one of them alone. The \
            control is that of *Two threads, different keys*. The threads are new in every run, and so begin without \
            memory of their own.",
    measure,
};

fn measure(plan: Plan) -> Vec<Row> {
    let cells = || VersionedCell::new(u64::FIRST);
    let swaps = || ArcSwap::from_pointee(u64::FIRST);
    let by_hand = || ByHand::new(u64::FIRST);
    vec![
        apart(plan, "`update`", cells).at_least(1.5),
        apart(plan, RCU, swaps),
        apart(plan, BY_HAND, by_hand),
    ]
}

fn apart<C: Update>(plan: Plan, what: &str, cell: impl Fn() -> C) -> Row {
    let cells = [cell(), cell()].map(CachePadded::new);
    scaling::believed(plan, what, |_, threads| {
        let work = |index: usize, stop: &_| updates_until(&*cells[index], stop);
        throughput::run(threads, plan.crowd_span, work).rate()
    })
}
