//! What is said of a deadlock.

use latchwork::{LockError, LockTable, Mode};

use crate::actors::{Do, Stage, Table};

const A: u64 = 1;
const B: u64 = 2;

/// RocksDB, deadlock information of several depths: the report has each link, in order.
#[test]
fn the_report_says_who_waits_for_whom() {
    for n in 2..20_usize {
        let table = LockTable::<u64>::builder()
            .key_labels(|key| format!("<{key}>"))
            .build();
        let names = |who: usize| format!("session {who}");
        let mut stage = Stage::new((0..n).map(|who| table.session().named(names(who))));
        for who in 0..n {
            stage.done(who, Do::Lock(who as u64));
        }
        for who in 0..n - 1 {
            stage.wait(who, Do::Lock(who as u64 + 1));
        }
        let report = stage.deadlock(n - 1, Do::Lock(0));
        let parties = report.parties();
        assert_eq!(parties.len(), n);
        for (i, party) in parties.iter().enumerate() {
            let next = &parties[(i + 1) % n];
            assert_eq!(party.wants.key_id, next.holds.key_id);
            let label = format!("<{}>", party.wants.key_id);
            assert_eq!(party.wants.label.as_deref(), Some(&*label));
            assert_eq!(party.wants.mode, Mode::Exclusive);
            let own = parties.iter().position(|p| p.name == party.name);
            assert_eq!(own, Some(i), "each once");
        }
        assert_eq!(report.victim().name.as_deref(), Some(&*names(n - 1)));
        let text = report.to_string();
        assert!(
            text.contains(&format!("deadlock of {n} sessions")),
            "{text}"
        );
        assert_eq!(text.lines().count(), n + 2, "{text}");
        assert!(text.contains("session 0 (#1) waits for <"), "{text}");
    }
}

/// RocksDB, the buffer of deadlocks: it keeps the last ones.
#[test]
fn the_table_remembers_the_last_deadlocks() {
    for kept in [0, 1, 3] {
        let table = LockTable::<u64>::builder().deadlocks_kept(kept).build();
        let mut ids = Vec::new();
        for _ in 0..5 {
            let mut stage = Stage::of(&table, 2);
            stage.done(0, Do::Lock(A));
            stage.done(1, Do::Lock(B));
            stage.wait(0, Do::Lock(B));
            ids.push(stage.deadlock(1, Do::Lock(A)).victim().session);
        }
        let seen: Vec<_> = table
            .deadlocks()
            .iter()
            .map(|d| d.victim().session)
            .collect();
        assert_eq!(seen, ids[5 - kept..]);
    }
}

/// The report says where each lock was taken and is waited for.
#[test]
fn places_are_those_of_the_caller() {
    let table = Table::new();
    let mut one = table.session();
    let mut two = table.session();
    one.lock(&A).unwrap();
    two.lock(&B).unwrap();
    let first = std::cell::RefCell::new(Box::pin(one.lock_async(&B)));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let waits = std::future::Future::poll(first.borrow_mut().as_mut(), &mut cx);
    assert!(waits.is_pending());
    let Err(LockError::Deadlock(report)) = two.lock(&A) else {
        panic!("a circle");
    };
    for party in report.parties() {
        for key in [&party.holds, &party.wants] {
            let here = key
                .place
                .is_some_and(|place| place.file().ends_with("reports.rs"));
            assert_eq!(here, cfg!(feature = "lock-places"), "{key:?}");
        }
    }
    let said = report.to_string().contains("reports.rs");
    assert_eq!(said, cfg!(feature = "lock-places"), "{report}");
}
