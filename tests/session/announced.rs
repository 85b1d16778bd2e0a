//! What the table knows of a session that makes its keys known, whatever it does and whatever goes
//! wrong.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use latchwork::{
    Mode, Session,
    session::{LockError, Policy},
};

use crate::actors::Table;
use crate::common::tasks::{Hooks, poll, poll_with, quiet_panic};

/// Whether the table knows that a session holds key 2: a circle through it is found.
fn is_known(table: &Table, session: Session<'_, u64>) -> bool {
    let mut session = session.policy(Policy::Detect);
    let mut other = table.session();
    other.lock(&3).unwrap();
    let mut waits = session.lock_async(&3);
    assert!(poll(&mut waits).is_pending());
    match poll(&mut other.lock_async(&2)) {
        Poll::Ready(told) => matches!(told, Err(LockError::Deadlock(_))),
        Poll::Pending => false,
    }
}

/// It goes on to make its keys known when it has come under another policy, and gets what is free.
#[test]
fn a_key_is_known_whatever_the_policy_is_now() {
    let late = Policy::Timeout(Duration::ZERO);
    for policy in [Policy::WaitDie, Policy::Detect, Policy::NoWait, late] {
        let table = Table::new();
        let mut session = table.session().policy(Policy::WaitDie);
        session.lock(&1).unwrap();
        let mut session = session.policy(policy);
        session.lock(&2).unwrap();
        assert!(is_known(&table, session), "{policy:?}");
    }
}

/// So is a key that was granted as the session was giving up: between its last look and its leaving
/// the queue.
#[test]
fn a_key_that_comes_at_the_last_moment_is_known() {
    let table = Arc::new(Table::new());
    let mut session = table.session().policy(Policy::WaitDie);
    session.lock(&1).unwrap();
    let mut session = session.policy(Policy::Timeout(Duration::ZERO));
    let guard = table.lock_owned(&2);
    let (hooks, waker) = Hooks::new();
    let mut late = session.lock_async(&2);
    assert!(poll_with(&mut late, &waker).is_pending());
    // Dropped when the next poll has left another one in its place.
    hooks.on_drop(move || drop(guard));
    drop(waker);
    assert!(matches!(poll(&mut late), Poll::Ready(Ok(()))));
    drop(late);
    assert_eq!(session.mode(&2), Some(Mode::Exclusive));
    assert!(is_known(&table, session));
}

/// An upgrade that is undone is known to be: a younger reader need not die.
#[test]
fn a_key_that_is_shared_again_is_known_to_be() {
    let table = Table::new();
    let [mut one, mut two] = [(); 2].map(|()| table.session().policy(Policy::WaitDie));
    one.lock_shared(&1).unwrap();
    let before = one.savepoint();
    one.lock(&1).unwrap();
    let told = two.lock_shared(&1);
    assert!(matches!(told, Err(LockError::Died)), "{told:?}");
    one.rollback_to(before).unwrap();
    two.lock_shared(&1).unwrap();
}

/// A session that lost a key as a waker panicked is known to have lost it: nobody is told of a
/// circle through that key.
#[test]
fn a_key_is_forgotten_though_a_waker_panics() {
    let table = Table::new();
    let (mut one, mut two) = (table.session().policy(Policy::WaitDie), table.session());
    one.lock(&1).unwrap();
    one.lock(&2).unwrap();
    two.lock(&3).unwrap();
    {
        let (hooks, waker) = Hooks::new();
        hooks.on_wake(quiet_panic);
        let mut waits = table.lock_async(&2);
        assert!(poll_with(&mut waits, &waker).is_pending());
        let ended = catch_unwind(AssertUnwindSafe(|| one.release_all()));
        assert!(ended.is_err());
    }
    // Whoever has it now, the session has not.
    let guard = table.lock(&2);
    let mut for_two = one.lock_async(&3);
    assert!(poll(&mut for_two).is_pending());
    let mut for_guard = two.lock_async(&2);
    let told = poll(&mut for_guard);
    assert!(told.is_pending(), "{told:?}");
    assert!(table.deadlocks().is_empty());
    drop(guard);
    assert!(poll(&mut for_guard).is_ready());
}

/// So is one that gave up, and let somebody in whose waker panics.
#[test]
fn a_wish_is_forgotten_though_a_waker_panics() {
    let table = Table::new();
    let (mut one, mut two) = (table.session().policy(Policy::WaitDie), table.session());
    one.lock(&1).unwrap();
    two.lock(&3).unwrap();
    let mut one = one.policy(Policy::Timeout(Duration::ZERO));
    let guard = table.lock_shared(&2);
    let (hooks, waker) = Hooks::new();
    hooks.on_wake(quiet_panic);
    let mut reader = table.lock_shared_async(&2);
    {
        let mut late = one.lock_async(&2);
        assert!(poll(&mut late).is_pending());
        assert!(poll_with(&mut reader, &waker).is_pending());
        assert!(catch_unwind(AssertUnwindSafe(|| poll(&mut late))).is_err());
    }
    let mut for_two = one.lock_async(&3);
    assert!(poll(&mut for_two).is_pending());
    let told = poll(&mut two.lock_async(&2));
    assert!(told.is_pending(), "{told:?}");
    drop(guard);
}
