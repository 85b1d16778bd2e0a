//! Locks by key for tasks: as with threads, but a waiter yields its thread to the executor.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use latchwork::{LockTable, RandomState};

use super::{Axis, Contender, Load, Scenario, Setting};
use crate::peers::{AsyncKeyLock, AsyncKeyed, AsyncPool, AsyncTable, TokioMutexes};
use crate::workload::{Counters, Rng, spread_keys};

const SOME: usize = 16;

const KEYS: &str =
    "stronger: compares keys and not their hashes; weaker: a cancelled waiter leaves its entry";

fn awaited<L: AsyncKeyLock + Send + 'static>(
    make: impl Fn(&RandomState) -> L + 'static,
) -> impl Fn(Setting) -> Load + 'static {
    move |setting| {
        let hasher = RandomState::default();
        let (locks, keys) = (make(&hasher), spread_keys(SOME, &hasher));
        let counters = Arc::new(Counters::new(SOME));
        let counted = counters.clone();
        Load::new(
            move |index, stop, times| {
                let mut rng = Rng::new(setting.seed_of(index));
                pollster::block_on(async {
                    let mut done = 0;
                    while !stop.load(Ordering::Relaxed) {
                        let at = rng.next() as usize & (SOME - 1);
                        let start = times.turn().then(Instant::now);
                        locks.hold(keys[at], || counters.bump(at)).await;
                        if let Some(start) = start {
                            times.record(start.elapsed());
                        }
                        done += 1;
                    }
                    done
                })
            },
            move |done| assert_eq!(counted.sum(), done, "two tasks were inside at once"),
        )
    }
}

pub(super) fn all() -> Vec<Scenario> {
    let array = "weaker: an array made for these keys";
    let table = |hasher: &RandomState| AsyncTable(LockTable::with_hasher(hasher.clone()));
    let mutexes = |hasher: &RandomState| TokioMutexes::<SOME>::new(hasher.clone());
    vec![Scenario {
        name: "async",
        set: "locks",
        title: "How fast are locks by key in tasks?",
        prose: "One task on each thread, run by an executor that does nothing else, locks a random one of 16 keys and \
                adds one to its counter. Who has to wait parks its thread: there is no other task to run.",
        axis: Axis::Threads,
        every: 16,
        contenders: vec![
            Contender::ours("LockTable, lock_async", awaited(table)),
            Contender::peer("tokio Mutex, each key", array, awaited(mutexes)),
            Contender::peer("keyed-lock", KEYS, awaited(|_| AsyncKeyed::default())),
            Contender::peer("lockable", KEYS, awaited(|_| AsyncPool::default())),
        ],
        pessimist: None,
    }]
}
