//! Threads that all lock one key.

use std::hint;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;
use latchwork::{Fairness, LockTable};
use latchwork_bench::peers::{Exclusive, KeyLock, OneMutex, OneTokioMutex};
use latchwork_bench::ratio::{Comparison, Contender, Plan, Quartiles, compare};
use latchwork_bench::throughput::{self, Run};

use crate::row::Row;

const THREADS: usize = 8;
const KEY: u64 = 1;

pub(super) fn rows(plan: Plan) -> Vec<Row> {
    let fifo = crowds(plan, || table(Fairness::Fifo), OneTokioMutex::default);
    let eventual = crowds(plan, || table(Fairness::Eventual), OneMutex::default);
    let two = compare(plan, || {
        (
            back_and_forth(plan, table(Fairness::Eventual)),
            back_and_forth(plan, OneMutex::default()),
        )
    });
    let mutex = "`parking_lot::Mutex`";
    let tokio = "`tokio::sync::Mutex::blocking_lock`";
    let [by_clock, by_locks, by_machine] = largest_wait("`Fifo`", plan, || table(Fairness::Fifo));
    let mut rows = vec![
        Row::time("one key back and forth between two threads", mutex, &two).at_most(1.2),
        by_clock.at_most(2.0),
        by_locks,
        by_machine,
    ];
    rows.extend(largest_wait(
        "tokio's `Mutex`, to compare",
        plan,
        OneTokioMutex::default,
    ));
    rows.push(Row::throughput("8 threads on one key, `Fifo`", tokio, &fifo).at_least(1.0));
    let row = Row::throughput("8 threads on one key, `Eventual`", mutex, &eventual);
    rows.push(row.at_least(1.0));
    rows
}

fn table(fairness: Fairness) -> Exclusive<LockTable<u64>> {
    Exclusive(LockTable::builder().fairness(fairness).build())
}

/// The work of the threads of one run.
struct Crowd {
    run: Run,
    /// The longest that a call waited.
    longest: Duration,
    /// The most locks of others that a call waited for.
    overtaken: u64,
}

/// Runs eight threads that lock one key without a pause for about `span`.
///
/// The key is held until all of them have requested it. Otherwise the first to run may be alone for
/// a whole slice of the scheduler, and no lock is ever waited for.
fn crowd<const WAITS: bool>(span: Duration, locks: &impl KeyLock<u64>) -> Crowd {
    let (stop, arrived) = (AtomicBool::new(false), AtomicUsize::new(0));
    let counter = CachePadded::new(AtomicU64::new(0));
    let work = || {
        let (mut done, mut longest, mut overtaken) = (0, Duration::ZERO, 0);
        arrived.fetch_add(1, Ordering::Relaxed);
        while !stop.load(Ordering::Relaxed) {
            // The first wait is not the lock's doing.
            let asked =
                (WAITS && done > 0).then(|| (Instant::now(), counter.load(Ordering::Relaxed)));
            locks.hold(KEY, || {
                // Relaxed, and in two steps: nothing but the lock keeps a count from being lost.
                let count = counter.load(Ordering::Relaxed);
                if let Some((asked, then)) = asked {
                    longest = longest.max(asked.elapsed());
                    overtaken = overtaken.max(count - then);
                }
                counter.store(count + 1, Ordering::Relaxed);
            });
            done += 1;
        }
        (done, longest, overtaken)
    };
    let crowd = thread::scope(|scope| {
        let mut crowd = Vec::new();
        let start = locks.hold(KEY, || {
            crowd.extend((0..THREADS).map(|_| scope.spawn(work)));
            while arrived.load(Ordering::Relaxed) < THREADS {
                thread::yield_now();
            }
            thread::sleep(Duration::from_millis(2));
            Instant::now()
        });
        thread::sleep(span);
        stop.store(true, Ordering::Relaxed);
        let took = start.elapsed();
        let (mut done, mut longest, mut overtaken) = (0, Duration::ZERO, 0);
        for thread in crowd {
            let one = thread.join().expect("a worker does not panic");
            done += one.0;
            longest = longest.max(one.1);
            overtaken = overtaken.max(one.2);
        }
        Crowd {
            run: Run { done, took },
            longest,
            overtaken,
        }
    });
    assert_eq!(
        counter.into_inner().into_inner(),
        crowd.run.done,
        "two were inside at once"
    );
    crowd
}

fn crowds<A: KeyLock<u64>, B: KeyLock<u64>>(
    plan: Plan,
    subject: impl Fn() -> A,
    baseline: impl Fn() -> B,
) -> Comparison {
    fn side<'a, L: KeyLock<u64> + 'a>(plan: Plan, locks: L) -> Contender<'a> {
        Box::new(move || crowd::<false>(plan.crowd_span, &locks).run.rate())
    }
    compare(plan, || (side(plan, subject()), side(plan, baseline())))
}

/// Two threads pass one key back and forth; nanoseconds from one to the other.
///
/// The holder keeps it until the other has requested it, and does not request it again before the
/// other has had it.
fn back_and_forth<'a, L: KeyLock<u64> + 'a>(plan: Plan, locks: L) -> Contender<'a> {
    Box::new(move || {
        let last = CachePadded::new(AtomicUsize::new(1));
        let asking = [(); 2].map(|()| CachePadded::new(AtomicBool::new(false)));
        let run = throughput::run(2, plan.crowd_span, |me, stop| {
            // Relaxed throughout: the lock orders the writes of one holder before the reads of the
            // next.
            let until = |met: &dyn Fn() -> bool| {
                let mut looks = 0;
                while !met() && !stop.load(Ordering::Relaxed) {
                    looks += 1;
                    if looks % 64 == 0 {
                        thread::yield_now();
                    } else {
                        hint::spin_loop();
                    }
                }
            };
            let mut done = 0;
            loop {
                until(&|| last.load(Ordering::Relaxed) != me);
                if stop.load(Ordering::Relaxed) {
                    return done;
                }
                asking[me].store(true, Ordering::Relaxed);
                locks.hold(KEY, || {
                    asking[me].store(false, Ordering::Relaxed);
                    last.store(me, Ordering::Relaxed);
                    until(&|| asking[1 - me].load(Ordering::Relaxed));
                });
                done += 1;
            }
        });
        1e9 / run.rate()
    })
}

/// The longest pause of one of as many threads that yield to each other and read the clock: the
/// effect of the scheduler on threads that yield, whatever the lock.
fn pause(span: Duration) -> Duration {
    let work = || {
        let start = Instant::now();
        let (mut last, mut longest) = (start, Duration::ZERO);
        while last - start < span {
            thread::yield_now();
            let now = Instant::now();
            longest = longest.max(now - last);
            last = now;
        }
        longest
    };
    thread::scope(|scope| {
        let threads = [(); THREADS].map(|()| scope.spawn(work));
        let longest = threads.map(|thread| thread.join().expect("a clock does not panic"));
        longest.into_iter().max().unwrap_or_default()
    })
}

/// The largest wait of a run, in rotations: by the clock, and by the locks that others acquired
/// during it; and in the same rotations the largest pause without any lock.
fn largest_wait<L: KeyLock<u64>>(name: &str, plan: Plan, locks: impl Fn() -> L) -> [Row; 3] {
    let (mut by_clock, mut by_locks, mut by_machine) = (Vec::new(), Vec::new(), Vec::new());
    let (mut longest, mut mean, mut pauses) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..plan.rebuilds {
        let locks = locks();
        for _ in 0..plan.rounds {
            let crowd = crowd::<true>(plan.crowd_span, &locks);
            let (wait, each) = (crowd.longest.as_secs_f64(), 1.0 / crowd.run.rate());
            by_clock.push(wait / (each * THREADS as f64));
            by_locks.push(crowd.overtaken as f64 / THREADS as f64);
            let pause = pause(plan.crowd_span).as_secs_f64();
            by_machine.push(pause / (each * THREADS as f64));
            pauses.push(pause * 1e6);
            longest.push(wait * 1e6);
            mean.push(each * 1e9);
        }
    }
    let quartiles = |values: Vec<f64>| Quartiles::of(values).expect("a plan has rounds");
    let context = format!(
        "{:.0} µs, {:.0} ns a lock",
        quartiles(longest).median,
        quartiles(mean).median
    );
    let pauses = format!("{:.0} µs", quartiles(pauses).median);
    let row = |what: &str, values, context| {
        let what = format!("{what}, {name}");
        Row::times(&what, "an ideal rotation", quartiles(values), context)
    };
    [
        row(
            "8 threads on one key, largest wait by the clock",
            by_clock,
            context,
        ),
        row(
            "8 threads on one key, largest wait by locks of others",
            by_locks,
            String::new(),
        ),
        row(
            "8 threads on one key, largest pause without any lock",
            by_machine,
            pauses,
        ),
    ]
}
