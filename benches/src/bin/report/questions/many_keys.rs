//! What does it cost to lock several keys together?

use latchwork::{LockTable, RandomState};
use latchwork_bench::peers::{Exclusive, HoldThree, Lockmap, PaddedMutexes, TryAll, TryThree};
use latchwork_bench::ratio::{Contender, Plan, compare, timed};
use latchwork_bench::workload::{KEYS, distinct_triples, each_triple};

use super::Question;
use crate::row::Row;

pub(super) const QUESTION: Question = Question {
    name: "lock_all",
    title: "Three keys together",
    prose: "One thread locks three random keys by one call and unlocks them. The baseline hashes the three, sorts the \
            indices, skips duplicates, and locks the mutexes of the padded array in that order. `lockmap`'s \
            `batch_lock` does the same for a set of keys.",
    measure,
};

fn measure(plan: Plan) -> Vec<Row> {
    let triples = distinct_triples(KEYS, 3);
    let against_mutexes = compare(plan, || {
        let hasher = RandomState::default();
        let mutexes = PaddedMutexes::<KEYS>::new(hasher.clone());
        let table = Exclusive(LockTable::with_hasher(hasher));
        (over(plan, &triples, table), over(plan, &triples, mutexes))
    });
    let tried = compare(plan, || {
        let hasher = RandomState::default();
        let mutexes = TryThree(PaddedMutexes::<KEYS>::new(hasher.clone()));
        let table = TryAll(LockTable::with_hasher(hasher));
        (over(plan, &triples, table), over(plan, &triples, mutexes))
    });
    let against_lockmap = compare(plan, || {
        let table = Exclusive(LockTable::new());
        (
            over(plan, &triples, table),
            over(plan, &triples, Lockmap::new()),
        )
    });
    vec![
        Row::time(
            "`lock_all`, three u64 keys",
            "three padded `Mutex`es",
            &against_mutexes,
        )
        .at_most(1.6),
        Row::time(
            "`try_lock_all`, three u64 keys",
            "three `try_lock`s of them",
            &tried,
        )
        .at_most(1.6),
        Row::time(
            "`lock_all`, three u64 keys",
            "lockmap, `batch_lock`",
            &against_lockmap,
        ),
    ]
}

fn over<'a, L: HoldThree + 'a>(plan: Plan, triples: &'a [[u64; 3]], locks: L) -> Contender<'a> {
    timed(plan.span, move |times| each_triple(&locks, triples, times))
}
