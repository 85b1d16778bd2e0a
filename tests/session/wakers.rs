//! Wakers that panic as a session gives keys back, and those that are not needed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use latchwork::{Fairness, LockTable, session::Policy};

use crate::actors::Table;
use crate::common::assert_as_new;
use crate::common::tasks::{Fuse, Hooks, panics, poll, poll_with, quiet_panic};

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

/// A waker that panics comes out of the call that used it; the session has what it had, or has
/// given it back.
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

/// A second upgrader lost, and its unused waker panicked as it was dropped: the panic leaked the
/// report, which existed already.
#[test]
fn a_waker_that_panics_when_dropped_leaks_no_report() {
    let table = Table::builder().deadlock_history(0).build();
    let name: Arc<str> = "young".into();
    let mut old = table.session();
    let mut young = table.session().named(name.clone());
    old.lock_shared(&1).unwrap();
    young.lock_shared(&1).unwrap();
    let mut first = old.lock_async(&1);
    assert!(poll(&mut first).is_pending());
    let (hooks, waker) = Hooks::new();
    hooks.on_drop(quiet_panic);
    let mut second = young.lock_async(&1);
    assert!(panics(|| drop(poll_with(&mut second, &waker))));
    drop(second);
    young.release_all();
    assert!(poll(&mut first).is_ready());
    drop(first);
    drop((old, young));
    assert_eq!(Arc::strong_count(&name), 1);
}

/// What can happen to a session whose waker panics at one of its uses. Each script returns whether
/// a session that goes on was told that it died or met a deadlock for which there is no reason.
type Script = fn(&Table, &Waker) -> bool;

/// Runs `step`, which may panic, and returns its result if it does not.
fn step<R>(step: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(step)).ok()
}

/// Waits for a key, gets it from a guard, and ends.
fn granted(table: &Table, waker: &Waker) -> bool {
    let mut session = table.session().policy(Policy::WaitDie);
    let guard = table.lock(&1);
    {
        let mut future = session.lock_async(&1);
        step(|| poll_with(&mut future, waker));
        step(|| poll_with(&mut future, waker));
        step(|| drop(guard));
        step(|| poll_with(&mut future, waker));
        step(|| drop(future));
    }
    step(|| drop(session));
    false
}

/// Waits for a key, is granted it and never polled, or drops its place.
fn dropped(table: &Table, waker: &Waker) -> bool {
    for is_granted in [false, true] {
        let mut session = table.session().policy(Policy::WaitDie);
        let guard = table.lock(&1);
        let mut future = session.lock_async(&1);
        step(|| poll_with(&mut future, waker));
        let mut behind = table.lock_shared_async(&1);
        step(|| poll_with(&mut behind, waker));
        let mut guard = Some(guard);
        if is_granted {
            step(|| drop(guard.take()));
        }
        step(|| drop(future));
        step(|| drop(behind));
        step(|| drop(session));
        step(|| drop(guard));
    }
    false
}

/// Is late, with a reader behind.
fn late(table: &Table, waker: &Waker) -> bool {
    let policy = Policy::Timeout(Duration::ZERO);
    let mut session = table.session().policy(Policy::WaitDie);
    session.lock(&2).unwrap();
    let mut session = session.policy(policy);
    let guard = table.lock_shared(&1);
    {
        let mut future = session.lock_async(&1);
        step(|| poll_with(&mut future, waker));
        let mut behind = table.lock_shared_async(&1);
        step(|| poll_with(&mut behind, waker));
        step(|| poll_with(&mut future, waker));
        step(|| drop(future));
        step(|| drop(behind));
    }
    step(|| drop(guard));
    // Nobody older wants key 1, whatever has happened.
    let told = table.session().policy(Policy::WaitDie).lock(&1);
    step(|| drop(session));
    told.is_err()
}

/// Upgrades beside a reader, which then leaves.
fn upgraded(table: &Table, waker: &Waker) -> bool {
    let mut session = table.session().policy(Policy::WaitDie);
    session.lock_shared(&1).unwrap();
    let reader = table.lock_shared(&1);
    {
        let mut future = session.lock_async(&1);
        step(|| poll_with(&mut future, waker));
        step(|| poll_with(&mut future, waker));
        step(|| drop(reader));
        step(|| poll_with(&mut future, waker));
        step(|| drop(future));
    }
    step(|| drop(session));
    false
}

/// Upgrades in vain, beside one that matters more: it goes on to read, and a younger reader need
/// not die.
fn upgraded_in_vain(table: &Table, waker: &Waker) -> bool {
    let mut loser = table.session().policy(Policy::WaitDie);
    let mut winner = table.session().priority(1);
    loser.lock_shared(&1).unwrap();
    winner.lock_shared(&1).unwrap();
    let mut alone = winner.lock_async(&1);
    assert!(poll(&mut alone).is_pending());
    {
        let mut future = loser.lock_async(&1);
        step(|| poll_with(&mut future, waker));
        step(|| drop(future));
    }
    step(|| drop(alone));
    step(|| drop(winner));
    let mut younger = table.session().policy(Policy::WaitDie);
    let told = younger.lock_shared(&1);
    step(|| drop(younger));
    step(|| drop(loser));
    told.is_err()
}

/// Waits in a cycle that another session ends at its cost.
fn killed(table: &Table, waker: &Waker) -> bool {
    let mut older = table.session();
    let mut younger = table.session();
    older.lock(&1).unwrap();
    younger.lock(&2).unwrap();
    {
        let mut victim = younger.lock_async(&1);
        step(|| poll_with(&mut victim, waker));
        let mut other = older.lock_async(&2);
        step(|| poll_with(&mut other, waker));
        step(|| poll_with(&mut victim, waker));
        step(|| drop(victim));
        step(|| drop(other));
    }
    step(|| drop(younger));
    step(|| drop(older));
    false
}

/// Waits behind a writer, and is let past it.
fn let_past(table: &Table, waker: &Waker) -> bool {
    let (mut reader, mut holder) = (table.session(), table.session());
    reader.lock(&2).unwrap();
    holder.lock_shared(&1).unwrap();
    let mut writer = table.lock_async(&1);
    step(|| poll_with(&mut writer, waker));
    {
        let mut past = reader.lock_shared_async(&1);
        step(|| poll_with(&mut past, waker));
        let mut other = holder.lock_async(&2);
        step(|| poll_with(&mut other, waker));
        step(|| poll_with(&mut past, waker));
        step(|| drop(past));
        step(|| drop(other));
    }
    step(|| drop(reader));
    step(|| drop(holder));
    step(|| drop(writer));
    false
}

/// Whatever use of a waker panics, sessions record what they hold before it, and take back what
/// they announced.
#[test]
fn a_waker_may_panic_at_any_use_and_no_key_and_no_wish_is_left() {
    let scripts: [(&str, Script); 7] = [
        ("granted", granted),
        ("dropped", dropped),
        ("late", late),
        ("upgraded", upgraded),
        ("upgraded in vain", upgraded_in_vain),
        ("killed", killed),
        ("let past", let_past),
    ];
    for fairness in [Fairness::Eventual, Fairness::Fifo] {
        for (name, script) in scripts {
            for n in 1.. {
                assert!(n < 100, "{name} has no end");
                let table: Table = LockTable::builder().fairness(fairness).build();
                let fresh = table.stats().index_bytes;
                let (fuse, waker) = Fuse::at(n);
                let Some(misled) = step(|| script(&table, &waker)) else {
                    panic!("{name}, use {n}, {fairness:?}: a panic where no waker is used");
                };
                let is_blown = fuse.is_blown();
                step(|| drop(waker));
                assert!(!misled, "{name}, use {n}, {fairness:?}");
                assert_as_new(&table, fresh);
                let mut last = table.session().policy(Policy::WaitDie);
                for key in 1..=2 {
                    let told = last.lock(&key);
                    assert!(told.is_ok(), "{name}, use {n}, {fairness:?}: {told:?}");
                }
                if !is_blown {
                    break;
                }
            }
        }
    }
}
