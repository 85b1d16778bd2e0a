//! What a holder may do with its hold besides giving it back, and what others see of it.

use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use crate::common::hashers::Place;
use crate::common::tasks::{POLICIES, assert_usable, now, poll, queued, shared_table};
use crate::common::{until_waits, watchdog};
use latchwork::{
    Fairness, LockTable, Mode,
    table::{ExclusiveGuard, OwnedExclusiveGuard, OwnedSharedGuard, SharedGuard},
};

#[test]
fn of_two_that_upgrade_neither_can_until_the_other_has_left() {
    for fairness in POLICIES {
        // Counted in the slot, and by a monitor.
        for waited_for in [false, true] {
            let (table, fresh) = shared_table(fairness);
            let one = table.lock_shared(&1);
            let two = table.lock_shared(&1);
            let waiting = waited_for.then(|| queued(&table, Mode::Exclusive));
            assert_eq!(table.stats().monitors, usize::from(waited_for));
            let one = one.try_upgrade().expect_err("two holds it, too");
            let two = two.try_upgrade().expect_err("one holds it, too");
            assert_eq!(table.inspect()[0].holders, 2);
            drop(one);
            let two = two.try_upgrade().expect("nobody shares it");
            assert_eq!(table.mode(&1), Some(Mode::Exclusive));
            assert!(table.try_lock_shared(&1).is_none());
            // Who waits was passed over, and not forgotten.
            assert!(waiting.as_ref().is_none_or(|(_, bell)| bell.rings() == 0));
            drop(two);
            if let Some((future, bell)) = waiting {
                assert_eq!(bell.rings(), 1);
                drop(now(future));
            }
            assert_usable(&table, fresh);
        }
    }
}

#[test]
fn a_hold_may_change_its_mode_again_and_again() {
    let (table, fresh) = shared_table(Fairness::Eventual);
    let other = table.lock(&2);
    let mut guard = table.lock(&1);
    for _ in 0..1_000 {
        let shared = guard.downgrade();
        assert_eq!(table.mode(&1), Some(Mode::Shared));
        drop(table.try_lock_shared(&1).expect("it is shared"));
        guard = shared.try_upgrade().expect("nobody else reads");
        assert_eq!(table.mode(&1), Some(Mode::Exclusive));
    }
    drop((guard, other));
    assert_usable(&table, fresh);
}

#[test]
fn a_crowd_too_large_for_a_slot_upgrades_when_one_is_left() {
    let (table, fresh) = shared_table(Fairness::Eventual);
    let mut crowd: Vec<_> = (0..200).map(|_| table.lock_shared(&1)).collect();
    assert_eq!(table.inspect()[0].holders, 200);
    while crowd.len() > 1 {
        let reader = crowd.pop().expect("two at least");
        drop(reader.try_upgrade().expect_err("others read"));
    }
    let last = crowd.pop().expect("one");
    drop(last.try_upgrade().expect("nobody else reads").downgrade());
    assert_usable(&table, fresh);
}

#[test]
fn a_downgrade_admits_the_readers_at_the_head_and_no_more() {
    for fairness in POLICIES {
        let (table, fresh) = shared_table(fairness);
        let guard = table.lock(&1);
        let first = [(); 3].map(|()| queued(&table, Mode::Shared));
        let (writer, writer_bell) = queued(&table, Mode::Exclusive);
        let (last, last_bell) = queued(&table, Mode::Shared);
        let guard = guard.downgrade();
        assert!(first.iter().all(|(_, bell)| bell.rings() == 1));
        assert_eq!((writer_bell.rings(), last_bell.rings()), (0, 0));
        let lock = &table.inspect()[0];
        assert_eq!((lock.mode, lock.holders), (Some(Mode::Shared), 4));
        assert_eq!(lock.waiters.len(), 2);
        let readers = first.map(|(future, _)| now(future));
        // A newcomer that reads stands back for the writer.
        assert!(table.try_lock_shared(&1).is_none());
        drop(guard);
        assert_eq!(writer_bell.rings(), 0);
        drop(readers);
        assert_eq!((writer_bell.rings(), last_bell.rings()), (1, 0));
        drop(now(writer));
        assert_eq!(last_bell.rings(), 1);
        drop(now(last));
        assert_usable(&table, fresh);
    }
}

#[test]
fn a_downgrade_lets_nobody_in_when_a_writer_is_first() {
    for fairness in POLICIES {
        let (table, fresh) = shared_table(fairness);
        let guard = table.lock(&1);
        let (writer, writer_bell) = queued(&table, Mode::Exclusive);
        let (reader, reader_bell) = queued(&table, Mode::Shared);
        let guard = guard.downgrade();
        assert_eq!((writer_bell.rings(), reader_bell.rings()), (0, 0));
        assert_eq!(table.inspect()[0].holders, 1);
        drop(guard);
        assert_eq!((writer_bell.rings(), reader_bell.rings()), (1, 0));
        drop(now(writer));
        drop(now(reader));
        assert_usable(&table, fresh);
    }
}

#[test]
fn a_downgrade_wakes_threads_that_read() {
    let _dog = watchdog("a_downgrade_wakes_threads_that_read");
    let (table, fresh) = shared_table(Fairness::Eventual);
    let guard = table.lock(&1);
    let guard = thread::scope(|scope| {
        for waits in 1..=3 {
            scope.spawn(|| drop(table.lock_shared(&1)));
            until_waits(&table, waits);
        }
        // Kept until they have been and gone.
        guard.downgrade()
    });
    drop(guard);
    assert_usable(&table, fresh);
}

#[test]
fn tokens_grow_while_their_key_comes_and_goes_a_million_times() {
    let _dog = watchdog("tokens_grow_while_their_key_comes_and_goes_a_million_times");
    let (table, fresh) = shared_table(Fairness::Eventual);
    let mut last = None;
    let mut counters = None;
    for i in 0..1_000_000_u64 {
        let guard = table.lock(&1);
        if i % 1_000 == 0 {
            // Also when the key's lock outgrows its slot, and when others of its slot take some.
            drop(queued(&table, Mode::Exclusive));
            let _ = table.lock(&(1 + (1 << 40))).token();
        }
        let token = guard.token();
        assert!(last < Some(token), "{token} after {last:?}");
        last = Some(token);
        drop(guard);
        if i % 100_000 == 0 {
            let bytes = table.stats().token_bytes;
            assert_eq!(bytes, *counters.get_or_insert(bytes), "counters pile up");
        }
    }
    assert_usable(&table, fresh);
}

#[test]
fn tokens_grow_from_one_holder_to_the_next() {
    let _dog = watchdog("tokens_grow_from_one_holder_to_the_next");
    for fairness in POLICIES {
        let (table, _) = shared_table(fairness);
        let seen = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for i in 0..4 {
                let (table, seen) = (&table, &seen);
                scope.spawn(move || {
                    for _ in 0..2_000 {
                        // Under the key's own lock, so in the order in which it was held.
                        if i % 2 == 0 {
                            let guard = table.lock(&1);
                            seen.lock().expect("nobody panics").push(guard.token());
                        } else {
                            let set = table.lock_all([(&1, Mode::Exclusive), (&2, Mode::Shared)]);
                            let token = set.token(&1).expect("held exclusively");
                            seen.lock().expect("nobody panics").push(token);
                        }
                    }
                });
            }
        });
        let seen = seen.into_inner().expect("nobody panics");
        assert!(seen.is_sorted_by(|a, b| a < b));
        assert!(seen[0].get() >= 1);
        assert_eq!((table.locked_count(), table.stats().monitors), (0, 0));
    }
}

#[test]
fn a_set_gives_tokens_for_what_it_holds_exclusively() {
    let (table, _) = shared_table(Fairness::Eventual);
    let set = table.lock_all([(&1, Mode::Exclusive), (&2, Mode::Shared)]);
    let first = set.token(&1);
    assert!(first.is_some() && first < set.token(&1));
    assert_eq!((set.token(&2), set.token(&3)), (None, None));
    let last = set.token(&1).expect("held exclusively");
    drop(set);
    assert!(last < table.lock(&1).token());
    let set = table.lock_all_owned([(&1, Mode::Exclusive)]);
    assert!(Some(last) < set.token(&1));
}

#[test]
fn a_set_gives_one_key_back_and_keeps_the_others() {
    for many in [3, 8, 20] {
        let (table, fresh) = shared_table(Fairness::Fifo);
        let keys: Vec<u64> = (0..many).collect();
        let mut set = table.lock_all(keys.iter().map(|key| {
            let writes = key % 2 == 0;
            (
                key,
                if writes {
                    Mode::Exclusive
                } else {
                    Mode::Shared
                },
            )
        }));
        let (waiting, bell) = queued(&table, Mode::Exclusive);
        assert!(!set.unlock(&many), "never held");
        for (gone, key) in [1]
            .into_iter()
            .chain((0..many).filter(|&key| key != 1))
            .enumerate()
        {
            assert!(set.unlock(&key));
            assert!(!set.unlock(&key), "{key} twice");
            assert_eq!((set.contains(&key), set.token(&key)), (false, None));
            assert_eq!(set.len() as u64, many - 1 - gone as u64);
            // Key 1 went to the one that waited for it, at once.
            assert_eq!(bell.rings(), 1);
            assert_eq!(table.locked_count() as u64, many - gone as u64);
            if key != 1 {
                assert!(table.try_lock(&key).is_some());
            }
        }
        assert!(set.is_empty());
        drop((set, now(waiting)));
        assert_usable(&table, fresh);
    }
}

#[test]
fn a_fair_unlock_hands_the_key_to_whoever_has_waited_longest() {
    // Under `Eventual`, where a plain one leaves it to whoever comes first.
    let (table, fresh) = shared_table(Fairness::Eventual);
    type Unlock<'a> = Box<dyn FnOnce() + 'a>;
    let holds: [fn(&std::sync::Arc<crate::common::tasks::Table>) -> Unlock<'_>; 4] = [
        |table| {
            let guard = table.lock(&1);
            Box::new(|| ExclusiveGuard::unlock_fair(guard))
        },
        |table| {
            let guard = table.lock_shared(&1);
            Box::new(|| SharedGuard::unlock_fair(guard))
        },
        |table| {
            let guard = table.lock_owned(&1);
            Box::new(|| OwnedExclusiveGuard::unlock_fair(guard))
        },
        |table| {
            let guard = table.lock_shared_owned(&1);
            Box::new(|| OwnedSharedGuard::unlock_fair(guard))
        },
    ];
    for hold in holds {
        // With nobody there, as a plain one.
        hold(&table)();
        assert_usable(&table, fresh);

        let unlock = hold(&table);
        let (oldest, oldest_bell) = queued(&table, Mode::Exclusive);
        let (next, next_bell) = queued(&table, Mode::Exclusive);
        unlock();
        assert_eq!((oldest_bell.rings(), next_bell.rings()), (1, 0));
        assert_eq!(table.mode(&1), Some(Mode::Exclusive), "it holds it already");
        assert!(table.try_lock(&1).is_none());
        drop(now(oldest));
        drop(now(next));
        assert_usable(&table, fresh);
    }
}

#[test]
fn a_bump_gives_way_to_whoever_waits_and_to_nobody_else() {
    let _dog = watchdog("a_bump_gives_way_to_whoever_waits_and_to_nobody_else");
    for fairness in POLICIES {
        let (table, fresh) = shared_table(fairness);
        let seen = Mutex::new(Vec::new());
        let mut guard = table.lock(&1);
        let log = |who| seen.lock().expect("nobody panics").push(who);
        ExclusiveGuard::bump(&mut guard);
        assert_eq!(
            table.stats().inflations,
            0,
            "there was nobody to give way to"
        );
        thread::scope(|scope| {
            scope.spawn(|| {
                let _guard = table.lock(&1);
                log("the one that waited");
            });
            until_waits(&table, 1);
            log("before");
            ExclusiveGuard::bump(&mut guard);
            log("after");
        });
        assert_eq!(table.mode(&1), Some(Mode::Exclusive));
        drop(guard);
        assert_eq!(
            *seen.lock().expect("nobody panics"),
            ["before", "the one that waited", "after"]
        );
        assert_usable(&table, fresh);

        let mut guard = table.lock_shared(&1);
        let waits = table.stats().waits;
        thread::scope(|scope| {
            scope.spawn(|| drop(table.lock(&1)));
            until_waits(&table, waits + 1);
            SharedGuard::bump(&mut guard);
        });
        assert_eq!(table.mode(&1), Some(Mode::Shared));
        drop(guard);
        assert_usable(&table, fresh);
    }
}

#[test]
fn a_look_from_outside_shows_holders_and_waiters_in_the_order_of_their_turns() {
    use Mode::{Exclusive as E, Shared as S};
    for fairness in POLICIES {
        let (table, fresh) = shared_table(fairness);
        let alone = table.lock(&7);
        let readers = [(); 3].map(|()| table.lock_shared(&1));
        let wants = [E, S, S, E, S];
        let mut waiting = wants.map(|mode| Some(queued(&table, mode).0));
        let see = |key: u64| {
            let mut all = table.inspect();
            all.retain(|lock| lock.key_id.get() == key);
            assert!(all.len() <= 1, "{all:?}");
            all.pop().map(|lock| {
                // Who has waited longest is first.
                assert!(lock.waiters.is_sorted_by(|a, b| a.waited >= b.waited));
                let modes: Vec<Mode> = lock.waiters.iter().map(|waiter| waiter.mode).collect();
                (lock.mode, lock.holders, modes)
            })
        };
        assert_eq!(see(1), Some((Some(S), 3, wants.to_vec())));
        assert_eq!(see(7), Some((Some(E), 1, vec![])));
        assert_eq!(see(2), None);
        assert_eq!(table.stats().waiting, 5);
        // One in the middle gives up.
        waiting[3] = None;
        assert_eq!(see(1), Some((Some(S), 3, vec![E, S, S, S])));
        drop(readers);
        let expected = match fairness {
            Fairness::Fifo => (Some(E), 1, vec![S, S, S]),
            // Free for the one that was woken.
            _ => (None, 0, vec![E, S, S, S]),
        };
        assert_eq!(see(1), Some(expected));
        drop(now(waiting[0].take().expect("it has waited")));
        if fairness == Fairness::Fifo {
            assert_eq!(see(1), Some((Some(S), 3, vec![])));
        }
        let guards = waiting.map(|future| future.map(now));
        assert_eq!(see(1), Some((Some(S), 3, vec![])));
        drop((guards, alone));
        assert!(table.inspect().is_empty());
        assert_usable(&table, fresh);
    }
}

#[test]
fn keys_are_shown_by_their_whole_identity_however_deep_they_lie() {
    let table = LockTable::<u64, _>::with_hasher(Place::Above(20));
    let keys: Vec<u64> = (1..100).collect();
    let guards: Vec<_> = keys.iter().map(|key| table.lock(key)).collect();
    let mut seen: Vec<_> = table.inspect().iter().map(|lock| lock.key_id).collect();
    seen.sort_unstable();
    assert!(
        seen.into_iter()
            .eq(keys.iter().map(|key| table.key_id(key)))
    );
    drop(guards);
    assert!(table.inspect().is_empty());
}

#[test]
fn the_longest_wait_is_that_of_somebody_who_got_the_key() {
    let (table, fresh) = shared_table(Fairness::Fifo);
    assert_eq!(table.stats().longest_wait, Duration::ZERO);
    let mut longest = Duration::ZERO;
    for _ in 0..10 {
        let guard = table.lock(&1);
        let mut gave_up = table.lock_async(&1);
        assert!(poll(&mut gave_up).is_pending());
        let (waiting, _) = queued(&table, Mode::Exclusive);
        drop(gave_up);
        // At least as long as it has waited by now, and longer than all before it.
        let waited = loop {
            let waited = table.inspect()[0].waiters[0].waited;
            if waited > longest {
                break waited;
            }
        };
        assert_eq!(
            table.stats().longest_wait,
            longest,
            "nobody got the key since"
        );
        drop(guard);
        drop(now(waiting));
        assert!(table.stats().longest_wait >= waited);
        longest = table.stats().longest_wait;
    }
    assert_usable(&table, fresh);
}
