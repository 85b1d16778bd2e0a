//! What a session keeps when user code panics between the grant of a key and its record.

use core::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use super::Policy;
use crate::deadlock::{At, Found, Held, Search};
use crate::lock_table::LockTable;
use crate::park::{Notify, Spin};
use crate::sync::tuning::EARLY_SEARCHES;
use crate::sync::{Parker, now};
use crate::word::Mode;

/// Panics when its last waker is dropped.
struct Bell;

impl Wake for Bell {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Bell {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            resume_unwind(Box::new("a destructor of a waker"));
        }
    }
}

/// The key comes free just as the session is about to queue, so its waiter is not needed, and the
/// destructor of the waker in it panics: the session has recorded the key, and releases it when it
/// is dropped.
#[test]
fn a_session_loses_no_key_when_the_destructor_of_an_unused_waker_panics() {
    for (mode, has_monitor) in [
        (Mode::Exclusive, false),
        (Mode::Exclusive, true),
        (Mode::Shared, false),
        (Mode::Shared, true),
    ] {
        let table: LockTable<u64> = LockTable::new();
        let mut session = table.session();
        let guard = Cell::new(Some(table.lock(&1)));
        if has_monitor {
            let mut other = Box::pin(table.lock_async(&1));
            let mut cx = Context::from_waker(Waker::noop());
            assert!(Future::poll(other.as_mut(), &mut cx).is_pending());
        }
        let hash = table.key_id(&1).0;
        let want = Held {
            hash,
            mode,
            at: At::here(),
        };
        let begun = catch_unwind(AssertUnwindSafe(|| {
            session.begin(want, false, Spin::none, || {
                // It is called after the key was found locked, and before the session is queued.
                drop(guard.take());
                Notify::Task(Waker::from(Arc::new(Bell)))
            })
        }));
        assert!(begun.is_err(), "the destructor has run");
        assert_eq!(session.mode(&1), Some(mode));
        assert_eq!(table.mode(&1), Some(mode));
        drop(session);
        assert_eq!(table.locked_count(), 0, "{mode:?}: the key is lost");
        assert!(table.try_lock(&1).is_some());
    }
}

/// As above for an upgrade, which finds the other reader gone: the session holds the key
/// exclusively.
#[test]
fn an_upgrade_is_recorded_before_the_destructor_of_an_unused_waker_runs() {
    let table: LockTable<u64> = LockTable::new();
    let mut session = table.session();
    session.lock_shared(&1).unwrap();
    let other = Cell::new(Some(table.lock_shared(&1)));
    let want = Held {
        hash: table.key_id(&1).0,
        mode: Mode::Exclusive,
        at: At::here(),
    };
    let begun = catch_unwind(AssertUnwindSafe(|| {
        session.begin(want, true, Spin::none, || {
            drop(other.take());
            Notify::Task(Waker::from(Arc::new(Bell)))
        })
    }));
    assert!(begun.is_err(), "the destructor has run");
    assert_eq!(session.mode(&1), Some(Mode::Exclusive));
    drop(session);
    assert_eq!(table.locked_count(), 0);
    let again = table.session().lock_async(&1).poll_once();
    assert!(matches!(again, Poll::Ready(Ok(()))));
}

/// A victim that still holds a key waits for no turn, because other sessions may wait for the key.
/// One that never waits has no turn either [D12].
#[test]
fn a_victim_that_holds_a_key_or_never_waits_has_no_turn() {
    let table: LockTable<u64> = LockTable::new();
    for policy in [Policy::Detect, Policy::NoWait] {
        for holds in [false, true] {
            let mut session = table.session().policy(policy);
            if holds {
                session.lock(&1).unwrap();
            }
            session.lose();
            session.lock(&2).unwrap();
            assert_eq!(session.turn, policy == Policy::Detect && !holds);
            session.release_all();
            assert!(!session.turn);
        }
    }
}

/// A session that searches at once in any case uses none of the early searches [D10].
#[test]
fn a_threshold_of_zero_uses_no_early_search() {
    let table: LockTable<u64> = LockTable::new();
    let _guard = table.lock(&1);
    let sessions = &table.detector;
    sessions.with(|_| sessions.searched(Search::Due, Found::Cycle));
    for (after, is_left) in [(Duration::ZERO, true), (Duration::from_secs(3600), false)] {
        let policy = Policy::Timeout(Duration::ZERO);
        let mut session = table.session().policy(policy).detect_after(after);
        for _ in 0..EARLY_SEARCHES {
            session.lock(&1).unwrap_err();
        }
        assert_eq!(sessions.may_search_early(), is_left);
    }
}

const HOUR: Duration = Duration::from_secs(3600);
/// A session whose turn lasts, and one that comes after all others.
const OTHER: u64 = u64::MAX - 1;
const LAST: u64 = u64::MAX;

/// Begins the turn of `OTHER`, as if `after` had passed.
fn a_turn(table: &LockTable<u64>, after: Duration) {
    let (now, notify) = (now() + after, Parker::new().1);
    let begins = table
        .detector
        .with_turns(|turns| turns.enter(OTHER, notify, now));
    assert_eq!(begins, None);
}

/// Ends the turn of `OTHER`, and returns whether another session has the turn then. `at` precedes
/// the end of each turn.
fn is_turn_of_another(table: &LockTable<u64>, at: Instant) -> bool {
    let notify = Parker::new().1;
    table.detector.with_turns(|turns| {
        assert!(turns.end(OTHER, at).is_none());
        turns.enter(LAST, notify, at).is_some()
    })
}

/// A victim leaves the queue at its own deadline, and has no turn.
#[test]
fn a_victim_waits_for_its_turn_until_its_deadline() {
    let (table, at): (LockTable<u64>, _) = (LockTable::new(), now());
    a_turn(&table, HOUR);
    let policy = Policy::Timeout(Duration::from_millis(5));
    let mut session = table.session().policy(policy);
    session.lose();
    session.lock(&1).unwrap();
    assert!(!session.turn && now() >= at + Duration::from_millis(5));
    assert!(!is_turn_of_another(&table, at));
}

/// A victim that has waited for long enough has the turn, although another one lasts.
#[test]
fn a_victim_begins_its_turn_when_that_of_another_is_too_long() {
    let (table, at): (LockTable<u64>, _) = (LockTable::new(), now());
    a_turn(&table, Duration::from_millis(20));
    let mut session = table.session();
    session.lose();
    session.lock(&1).unwrap();
    assert!(session.turn && now() >= at + Duration::from_millis(20));
    assert!(is_turn_of_another(&table, at));
}

/// The end of a turn begins the next one. An unpark by other code does not.
#[test]
fn a_victim_begins_its_turn_when_that_of_another_ends() {
    let (table, at): (LockTable<u64>, _) = (LockTable::new(), now());
    a_turn(&table, HOUR);
    std::thread::scope(|s| {
        let mut session = table.session();
        let id = session.owner.id;
        let waits = s.spawn(move || {
            session.lose();
            session.lock(&1).unwrap();
            session.turn
        });
        while !table.detector.with_turns(|turns| turns.is_queued(id)) {
            std::thread::yield_now();
        }
        for _ in 0..20 {
            waits.thread().unpark();
            std::thread::sleep(Duration::from_millis(1));
            assert!(table.detector.with_turns(|turns| turns.is_queued(id)));
        }
        let next = table.detector.with_turns(|turns| turns.end(OTHER, at));
        next.expect("it is queued").unpark();
        assert!(waits.join().unwrap());
    });
}

/// A session that waits for a key in its turn passes the turn on, to a victim that is there or to
/// one that arrives later. The holder of the key never lost, and may hold it for long.
#[test]
fn a_session_that_waits_for_a_key_passes_its_turn_on() {
    for is_there in [false, true] {
        let (table, at): (LockTable<u64>, _) = (LockTable::new(), now());
        let holder = table.lock(&1);
        std::thread::scope(|s| {
            let mut session = table.session();
            session.lose();
            let id = session.owner.id;
            if is_there {
                a_turn(&table, HOUR);
            }
            let waits = s.spawn(move || {
                session.lock(&1).unwrap();
                session
            });
            // Whether another victim that is in no hurry has its turn.
            let enter = || {
                let notify = Parker::new().1;
                table
                    .detector
                    .with_turns(|turns| turns.enter(LAST, notify, at).is_none())
            };
            let leave = || table.detector.with_turns(|turns| turns.cancel(LAST));
            let is_queued = |id| table.detector.with_turns(|turns| turns.is_queued(id));
            if is_there {
                until(|| is_queued(id));
                assert!(!enter());
                let next = table.detector.with_turns(|turns| turns.end(OTHER, now()));
                next.expect("the session is queued").unpark();
                until(|| !is_queued(LAST));
            } else {
                until(|| table.stats().waiting == 1);
                until(|| {
                    enter() || {
                        leave();
                        false
                    }
                });
            }
            assert_eq!(table.stats().waiting, 1, "the key is locked");
            drop(holder);
            drop(waits.join().unwrap());
            // The turn that it passed on lasts.
            let first = table.detector.with_turns(|turns| turns.end(LAST, now()));
            assert!(first.is_none());
            assert!(enter(), "all turns have ended");
        });
    }
}

/// Waits for what another thread does.
fn until(is_done: impl Fn() -> bool) {
    let mut rest = 10_000;
    while !is_done() {
        rest -= 1;
        assert!(rest > 0, "it does not happen");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Panics when it is woken.
struct Alarm;

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        resume_unwind(Box::new("a waker"));
    }
}

/// A waker that panics as a session is dropped does not prolong the turn of the session.
#[test]
fn a_turn_ends_although_a_waker_panics() {
    let table: LockTable<u64> = LockTable::new();
    let mut session = table.session();
    session.lose();
    let begun = now();
    session.lock(&1).unwrap();
    assert!(session.turn);
    let mut waits = Box::pin(table.lock_async(&1));
    let waker = Waker::from(Arc::new(Alarm));
    let polled = waits.as_mut().poll(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    assert!(catch_unwind(AssertUnwindSafe(|| drop(session))).is_err());
    let notify = Parker::new().1;
    let begins = table
        .detector
        .with_turns(|turns| turns.enter(u64::MAX, notify, begun));
    assert_eq!(begins, None, "the turn has ended");
}

/// Polls a future once, with a waker that does nothing.
trait PollOnce: Future + Unpin + Sized {
    fn poll_once(mut self) -> Poll<Self::Output> {
        core::pin::Pin::new(&mut self).poll(&mut Context::from_waker(Waker::noop()))
    }
}

impl<F: Future + Unpin> PollOnce for F {}
