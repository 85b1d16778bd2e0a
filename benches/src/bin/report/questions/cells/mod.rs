//! What does it cost to read and to replace a value as a whole?

pub(super) mod alone;
pub(crate) mod crowd;
pub(crate) mod memory;
pub(super) mod plain;

use latchwork_bench::cells::{self, Conditional, Read, Update, Value, Write};
use latchwork_bench::ratio::{Contender, Plan, timed};

const LOAD: &str = "`ArcSwap::load`";
const RCU: &str = "`ArcSwap::rcu`";
const BY_HAND: &str = "epoch and `Box` by hand";
const STD: &str = "`std::sync::RwLock`";
const PARKING_LOT: &str = "`parking_lot::RwLock`";

/// A place for a contender until the program ends: a few words each, and no borrow to carry about.
fn placed<C>(contender: C) -> &'static C {
    Box::leak(Box::new(contender))
}

/// Reads by what `reader` makes anew for each run.
fn reads<T: Value, R: Read<T>>(plan: Plan, reader: impl Fn() -> R + 'static) -> Contender<'static> {
    timed(plan.span, move |times| cells::reads(reader(), times))
}

fn writes<T: Value>(plan: Plan, cell: impl Write<T> + 'static) -> Contender<'static> {
    timed(plan.span, move |times| cells::writes(&cell, times))
}

fn updates(plan: Plan, cell: impl Update + 'static) -> Contender<'static> {
    timed(plan.span, move |times| cells::updates(&cell, times))
}

fn conditional<T: Value>(plan: Plan, cell: impl Conditional<T> + 'static) -> Contender<'static> {
    timed(plan.span, move |times| {
        cells::conditional_writes(&cell, times);
    })
}
