//! Wakers that panic as a session gives keys back, and those that are not needed.

use std::panic::{AssertUnwindSafe, catch_unwind};

use latchwork::{Fairness, Policy};

use crate::actors::Table;
use crate::common::assert_as_new;
use crate::common::tasks::{Hooks, panics, poll, poll_with, quiet_panic};

/// A key that is free needs no waker: none is cloned, which would be user code.
#[test]
fn no_waker_is_cloned_for_a_free_key() {
    let table = Table::new();
    let mut session = table.session();
    let (hooks, waker) = Hooks::new();
    hooks.on_clone(quiet_panic);
    assert!(poll_with(&mut session.lock_async(&1), &waker).is_ready());
    assert!(poll_with(&mut session.lock_shared_async(&2), &waker).is_ready());
    assert_eq!(session.len(), 2);
}

/// A waker that panics comes out of the call that used it; the session has what it had, or has given it back.
#[test]
fn a_waker_panics_as_a_session_releases() {
    let table = Table::new();
    let fresh = table.stats().index_bytes;
    let mut session = table.session();
    session.lock(&1).unwrap();
    session.lock(&2).unwrap();
    let (hooks, waker) = Hooks::new();
    hooks.on_wake(quiet_panic);
    let mut waiter = table.lock_async(&2);
    assert!(poll_with(&mut waiter, &waker).is_pending());
    assert!(catch_unwind(AssertUnwindSafe(|| session.release_all())).is_err());
    drop(session);
    drop(waiter);
    assert_as_new(&table, fresh);
}

/// Wakers of two keys panic, or of three: each key is given back, and one panic is seen.
#[test]
fn wakers_of_many_keys_panic_as_a_session_ends() {
    let table = Table::new();
    let fresh = table.stats().index_bytes;
    for release_first in [false, true] {
        let mut session = table.session().policy(Policy::WaitDie);
        let mut waiters = Vec::new();
        for key in 1..=4 {
            session.lock(&key).unwrap();
            let (hooks, waker) = Hooks::new();
            hooks.on_wake(quiet_panic);
            let mut waiter = table.lock_async(&key);
            assert!(poll_with(&mut waiter, &waker).is_pending());
            waiters.push((waiter, hooks));
        }
        assert!(!release_first || panics(|| session.release_all()));
        assert!(panics(|| drop(session)));
        for (mut waiter, hooks) in waiters {
            assert_eq!(hooks.wakes(), 1);
            assert!(poll(&mut waiter).is_ready(), "it has the key");
        }
        assert_as_new(&table, fresh);
    }
}

/// As with a guard: the second panics while the first unwinds.
#[test]
#[cfg(unix)]
fn two_wakers_of_one_grant_abort() {
    use std::os::unix::process::ExitStatusExt;
    const CHILD: &str = "LATCHWORK_TEST_ABORTS";
    if std::env::var_os(CHILD).is_none() {
        let mut own = std::process::Command::new(std::env::current_exe().unwrap());
        own.args(["--exact", "wakers::two_wakers_of_one_grant_abort"]);
        let ended = own.env(CHILD, "").output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.signal(), Some(6), "{said}");
        return;
    }
    // First come, first served: then a release lets in all readers who are first.
    let table = Table::builder().fairness(Fairness::Fifo).build();
    let mut session = table.session();
    session.lock(&1).unwrap();
    let _waiters = [(); 2].map(|()| {
        let (hooks, waker) = Hooks::new();
        hooks.on_wake(quiet_panic);
        let mut waiter = Box::new(table.lock_shared_async(&1));
        assert!(poll_with(&mut *waiter, &waker).is_pending());
        std::mem::forget(hooks);
        waiter
    });
    let _ = catch_unwind(AssertUnwindSafe(|| drop(session)));
}
