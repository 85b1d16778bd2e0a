//! What an operator sees of sessions and sets that wait: `inspect` and `stats`.

use std::time::Duration;

use latchwork::{
    LockTable, Mode,
    session::Policy,
    table::{LockInfo, OwnerKind},
};

use crate::actors::Table;
use crate::common::tasks::poll;

const A: u64 = 1;
const B: u64 = 2;

fn of(table: &Table, key: u64) -> LockInfo {
    let id = table.key_id(&key);
    let all = table.inspect();
    let mut found = all.into_iter().filter(|lock| lock.key_id == id);
    found.next().expect("it is held or waited for")
}

/// The names of those that are known to hold a key, and of its waiters.
fn names(lock: &LockInfo) -> (Vec<&str>, Vec<&str>) {
    let holders = lock.known_holders.iter();
    let waiters = lock.waiters.iter().map(|waiter| waiter.owner.as_ref());
    (
        holders
            .map(|owner| owner.name.as_deref().unwrap_or(""))
            .collect(),
        waiters
            .map(|owner| owner.map_or("plain", |owner| owner.name.as_deref().unwrap_or("")))
            .collect(),
    )
}

/// No deadlock, and yet each session that waits is listed, with its name, as soon as it is queued;
/// and the holder, once it has published that it waits for another key.
#[test]
fn sessions_that_wait_without_a_deadlock_are_listed() {
    let table = Table::new();
    let mut first = table.session().named("first");
    let mut second = table.session().named("second");
    let third = table.session().named("third");
    let mut third = third.detect_after(Duration::MAX);
    let guard = table.lock(&B);
    first.lock(&A).unwrap();
    let id = second.id();
    {
        let mut waits = second.lock_async(&A);
        assert!(poll(&mut waits).is_pending());
        let mut never_published = third.lock_shared_async(&A);
        assert!(poll(&mut never_published).is_pending());
        let mut plain = table.lock_async(&A);
        assert!(poll(&mut plain).is_pending());
        let lock = of(&table, A);
        assert_eq!(names(&lock), (vec![], vec!["second", "third", "plain"]));
        let owner = lock.waiters[0].owner.as_ref().unwrap();
        assert_eq!((owner.kind, owner.id), (OwnerKind::Session, id));
        assert_eq!(lock.waiters[1].mode, Mode::Shared);
        assert!(lock.waiters.iter().all(|waiter| !waiter.upgrades));
        let mut behind_guard = first.lock_async(&B);
        assert!(poll(&mut behind_guard).is_pending());
        assert_eq!(names(&of(&table, A)).0, ["first"]);
        assert_eq!(names(&of(&table, B)), (vec![], vec!["first"]));
        let stats = table.stats();
        let waiting = (stats.waiting, stats.waiting_sessions, stats.waiting_sets);
        assert_eq!(waiting, (4, 3, 0));
        assert!(table.deadlocks().is_empty());
    }
    drop(guard);
    assert!(names(&of(&table, A)).0.is_empty(), "it waits no more");
    drop((first, second, third));
    assert!(table.inspect().is_empty());
    assert_eq!(table.stats().oldest_waiter, Duration::ZERO);
}

/// A set that waits is listed with its size; a waiter that is used again for a lock of one key has
/// no owner.
#[test]
fn sets_that_wait_are_listed() {
    let table = LockTable::<u64>::builder()
        .hasher(crate::common::hashers::Place::Identity)
        .build();
    let guard = table.lock(&2);
    let keys = [1, 2, 3].map(|key| (key, Mode::Exclusive));
    let mut set = table.lock_all_async(keys.iter().map(|(key, mode)| (key, *mode)));
    assert!(poll(&mut set).is_pending());
    let all = table.inspect();
    let [one, two] = [1, 2].map(|key| {
        let id = table.key_id(&key);
        let found = all.iter().find(|lock| lock.key_id == id);
        found.expect("held")
    });
    let owner = two.waiters[0].owner.as_ref().unwrap();
    assert_eq!(owner.kind, OwnerKind::Set { keys: 3 });
    assert_eq!(one.known_holders, std::slice::from_ref(owner));
    assert_eq!(
        (table.stats().waiting_sets, table.stats().waiting_sessions),
        (1, 0)
    );
    drop(set);
    let mut plain = table.lock_async(&2);
    assert!(poll(&mut plain).is_pending());
    assert_eq!(table.inspect()[0].waiters[0].owner, None);
    assert_eq!(table.stats().waiting_sets, 0);
    drop((plain, guard));
}

/// An upgrader is a holder and a waiter. What a session under `WaitDie` has announced, it does not
/// hold.
#[test]
fn an_upgrader_is_known_to_hold_and_a_wish_is_no_hold() {
    let table = Table::new();
    let mut upgrader = table.session().named("upgrader");
    upgrader.lock_shared(&A).unwrap();
    let reader = table.lock_shared(&A);
    let mut waits = upgrader.lock_async(&A);
    assert!(poll(&mut waits).is_pending());
    let lock = of(&table, A);
    assert_eq!(names(&lock), (vec!["upgrader"], vec!["upgrader"]));
    assert!(lock.waiters[0].upgrades);
    assert_eq!((lock.mode, lock.holders), (Some(Mode::Shared), 2));

    let mut careful = table.session().named("careful").policy(Policy::WaitDie);
    careful.lock(&3).unwrap();
    let guard = table.lock(&B);
    let mut wishes = careful.lock_async(&B);
    assert!(poll(&mut wishes).is_pending());
    assert_eq!(names(&of(&table, B)), (vec![], vec!["careful"]));
    assert_eq!(names(&of(&table, 3)), (vec!["careful"], vec![]));
    drop((guard, reader));
}

/// Each lock prints as a line, and one more for each waiter.
#[test]
fn a_lock_prints_readably() {
    let table = LockTable::<u64>::builder()
        .key_labels(|_| String::from("account 7"))
        .build();
    let mut audit = table.session().named("audit");
    audit.lock_shared(&A).unwrap();
    let guard = table.lock_shared(&A);
    let mut upgrade = audit.lock_async(&A);
    assert!(poll(&mut upgrade).is_pending());
    let mut plain = table.lock_async(&A);
    assert!(poll(&mut plain).is_pending());
    let lock = of(&table, A);
    assert_eq!(lock.label.as_deref(), Some("account 7"));
    let said = lock.to_string();
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(
        lines[0],
        "account 7: held shared by 2 holders (audit (#1), 1 unknown)"
    );
    let upgrades = "  audit (#1) upgrades to hold it exclusively, for ";
    assert!(lines[1].starts_with(upgrades), "{said}");
    let waits = "  a lock of one key waits to hold it exclusively, for ";
    assert!(lines[2].starts_with(waits), "{said}");
    drop((plain, guard));
}

/// A label function that panics leaves a key without a label.
#[test]
fn inspect_survives_a_label_function_that_panics() {
    let table = LockTable::<u64>::builder()
        .key_labels(|_| std::panic::resume_unwind(Box::new("no label")))
        .build();
    let guard = table.lock(&A);
    let lock = of(&table, A);
    assert_eq!(lock.label, None);
    let key = format!(
        "key {}: held exclusively by 1 holder (unknown)",
        lock.key_id
    );
    assert_eq!(lock.to_string(), key);
    drop(guard);
}
