//! What does waiting as a task cost, and how is one key handed from one to the next?

use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use latchwork::{Fairness, LockTable};
use latchwork_bench::heap::{allocations, growth};
use latchwork_bench::peers::Exclusive;
use latchwork_bench::ratio::{Contender, Plan, compare, timed};
use latchwork_bench::tasks::hand_over;
use latchwork_bench::workload::{KEYS, distinct_keys, each_key};

use super::{Question, one_key};
use crate::row::Row;

pub(super) const QUESTION: Question = Question {
    name: "async",
    title: "Tasks, and one key handed from one to the next",
    prose: "*Uncontended*: `lock_async` is polled once with a waker that was made before, and its guard is dropped, \
            against `lock`. *Two tasks*: an executor of two flags runs two tasks on one thread. Each holds the lock \
            while the other queues, and yields before it locks again, so that each lock is granted to a waiting task. \
            *Back and forth*: of two threads, the holder keeps the key until the other has queued, and does not lock \
            again before the other has held it. *Eight threads*: each locks one key, adds one to a counter that is \
            checked, and unlocks, without a pause. The key is held until all eight threads have queued, and a plain \
            mutex hashes no key. The largest wait is the longest single call of a run, except for the first call of \
            each thread. The ideal is a rotation in which each thread waits for the seven others: eight times the \
            length of the run divided by its locks. By the clock, a thread that the system suspends delays each \
            thread behind it; a wait counted in the locks of other threads depends on the queue alone. After each \
            run, eight threads yield to each other without a lock for the same time, and read the clock. Their \
            largest pause is the effect of the scheduler on threads that yield, in rotations of that run. The waiters \
            of `Fifo` yield before they park, and have such pauses; those of tokio park at once. The length of a \
            pause does not depend on the lock, so a shorter rotation has more of them. Where other processes keep the \
            cores busy, a yield waits for their time slices, and the throughput of `Fifo` falls. *A million futures*: \
            each is created, polled once and dropped while another holds the key. The row counts the waiters that the \
            table reports, and the growth of the heap, with memory that awaits its epoch.",
    measure,
};

fn measure(plan: Plan) -> Vec<Row> {
    let mut rows = Vec::new();
    let one = [distinct_keys(1, 1)[0]; 64];
    for (name, keys) in [
        ("one key", one.to_vec()),
        ("4,096 keys", distinct_keys(KEYS, 2)),
    ] {
        let result = compare(plan, || (polled(plan, &keys), blocking(plan, &keys)));
        let what = format!("`lock_async` polled once, {name}");
        let row = Row::time(&what, "`lock`", &result).against_itself();
        rows.push(row.at_most(2.0));
    }
    rows.push(allocated());
    for fairness in [Fairness::Fifo, Fairness::Eventual] {
        let result = compare(plan, || {
            (tasks_of_table(plan, fairness), tasks_of_tokio(plan))
        });
        let what = format!("two tasks hand one key over, `{fairness:?}`");
        rows.push(Row::time(&what, "`tokio::sync::Mutex`", &result).at_most(1.5));
    }
    rows.extend(one_key::rows(plan));
    rows.extend(abandoned());
    rows
}

/// Locks the keys in order by futures that are polled once.
#[inline(never)]
fn poll_each(table: &LockTable<u64>, keys: &[u64], times: u64) {
    let mut cx = Context::from_waker(Waker::noop());
    let mut left = times;
    while left > 0 {
        let pass = left.min(keys.len() as u64);
        for key in &keys[..pass as usize] {
            match Pin::new(&mut table.lock_async(key)).poll(&mut cx) {
                Poll::Ready(_guard) => black_box(()),
                Poll::Pending => unreachable!("nobody holds the key"),
            }
        }
        left -= pass;
    }
}

fn polled(plan: Plan, keys: &[u64]) -> Contender<'_> {
    let table = LockTable::new();
    timed(plan.span, move |times| poll_each(&table, keys, times))
}

fn blocking(plan: Plan, keys: &[u64]) -> Contender<'_> {
    let table = Exclusive(LockTable::<u64>::new());
    timed(plan.span, move |times| each_key(&table, keys, times))
}

/// Allocations of a thousand uncontended locks by futures.
fn allocated() -> Row {
    const LOCKS: u64 = 1_000;
    let table = LockTable::new();
    let keys = distinct_keys(64, 3);
    // The one-time set-up of a thread is not counted.
    poll_each(&table, &keys, LOCKS);
    let count = allocations(|| poll_each(&table, &keys, LOCKS));
    Row::exact(
        "allocations of 1,000 `lock_async` polled once",
        count as f64,
        "",
    )
    .at_most(0.0)
}

fn tasks_of_table(plan: Plan, fairness: Fairness) -> Contender<'static> {
    let table = LockTable::<u64>::builder().fairness(fairness).build();
    timed(plan.span, move |times| {
        hand_over(times, || table.lock_async(&1))
    })
}

fn tasks_of_tokio(plan: Plan) -> Contender<'static> {
    let mutex = tokio::sync::Mutex::new(());
    timed(plan.span, move |times| hand_over(times, || mutex.lock()))
}

/// The memory that a million abandoned futures leave.
fn abandoned() -> [Row; 3] {
    const FUTURES: u64 = 1_000_000;
    let table = LockTable::<u64>::new();
    let guard = table.lock(&1);
    let give_up = |times: u64| {
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..times {
            let mut future = table.lock_async(&1);
            assert!(Pin::new(&mut future).poll(&mut cx).is_pending());
        }
    };
    // The key outgrows its slot, and the thread completes its one-time set-up.
    give_up(10_000);
    let start = Instant::now();
    let ((), grown) = growth(|| give_up(FUTURES));
    let each = start.elapsed().as_secs_f64() * 1e9 / FUTURES as f64;
    let waiting = table.stats().waiting;
    drop(guard);
    let stats = table.stats();
    let left = table.locked_count() + stats.monitors + stats.waiting;
    let what = |of: &str| format!("{of} after a million futures that gave up");
    [
        Row::exact(&what("waiters left"), waiting as f64, "")
            .at_most(0.0)
            .with_context(format!(
                "{each:.0} ns a future, allocations counted meanwhile"
            )),
        Row::exact(&what("entries left once the key is free"), left as f64, "").at_most(0.0),
        Row::exact_bytes(&what("heap grown"), grown as f64),
    ]
}
