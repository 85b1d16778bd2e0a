//! Tasks lock keys as threads do, on any executor.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::task::Poll;
use std::thread;

use crate::common::hashers::Place;
use crate::common::tasks::{
    Bell, FORMS, POLICIES, Table, now, poll, poll_with, shared_table, yield_once,
};
use crate::common::{Rng, assert_as_new, until_waits, watchdog};
use crate::runtimes::{RUNTIMES, Task};
use latchwork::{
    Fairness, LockTable, Mode, Transaction, VersionedCell,
    cell::Version,
    table::{
        LockAllFuture, LockFuture, OwnedExclusiveGuard, OwnedLockAllFuture, OwnedLockFuture,
        OwnedLockSet, OwnedSharedGuard, OwnedSharedLockFuture, SharedLockFuture,
    },
};
use static_assertions::{assert_impl_all, assert_not_impl_any};

/// A hasher that may move to another thread, but not be used from two.
type SendOnly = std::cell::Cell<u64>;

// A future is its place in a queue, not the queue's place in memory. No key is in it.
assert_impl_all!(LockFuture<'static>: Send, Sync, Unpin);
assert_impl_all!(SharedLockFuture<'static>: Send, Sync, Unpin);
assert_impl_all!(LockAllFuture<'static, Rc<u8>>: Send, Sync, Unpin);
assert_impl_all!(OwnedLockFuture<Rc<u8>>: Send, Sync, Unpin);
assert_impl_all!(OwnedSharedLockFuture<Rc<u8>>: Send, Sync, Unpin);
assert_impl_all!(OwnedLockAllFuture<Rc<u8>>: Send, Sync, Unpin);
assert_impl_all!(OwnedExclusiveGuard<Rc<u8>>: Send, Sync, Unpin);
assert_impl_all!(OwnedSharedGuard<Rc<u8>>: Send, Sync, Unpin);
assert_impl_all!(OwnedLockSet<Rc<u8>>: Send, Sync, Unpin);
// What owns a share of the table may be the last to drop its hasher, and on any thread.
assert_not_impl_any!(OwnedLockFuture<u64, SendOnly>: Send, Sync);
assert_not_impl_any!(OwnedExclusiveGuard<u64, SendOnly>: Send, Sync);
assert_not_impl_any!(OwnedSharedGuard<u64, SendOnly>: Send, Sync);
assert_not_impl_any!(OwnedLockSet<u64, SendOnly>: Send, Sync);
assert_not_impl_any!(LockAllFuture<'static, u64, SendOnly>: Send, Sync);

const _: () = {
    const fn is_static<T: 'static>() {}
    is_static::<OwnedLockFuture<u64>>();
    is_static::<OwnedSharedLockFuture<u64>>();
    is_static::<OwnedLockAllFuture<u64>>();
    is_static::<OwnedExclusiveGuard<u64>>();
    is_static::<OwnedSharedGuard<u64>>();
    is_static::<OwnedLockSet<u64>>();
};

/// Who is in, as those say who are.
#[derive(Default)]
struct Oracle(AtomicU64);

const WRITER: u64 = 1 << 32;

impl Oracle {
    fn enter(&self, mode: Mode) {
        match mode {
            Mode::Exclusive => assert_eq!(self.0.fetch_add(WRITER, Ordering::Relaxed), 0),
            Mode::Shared => assert!(self.0.fetch_add(1, Ordering::Relaxed) < WRITER),
        }
    }

    fn leave(&self, mode: Mode) {
        let one = if mode == Mode::Exclusive { WRITER } else { 1 };
        self.0.fetch_sub(one, Ordering::Relaxed);
    }
}

#[test]
fn tasks_and_threads_keep_each_other_out() {
    const KEYS: u64 = 3;
    let _dog = watchdog("tasks_and_threads_keep_each_other_out");
    for (name, run) in RUNTIMES {
        for fairness in POLICIES {
            println!("{name}, {fairness:?}");
            let (table, fresh) = shared_table(fairness);
            let oracles: Arc<[Oracle; KEYS as usize]> = Arc::default();
            let tasks = (0..24).map(|seed| {
                let (table, oracles) = (table.clone(), oracles.clone());
                Box::pin(async move {
                    let mut rng = Rng::new(seed);
                    for _ in 0..200 {
                        let form = FORMS[rng.below(8) as usize];
                        let key = rng.below(KEYS);
                        let held = form.lock(&table, key).await;
                        oracles[key as usize].enter(form.mode);
                        if rng.one_in(2) {
                            yield_once().await;
                        }
                        oracles[key as usize].leave(form.mode);
                        drop(held);
                    }
                }) as Task
            });
            let tasks = tasks.collect();
            thread::scope(|scope| {
                for seed in 100..102 {
                    let (table, oracles) = (&table, &oracles);
                    scope.spawn(move || {
                        let mut rng = Rng::new(seed);
                        for _ in 0..1_000 {
                            // Two keys, so that threads take part in `lock_all`, too.
                            let keys = [rng.below(KEYS), rng.below(KEYS)].map(|key| {
                                let writes = rng.one_in(2);
                                (
                                    key,
                                    if writes {
                                        Mode::Exclusive
                                    } else {
                                        Mode::Shared
                                    },
                                )
                            });
                            let set = table.lock_all(keys.iter().map(|(key, mode)| (key, *mode)));
                            for key in 0..KEYS {
                                if let Some(mode) = set.mode(&key) {
                                    oracles[key as usize].enter(mode);
                                }
                            }
                            thread::yield_now();
                            for key in 0..KEYS {
                                if let Some(mode) = set.mode(&key) {
                                    oracles[key as usize].leave(mode);
                                }
                            }
                        }
                    });
                }
                run(tasks);
            });
            assert_eq!(table.stats().waiting, 0);
            assert_as_new(&table, fresh);
        }
    }
}

#[test]
fn ten_thousand_tasks_take_turns_in_the_order_in_which_they_came() {
    const TASKS: usize = 10_000;
    let _dog = watchdog("ten_thousand_tasks_take_turns_in_the_order_in_which_they_came");
    for (name, run) in RUNTIMES {
        for fairness in POLICIES {
            let (table, fresh) = shared_table(fairness);
            let order = Arc::new(Mutex::new(Vec::new()));
            let guard = table.lock_owned(&1);
            let tasks = (0..TASKS).map(|i| {
                let mut future = table.lock_async_owned(&1);
                // Queued here, because a runtime of many threads polls in no order.
                assert!(poll(&mut future).is_pending());
                let order = order.clone();
                Box::pin(async move {
                    let _guard = future.await;
                    order.lock().expect("nobody panics").push(i);
                }) as Task
            });
            let mut tasks: Vec<Task> = tasks.collect();
            assert_eq!(table.stats().waiting, TASKS);
            tasks.push(Box::pin(async move { drop(guard) }));
            run(tasks);
            let order = order.lock().expect("nobody panics");
            match fairness {
                // A task that is polled while the key is free acquires it out of turn [M15], and
                // bypasses the head at most 64 times [M7].
                Fairness::Eventual => {
                    let all: BTreeSet<usize> = order.iter().copied().collect();
                    assert!(order.len() == TASKS && all.len() == TASKS, "{name}");
                    let head = order.iter().position(|&task| task == 0);
                    assert!(head <= Some(64), "{name}: {head:?}");
                }
                _ => assert!(order.iter().copied().eq(0..TASKS), "{name}, {fairness:?}"),
            }
            assert_as_new(&table, fresh);
        }
    }
}

#[test]
fn threads_and_tasks_stand_in_one_queue() {
    const EACH: usize = 16;
    let _dog = watchdog("threads_and_tasks_stand_in_one_queue");
    for (name, run) in RUNTIMES {
        let (table, fresh) = shared_table(Fairness::Fifo);
        let order = Arc::new(Mutex::new(Vec::new()));
        let guard = table.lock(&1);
        thread::scope(|scope| {
            let mut tasks = Vec::new();
            for i in 0..EACH {
                let mut future = table.lock_async_owned(&1);
                assert!(poll(&mut future).is_pending());
                let log = order.clone();
                tasks.push(Box::pin(async move {
                    let _guard = future.await;
                    log.lock().expect("nobody panics").push(2 * i);
                }) as Task);
                let (table, log) = (&table, order.clone());
                scope.spawn(move || {
                    let _guard = table.lock(&1);
                    log.lock().expect("nobody panics").push(2 * i + 1);
                });
                until_waits(table, 2 * i as u64 + 2);
            }
            drop(guard);
            run(tasks);
        });
        let order = order.lock().expect("nobody panics");
        assert!(order.iter().copied().eq(0..2 * EACH), "{name}: {order:?}");
        assert_as_new(&table, fresh);
    }
}

#[test]
fn a_future_does_nothing_until_it_is_polled_and_keeps_no_key() {
    let (table, fresh) = shared_table(Fairness::Eventual);
    for form in FORMS {
        let future = form.lock(&table, 7);
        assert_as_new(&table, fresh);
        let held = now(future);
        assert_eq!(table.mode(&7), Some(form.mode), "{form:?}");
        drop(held);
    }
    let words: LockTable<str> = LockTable::new();
    let future = {
        let key = String::from("gone before the future is polled");
        words.lock_async(&key)
    };
    let guard = now(future);
    assert_eq!(
        words.mode("gone before the future is polled"),
        Some(Mode::Exclusive)
    );
    drop(guard);
}

#[test]
fn a_waker_is_rung_once_for_a_grant_however_often_its_future_looked() {
    for fairness in POLICIES {
        for form in FORMS {
            let (table, fresh) = shared_table(fairness);
            let guard = table.lock(&1);
            let (bell, waker) = Bell::new();
            let mut future = form.lock(&table, 1);
            for _ in 0..10 {
                assert!(poll_with(&mut future, &waker).is_pending());
            }
            let stats = table.stats();
            assert_eq!((stats.waits, stats.waiting, bell.rings()), (1, 1, 0));
            drop(guard);
            assert_eq!(bell.rings(), 1, "{form:?} under {fairness:?}");
            let Poll::Ready(held) = poll_with(&mut future, &waker) else {
                panic!("{form:?} under {fairness:?} was rung and is not ready");
            };
            assert_eq!(table.mode(&1), Some(form.mode));
            drop((held, future));
            assert_eq!(bell.rings(), 1);
            assert_as_new(&table, fresh);
        }
    }
}

#[test]
fn a_granted_future_that_nobody_polls_holds_its_key_until_it_is_dropped() {
    for form in FORMS {
        let (table, fresh) = shared_table(Fairness::Fifo);
        let guard = table.lock(&1);
        let (bell, waker) = Bell::new();
        let mut granted = form.lock(&table, 1);
        assert!(poll(&mut granted).is_pending());
        let mut next = table.lock_async(&1);
        assert!(poll_with(&mut next, &waker).is_pending());
        drop(guard);
        assert_eq!(table.mode(&1), Some(form.mode), "{form:?}");
        assert!(table.try_lock(&1).is_none());
        assert_eq!((bell.rings(), table.stats().waiting), (0, 1));
        drop(granted);
        assert_eq!(bell.rings(), 1, "{form:?}");
        drop(now(next));
        assert_as_new(&table, fresh);
    }
}

#[test]
fn readers_that_wait_together_come_in_together_as_tasks() {
    let _dog = watchdog("readers_that_wait_together_come_in_together_as_tasks");
    for fairness in POLICIES {
        let (table, fresh) = shared_table(fairness);
        let guard = table.lock(&1);
        // Threads and tasks: each thread stays until all are there.
        let together = Barrier::new(3);
        thread::scope(|scope| {
            let mut bells = Vec::new();
            let mut futures = Vec::new();
            for i in 0..2 {
                scope.spawn(|| {
                    let _guard = table.lock_shared(&1);
                    together.wait();
                });
                until_waits(&table, 2 * i + 1);
                let (bell, waker) = Bell::new();
                let mut future = table.lock_shared_async(&1);
                assert!(poll_with(&mut future, &waker).is_pending());
                bells.push(bell);
                futures.push(future);
            }
            drop(guard);
            together.wait();
            // The threads are in, and so whoever waited before them.
            let guards: Vec<_> = futures.into_iter().map(now).collect();
            assert!(bells.iter().all(|bell| bell.rings() == 1));
            drop(guards);
        });
        assert_as_new(&table, fresh);
    }
}

#[test]
fn a_task_takes_many_keys_in_order_and_gives_all_back_when_it_gives_up() {
    let _dog = watchdog("a_task_takes_many_keys_in_order_and_gives_all_back_when_it_gives_up");
    for keys in [3_u64, 8, 20] {
        let (table, fresh) = shared_table(Fairness::Fifo);
        let wanted: Vec<u64> = (1..=keys).rev().collect();
        let wanted = || wanted.iter().map(|key| (key, Mode::Exclusive));
        for stop in 1..=keys {
            let guard = table.lock_shared(&stop);
            let mut future = table.lock_all_async(wanted());
            assert!(poll(&mut future).is_pending());
            // All below the one that it waits for, and none above.
            for key in 1..=keys {
                assert_eq!(
                    table.mode(&key).is_some(),
                    key <= stop,
                    "{key} of {keys} at {stop}"
                );
            }
            if stop % 2 == 0 {
                drop((future, guard));
            } else {
                drop(guard);
                let set = now(future);
                assert_eq!(set.len() as u64, keys);
                drop(set);
            }
            assert_as_new(&table, fresh);
        }
        let twice = [
            (&1, Mode::Shared),
            (&2, Mode::Shared),
            (&1, Mode::Exclusive),
        ];
        let set = now(table.lock_all_async_owned(twice));
        assert_eq!(
            (set.len(), set.mode(&1), set.mode(&2)),
            (2, Some(Mode::Exclusive), Some(Mode::Shared))
        );
        assert!(now(table.lock_all_async::<u64>([])).is_empty());
        drop(set);
        assert_as_new(&table, fresh);
    }
}

#[test]
fn tasks_that_take_many_keys_never_wait_in_a_circle() {
    let _dog = watchdog("tasks_that_take_many_keys_never_wait_in_a_circle");
    for (name, run) in RUNTIMES {
        println!("{name}");
        let table: Arc<Table> = Arc::new(LockTable::with_hasher(Place::Above(16)));
        let tasks = (0..16).map(|seed| {
            let table = table.clone();
            Box::pin(async move {
                let mut rng = Rng::new(seed);
                for _ in 0..200 {
                    let keys: Vec<u64> = (0..rng.below(12)).map(|_| rng.below(12)).collect();
                    let wanted = keys.iter().map(|key| {
                        let writes = key % 3 != 0;
                        (
                            key,
                            if writes {
                                Mode::Exclusive
                            } else {
                                Mode::Shared
                            },
                        )
                    });
                    let set = table.lock_all_async_owned(wanted).await;
                    yield_once().await;
                    assert!(keys.iter().all(|key| set.contains(key)));
                }
            }) as Task
        });
        run(tasks.collect());
        assert_eq!((table.locked_count(), table.stats().monitors), (0, 0));
    }
}

/// A future that is ready at once does not yield: a loop over free keys ends in its first poll, for
/// all kinds of locks, cells and transactions. It yields where it says so, as the chapter on tasks
/// shows.
#[test]
fn a_loop_over_free_keys_yields_only_where_it_says_so() {
    const KEYS: u64 = 1_000;
    for every in [None, Some(64)] {
        let (table, cell) = (LockTable::<u64>::new(), VersionedCell::new(0));
        let mut work = std::pin::pin!(async {
            let mut session = table.session();
            for key in 0..KEYS {
                drop(table.lock_async(&key).await);
                drop(table.lock_shared_async(&key).await);
                drop(table.lock_all_async([(&key, Mode::Exclusive)]).await);
                session.lock_async(&key).await.unwrap();
                session.release_all();
                cell.set_async(key).await;
                let done = Transaction::builder().run_async(|tx| tx.update(&cell, |n| n + 1));
                done.await.unwrap();
                cell.changed(Version::FIRST).await;
                if every.is_some_and(|every| key % every == 0) {
                    yield_once().await;
                }
            }
        });
        let ((bell, waker), mut polls) = (Bell::new(), 1);
        while poll_with(&mut work, &waker).is_pending() {
            polls += 1;
        }
        let yields = every.map_or(0, |every| KEYS.div_ceil(every));
        assert_eq!((polls, bell.rings()), (1 + yields, yields));
    }
}
