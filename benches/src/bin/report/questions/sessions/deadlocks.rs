//! What sessions get done while deadlocks are frequent, and what it costs to leave a crowd.

use std::future::Future;
use std::pin::Pin;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Waker};
use std::thread;
use std::time::{Duration, Instant};

use latchwork::{Fairness, LockTable, Session, session::LockError};
use latchwork_bench::ratio::{Plan, Quartiles};
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use crate::row::Row;

const THREADS: u64 = 64;
const KEYS: u64 = 16;
const LOCKED: usize = 8;
/// How long one round of a load lasts.
const SPAN: Duration = Duration::from_millis(200);
const MOST_ROUNDS: usize = 7;

/// The fixed thresholds with which the default is compared.
const TIMES: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_micros(10),
    Duration::from_micros(100),
    Duration::from_millis(1),
    Duration::from_millis(10),
];

pub(super) fn rows(plan: Plan) -> Vec<Row> {
    let rounds = plan.rounds.min(MOST_ROUNDS);
    let mut rows = Vec::new();
    for fairness in [Fairness::Eventual, Fairness::Fifo] {
        for pace in [Pace::Yields, Pace::Full] {
            rows.push(validation_row(fairness, pace, rounds));
        }
    }
    rows.extend(audit_rows(rounds));
    let value = (0..rounds).map(|_| {
        let [few, many] = [20_000, 80_000].map(|n| leave(n).as_secs_f64());
        many / (4.0 * few)
    });
    let value = Quartiles::of(value).expect("a plan has rounds");
    let what = "80,000 sessions leave the crowd at one key";
    let against = "four times what 20,000 take";
    rows.push(Row::times(what, against, value, String::new()).at_most(2.0));
    rows
}

/// What the sessions of a load got done.
#[derive(Clone, Copy)]
struct Done {
    /// Sessions that ended in a second.
    rate: f64,
    /// Deadlocks for each of them.
    lost: f64,
}

fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    Quartiles::of(values).expect("a plan has rounds").median
}

/// Whether a session of the validation load yields after each lock.
#[derive(Clone, Copy)]
enum Pace {
    /// It does, so that few cores interleave the threads as many would.
    Yields,
    /// It does not.
    Full,
}

/// When the sessions of a load search for deadlocks.
#[derive(Clone, Copy)]
enum Detection {
    /// As by default: a deadlock lets the next waits search at once.
    Default,
    /// At this threshold, which no search changes.
    Fixed(Duration),
}

/// Compares the default with the best fixed threshold, round by round. All run in each round, in an
/// order that rotates.
fn validation_row(fairness: Fairness, pace: Pace, rounds: usize) -> Row {
    let fixed = TIMES.map(Detection::Fixed);
    let all: Vec<Detection> = [Detection::Default].into_iter().chain(fixed).collect();
    let mut done: Vec<Vec<Done>> = vec![Vec::new(); all.len()];
    for round in 0..rounds {
        for turn in 0..all.len() {
            let i = (round + turn) % all.len();
            done[i].push(validation(fairness, pace, all[i]));
        }
    }
    let rate = |of: &[Done]| median(of.iter().map(|done| done.rate));
    let default = &done[0];
    let (best, time) = std::iter::zip(&done[1..], TIMES)
        .max_by(|a, b| rate(a.0).total_cmp(&rate(b.0)))
        .expect("there are thresholds");
    let value = std::iter::zip(default, best).map(|(of, best)| of.rate / best.rate);
    let value = Quartiles::of(value).expect("a plan has rounds");
    let context = format!(
        "{:.0} sessions a second, {:.2} deadlocks each; the best is {time:?}: {:.0}",
        rate(default),
        median(default.iter().map(|done| done.lost)),
        rate(best),
    );
    let yields = match pace {
        Pace::Yields => "",
        Pace::Full => ", no yields",
    };
    let what = format!(
        "{THREADS} threads, {LOCKED} of {KEYS} keys each, `{fairness:?}`{yields}: sessions"
    );
    let against = "the best fixed threshold of 0, 10 µs, 100 µs, 1 ms and 10 ms";
    Row::times(&what, against, value, context).at_least(0.8)
}

/// Has `session` lock what it needs until it has it. Returns how often it was the victim of a
/// deadlock.
fn until_locked<'t>(
    session: &mut Session<'t, u64>,
    mut lock: impl FnMut(&mut Session<'t, u64>) -> Result<(), LockError>,
) -> u64 {
    let mut lost = 0;
    while let Err(error) = lock(session) {
        assert!(matches!(error, LockError::Deadlock(_)), "{error}");
        session.release_all();
        lost += 1;
    }
    lost
}

/// The validation load of RocksDB: each session locks some keys in random order and releases them.
fn validation(fairness: Fairness, pace: Pace, detection: Detection) -> Done {
    let builder = LockTable::<u64>::builder().fairness(fairness);
    let table = &match detection {
        Detection::Default => builder.build(),
        Detection::Fixed(_) => builder.early_searches(0).build(),
    };
    let (ended, lost) = (&AtomicU64::new(0), &AtomicU64::new(0));
    let (stop, barrier) = (&AtomicBool::new(false), &Barrier::new(THREADS as usize + 1));
    let took = thread::scope(|s| {
        for seed in 0..THREADS {
            s.spawn(move || {
                let mut random = SmallRng::seed_from_u64(seed);
                let mut keys: Vec<u64> = (0..KEYS).collect();
                barrier.wait();
                while !stop.load(Relaxed) {
                    keys.shuffle(&mut random);
                    let mut session = table.session();
                    if let Detection::Fixed(time) = detection {
                        session = session.detect_after(time);
                    }
                    let times = until_locked(&mut session, |session| {
                        // A victim does not start again after the end.
                        if stop.load(Relaxed) {
                            return Ok(());
                        }
                        keys[..LOCKED].iter().try_for_each(|key| {
                            session.lock(key)?;
                            if let Pace::Yields = pace {
                                thread::yield_now();
                            }
                            Ok(())
                        })
                    });
                    if stop.load(Relaxed) {
                        break;
                    }
                    lost.fetch_add(times, Relaxed);
                    ended.fetch_add(1, Relaxed);
                }
            });
        }
        barrier.wait();
        let start = Instant::now();
        thread::sleep(SPAN);
        stop.store(true, Relaxed);
        start.elapsed()
    });
    let ended = ended.load(Relaxed) as f64;
    Done {
        rate: ended / took.as_secs_f64(),
        lost: lost.load(Relaxed) as f64 / ended,
    }
}

fn audit_rows(rounds: usize) -> [Row; 2] {
    // The priority of the audit, and how the row names it.
    let audits = [(1, "of a higher priority"), (0, "of the same priority")];
    let mut ratios = audits.map(|_| (Vec::new(), Vec::new()));
    for _ in 0..rounds {
        let alone = steps(None);
        for ((priority, _), (ratios, lost)) in std::iter::zip(audits, &mut ratios) {
            let audited = steps(Some(priority));
            ratios.push(audited.rate / alone.rate);
            lost.push(audited.lost);
        }
    }
    std::array::from_fn(|i| {
        let (ratios, lost) = std::mem::take(&mut ratios[i]);
        let value = Quartiles::of(ratios).expect("a plan has rounds");
        let context = format!("{:.4} deadlocks a step", median(lost));
        let name = audits[i].1;
        let what =
            format!("steps on two keys of 108 beside audits of all {name}, in the opposite order");
        Row::times(&what, "the same without audits", value, context).at_least(0.5)
    })
}

/// As `flights --work 1000`, with `--audit` if the audit has a priority, which is 1 there: two
/// threads lock an origin and a destination for a microsecond, and an audit locks all destinations
/// and then all origins, again and again.
fn steps(audit: Option<i32>) -> Done {
    const ORIGINS: u64 = 3;
    const AIRPORTS: u64 = 108;
    const WORK: Duration = Duration::from_micros(1);
    const PAUSE: Duration = Duration::from_micros(100);
    let table = &LockTable::<u64>::new();
    let (ended, lost, stop) = (
        &AtomicU64::new(0),
        &AtomicU64::new(0),
        &AtomicBool::new(false),
    );
    let took = thread::scope(|s| {
        for seed in 0..2 {
            s.spawn(move || {
                let mut random = SmallRng::seed_from_u64(seed);
                while !stop.load(Relaxed) {
                    let origin = random.random_range(0..ORIGINS);
                    let destination = random.random_range(ORIGINS..AIRPORTS);
                    let mut session = table.session();
                    let times = until_locked(&mut session, |session| {
                        session.lock(&origin)?;
                        session.lock(&destination)
                    });
                    let start = Instant::now();
                    while start.elapsed() < WORK {}
                    lost.fetch_add(times, Relaxed);
                    ended.fetch_add(1, Relaxed);
                }
            });
        }
        if let Some(priority) = audit {
            s.spawn(move || {
                while !stop.load(Relaxed) {
                    let mut session = table.session().priority(priority);
                    let times = until_locked(&mut session, |session| {
                        let mut all = (ORIGINS..AIRPORTS).chain(0..ORIGINS);
                        all.try_for_each(|key| session.lock_shared(&key))
                    });
                    lost.fetch_add(times, Relaxed);
                    drop(session);
                    thread::sleep(PAUSE);
                }
            });
        }
        let start = Instant::now();
        thread::sleep(SPAN);
        stop.store(true, Relaxed);
        start
    })
    .elapsed();
    let ended = ended.load(Relaxed) as f64;
    Done {
        rate: ended / took.as_secs_f64(),
        lost: lost.load(Relaxed) as f64 / ended,
    }
}

/// How long `n` tasks take that wait for one key with a session each: each acquires the key,
/// releases it and ends.
fn leave(n: usize) -> Duration {
    let mut cx = Context::from_waker(Waker::noop());
    let table = &LockTable::<u64>::new();
    let held = table.lock(&1);
    let mut all: Vec<Pin<Box<dyn Future<Output = ()> + '_>>> = (0..n)
        .map(|_| -> Pin<Box<dyn Future<Output = ()> + '_>> {
            Box::pin(async move {
                let mut session = table.session();
                let done = session.lock_async(&1).await;
                done.expect("there is no cycle");
            })
        })
        .collect();
    for task in &mut all {
        assert!(task.as_mut().poll(&mut cx).is_pending());
    }
    drop(held);
    let start = Instant::now();
    for mut task in all {
        assert!(task.as_mut().poll(&mut cx).is_ready());
    }
    start.elapsed()
}
