//! What do two readers of one key do to each other?

use latchwork::{LockTable, RandomState};
use latchwork_bench::peers::{KeyLock, PaddedRwLocks, Shared};
use latchwork_bench::ratio::{Contender, Plan, compare};
use latchwork_bench::throughput;
use latchwork_bench::workload::{distinct_keys, until};

use super::Question;
use crate::row::Row;

pub(super) const QUESTION: Question = Question {
    name: "readers",
    title: "Readers of one key",
    prose: "Two threads lock one key shared and unlock it. Both write the same word each time, as in `parking_lot`'s \
            `RwLock`, the baseline: readers of one hot key do not scale in either.",
    measure,
};

fn measure(plan: Plan) -> Vec<Row> {
    let keys = [distinct_keys(1, 41)[0]; 64];
    let result = compare(plan, || {
        let hasher = RandomState::default();
        let locks = PaddedRwLocks::<1>::new(hasher.clone());
        let table = Shared(LockTable::with_hasher(hasher));
        (two(plan, &keys, table), two(plan, &keys, locks))
    });
    vec![Row::throughput(
        "2 threads, one key, shared",
        "padded `RwLock`, read",
        &result,
    )]
}

fn two<'a, L: KeyLock<u64> + 'a>(plan: Plan, keys: &'a [u64], locks: L) -> Contender<'a> {
    Box::new(move || {
        throughput::run(2, plan.crowd_span, |_, stop| until(&locks, keys, stop)).rate()
    })
}
