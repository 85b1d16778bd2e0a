//! Sets of `lock_all` beside sessions: deadlocks among them are detected, and end in a session.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::Poll;
use std::time::Duration;

use latchwork::{
    Fairness, Mode, Session,
    session::{DeadlockReport, LockError, Policy},
    table::OwnerKind,
};

use crate::common::hashers::Place;
use crate::common::tasks::{
    Bell, Hooks, POLICIES, Table, panics, poll, poll_with, quiet_panic, shared_table,
};
use crate::common::{assert_as_new, until_waits, watchdog};

/// Never over in a test.
const LONG: Duration = Duration::from_secs(3_600);

const ONE_AND_TWO: [(&u64, Mode); 2] = [(&1, Mode::Exclusive), (&2, Mode::Exclusive)];

/// The report of a session that is the victim of a set.
fn report(told: Result<(), LockError>) -> DeadlockReport {
    match told {
        Err(LockError::Deadlock(report)) => report,
        told => panic!("{told:?}"),
    }
}

/// A session that holds key 2, matters most, and wants key 1, beside a set that holds key 1 and
/// wants key 2.
fn opposite_orders(lock_all: impl Fn(&Table) + Sync) {
    for fairness in POLICIES {
        let (table, fresh) = shared_table(fairness);
        let table = &*table;
        let mut session = table.session().priority(i32::MAX);
        session.lock(&2).unwrap();
        std::thread::scope(|s| {
            let set = s.spawn(|| lock_all(table));
            until_waits(table, 1);
            let report = report(session.lock(&1));
            assert_eq!(report.victim().session, session.id());
            session.release_all();
            set.join().unwrap();
        });
        assert_eq!(table.deadlocks().len(), 1);
        drop(session);
        assert_as_new(table, fresh);
    }
}

#[test]
fn a_set_and_a_session_in_opposite_orders() {
    let _watchdog = watchdog("a_set_and_a_session_in_opposite_orders");
    opposite_orders(|table| drop(table.lock_all(ONE_AND_TWO)));
}

#[test]
fn a_timed_set_and_a_session_in_opposite_orders() {
    let _watchdog = watchdog("a_timed_set_and_a_session_in_opposite_orders");
    opposite_orders(|table| assert!(table.try_lock_all_for(ONE_AND_TWO, LONG).is_some()));
}

#[test]
fn a_task_with_a_set_and_a_session_in_opposite_orders() {
    let _watchdog = watchdog("a_task_with_a_set_and_a_session_in_opposite_orders");
    opposite_orders(|table| drop(pollster::block_on(table.lock_all_async(ONE_AND_TWO))));
}

/// The session publishes last, and is the victim although it matters more; its report names the
/// set.
#[test]
fn a_session_that_waits_last_is_told_of_the_set() {
    {
        let (table, fresh) = shared_table(Fairness::Eventual);
        let mut session = table.session().priority(1).named("checkout");
        session.lock(&2).unwrap();
        let (bell, waker) = Bell::new();
        let three = [1, 2, 3].map(|key| (key, Mode::Exclusive));
        let mut set = table.lock_all_async(three.iter().map(|(key, mode)| (key, *mode)));
        assert!(poll_with(&mut set, &waker).is_pending());
        let told = poll(&mut session.lock_async(&1));
        let Poll::Ready(told) = told else {
            panic!("it waits");
        };
        let report = report(told);
        assert_eq!(report.victim().name.as_deref(), Some("checkout"));
        let kinds: Vec<_> = report.parties().iter().map(|party| party.kind).collect();
        assert!(kinds.contains(&OwnerKind::Set { keys: 3 }), "{kinds:?}");
        let said = report.to_string();
        assert!(said.contains("set of 3 keys (#"), "{said}");
        assert!(said.contains("deadlock of 1 session and 1 set"), "{said}");
        assert_eq!(bell.rings(), 0);
        session.release_all();
        assert_eq!(bell.rings(), 1);
        assert!(poll(&mut set).is_ready());
        drop((set, session));
        assert_as_new(&table, fresh);
    }
}

/// The set publishes last, and finds the session that waits for it already.
#[test]
fn a_set_that_waits_last_ends_the_wait_of_a_session() {
    let (table, fresh) = shared_table(Fairness::Eventual);
    let mut session = table.session();
    session.lock(&3).unwrap();
    let between = table.lock(&2);
    let mut set = table.lock_all_async([1, 2, 3].each_ref().map(|key| (key, Mode::Exclusive)));
    assert!(poll(&mut set).is_pending());
    let (bell, waker) = Bell::new();
    {
        let mut waits = session.lock_async(&1);
        assert!(
            poll_with(&mut waits, &waker).is_pending(),
            "the set waits for a guard"
        );
        drop(between);
        // It gets key 2, and waits for key 3.
        assert!(poll(&mut set).is_pending());
        assert_eq!(bell.rings(), 1);
        let Poll::Ready(told) = poll(&mut waits) else {
            panic!("it still waits");
        };
        assert_eq!(report(told).parties().len(), 2);
    }
    session.release_all();
    assert!(poll(&mut set).is_ready());
    drop((set, session));
    assert_as_new(&table, fresh);
}

/// Two sets and two sessions, each of which waits for the next: one session is the victim.
#[test]
fn two_sets_and_two_sessions_in_a_ring_have_one_victim() {
    let _watchdog = watchdog("two_sets_and_two_sessions_in_a_ring_have_one_victim");
    for fairness in POLICIES {
        let (table, fresh) = shared_table(fairness);
        let table = &*table;
        let barrier = Barrier::new(2);
        let victims = AtomicU64::new(0);
        std::thread::scope(|s| {
            let (barrier, victims) = (&barrier, &victims);
            for (own, other) in [(2, 3), (4, 1)] {
                s.spawn(move || {
                    let mut session = table.session();
                    session.lock(&own).unwrap();
                    barrier.wait();
                    // Both sets hold one key, and wait for the other.
                    until_waits(table, 2);
                    match session.lock(&other) {
                        Ok(()) => {}
                        told => {
                            assert_eq!(report(told).parties().len(), 4);
                            victims.fetch_add(1, Relaxed);
                        }
                    }
                });
            }
            for keys in [[1, 2], [3, 4]] {
                s.spawn(move || {
                    while table.mode(&keys[1]).is_none() {
                        std::thread::yield_now();
                    }
                    drop(table.lock_all(keys.each_ref().map(|key| (key, Mode::Exclusive))));
                });
            }
        });
        assert_eq!(victims.into_inner(), 1);
        assert_as_new(table, fresh);
    }
}

/// A set that reads is let past a writer in whose queue it waits, and no session is told.
#[test]
fn a_set_is_let_past_a_writer() {
    let (table, fresh) = shared_table(Fairness::Eventual);
    let mut session = table.session();
    session.lock_shared(&2).unwrap();
    let mut writer = table.lock_async(&2);
    assert!(poll(&mut writer).is_pending());
    let (bell, waker) = Bell::new();
    let mut set = table.lock_all_async([(&1, Mode::Exclusive), (&2, Mode::Shared)]);
    assert!(poll_with(&mut set, &waker).is_pending());
    {
        let mut waits = session.lock_async(&1);
        assert!(poll(&mut waits).is_pending());
        assert_eq!(bell.rings(), 1);
        let Poll::Ready(held) = poll(&mut set) else {
            panic!("it was let past");
        };
        drop(held);
        assert!(matches!(poll(&mut waits), Poll::Ready(Ok(()))));
    }
    assert!(table.deadlocks().is_empty());
    drop((set, session));
    assert!(poll(&mut writer).is_ready());
    drop(writer);
    assert_as_new(&table, fresh);
}

/// A set counts as newer than every session, whichever began first: a session under `WaitDie` waits
/// for it.
#[test]
fn no_session_dies_for_a_set() {
    let (table, fresh) = shared_table(Fairness::Eventual);
    let guard = table.lock(&2);
    let mut set = table.lock_all_async(ONE_AND_TWO);
    // It holds key 1, and its wait is published.
    assert!(poll(&mut set).is_pending());
    let mut session = table.session().policy(Policy::WaitDie);
    {
        let mut waits = session.lock_async(&1);
        let first = poll(&mut waits);
        assert!(first.is_pending(), "{first:?}");
        drop(guard);
        let Poll::Ready(held) = poll(&mut set) else {
            panic!("both keys are free");
        };
        drop(held);
        assert!(matches!(poll(&mut waits), Poll::Ready(Ok(()))));
    }
    drop((set, session));
    assert_as_new(&table, fresh);
}

/// Whether a session that holds key 2 may wait for key 1 without a report.
fn is_alone(session: &mut Session<'_, u64, Place>) -> bool {
    poll(&mut session.lock_async(&1)).is_pending()
}

/// A set that has ended, in whatever way, is in no cycle.
#[test]
fn a_set_that_has_given_up_is_in_no_cycle() {
    let _watchdog = watchdog("a_set_that_has_given_up_is_in_no_cycle");
    for way in ["dropped", "late", "panics"] {
        let (table, fresh) = shared_table(Fairness::Eventual);
        let mut session = table.session();
        session.lock(&2).unwrap();
        match way {
            "dropped" => {
                let mut set = table.lock_all_async(ONE_AND_TWO);
                assert!(poll(&mut set).is_pending());
                drop(set);
            }
            "late" => {
                // Longer than sets wait before they publish.
                let time = Duration::from_millis(10);
                assert!(table.try_lock_all_for(ONE_AND_TWO, time).is_none());
            }
            _ => {
                let (hooks, waker) = Hooks::new();
                let mut set = table.lock_all_async(ONE_AND_TWO);
                assert!(poll_with(&mut set, &waker).is_pending());
                hooks.on_drop(quiet_panic);
                assert!(panics(|| drop(set)));
            }
        }
        assert_eq!(table.locked_count(), 1, "{way}");
        let guard = table.lock(&1);
        assert!(is_alone(&mut session), "{way}");
        drop(guard);
        drop(session);
        assert!(table.deadlocks().is_empty());
        assert_as_new(&table, fresh);
    }
}

/// A session of the set's cycle may have a waker that panics: the panic comes out of the set's
/// call, which leaves nothing behind.
#[test]
fn a_waker_of_the_victim_that_panics_leaves_no_set_behind() {
    let (table, fresh) = shared_table(Fairness::Eventual);
    let mut session = table.session();
    session.lock(&3).unwrap();
    let between = table.lock(&2);
    let (hooks, waker) = Hooks::new();
    hooks.on_wake(quiet_panic);
    let mut set = table.lock_all_async([1, 2, 3].each_ref().map(|key| (key, Mode::Exclusive)));
    assert!(poll(&mut set).is_pending());
    {
        let mut waits = session.lock_async(&1);
        assert!(poll_with(&mut waits, &waker).is_pending());
        drop(between);
        assert!(panics(|| drop(poll(&mut set))));
        assert_eq!(hooks.wakes(), 1);
        drop(set);
        assert!(matches!(
            poll(&mut waits),
            Poll::Ready(Err(LockError::Deadlock(_)))
        ));
    }
    drop(session);
    assert_as_new(&table, fresh);
}

/// As above for a thread: the panic comes out of `lock_all`, which holds nothing then and waits for
/// nothing.
#[test]
fn a_waker_of_the_victim_that_panics_leaves_no_blocked_set_behind() {
    let _watchdog = watchdog("a_waker_of_the_victim_that_panics_leaves_no_blocked_set_behind");
    for is_timed in [false, true] {
        let (table, fresh) = shared_table(Fairness::Eventual);
        let mut session = table.session();
        session.lock(&3).unwrap();
        let between = table.lock(&2);
        let (hooks, waker) = Hooks::new();
        hooks.on_wake(quiet_panic);
        std::thread::scope(|s| {
            let set = s.spawn(|| {
                let keys = [1, 2, 3].map(|key| (key, Mode::Exclusive));
                let keys = keys.iter().map(|(key, mode)| (key, *mode));
                panics(|| match is_timed {
                    false => drop(table.lock_all(keys)),
                    true => drop(table.try_lock_all_for(keys, LONG)),
                })
            });
            until_waits(&table, 1);
            let mut waits = session.lock_async(&1);
            assert!(poll_with(&mut waits, &waker).is_pending());
            drop(between);
            assert!(set.join().unwrap(), "it has run the waker");
            assert_eq!(table.stats().waiting, 0);
            let told = poll(&mut waits);
            assert!(matches!(told, Poll::Ready(Err(LockError::Deadlock(_)))));
        });
        assert_eq!(table.locked_count(), 1);
        drop(session);
        assert_as_new(&table, fresh);
    }
}

/// Sessions and sets, blocking, timed and async, lock in whatever order: all end.
#[test]
fn sessions_and_sets_in_random_order_all_end() {
    const KEYS: u64 = 5;
    const ROUNDS: u64 = 200;
    let _watchdog = watchdog("sessions_and_sets_in_random_order_all_end");
    for fairness in POLICIES {
        let (table, fresh) = shared_table(fairness);
        let table = &*table;
        let writers: Vec<AtomicU64> = (0..KEYS).map(|_| AtomicU64::new(0)).collect();
        let alone = |key: u64, mode| {
            if mode == Mode::Exclusive {
                let before = writers[key as usize].fetch_add(1, Relaxed);
                assert_eq!(before, 0, "two writers");
            }
        };
        let leave = |key: u64, mode| {
            if mode == Mode::Exclusive {
                writers[key as usize].fetch_sub(1, Relaxed);
            }
        };
        let (alone, leave) = (&alone, &leave);
        std::thread::scope(|s| {
            for thread in 0..6_u64 {
                s.spawn(move || {
                    let mut x = thread * 0x9E37_79B9 + 1;
                    let mut random = move |n: u64| {
                        x ^= x << 13;
                        x ^= x >> 7;
                        x ^= x << 17;
                        x % n
                    };
                    let session = table.session();
                    let mut session = session.detect_after(Duration::from_micros(200));
                    for _ in 0..ROUNDS {
                        let first = random(KEYS);
                        let n = 2 + random(2);
                        let keys: Vec<(u64, Mode)> = (0..n)
                            .map(|i| {
                                let mode = [Mode::Shared, Mode::Exclusive][random(2) as usize];
                                ((first + i) % KEYS, mode)
                            })
                            .collect();
                        let given = || keys.iter().map(|(key, mode)| (key, *mode));
                        let set = match thread {
                            0 => Some(table.lock_all(given())),
                            1 => table.try_lock_all_for(given(), LONG),
                            2 => Some(pollster::block_on(table.lock_all_async(given()))),
                            _ => None,
                        };
                        if let Some(set) = set {
                            keys.iter().for_each(|(key, mode)| alone(*key, *mode));
                            std::thread::yield_now();
                            keys.iter().for_each(|(key, mode)| leave(*key, *mode));
                            drop(set);
                            continue;
                        }
                        let mut held = Vec::new();
                        for (key, mode) in keys {
                            let told = match mode {
                                Mode::Shared => session.lock_shared(&key),
                                Mode::Exclusive => session.lock(&key),
                            };
                            if told.is_err() {
                                break;
                            }
                            alone(key, mode);
                            held.push((key, mode));
                            std::thread::yield_now();
                        }
                        held.iter().for_each(|(key, mode)| leave(*key, *mode));
                        session.release_all();
                    }
                });
            }
        });
        assert_as_new(table, fresh);
    }
}
