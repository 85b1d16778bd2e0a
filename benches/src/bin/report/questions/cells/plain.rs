//! How much would a second way to store small plain data gain?

use crossbeam_utils::CachePadded;
use crossbeam_utils::atomic::AtomicCell;
use latchwork::VersionedCell;
use latchwork_bench::cells::{Pair, Pinned, Seqlock, Update, Value, updates_until};
use latchwork_bench::ratio::{Contender, Plan, compare};
use latchwork_bench::throughput;

use super::super::Question;
use super::{placed, reads, updates, writes};
use crate::row::Row;

pub(in super::super) const QUESTION: Question = Question {
    name: "cells-plain",
    title: "Cells: two words of plain data",
    prose: "A prototype that is not in the crate: two atomic words under a version that is odd during a write (a \
            sequence lock). It is compared with `crossbeam_utils`' `AtomicCell` of the same 16 bytes, which keeps its \
            versions in a table of locks, by address, and with a cell. The bounds are targets for such a storage. It \
            allocates and reclaims nothing. In return a suspended writer blocks all other threads (*8 threads* on one \
            value shows it), a read copies the value, and there are no previous values for owned snapshots or for \
            snapshots of many cells.",
    measure,
};

const PROTOTYPE: &str = "words under a version";
const ATOMIC: &str = "`AtomicCell`";

fn measure(plan: Plan) -> Vec<Row> {
    let seqlock = || Seqlock::new(Pair::FIRST);
    let atomic = || AtomicCell::new(Pair::FIRST);
    let cell = || VersionedCell::new(Pair::FIRST);
    let read = || {
        let place = placed(seqlock());
        reads(plan, move || place)
    };
    let what = |of: &str| format!("{PROTOTYPE}, {of}");
    let mut rows = Vec::new();

    let result = compare(plan, || {
        let place = placed(atomic());
        (read(), reads(plan, move || place))
    });
    rows.push(Row::time(&what("read"), ATOMIC, &result).at_most(2.0));
    let result = compare(plan, || {
        let place = placed(cell());
        (read(), reads(plan, move || place))
    });
    rows.push(Row::time(&what("read"), "`VersionedCell::read`", &result));
    let result = compare(plan, || {
        let place = placed(cell());
        (read(), reads(plan, move || Pinned::of(place)))
    });
    rows.push(Row::time(
        &what("read"),
        "`VersionedCell::read_in`",
        &result,
    ));

    let result = compare(plan, || (writes(plan, seqlock()), writes(plan, atomic())));
    rows.push(Row::time(&what("write"), ATOMIC, &result).at_most(3.0));
    let result = compare(plan, || (writes(plan, seqlock()), writes(plan, cell())));
    rows.push(Row::time(&what("write"), "`VersionedCell::set`", &result));
    let result = compare(plan, || (updates(plan, seqlock()), updates(plan, atomic())));
    rows.push(Row::time(&what("update"), ATOMIC, &result));
    let result = compare(plan, || (updates(plan, seqlock()), updates(plan, cell())));
    rows.push(Row::time(
        &what("update"),
        "`VersionedCell::update`",
        &result,
    ));

    let eight = "8 threads update one";
    let result = compare(plan, || (crowd(plan, seqlock()), crowd(plan, atomic())));
    rows.push(Row::throughput(&what(eight), ATOMIC, &result));
    let result = compare(plan, || (crowd(plan, seqlock()), crowd(plan, cell())));
    rows.push(Row::throughput(
        &what(eight),
        "`VersionedCell::update`",
        &result,
    ));
    rows.into_iter().map(Row::against_itself).collect()
}

fn crowd(plan: Plan, cell: impl Update + 'static) -> Contender<'static> {
    let cell = CachePadded::new(cell);
    Box::new(move || {
        throughput::run(8, plan.crowd_span, |_, stop| updates_until(&*cell, stop)).rate()
    })
}
