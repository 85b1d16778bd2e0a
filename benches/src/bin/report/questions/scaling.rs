//! Do two threads that lock different keys do twice the work of one?

use latchwork::{LockTable, RandomState};
use latchwork_bench::control;
use latchwork_bench::peers::{Exclusive, KeyLock, Lockmap, PaddedMutexes};
use latchwork_bench::ratio::{Plan, Quartiles, in_turn};
use latchwork_bench::throughput;
use latchwork_bench::workload::{KEYS, distinct_keys, until};

use super::Question;
use crate::row::Row;

pub(super) const QUESTION: Question = Question {
    name: "scaling",
    title: "Two threads, different keys",
    prose: "Two threads lock keys of their own, against one of them alone. Before and after, each round also runs the \
            control: two threads that each add to a counter on a cache line of their own, which should do exactly \
            twice the work of one. If they do not do 1.85 to 2.2 times as much, the machine was disturbed, and the \
            round is not used. With *one key each* the two keys are new in each round. With *1,024 keys each* both \
            threads write all parts of one array of slots, eight slots to a cache line: lines move between the cores \
            although no key is shared. An array of padded mutexes avoids that at sixteen times the memory.",
    measure,
};

/// Two threads' keys.
type Keys = [Vec<u64>; 2];

fn measure(plan: Plan) -> Vec<Row> {
    let hasher = RandomState::default();
    let mutexes = PaddedMutexes::<KEYS>::new(hasher.clone());
    let table = Exclusive(LockTable::with_hasher(hasher));
    let lockmap = Lockmap::new();
    let one_each = |round: u64| [distinct_keys(1, 2 * round), distinct_keys(1, 2 * round + 1)];
    let many_each = |round: u64| {
        [
            distinct_keys(1024, 2 * round),
            distinct_keys(1024, 2 * round + 1),
        ]
    };
    vec![
        scaling(plan, "one key each", &table, one_each).at_least(1.8),
        scaling(plan, "one key each: padded `Mutex`", &mutexes, one_each),
        scaling(plan, "one key each: lockmap", &lockmap, one_each),
        scaling(plan, "1,024 keys each", &table, many_each),
        scaling(plan, "1,024 keys each: padded `Mutex`", &mutexes, many_each),
        scaling(plan, "1,024 keys each: lockmap", &lockmap, many_each),
    ]
}

fn scaling<L: KeyLock<u64>>(plan: Plan, what: &str, locks: &L, keys: impl Fn(u64) -> Keys) -> Row {
    believed(plan, what, |round, threads| {
        let keys = keys(round);
        let work = |index: usize, stop: &_| until(locks, &keys[index], stop);
        throughput::run(threads, plan.crowd_span, work).rate()
    })
}

/// Runs rounds until there are enough to believe, or three times as many were tried. `rate`
/// receives the round, and the number of threads to use.
pub(super) fn believed(plan: Plan, what: &str, rate: impl Fn(u64, usize) -> f64) -> Row {
    let mut believed = Vec::new();
    let mut tried = 0;
    while believed.len() < plan.rounds && tried < 3 * plan.rounds {
        let subject = |threads| rate(tried as u64, threads);
        let before = control::scaling(tried, plan.crowd_span);
        let (one, two) = in_turn(tried, || subject(1), || subject(2));
        let after = control::scaling(tried + 1, plan.crowd_span);
        if control::is_believed(before, after) {
            believed.push((two / one, [before, after]));
        }
        tried += 1;
    }
    let control = Quartiles::of(believed.iter().flat_map(|round| round.1))
        .map_or_else(String::new, |control| {
            format!("control {:.2}, ", control.median)
        });
    let context = format!("{control}{} of {tried} rounds believed", believed.len());
    Row::scaling(
        what,
        Quartiles::of(believed.iter().map(|round| round.0)),
        context,
    )
}
