//! What does a session cost beside plain locks, and what does it cost to detect a cycle of waits?

mod deadlocks;

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::hash::BuildHasher;
use std::hint::black_box;
use std::pin::Pin;
use std::sync::Barrier;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use latchwork::{LockTable, RandomState, Session, session::LockError};
use latchwork_bench::ratio::{Contender, Plan, Quartiles, compare, timed};
use latchwork_bench::workload::{KEYS, distinct_keys};

use super::Question;
use crate::row::Row;

pub(super) const QUESTION: Question = Question {
    name: "sessions",
    title: "Sessions and the detection of deadlocks",
    prose: "One thread, first: an uncontended key, locked and unlocked in a session and by the \
            table alone; a key that the session already holds, among 1,000, beside a `get` of a \
            `HashMap` of 1,000 with the same hasher. *A ring*: each of so many threads holds a key \
            and requests that of the next one. The time is from the call of `lock` that closes the \
            ring to the first error, in thresholds of 1 ms. Each ring has one victim, or the \
            measurement fails. *Chains*: 10,000 sessions wait, without a cycle. The number is the \
            time for publication and search, as a part of one second of one core, as if all of \
            them began to wait within a second. Afterwards they cost nothing: no session searches \
            twice. *The validation load* is that of RocksDB: sessions that lock keys in random \
            order, with the default threshold, which adapts to the deadlocks, and with fixed ones. \
            The count of deadlocks is how often a session retried. *Audits* are the steps of the \
            main job (`flights --work 1000 --audit`) beside a session that locks the same keys in \
            the opposite order, with a higher priority as in the main job, so that steps are the \
            victims, or with the same. *A crowd* of sessions waits for one key, and each of them \
            acquires it and ends.",
    measure,
};

const THRESHOLD: Duration = Duration::from_millis(1);
const HELD: usize = 1_000;
const WAITING: usize = 10_000;

fn measure(plan: Plan) -> Vec<Row> {
    let one = [distinct_keys(1, 1)[0]; 64];
    let many = distinct_keys(KEYS, 2);
    let mut rows = Vec::new();
    for (name, keys) in [("one key", &one[..]), ("4,096 keys", &many[..])] {
        let result = compare(plan, || {
            let hasher = RandomState::default();
            (in_session(plan, keys, &hasher), alone(plan, keys, &hasher))
        });
        let what = format!("lock and unlock in a session, {name}");
        rows.push(
            Row::time(&what, "`LockTable::lock` + drop", &result)
                .against_itself()
                .at_most(2.0),
        );
    }
    let keys = distinct_keys(HELD, 3);
    let result = compare(plan, || {
        let hasher = RandomState::default();
        (again(plan, &keys, &hasher), get(plan, &keys, &hasher))
    });
    let what = "lock again, in a session that holds 1,000 keys";
    rows.push(
        Row::time(what, "`HashMap::get` of 1,000", &result)
            .against_itself()
            .at_most(3.0),
    );
    for n in [2, 8, 64] {
        let found = (0..plan.rounds).map(|_| ring(n).as_secs_f64() / THRESHOLD.as_secs_f64());
        let value = Quartiles::of(found).expect("a plan has rounds");
        let what = format!("a ring of {n} sessions: found");
        let context = format!("{:.2} ms", value.median);
        rows.push(Row::times(&what, "the threshold", value, context).at_most(2.0));
    }
    for (length, order) in [
        (10, Order::Shuffled),
        (WAITING, Order::Shuffled),
        (WAITING, Order::LastFirst),
    ] {
        let rounds = (0..plan.rounds.min(15)).map(|_| {
            let with = chains(length, order, Duration::ZERO);
            let without = chains(length, order, Duration::MAX);
            (with.as_secs_f64() - without.as_secs_f64()) * 100.0
        });
        let value = Quartiles::of(rounds).expect("a plan has rounds");
        let what = format!(
            "10,000 sessions in chains of {length}, {}: detection",
            order.name()
        );
        rows.push(Row::percent(&what, "one second of a core", value).at_most(5.0));
    }
    rows.extend(deadlocks::rows(plan));
    rows
}

fn in_session<'a>(plan: Plan, keys: &'a [u64], hasher: &RandomState) -> Contender<'a> {
    let table: &LockTable<u64> = Box::leak(Box::new(LockTable::with_hasher(hasher.clone())));
    let mut session = table.session();
    timed(plan.span, move |times| {
        for key in keys.iter().cycle().take(times as usize) {
            session.lock(key).expect("nobody else wants it");
            session.unlock(key);
        }
    })
}

fn alone<'a>(plan: Plan, keys: &'a [u64], hasher: &RandomState) -> Contender<'a> {
    let table = LockTable::<u64>::with_hasher(hasher.clone());
    timed(plan.span, move |times| {
        for key in keys.iter().cycle().take(times as usize) {
            drop(table.lock(key));
        }
    })
}

fn again<'a>(plan: Plan, keys: &'a [u64], hasher: &RandomState) -> Contender<'a> {
    let table: &LockTable<u64> = Box::leak(Box::new(LockTable::with_hasher(hasher.clone())));
    let mut session: Session<'_, u64> = table.session();
    for key in keys {
        session.lock(key).expect("nobody else wants it");
    }
    timed(plan.span, move |times| {
        for key in keys.iter().cycle().take(times as usize) {
            let done = session.lock(key);
            assert!(black_box(done).is_ok());
        }
    })
}

fn get<'a>(plan: Plan, keys: &'a [u64], hasher: &RandomState) -> Contender<'a> {
    let mut map = HashMap::with_hasher(hasher.clone());
    map.extend(keys.iter().map(|key| (*key, hasher.hash_one(key))));
    timed(plan.span, move |times| {
        for key in keys.iter().cycle().take(times as usize) {
            assert!(black_box(map.get(key)).is_some());
        }
    })
}

/// The time from the instant when a cycle of `n` closes until one of its sessions gets the error.
fn ring(n: usize) -> Duration {
    let table = LockTable::<u64>::new();
    let barrier = Barrier::new(n);
    let ends: Vec<(Instant, Option<Instant>)> = std::thread::scope(|s| {
        let threads: Vec<_> = (0..n)
            .map(|i| {
                let (table, barrier) = (&table, &barrier);
                s.spawn(move || {
                    let mut session = table.session().detect_after(THRESHOLD);
                    session.lock(&(i as u64)).expect("nobody else wants it yet");
                    barrier.wait();
                    let begun = Instant::now();
                    let done = session.lock(&((i + 1) as u64 % n as u64));
                    let told = matches!(done, Err(LockError::Deadlock(_)));
                    (begun, told.then(Instant::now))
                })
            })
            .collect();
        let ends = threads
            .into_iter()
            .map(|thread| thread.join().expect("it ends"));
        ends.collect()
    });
    let closed = ends
        .iter()
        .map(|end| end.0)
        .max()
        .expect("a ring has sessions");
    let mut told = ends.iter().filter_map(|end| end.1);
    let first = told.next().expect("a ring has a victim");
    assert!(told.next().is_none(), "and one only");
    first.saturating_duration_since(closed)
}

/// The order in which the sessions of a chain begin to wait.
#[derive(Clone, Copy)]
enum Order {
    Shuffled,
    /// Each for a session that waits already.
    LastFirst,
}

impl Order {
    fn name(self) -> &'static str {
        match self {
            Order::Shuffled => "in random order",
            Order::LastFirst => "each behind one that waits",
        }
    }
}

/// The time in which 10,000 tasks begin to wait, in chains of `length`.
fn chains(length: usize, order: Order, detect_after: Duration) -> Duration {
    let table = LockTable::<u64>::builder()
        .expected_locks(2 * WAITING)
        .build();
    let table = &table;
    let mut tasks: Vec<Pin<Box<dyn Future<Output = ()> + '_>>> = (0..WAITING)
        .map(|i| -> Pin<Box<dyn Future<Output = ()> + '_>> {
            Box::pin(async move {
                let mut session = table.session().detect_after(detect_after);
                session.lock(&(i as u64)).expect("nobody else wants it yet");
                once().await;
                // The last of a chain does not wait.
                if (i + 1) % length != 0 {
                    let done = session.lock_async(&(i as u64 + 1)).await;
                    done.expect("there is no circle");
                }
                once().await;
            })
        })
        .collect();
    let mut cx = Context::from_waker(Waker::noop());
    for task in &mut tasks {
        assert!(task.as_mut().poll(&mut cx).is_pending());
    }
    let mut turns: Vec<usize> = (0..WAITING).rev().collect();
    if let Order::Shuffled = order {
        let keys = distinct_keys(WAITING, 4);
        turns.sort_by_key(|i| keys[*i]);
    }
    let start = Instant::now();
    for i in turns {
        assert!(tasks[i].as_mut().poll(&mut cx).is_pending());
    }
    let took = start.elapsed();
    assert!(table.deadlocks().is_empty());
    took
}

/// Pending once.
async fn once() {
    let mut asked = false;
    poll_fn(|_| match std::mem::replace(&mut asked, true) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
}
