//! Futures that give up, wakers that misbehave, runtimes that go: the key is never lost.

use std::sync::{Arc, Mutex};
use std::task::Poll;

use crate::common::tasks::{
    Bell, FORMS, POLICIES, assert_usable, now, panic_message, poll, poll_with, queued,
    shared_table, yield_once,
};
use crate::common::{until_waits, watchdog};
use crate::runtimes::{RUNTIMES, Task};
use latchwork::{Fairness, Mode, table::OwnedLockFuture};

#[test]
fn a_future_may_be_dropped_at_every_stage() {
    for fairness in POLICIES {
        for form in FORMS {
            let (table, fresh) = shared_table(fairness);
            // Before it was polled.
            drop(form.lock(&table, 1));
            assert_usable(&table, fresh);

            // Queued: alone, and with others before and behind it.
            let guard = table.lock(&1);
            let mut alone = form.lock(&table, 1);
            assert!(poll(&mut alone).is_pending());
            drop(alone);
            assert_eq!(table.stats().waiting, 0);
            let (first, first_bell) = queued(&table, Mode::Exclusive);
            let mut middle = form.lock(&table, 1);
            assert!(poll(&mut middle).is_pending());
            let (last, last_bell) = queued(&table, Mode::Exclusive);
            drop(middle);
            drop(guard);
            assert_eq!((first_bell.rings(), last_bell.rings()), (1, 0));
            drop(now(first));
            assert_eq!(last_bell.rings(), 1);
            drop(now(last));
            assert_usable(&table, fresh);

            // Woken or granted, as the policy says, and not polled since: the next is called.
            let guard = table.lock(&1);
            let (bell, waker) = Bell::new();
            let mut called = form.lock(&table, 1);
            assert!(poll_with(&mut called, &waker).is_pending());
            let (next, next_bell) = queued(&table, Mode::Exclusive);
            drop(guard);
            assert_eq!((bell.rings(), next_bell.rings()), (1, 0));
            let held = (fairness == Fairness::Fifo).then_some(form.mode);
            assert_eq!(table.mode(&1), held, "{form:?} under {fairness:?}");
            drop(called);
            assert_eq!(next_bell.rings(), 1, "{form:?} under {fairness:?}");
            drop(now(next));
            assert_usable(&table, fresh);

            // Ready: what it gave stays.
            let mut done = form.lock(&table, 1);
            let Poll::Ready(held) = poll(&mut done) else {
                panic!("the key is free");
            };
            drop(done);
            assert_eq!(table.mode(&1), Some(form.mode));
            drop(held);
            assert_usable(&table, fresh);
        }
    }
}

#[test]
fn readers_come_in_when_the_writer_before_them_gives_up() {
    for fairness in POLICIES {
        let (table, fresh) = shared_table(fairness);
        let reader = table.lock_shared(&1);
        let (writer, _) = queued(&table, Mode::Exclusive);
        let behind = [(); 3].map(|()| queued(&table, Mode::Shared));
        assert!(table.try_lock_shared(&1).is_none());
        drop(writer);
        assert!(behind.iter().all(|(_, bell)| bell.rings() == 1));
        let guards = behind.map(|(future, _)| now(future));
        assert_eq!(table.inspect()[0].holders, 4);
        drop((reader, guards));
        assert_usable(&table, fresh);
    }
}

#[test]
fn a_future_polled_after_it_was_ready_says_so() {
    let (table, fresh) = shared_table(Fairness::Eventual);
    let keys = [(&1, Mode::Shared)];
    macro_rules! check {
        ($future:expr) => {{
            let mut future = $future;
            assert!(poll(&mut future).is_ready());
            let message = panic_message(|| poll(&mut future).is_ready());
            assert!(message.contains("polled after"), "{message:?}");
        }};
    }
    check!(table.lock_async(&1));
    check!(table.lock_shared_async(&1));
    check!(table.lock_all_async(keys));
    check!(table.lock_async_owned(&1));
    check!(table.lock_shared_async_owned(&1));
    check!(table.lock_all_async_owned(keys));
    assert_usable(&table, fresh);
}

#[test]
fn only_the_last_waker_is_rung_and_no_other_is_kept() {
    for fairness in POLICIES {
        for form in FORMS {
            let (table, fresh) = shared_table(fairness);
            let guard = table.lock(&1);
            let mut future = form.lock(&table, 1);
            let bells = [(); 5].map(|()| {
                let (bell, waker) = Bell::new();
                assert!(poll_with(&mut future, &waker).is_pending());
                bell
            });
            let kept = bells.each_ref().map(|bell| Arc::strong_count(bell) - 1);
            assert_eq!(kept, [0, 0, 0, 0, 1]);
            drop(guard);
            let rung = bells.each_ref().map(|bell| bell.rings());
            assert_eq!(rung, [0, 0, 0, 0, 1]);
            drop(now(future));
            assert_eq!(Arc::strong_count(&bells[4]), 1);
            assert_usable(&table, fresh);
        }
    }
}

#[test]
fn a_future_may_move_from_one_runtime_to_another() {
    let _dog = watchdog("a_future_may_move_from_one_runtime_to_another");
    for (from, run_first) in RUNTIMES {
        for (to, run_then) in RUNTIMES {
            let (table, fresh) = shared_table(Fairness::Eventual);
            let guard = table.lock_owned(&1);
            let moving = Arc::new(Mutex::new(None::<OwnedLockFuture<_, _>>));
            let (slot, ours) = (moving.clone(), table.clone());
            run_first(vec![Box::pin(async move {
                let mut future = ours.lock_async_owned(&1);
                // The waker is this runtime's, which is gone when the key comes free.
                std::future::poll_fn(|cx| {
                    assert!(poll_with(&mut future, cx.waker()).is_pending());
                    Poll::Ready(())
                })
                .await;
                *slot.lock().expect("nobody panics") = Some(future);
            })]);
            assert_eq!(table.stats().waiting, 1, "{from}");
            let future = moving.lock().expect("nobody panics").take();
            let future = future.expect("left there");
            let ours = table.clone();
            run_then(vec![
                Box::pin(async move {
                    let guard = future.await;
                    assert_eq!(ours.mode(&1), Some(Mode::Exclusive));
                    drop(guard);
                }) as Task,
                Box::pin(async move { drop(guard) }),
            ]);
            println!("{from} to {to}");
            assert_usable(&table, fresh);
        }
    }
}

#[test]
fn a_runtime_may_go_with_its_tasks_queued() {
    const TASKS: u64 = 100;
    let _dog = watchdog("a_runtime_may_go_with_its_tasks_queued");
    let (table, fresh) = shared_table(Fairness::Fifo);
    let task = |i: u64| {
        let table = table.clone();
        async move {
            let form = FORMS[i as usize % FORMS.len()];
            let held = form.lock(&table, 1).await;
            // Whoever gets the key keeps it until the runtime goes.
            std::future::pending::<()>().await;
            drop(held);
        }
    };
    let go: [&dyn Fn(); 3] = [
        &|| {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            let runtime = builder.worker_threads(2).build().expect("threads");
            let before = table.stats().waits;
            for i in 0..TASKS {
                runtime.spawn(task(i));
            }
            until_waits(&table, before + TASKS);
        },
        &|| {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            let runtime = builder.build().expect("no threads");
            let before = table.stats().waits;
            for i in 0..TASKS {
                runtime.spawn(task(i));
            }
            runtime.block_on(async {
                while table.stats().waits < before + TASKS {
                    yield_once().await;
                }
            });
        },
        &|| {
            let executor = smol::Executor::new();
            for i in 0..TASKS {
                executor.spawn(task(i)).detach();
            }
            for _ in 0..TASKS {
                assert!(executor.try_tick());
            }
            assert_eq!(table.stats().waiting as u64, TASKS);
        },
    ];
    for go in go {
        let guard = table.lock(&1);
        go();
        drop(guard);
        assert_usable(&table, fresh);
    }
}
