//! One thread, and no other thread uses the value.

use arc_swap::ArcSwap;
use latchwork::VersionedCell;
use latchwork_bench::cells::{ByHand, Cached, LoadFull, Pinned, Shared, Value};
use latchwork_bench::ratio::{Contender, Plan, compare};

use super::super::Question;
use super::{BY_HAND, LOAD, PARKING_LOT, RCU, STD, conditional, placed, reads, updates};
use crate::row::Row;

pub(in super::super) const QUESTION: Question = Question {
    name: "cells",
    title: "Cells: one thread",
    prose: "One thread reads a `u64`, or adds one to it, and no other thread uses it. `read_in` reads under one pin \
            for all reads of a run. `arc_swap::Cache` keeps an `Arc` and checks whether it is still the current one. \
            *By hand* is a box for each value and its version on crossbeam-epoch: pin, load, allocate, \
            compare-and-swap, `defer_destroy`. The locks hold the value itself: a write allocates nothing, and \
            writers and readers wait for each other.",
    measure,
};

/// What to measure of a newly made contender.
type Make = fn(Plan) -> Contender<'static>;

fn cell() -> VersionedCell<u64> {
    VersionedCell::new(u64::FIRST)
}

fn swap() -> ArcSwap<u64> {
    ArcSwap::from_pointee(u64::FIRST)
}

fn read(plan: Plan) -> Contender<'static> {
    let cell = placed(cell());
    reads(plan, move || cell)
}

fn read_in(plan: Plan) -> Contender<'static> {
    let cell = placed(cell());
    reads(plan, move || Pinned::of(cell))
}

fn read_owned(plan: Plan) -> Contender<'static> {
    let cell = placed(cell());
    reads(plan, move || Shared(cell))
}

fn load(plan: Plan) -> Contender<'static> {
    let cell = placed(swap());
    reads(plan, move || cell)
}

fn load_full(plan: Plan) -> Contender<'static> {
    let cell = placed(swap());
    reads(plan, move || LoadFull(cell))
}

fn cache(plan: Plan) -> Contender<'static> {
    let cell = placed(swap());
    reads(plan, move || Cached::of(cell))
}

fn read_by_hand(plan: Plan) -> Contender<'static> {
    let cell = placed(ByHand::new(u64::FIRST));
    reads(plan, move || cell)
}

fn read_std(plan: Plan) -> Contender<'static> {
    let cell = placed(std::sync::RwLock::new(u64::FIRST));
    reads(plan, move || cell)
}

fn read_parking_lot(plan: Plan) -> Contender<'static> {
    let cell = placed(parking_lot::RwLock::new(u64::FIRST));
    reads(plan, move || cell)
}

fn measure(plan: Plan) -> Vec<Row> {
    let row = |what: &str, subject: Make, against: &str, baseline: Make| {
        let result = compare(plan, || (subject(plan), baseline(plan)));
        Row::time(what, against, &result)
    };
    let update: Make = |plan| updates(plan, cell());
    let by_hand: Make = |plan| updates(plan, ByHand::new(u64::FIRST));
    let std: Make = |plan| updates(plan, std::sync::RwLock::new(u64::FIRST));
    let parking_lot: Make = |plan| updates(plan, parking_lot::RwLock::new(u64::FIRST));
    let rcu: Make = |plan| updates(plan, swap());
    let set: Make = |plan| conditional(plan, cell());
    let set_by_hand: Make = |plan| conditional(plan, ByHand::new(u64::FIRST));
    vec![
        row("`read`", read, LOAD, load).at_most(1.0),
        row("`read_in`", read_in, LOAD, load).at_most(0.3),
        row("`read_in`", read_in, "`arc_swap::Cache`", cache),
        row(
            "`read_owned`",
            read_owned,
            "`ArcSwap::load_full`",
            load_full,
        ),
        row("`read`", read, BY_HAND, read_by_hand),
        row("`read`", read, STD, read_std),
        row("`read`", read, PARKING_LOT, read_parking_lot),
        row("`update`", update, RCU, rcu).at_most(0.8),
        row("`update`", update, BY_HAND, by_hand),
        row("`update`", update, STD, std),
        row("`update`", update, PARKING_LOT, parking_lot),
        row("`compare_and_set`", set, BY_HAND, set_by_hand).at_most(1.3),
    ]
}
