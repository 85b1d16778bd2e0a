//! What nobody should do, and what happens.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::task::Poll;
use std::time::Duration;

use latchwork::{
    LockTable, Mode,
    session::{LockError, Policy, SavepointError},
};

use crate::actors::{Do, Stage, Table};
use crate::common::hashers::Place;
use crate::common::tasks::{Hooks, panics, poll, poll_with, quiet_panic};
use crate::common::{assert_as_new, forget_in_sight};

#[test]
fn unlock_of_a_key_that_is_not_held() {
    let table = Table::new();
    let guard = table.lock(&1);
    let mut session = table.session();
    assert!(!session.unlock(&1), "held by somebody else");
    assert!(!session.unlock(&2));
    assert!(table.try_lock(&1).is_none());
    drop(guard);
    session.lock(&1).unwrap();
    assert!(session.unlock(&1));
    assert!(!session.unlock(&1), "twice");
    assert_eq!(table.locked_count(), 0);
}

#[test]
fn rollback_to_what_is_no_savepoint_of_this_session() {
    let table = Table::new();
    let (mut one, mut two) = (table.session(), table.session());
    one.lock(&1).unwrap();
    two.lock(&2).unwrap();
    let foreign = one.savepoint();
    assert_eq!(
        two.rollback_to(foreign),
        Err(SavepointError::OfAnotherSession)
    );
    assert_eq!(
        two.release_savepoint(foreign),
        Err(SavepointError::OfAnotherSession)
    );
    // Of another table, where the numbers may be equal.
    let other = Table::new();
    let mut stranger = other.session();
    stranger.lock(&1).unwrap();
    let outer = two.savepoint();
    two.lock(&3).unwrap();
    let inner = two.savepoint();
    two.lock(&4).unwrap();
    two.rollback_to(outer).unwrap();
    assert_eq!(two.rollback_to(inner), Err(SavepointError::Released));
    two.lock(&5).unwrap();
    two.release_savepoint(outer).unwrap();
    assert_eq!(two.rollback_to(outer), Err(SavepointError::Released));
    assert_eq!(two.len(), 2, "2 and 5: nothing has happened");
    let last = two.savepoint();
    two.release_all();
    assert_eq!(two.rollback_to(last), Err(SavepointError::Released));
}

#[test]
fn savepoints_of_two_tables_are_told_apart() {
    let (here, there) = (Table::new(), Table::new());
    let (mut one, mut two) = (here.session(), there.session());
    two.lock(&1).unwrap();
    let (savepoint, _same_moment) = (one.savepoint(), two.savepoint());
    assert_eq!(
        two.rollback_to(savepoint),
        Err(SavepointError::OfAnotherSession)
    );
}

#[test]
fn a_session_ends_on_another_thread_or_in_a_panic() {
    let table = Arc::new(Table::new());
    let fresh = table.stats().index_bytes;
    let mut session = table.session();
    session.lock(&1).unwrap();
    std::thread::scope(|s| {
        s.spawn(move || drop(session));
    });
    assert_as_new(&*table, fresh);
    let result = catch_unwind(AssertUnwindSafe(|| {
        let mut session = table.session();
        session.lock(&1).unwrap();
        session.lock_shared(&2).unwrap();
        quiet_panic();
    }));
    assert!(result.is_err());
    assert_as_new(&*table, fresh);
}

#[test]
fn a_session_is_dropped_while_it_waits() {
    let table = Table::new();
    let fresh = table.stats().index_bytes;
    let guard = table.lock(&1);
    let mut session = table.session();
    session.lock(&2).unwrap();
    let mut future = session.lock_async(&1);
    assert!(poll(&mut future).is_pending());
    drop(future);
    assert_eq!(table.stats().waiting, 0);
    assert_eq!(session.len(), 1);
    // Granted before it is dropped: the key is passed on.
    let mut future = session.lock_async(&1);
    assert!(poll(&mut future).is_pending());
    drop(guard);
    drop(future);
    assert!(table.try_lock(&1).is_some());
    drop(session);
    assert_as_new(&table, fresh);
}

#[test]
fn a_forgotten_future_is_settled() {
    let table = Table::new();
    let fresh = table.stats().index_bytes;
    let guard = table.lock(&1);
    let mut session = table.session();
    session.lock(&2).unwrap();
    for next in 0..4 {
        let mut future = session.lock_async(&1);
        assert!(poll(&mut future).is_pending());
        std::mem::forget(future);
        assert_eq!(table.stats().waiting, 1);
        match next {
            0 => session.lock(&3).unwrap(),
            1 => assert!(session.unlock(&3)),
            2 => drop(session.savepoint()),
            _ => break,
        }
        assert_eq!(table.stats().waiting, 0, "{next}");
    }
    drop(session);
    assert_eq!(table.stats().waiting, 0);
    drop(guard);
    assert_as_new(&table, fresh);
}

/// It is in the graph for ever, with its seat; others find circles through it and may end its wait.
#[test]
fn a_forgotten_session_keeps_its_keys() {
    let table = Table::new();
    let mut other = table.session();
    other.lock(&1).unwrap();
    let mut lost = table.session();
    lost.lock(&2).unwrap();
    let mut future = lost.lock_async(&1);
    assert!(poll(&mut future).is_pending());
    std::mem::forget(future);
    forget_in_sight(lost);
    // In a circle with it, the forgotten one is the younger, and its wait is ended.
    let mut future = other.lock_async(&2);
    assert!(poll(&mut future).is_pending());
    assert_eq!(table.deadlocks().len(), 1);
    drop(future);
    assert_eq!(table.stats().waiting, 0);
    other.release_all();
    // Its key is held for as long as the table lives, and whoever wants it waits.
    assert!(table.try_lock(&2).is_none());
    assert!(table.try_lock(&1).is_some());
    let mut third = table
        .session()
        .policy(Policy::Timeout(Duration::from_millis(3)));
    assert!(matches!(third.lock(&2), Err(LockError::TimedOut)));
}

/// The payload of a panic. It is counted when it is dropped, and may panic then.
struct Payload(Arc<AtomicU32>, bool);

impl Drop for Payload {
    fn drop(&mut self) {
        self.0.fetch_add(1, Relaxed);
        if self.1 {
            // Its payload is leaked, and has no size.
            resume_unwind(Box::new(()));
        }
    }
}

/// A panic that does not propagate leaked its payload: that of a label function, and those of all
/// wakers but the first in the drop of a session.
#[test]
fn a_panic_that_does_not_propagate_leaks_no_payload() {
    for panics_again in [false, true] {
        let drops = Arc::new(AtomicU32::new(0));
        let payload = move |drops: &Arc<AtomicU32>| Box::new(Payload(drops.clone(), panics_again));
        let of_labels = drops.clone();
        let table = LockTable::<u64>::builder()
            .key_labels(move |_| resume_unwind(payload(&of_labels)))
            .build();
        let mut session = table.session();
        for key in 1..=3 {
            session.lock(&key).unwrap();
        }
        assert_eq!((table.inspect().len(), drops.load(Relaxed)), (3, 3));
        let waiters = [1, 2, 3].map(|key| {
            let (hooks, waker) = Hooks::new();
            let drops = drops.clone();
            hooks.on_wake(move || resume_unwind(payload(&drops)));
            let mut waiter = Box::new(table.lock_async(&key));
            assert!(poll_with(&mut *waiter, &waker).is_pending());
            (waiter, hooks)
        });
        let first = catch_unwind(AssertUnwindSafe(|| drop(session))).unwrap_err();
        assert_eq!(drops.load(Relaxed), 5);
        assert_eq!(panics(|| drop(first)), panics_again);
        drop(waiters);
        assert_eq!(table.locked_count(), 0);
    }
}

#[test]
fn a_label_function_that_panics() {
    let table = LockTable::<u64>::builder()
        .key_labels(|_| {
            quiet_panic();
            String::new()
        })
        .build();
    let mut stage = Stage::of(&table, 2);
    stage.done(0, Do::Lock(1));
    stage.done(1, Do::Lock(2));
    stage.wait(0, Do::Lock(2));
    let report = stage.deadlock(1, Do::Lock(1));
    assert!(
        report
            .parties()
            .iter()
            .all(|party| party.wants.label.is_none())
    );
    let id = table.key_id(&1).to_string();
    assert!(report.to_string().contains(&id), "{report}");
    assert_eq!(table.deadlocks().len(), 1);
    stage.done(1, Do::ReleaseAll);
    stage.go_on(&[0]);
}

#[test]
fn a_label_function_may_use_the_table() {
    static TABLE: std::sync::LazyLock<LockTable<u64>> = std::sync::LazyLock::new(|| {
        LockTable::<u64>::builder()
            .key_labels(|key| {
                let mut session = TABLE.session();
                session.lock(&77).unwrap();
                key.to_string()
            })
            .build()
    });
    let mut stage = Stage::of(&TABLE, 2);
    stage.done(0, Do::Lock(1));
    stage.done(1, Do::Lock(2));
    stage.wait(0, Do::Lock(2));
    let report = stage.deadlock(1, Do::Lock(1));
    assert!(report.parties()[0].wants.label.is_some());
}

#[test]
fn ten_thousand_sessions_wait_for_one_key() {
    const N: usize = 10_000;
    let table = Table::new();
    let fresh = table.stats().index_bytes;
    let mut stage = Stage::of(&table, N);
    for who in 0..N {
        stage.done(who, Do::Lock(who as u64 + 1));
    }
    stage.done(0, Do::Lock(0));
    for who in 1..N {
        stage.wait(who, Do::Lock(0));
    }
    // One circle among them, and one victim: the youngest.
    stage.wait(0, Do::Lock(N as u64));
    let victim = stage.ended.pop().expect("a victim");
    assert!(stage.ended.is_empty());
    assert!(matches!(victim, (who, Err(LockError::Deadlock(_))) if who == N - 1));
    drop(stage);
    assert_as_new(&table, fresh);
}

/// Two keys of one hash are one key, and a session that has one has the other.
#[test]
fn keys_of_one_hash_do_a_session_no_harm() {
    let table = LockTable::<u64, Place>::with_hasher(Place::Constant(7));
    let mut session = table.session();
    session.lock_shared(&1).unwrap();
    session.lock(&2).unwrap();
    assert_eq!(
        (session.len(), session.mode(&3)),
        (1, Some(Mode::Exclusive))
    );
    assert!(session.unlock(&4));
    assert_eq!(table.locked_count(), 0);
}

#[test]
fn a_session_that_does_not_wait() {
    let table = Table::new();
    let guard = table.lock_shared(&1);
    let mut session = table.session().policy(Policy::NoWait);
    assert!(matches!(session.lock(&1), Err(LockError::WouldBlock)));
    session.lock_shared(&1).unwrap();
    assert!(matches!(session.lock(&1), Err(LockError::WouldBlock)));
    assert_eq!(session.mode(&1), Some(Mode::Shared));
    drop(guard);
    session.lock(&1).unwrap();
    assert_eq!(table.stats().waits, 0);
}

#[test]
#[should_panic(expected = "polled after it was ready")]
fn a_future_is_polled_after_it_was_ready() {
    let table = Table::new();
    let mut session = table.session();
    let mut future = session.lock_async(&1);
    assert!(matches!(poll(&mut future), Poll::Ready(Ok(()))));
    let _ = poll(&mut future);
}

/// A table is gone, and another is where it was, with a session of the same number.
#[test]
fn a_savepoint_of_a_table_that_is_gone() {
    let mut place = Some(Table::new());
    let old = place.as_ref().unwrap().session().savepoint();
    place = None;
    assert!(place.is_none());
    place = Some(Table::new());
    let mut session = place.as_ref().unwrap().session();
    session.savepoint();
    session.lock(&1).unwrap();
    assert_eq!(
        session.rollback_to(old),
        Err(SavepointError::OfAnotherSession)
    );
    assert_eq!(session.len(), 1);
}
