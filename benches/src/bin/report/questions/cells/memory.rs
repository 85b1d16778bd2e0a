//! What do many threads, large values, ended threads and idle threads cost?
//!
//! Threads leave traces in a process. So each run is a process of its own, as in
//! the section on more threads than cores.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use latchwork::VersionedCell;
use latchwork_bench::cells::{Value, updates};
use latchwork_bench::crew::{Crew, ENOUGH, Figure, Pool, own_counters};
use latchwork_bench::ratio::{Comparison, Plan, Quartiles, in_turn};
use latchwork_bench::subjects::own_updates;

use super::super::Question;
use super::RCU;
use super::crowd::{self, OURS, numbers_of, once_more};
use crate::row::Row;

pub(in super::super) const QUESTION: Question = Question {
    name: "cells-memory",
    title: "Cells: many threads, large values, ended and idle threads",
    prose: "*8 and 64 threads*: each updates a cell of its own without a pause for 3 seconds; \
            the memory is that of *Cells: more threads than cores*. *Values of 1 MiB*: one \
            thread replaces the value of one cell 2,000 times. The garbage is the most values \
            that were neither current nor dropped after a write, times their size. The cell does \
            not learn the size of memory that a value owns. *Threads that end*: each thread \
            replaces the value of one cell once and ends; counted are the values that are \
            neither current nor dropped when all threads have ended, without a call of `flush`. \
            *Idle threads*: they sleep while one thread updates a cell. First 10 of them have used \
            a cell; then the others are woken, update a cell of their own once, and sleep again. \
            So the same process with the same threads is measured before and after, and the \
            difference is what a write pays for threads that have used cells. The times are \
            medians over 21 believed rounds each: whole runs of about 5 ms, between two runs of \
            the control of *Two threads, different keys*, after 100 ms of updates that do not \
            count. A process without so many gives no number. For comparison, a process with 10 \
            threads in all, in turn with one that has many.",
    measure,
};

/// The option that makes this program one run.
pub(crate) const OPTION: &str = "--memory";

const OWNED: &str = "owned";
const INLINE: &str = "inline";
const ENDED: &str = "ended";
const IDLE: &str = "idle";

/// The idle threads that have used cells, of few.
const FEW: usize = 10;

const MIB: usize = 1 << 20;
const WRITES: usize = 2_000;
const THREADS: usize = 5_000;

fn measure(plan: Plan) -> Vec<Row> {
    let full = plan.rounds == Plan::FULL.rounds;
    let (runs, span, threads, idle) = match full {
        true => (5, 3_000, THREADS, 10_000),
        false => (1, 500, THREADS / 10, 1_000),
    };
    let mut rows = Vec::new();
    for threads in [8, 64] {
        for (contender, bound) in [(OURS, Some(64.0)), (RCU, None)] {
            let run = || crowd::in_a_process(contender, threads, threads, span).grown_mib;
            let grown = quartiles((0..runs).map(|_| run()));
            let what = format!("{contender} by {threads} threads for {span} ms: memory");
            let row = Row::mebibytes(&what, grown);
            rows.push(match bound {
                Some(bound) => row.at_most(bound),
                None => row,
            });
        }
    }
    for (kind, values) in [
        (OWNED, "values that own 1 MiB"),
        (INLINE, "values of 1 MiB"),
    ] {
        let garbage = (0..runs).map(|_| one_number(kind, [WRITES, 0]));
        let what = format!("{values}, one writer: garbage");
        rows.push(Row::mebibytes(&what, quartiles(garbage)).at_most(16.0));
    }
    for at_once in [1, 50] {
        let left = (0..runs).map(|_| one_number(ENDED, [threads, at_once]));
        let what = format!("values left by {threads} threads that end, {at_once} at once");
        let row = Row::times(&what, "", quartiles(left), String::new());
        rows.push(row.at_most(1_000.0));
    }
    let what = format!("`update` beside {idle} idle threads that have used cells");
    let pairs: Vec<_> = (0..runs).map(|_| beside(idle)).collect();
    let before = format!("before all but {FEW} of them have used cells");
    rows.push(idle_row(&what, &before, &pairs).at_most(1.2));
    let many = || beside(idle).0;
    let few = || beside(FEW).0;
    let pairs: Vec<_> = (0..runs).map(|round| in_turn(round, many, few)).collect();
    let apart = format!("in a process with {FEW} threads");
    rows.push(idle_row(&what, &apart, &pairs));
    rows
}

/// The times of an update beside so many idle threads, after and before all have used cells. Not a
/// number if too few rounds are believed.
fn beside(threads: usize) -> (f64, f64) {
    match in_a_process(IDLE, [threads, ENOUGH]).as_slice() {
        &[after, before] => (after, before),
        other => panic!("{IDLE}: two numbers are expected, not {other:?}"),
    }
}

/// A row of pairs of times: beside many threads that have used cells, and beside few.
fn idle_row(what: &str, against: &str, pairs: &[(f64, f64)]) -> Row {
    let believed = pairs.iter().filter(|(many, few)| (many / few).is_finite());
    let believed: Vec<_> = believed.collect();
    let count = format!("{} of {} pairs believed", believed.len(), pairs.len());
    if believed.is_empty() {
        return Row::scaling(what, None, count);
    }
    let of = |number: fn(&(f64, f64)) -> f64| quartiles(believed.iter().map(|pair| number(pair)));
    let result = Comparison {
        ratio: of(|(many, few)| many / few),
        subject: of(|pair| pair.0).median,
        baseline: of(|pair| pair.1).median,
    };
    let row = Row::time(what, against, &result).against_itself();
    let context = format!("{}, {count}", row.context);
    row.with_context(context)
}

fn quartiles(values: impl Iterator<Item = f64>) -> Quartiles {
    Quartiles::of(values).expect("there is a run")
}

fn in_a_process(kind: &str, numbers: [usize; 2]) -> Vec<f64> {
    let [first, second] = numbers.map(|number| number.to_string());
    let printed = once_more(OPTION, &[kind.to_owned(), first, second]);
    numbers_of(&printed).unwrap_or_else(|error| panic!("{kind}: {error}"))
}

fn one_number(kind: &str, numbers: [usize; 2]) -> f64 {
    match in_a_process(kind, numbers).as_slice() {
        &[number] => number,
        other => panic!("{kind}: one number is expected, not {other:?}"),
    }
}

/// Does one run, with the arguments that follow [`OPTION`], and prints its result.
pub(crate) fn one_run(arguments: &[String]) -> Result<(), String> {
    let wrong = || format!("{OPTION} is for this program itself");
    let (kind, numbers) = arguments.split_first().ok_or_else(wrong)?;
    let &[first, second] = numbers_of(&numbers.join(" "))?.as_slice() else {
        return Err(wrong());
    };
    let (first, second) = (first as usize, second as usize);
    let result = match kind.as_str() {
        OWNED => largest(first, || vec![1_u8; MIB].into_boxed_slice()),
        INLINE => on_a_large_stack(move || largest(first, || [1_u8; MIB])),
        ENDED => left_by_ended(first, second) as f64,
        IDLE => {
            let [before, after] = beside_idle(first, second);
            println!("{}", after.unwrap_or(f64::NAN));
            before.unwrap_or(f64::NAN)
        }
        _ => return Err(wrong()),
    };
    println!("{result}");
    Ok(())
}

/// A value that counts how many of it there are.
struct Counted<T> {
    live: Arc<AtomicUsize>,
    _value: T,
}

impl<T> Counted<T> {
    fn new(live: &Arc<AtomicUsize>, value: T) -> Self {
        live.fetch_add(1, Relaxed);
        Self {
            live: Arc::clone(live),
            _value: value,
        }
    }
}

impl<T> Drop for Counted<T> {
    fn drop(&mut self) {
        self.live.fetch_sub(1, Relaxed);
    }
}

/// A value of 1 MiB is copied on the stack some times.
fn on_a_large_stack(work: impl FnOnce() -> f64 + Send) -> f64 {
    thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(64 * MIB);
        let thread = thread.spawn_scoped(scope, work).expect("a thread starts");
        thread.join().expect("the work does not panic")
    })
}

/// Returns the most garbage that one writer of values of 1 MiB leaves after a write, in MiB.
fn largest<T: Send + Sync + 'static>(writes: usize, value: impl Fn() -> T) -> f64 {
    let live = Arc::new(AtomicUsize::new(0));
    let cell = VersionedCell::new(Counted::new(&live, value()));
    let after_writes = (0..writes).map(|_| {
        cell.set(Counted::new(&live, value()));
        live.load(Relaxed) - 1
    });
    after_writes.max().unwrap_or(0) as f64
}

/// Returns how many values are left when so many threads have written once and ended.
fn left_by_ended(threads: usize, at_once: usize) -> usize {
    let live = Arc::new(AtomicUsize::new(0));
    let cell = VersionedCell::new(Counted::new(&live, 0_usize));
    for first in (0..threads).step_by(at_once) {
        thread::scope(|scope| {
            for number in first..threads.min(first + at_once) {
                let (cell, live) = (&cell, &live);
                scope.spawn(move || {
                    cell.set(Counted::new(live, number));
                });
            }
        });
    }
    live.load(Relaxed) - 1
}

/// Returns the nanoseconds of an update beside so many idle threads, before and after all but
/// [`FEW`] of them have used cells: the median over rounds, or `None` if too few are believed.
fn beside_idle(threads: usize, enough: usize) -> [Option<f64>; 2] {
    const SPAN: Duration = Duration::from_millis(5);
    const UNCOUNTED: usize = 20;
    const PATIENCE: usize = 6;
    let (ready, idle) = mpsc::channel();
    let idlers = (0..threads).map(|number| {
        let ready = ready.clone();
        let (wake, woken) = mpsc::channel::<()>();
        // They never end: the process ends them.
        let thread = thread::Builder::new().stack_size(64 << 10);
        let thread = thread.spawn(move || {
            let mut is_user = number < FEW;
            loop {
                if is_user {
                    updates(&VersionedCell::new(u64::FIRST), 1);
                }
                ready.send(()).expect("the other thread counts");
                if woken.recv().is_err() {
                    return;
                }
                is_user = true;
            }
        });
        thread.expect("a thread starts");
        wake
    });
    let idlers: Vec<_> = idlers.collect();
    let wait = |n| assert_eq!(idle.iter().take(n).count(), n);
    wait(threads);
    let crew = Crew::new();
    let control = crew.pace(own_counters(), SPAN);
    let update = crew.pace(own_updates(|| VersionedCell::new(u64::FIRST)), SPAN);
    let sides = [control.clone(), update];
    let times = [false, true].map(|all| {
        let others = idlers.iter().skip(FEW).filter(|_| all);
        let woken = others.map(|wake| wake.send(()).expect("it waits"));
        wait(woken.count());
        for number in 0..UNCOUNTED {
            let _ = crew.round(number, &sides, &control);
        }
        let (mut rounds, mut believed) = (Vec::new(), 0);
        while believed < enough && rounds.len() < PATIENCE * enough {
            let round = crew.round(rounds.len(), &sides, &control);
            believed += usize::from(round.is_believed());
            rounds.push(round);
        }
        let pool = Pool::of(Figure::Difference, &rounds);
        pool.figure.map(|_| pool.nanos[1])
    });
    // They sleep until the process ends.
    core::mem::forget(idlers);
    times
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_are_kept_count_as_garbage() {
        let live = Arc::new(AtomicUsize::new(0));
        let kept: Vec<_> = (0..3).map(|n| Counted::new(&live, n)).collect();
        assert_eq!(live.load(Relaxed), 3);
        drop(kept);
        assert_eq!(live.load(Relaxed), 0);
        // Under a pin, nothing that is replaced is dropped.
        let pin = latchwork::pin();
        assert_eq!(largest(7, || 0_u8), 7.0);
        drop(pin);
    }

    #[test]
    fn all_threads_that_end_have_written() {
        let pin = latchwork::pin();
        assert_eq!(left_by_ended(7, 3), 7);
        drop(pin);
        assert!(left_by_ended(7, 1) <= 7);
    }

    #[test]
    fn an_update_beside_idle_threads_needs_enough_believed_rounds() {
        assert_eq!(beside_idle(FEW + 3, 1), [None, None]);
    }

    #[test]
    fn pairs_of_processes_count_if_both_are_believed() {
        let pairs = [(30.0, 20.0), (f64::NAN, 20.0), (30.0, f64::NAN)];
        let row = idle_row("what", "against", &pairs);
        assert_eq!(row.value.map(|value| value.median), Some(1.5));
        assert_eq!(row.context, "30.0 / 20.0 ns, 1 of 3 pairs believed");
        let row = idle_row("what", "against", &pairs[1..]);
        assert!(row.value.is_none());
        assert_eq!(row.at_most(1.2).reached(), Some(false));
    }
}
