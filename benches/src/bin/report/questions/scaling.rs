//! Do two threads that lock different keys do twice the work of one?

use std::ops::RangeInclusive;

use latchwork::{LockTable, RandomState};
use latchwork_bench::control;
use latchwork_bench::peers::{Exclusive, KeyLock, Lockmap, PaddedMutexes};
use latchwork_bench::ratio::{Plan, Quartiles};
use latchwork_bench::throughput;
use latchwork_bench::workload::{KEYS, distinct_keys, until};

use super::Question;
use crate::row::Row;

pub(super) const QUESTION: Question = Question {
    name: "scaling",
    title: "Two threads, different keys",
    prose: "Two threads that lock keys of their own, against one of them alone. Each round also runs the control: two \
            threads that each add to a counter on a cache line of their own, which should do exactly twice what one \
            does; where they do not do 1.9 to 2.1 times as much, the machine was disturbed, and the round says nothing of the lock table \
            and is left out. With *one key each* the two keys are new in every round. With *1,024 keys each* both \
            threads write all over the same array of slots, eight slots to a cache line: lines travel between the \
            cores although no key is shared, which an array of padded mutexes avoids at sixteen times the memory.",
    measure,
};

/// The scaling that the control must reach for a round to count. More than twice is as wrong as too
/// little: then only the run with one thread was delayed.
const CONTROL: RangeInclusive<f64> = 1.9..=2.1;

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
        let counted = |threads| control::rate(threads, plan.crowd_span);
        // The control's runs surround the subject's: a disturbance of those disturbs the control as
        // well.
        let (control, subject) = if tried % 2 == 0 {
            let (control, one) = (counted(1), subject(1));
            let subject = subject(2) / one;
            (counted(2) / control, subject)
        } else {
            let (control, two) = (counted(2), subject(2));
            let subject = two / subject(1);
            (control / counted(1), subject)
        };
        if CONTROL.contains(&control) {
            believed.push((subject, control));
        }
        tried += 1;
    }
    let control = Quartiles::of(believed.iter().map(|round| round.1))
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
