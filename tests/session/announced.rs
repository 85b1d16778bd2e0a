//! What the table knows of a session that makes its keys known, after something went wrong.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use latchwork::Policy;

use crate::actors::Table;
use crate::common::tasks::{Hooks, poll, poll_with, quiet_panic};

/// A session that lost a key as a waker panicked is known to have lost it: nobody is told of a circle through that key.
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
