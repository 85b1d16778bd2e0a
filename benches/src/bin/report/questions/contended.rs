//! What happens when more threads than cores lock few keys?

use latchwork::{Fairness, LockTable, RandomState};
use latchwork_bench::peers::{Exclusive, KeyLock, Lockmap, PaddedMutexes};
use latchwork_bench::ratio::{Comparison, Contender, Plan, compare};
use latchwork_bench::throughput;
use latchwork_bench::workload::{Counters, increments, spread_keys};

use super::Question;
use crate::row::Row;

pub(super) const QUESTION: Question = Question {
    name: "contended",
    title: "Contended keys",
    prose: "Each thread locks a random one of a few keys, adds one to the counter of that key by a load and a store, \
            and unlocks. The baseline is an array of as many padded mutexes, and the keys are chosen so that each has \
            a mutex of its own. The counters are checked after each run: a lost count would be a broken lock. `Fifo` \
            grants the lock to the longest waiter, which has yielded or parked: each lock costs a context switch, \
            which is the price of the order.",
    measure,
};

fn measure(plan: Plan) -> Vec<Row> {
    let mut rows = Vec::new();
    for threads in [8, 4, 2] {
        let result = against_mutexes::<16>(plan, threads, Fairness::Eventual);
        let row = Row::throughput(&what(threads, 16, ""), "padded `Mutex`", &result);
        rows.push(if threads == 8 {
            row.at_least(0.95)
        } else {
            row
        });
        let result = against_mutexes::<1>(plan, threads, Fairness::Eventual);
        rows.push(Row::throughput(
            &what(threads, 1, ""),
            "padded `Mutex`",
            &result,
        ));
    }
    for threads in [8, 2] {
        let result = against_mutexes::<16>(plan, threads, Fairness::Fifo);
        rows.push(Row::throughput(
            &what(threads, 16, ", `Fifo`"),
            "padded `Mutex`",
            &result,
        ));
    }
    let against_lockmap = compare(plan, || {
        let hasher = RandomState::default();
        let keys = spread_keys(16, &hasher);
        let table = Exclusive(LockTable::with_hasher(hasher));
        (
            crowd(plan, 8, table, keys.clone()),
            crowd(plan, 8, Lockmap::new(), keys),
        )
    });
    rows.push(Row::throughput(
        &what(8, 16, ""),
        "lockmap",
        &against_lockmap,
    ));
    rows
}

fn what(threads: usize, keys: usize, suffix: &str) -> String {
    let noun = if keys == 1 { "key" } else { "keys" };
    format!("{threads} threads, {keys} {noun}{suffix}")
}

fn against_mutexes<const N: usize>(plan: Plan, threads: usize, fairness: Fairness) -> Comparison {
    compare(plan, || {
        let hasher = RandomState::default();
        let keys = spread_keys(N, &hasher);
        let mutexes = PaddedMutexes::<N>::new(hasher.clone());
        let table = LockTable::builder()
            .hasher(hasher)
            .fairness(fairness)
            .build();
        (
            crowd(plan, threads, Exclusive(table), keys.clone()),
            crowd(plan, threads, mutexes, keys),
        )
    })
}

/// A contender that lets `threads` threads increment, and checks that no count was lost.
fn crowd<L: KeyLock<u64> + 'static>(
    plan: Plan,
    threads: usize,
    locks: L,
    keys: Vec<u64>,
) -> Contender<'static> {
    let counters = Counters::new(keys.len());
    let mut expected = 0;
    Box::new(move || {
        let run = throughput::run(threads, plan.crowd_span, |index, stop| {
            increments(&locks, &keys, &counters, expected + index as u64, stop)
        });
        expected += run.done;
        assert_eq!(counters.sum(), expected, "two threads were inside at once");
        run.rate()
    })
}
