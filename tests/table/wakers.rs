//! Wakers are other people's code: they may panic, lock and drop what they like, and no key is
//! lost.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use crate::common::tasks::{
    Bell, FORMS, Fuse, Hooks, Locking, POLICIES, Table, assert_usable, now, panics, poll,
    poll_with, queued, quiet_panic, shared_table,
};
use crate::common::{until_waits, watchdog};
use latchwork::{Fairness, Mode, Transaction, VersionedCell, table::ExclusiveGuard};

/// Three readers that wait for key 1, of which number `trapped` has a waker that panics once.
fn trapped_readers(table: &Arc<Table>, trapped: usize) -> [(Locking<'_>, Arc<Hooks>); 3] {
    [0, 1, 2].map(|i| {
        let (hooks, waker) = Hooks::new();
        if i == trapped {
            hooks.on_wake(quiet_panic);
        }
        let form = FORMS.iter().find(|form| form.mode == Mode::Shared);
        let mut future = form.expect("one of them").lock(table, 1);
        assert!(poll_with(&mut future, &waker).is_pending());
        (future, hooks)
    })
}

#[test]
fn a_waker_that_panics_loses_neither_the_key_nor_the_other_wakers() {
    for trapped in 0..3 {
        let (table, fresh) = shared_table(Fairness::Fifo);
        let guard = table.lock(&1);
        let readers = trapped_readers(&table, trapped);
        assert!(panics(|| drop(guard)));
        assert_eq!(readers.each_ref().map(|(_, hooks)| hooks.wakes()), [1; 3]);
        drop(readers.map(|(future, _)| now(future)));
        assert_usable(&table, fresh);
    }
    // Only the head is woken, and lets the others in when it looks: in its own poll.
    for trapped in 1..3 {
        let (table, fresh) = shared_table(Fairness::Eventual);
        let guard = table.lock(&1);
        let mut readers = trapped_readers(&table, trapped);
        drop(guard);
        assert!(panics(|| drop(poll(&mut readers[0].0))));
        assert_eq!(readers.each_ref().map(|(_, hooks)| hooks.wakes()), [1; 3]);
        // The one whose poll panicked is out; the others are in.
        let [first, others @ ..] = readers;
        let guards = others.map(|(future, _)| now(future));
        assert_eq!(table.inspect()[0].holders, 2);
        drop((guards, first));
        assert_usable(&table, fresh);
    }
}

#[test]
fn a_waker_that_panics_is_felt_by_whoever_gives_the_key_away() {
    for trapped in 0..3 {
        // A fair unlock.
        let (table, fresh) = shared_table(Fairness::Eventual);
        let guard = table.lock(&1);
        let readers = trapped_readers(&table, trapped);
        assert!(panics(|| ExclusiveGuard::unlock_fair(guard)));
        drop(readers.map(|(future, _)| now(future)));
        assert_usable(&table, fresh);

        // A future that gives up what it was granted.
        let (table, fresh) = shared_table(Fairness::Fifo);
        let guard = table.lock(&1);
        let (granted, _) = queued(&table, Mode::Exclusive);
        let readers = trapped_readers(&table, trapped);
        drop(guard);
        assert!(panics(|| drop(granted)));
        drop(readers.map(|(future, _)| now(future)));
        assert_usable(&table, fresh);
    }
}

#[test]
fn a_waker_that_panics_leaves_no_key_of_a_set_behind() {
    for (fairness, by_hand) in [
        (Fairness::Eventual, false),
        (Fairness::Fifo, false),
        (Fairness::Fifo, true),
    ] {
        for trapped in 1..=3 {
            let (table, fresh) = shared_table(fairness);
            let keys = [1, 2, 3];
            let mut set = table.lock_all(keys.iter().map(|key| (key, Mode::Exclusive)));
            let waiting = keys.map(|key| {
                let (hooks, waker) = Hooks::new();
                if key == trapped {
                    hooks.on_wake(quiet_panic);
                }
                let mut future = table.lock_async(&key);
                assert!(poll_with(&mut future, &waker).is_pending());
                (future, hooks)
            });
            if by_hand {
                assert!(panics(|| assert!(set.unlock(&trapped))));
                assert_eq!((set.len(), set.contains(&trapped)), (2, false));
                drop(set);
            } else {
                assert!(panics(|| drop(set)));
            }
            assert!(waiting.iter().all(|(_, hooks)| hooks.wakes() == 1));
            drop(waiting.map(|(future, _)| now(future)));
            assert_usable(&table, fresh);
        }
    }
}

#[test]
fn a_waker_that_panics_leaves_no_key_behind_when_a_task_gives_many_up() {
    for trapped in 1..=4 {
        let (table, fresh) = shared_table(Fairness::Fifo);
        let guard = table.lock(&4);
        let keys = [1, 2, 3, 4];
        let mut all = table.lock_all_async(keys.iter().map(|key| (key, Mode::Exclusive)));
        assert!(poll(&mut all).is_pending());
        let waiting = keys.map(|key| {
            let (hooks, waker) = Hooks::new();
            if key == trapped {
                hooks.on_wake(quiet_panic);
            }
            let mut future = table.lock_async(&key);
            assert!(poll_with(&mut future, &waker).is_pending());
            (future, hooks)
        });
        // The last key was never its own.
        assert_eq!(panics(|| drop(all)), trapped != 4);
        assert_eq!(panics(|| drop(guard)), trapped == 4);
        assert!(waiting.iter().all(|(_, hooks)| hooks.wakes() == 1));
        drop(waiting.map(|(future, _)| now(future)));
        assert_usable(&table, fresh);
    }
}

#[test]
fn a_bump_takes_the_key_again_when_a_waker_panics() {
    let (table, fresh) = shared_table(Fairness::Eventual);
    let mut guard = table.lock(&1);
    let (hooks, waker) = Hooks::new();
    let slot = Arc::new(Mutex::new(None));
    let theirs = slot.clone();
    hooks.on_wake(move || {
        // Gone by the time that the key is wanted back, or that would wait for ever.
        drop(take(&theirs));
        quiet_panic();
    });
    let mut future = table.lock_async_owned(&1);
    assert!(poll_with(&mut future, &waker).is_pending());
    *slot.lock().expect("nobody panics") = Some(future);
    assert!(panics(|| ExclusiveGuard::bump(&mut guard)));
    assert_eq!(table.mode(&1), Some(Mode::Exclusive));
    drop(guard);
    assert_usable(&table, fresh);
}

#[test]
fn a_downgrade_gives_its_hold_back_when_a_waker_panics() {
    for trapped in 0..3 {
        let (table, fresh) = shared_table(Fairness::Eventual);
        let guard = table.lock(&1);
        let readers = trapped_readers(&table, trapped);
        assert!(panics(|| drop(guard.downgrade())));
        assert_eq!(readers.each_ref().map(|(_, hooks)| hooks.wakes()), [1; 3]);
        let guards = readers.map(|(future, _)| now(future));
        assert_eq!(table.inspect()[0].holders, 3, "its own hold is nobody's");
        drop(guards);
        assert_usable(&table, fresh);
    }
}

#[test]
fn a_waker_may_use_the_table_that_wakes_it() {
    let _dog = watchdog("a_waker_may_use_the_table_that_wakes_it");
    for fairness in POLICIES {
        for form in FORMS {
            let (table, fresh) = shared_table(fairness);
            let guard = table.lock(&1);
            let (hooks, waker) = Hooks::new();
            let mut future = form.lock(&table, 1);
            assert!(poll_with(&mut future, &waker).is_pending());
            let theirs = table.clone();
            hooks.on_wake(move || {
                let other = theirs.lock(&2);
                assert_eq!(theirs.inspect().len(), 2);
                drop(other);
                drop(theirs.try_lock_shared(&1));
                // Queues for the same key and gives up.
                drop(theirs.try_lock_for(&1, Duration::from_nanos(1)));
                drop(poll(&mut theirs.lock_async(&1)));
            });
            drop(guard);
            assert_eq!(hooks.wakes(), 1);
            drop(now(future));
            assert_usable(&table, fresh);
        }
    }
}

#[test]
fn a_waker_may_drop_the_future_that_it_wakes() {
    for fairness in POLICIES {
        let (table, fresh) = shared_table(fairness);
        let guard = table.lock(&1);
        // Each passes the key on from inside its waker; the last keeps it.
        let chain = [(); 10].map(|()| {
            let (hooks, waker) = Hooks::new();
            let mut future = table.lock_async_owned(&1);
            assert!(poll_with(&mut future, &waker).is_pending());
            let slot = Arc::new(Mutex::new(Some(future)));
            hooks.on_wake(move || drop(take(&slot)));
            hooks
        });
        let (last, bell) = queued(&table, Mode::Exclusive);
        drop(guard);
        assert!(chain.iter().all(|hooks| hooks.wakes() == 1));
        assert_eq!(
            (bell.rings(), table.stats().waiting == 0),
            (1, fairness == Fairness::Fifo)
        );
        drop(now(last));
        assert_usable(&table, fresh);
    }
}

fn take<T>(slot: &Mutex<Option<T>>) -> Option<T> {
    slot.lock().expect("nobody panics").take()
}

#[test]
fn a_waker_that_panics_when_cloned_leaves_no_ghost_in_the_queue() {
    for fairness in POLICIES {
        for form in FORMS {
            let (table, fresh) = shared_table(fairness);
            let guard = table.lock(&1);
            let (hooks, waker) = Hooks::new();
            let mut first = table.lock_async(&1);
            hooks.on_clone(quiet_panic);
            assert!(panics(|| drop(poll_with(&mut first, &waker))));
            assert_eq!(table.stats().waiting, 0);
            // The future is as it was.
            assert!(poll_with(&mut first, &waker).is_pending());
            assert_eq!(table.stats().waiting, 1);
            drop(first);

            let mut again = form.lock(&table, 1);
            assert!(poll_with(&mut again, &waker).is_pending());
            hooks.on_clone(quiet_panic);
            assert!(panics(|| drop(poll_with(&mut again, &waker))));
            drop(again);
            assert_eq!(table.stats().waiting, 0, "{form:?} left a ghost");
            drop(guard);
            assert_usable(&table, fresh);
        }
    }
}

#[test]
fn a_waker_that_panics_when_dropped_loses_no_key() {
    for fairness in POLICIES {
        for form in FORMS {
            // Exchanged for another while the future waits on.
            let (table, fresh) = shared_table(fairness);
            let guard = table.lock(&1);
            let (hooks, waker) = Hooks::new();
            let mut future = form.lock(&table, 1);
            assert!(poll_with(&mut future, &waker).is_pending());
            hooks.on_drop(quiet_panic);
            assert!(panics(|| drop(poll(&mut future))));
            drop(future);
            drop(guard);
            assert_usable(&table, fresh);

            // Given up with the future.
            let guard = table.lock(&1);
            let mut future = form.lock(&table, 1);
            assert!(poll_with(&mut future, &waker).is_pending());
            hooks.on_drop(quiet_panic);
            assert!(panics(|| drop(future)));
            drop(guard);
            assert_usable(&table, fresh);

            // Not needed any more, because the key was granted.
            let guard = table.lock(&1);
            let mut future = form.lock(&table, 1);
            assert!(poll_with(&mut future, &waker).is_pending());
            drop(guard);
            hooks.on_drop(quiet_panic);
            drop(catch_unwind(AssertUnwindSafe(|| {
                drop(poll_with(&mut future, &waker))
            })));
            drop(future);
            // Unless it went before.
            hooks.on_drop(|| ());
            assert_usable(&table, fresh);
        }
    }
}

#[test]
fn a_waker_may_free_the_key_while_it_is_cloned() {
    for fairness in POLICIES {
        for form in FORMS {
            for drops_badly in [false, true] {
                let (table, fresh) = shared_table(fairness);
                let guard = table.lock_owned(&1);
                let (hooks, waker) = Hooks::new();
                hooks.on_clone(move || drop(guard));
                if drops_badly {
                    // The clone is not needed: the key is free once it is made.
                    hooks.on_drop(quiet_panic);
                }
                let mut future = form.lock(&table, 1);
                let polled = catch_unwind(AssertUnwindSafe(|| poll_with(&mut future, &waker)));
                assert_eq!(polled.is_err(), drops_badly);
                drop((polled, future));
                assert_usable(&table, fresh);
            }
        }
    }
}

#[test]
fn a_waker_that_panics_in_a_thread_that_lets_it_in_loses_neither_hold() {
    let _dog = watchdog("a_waker_that_panics_in_a_thread_that_lets_it_in_loses_neither_hold");
    let (table, fresh) = shared_table(Fairness::Eventual);
    let guard = table.lock(&1);
    let (hooks, waker) = Hooks::new();
    hooks.on_wake(quiet_panic);
    let mut behind = table.lock_shared_async(&1);
    thread::scope(|scope| {
        // Woken first, and lets in whoever reads behind it.
        let head = scope.spawn(|| panics(|| drop(table.lock_shared(&1))));
        until_waits(&table, 1);
        assert!(poll_with(&mut behind, &waker).is_pending());
        drop(guard);
        assert!(head.join().expect("the panic is caught"));
    });
    drop(now(behind));
    assert_usable(&table, fresh);
}

/// Whichever use of a waker panics: the key is free in the end, and the next waiter gets it.
#[test]
fn a_waker_of_a_table_may_panic_at_any_use() {
    let step = |f: &mut dyn FnMut()| drop(catch_unwind(AssertUnwindSafe(f)));
    for fairness in POLICIES {
        for form in FORMS {
            for ends_early in [false, true] {
                for n in 1.. {
                    assert!(n < 100, "{form:?} has no end");
                    let (table, fresh) = shared_table(fairness);
                    let (fuse, waker) = Fuse::at(n);
                    let mut guard = Some(table.lock_owned(&1));
                    let mut future = Some(form.lock(&table, 1));
                    let mut behind = Some(table.lock_shared_async(&1));
                    for _ in 0..2 {
                        if let Some(future) = &mut future {
                            step(&mut || drop(poll_with(future, &waker)));
                        }
                        if let Some(behind) = &mut behind {
                            step(&mut || drop(poll_with(behind, &waker)));
                        }
                    }
                    if ends_early {
                        step(&mut || drop(future.take()));
                    }
                    step(&mut || drop(guard.take()));
                    if let Some(future) = &mut future {
                        step(&mut || drop(poll_with(future, &waker)));
                    }
                    step(&mut || drop(future.take()));
                    if let Some(behind) = &mut behind {
                        step(&mut || drop(poll_with(behind, &waker)));
                    }
                    step(&mut || drop(behind.take()));
                    let mut waker = Some(waker);
                    step(&mut || drop(waker.take()));
                    assert_usable(&table, fresh);
                    if !fuse.is_blown() {
                        break;
                    }
                }
            }
        }
    }
}

/// Whichever use of a waker panics: the waker of the last poll that was pending is the one that a
/// write wakes.
#[test]
fn a_waker_of_a_cell_may_panic_at_any_use() {
    for n in 1.. {
        assert!(n < 100, "no end");
        let cell = VersionedCell::new(0);
        let (fuse, waker) = Fuse::at(n);
        let (bell, last) = Bell::new();
        let mut changed = cell.changed(cell.version());
        assert!(poll_with(&mut changed, &last).is_pending());
        panics(|| _ = poll_with(&mut changed, &waker));
        // The destructor of the waker that is exchanged may be the use that panics.
        panics(|| _ = poll_with(&mut changed, &last));
        assert!(poll_with(&mut changed, &last).is_pending());
        panics(|| _ = cell.set(1));
        assert!(bell.rings() > 0, "use {n}: the wake-up is lost");
        assert!(poll(&mut changed).is_ready());
        panics(|| drop(changed));
        panics(|| drop(waker));
        if !fuse.is_blown() {
            return;
        }
    }
}

/// As above for a transaction that waits to be retried. A poll that panics ends the future: the
/// attempt that it ran is rolled back, and a new future takes its place.
#[test]
fn a_waker_of_a_transaction_may_panic_at_any_use() {
    for n in 1.. {
        assert!(n < 100, "no end");
        let cells = [0, 0].map(VersionedCell::new);
        let (fuse, waker) = Fuse::at(n);
        let (bell, last) = Bell::new();
        let begin = || {
            Transaction::builder().run_async(|tx| {
                let sum = *tx.read(&cells[0])? + *tx.read(&cells[1])?;
                if sum == 0 { tx.retry() } else { Ok(sum) }
            })
        };
        let mut waits = begin();
        for waker in [&waker, &waker, &last] {
            if panics(|| _ = poll_with(&mut waits, waker)) {
                assert!(panics(|| _ = poll_with(&mut waits, &last)), "use {n}");
                waits = begin();
            }
        }
        assert!(poll_with(&mut waits, &last).is_pending());
        panics(|| _ = cells[1].set(1));
        assert!(bell.rings() > 0, "use {n}: the wake-up is lost");
        assert!(matches!(poll(&mut waits), Poll::Ready(Ok(1))));
        drop(waits);
        panics(|| drop(waker));
        if !fuse.is_blown() {
            return;
        }
    }
}
