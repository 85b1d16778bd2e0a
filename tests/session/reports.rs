//! What is said of a deadlock, and of sessions.

use std::collections::HashSet;

use latchwork::{
    LockTable, Mode,
    session::{LockError, Policy, SavepointError},
};

use crate::actors::{Do, Stage, Table};
use crate::common::tasks::poll;

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

/// A picture has a node for each session, an arrow for each wait, and marks the victim.
#[test]
fn a_report_is_drawn() {
    let table = LockTable::<u64>::builder()
        .key_labels(|key| format!("\"{key}\""))
        .build();
    let names = ["one", "two", "three"];
    let mut stage = Stage::new(names.map(|name| table.session().named(name)));
    for who in 0..3 {
        stage.done(who, Do::Lock(who as u64));
    }
    for who in 0..2 {
        stage.wait(who, Do::Lock(who as u64 + 1));
    }
    let report = stage.deadlock(2, Do::Lock(0));
    let mermaid = report.to_mermaid();
    let dot = report.to_dot();
    let at = |name: &str| {
        let is_it = |party: &latchwork::session::DeadlockParty| party.name.as_deref() == Some(name);
        report.parties().iter().position(is_it).unwrap()
    };
    for (name, next) in [("one", "two"), ("two", "three"), ("three", "one")] {
        let (own, other) = (at(name), at(next));
        let key = report.parties()[own].wants.label.as_deref().unwrap();
        let arrow = format!(
            "p{own} -->|\"{} (exclusive)\"| p{other}\n",
            key.replace('"', "#34;")
        );
        assert!(mermaid.contains(&arrow), "{arrow} in {mermaid}");
        let edge = format!(
            "p{own} -> p{other} [label=\"{} (exclusive)\"];\n",
            key.replace('"', "\\\"")
        );
        assert!(dot.contains(&edge), "{edge} in {dot}");
    }
    let victim = at("three");
    assert!(mermaid.starts_with("flowchart LR\n"));
    assert!(mermaid.ends_with(&format!("style p{victim} stroke-width:4px\n")));
    assert_eq!(dot.matches("style=bold").count(), 1);
    let bold = dot.lines().find(|line| line.contains("style=bold"));
    let bold = bold.unwrap().trim();
    assert!(bold.starts_with(&format!("p{victim} [label=")), "{bold}");
    assert!(bold.contains("three"), "{bold}");
    assert!(dot.ends_with("}\n"));
}

/// For a log: of the error, what its report prints; of the report, who was in it and who gave way.
#[test]
fn an_error_says_why() {
    let table = Table::new();
    let mut stage = Stage::new(["one", "two"].map(|name| table.session().named(name)));
    stage.done(0, Do::Lock(A));
    stage.done(1, Do::Lock(B));
    stage.wait(0, Do::Lock(B));
    let report = stage.deadlock(1, Do::Lock(A));
    let debug = format!("{report:?}");
    for said in ["one", "two", "victim", &table.key_id(&A).to_string()] {
        assert!(debug.contains(said), "{said}: {debug}");
    }
    let printed = report.to_string();
    assert_eq!(LockError::Deadlock(report).to_string(), printed);

    let others = [LockError::TimedOut, LockError::WouldBlock, LockError::Died];
    let others = others.map(|error| error.to_string());
    let ended = [SavepointError::OfAnotherSession, SavepointError::Released];
    let ended = ended.map(|error| error.to_string());
    let all: HashSet<&str> = others.iter().chain(&ended).map(String::as_str).collect();
    assert_eq!(all.len(), 5, "each says something else: {all:?}");
    assert!(!all.contains(""));
}

/// A session tells its name and number, and what it is at.
#[test]
fn a_session_says_who_it_is() {
    let table = Table::new();
    let nobody = table.session();
    assert_eq!(nobody.name(), None);
    let session = table.session().named("checkout-17");
    let mut session = session.policy(Policy::WaitDie);
    assert_eq!(session.name(), Some("checkout-17"));
    let (elder, id) = (nobody.id().get(), session.id().get());
    assert!(1 <= elder && elder < id, "{elder} {id}");
    assert_eq!(session.id().to_string(), format!("#{id}"));
    session.lock(&A).unwrap();
    let debug = format!("{session:?}");
    for said in ["checkout-17", "WaitDie", &format!("id: {id}"), "held: 1"] {
        assert!(debug.contains(said), "{said}: {debug}");
    }
    let guard = table.lock(&B);
    let key = table.key_id(&B).to_string();
    let mut future = session.lock_async(&B);
    let before = format!("{future:?}");
    assert!(before.contains(&key), "{before}");
    assert!(poll(&mut future).is_pending());
    assert_ne!(format!("{future:?}"), before, "it waits now");
    drop(future);
    drop(guard);
}

/// RocksDB, the buffer of deadlocks: it keeps the last ones.
#[test]
fn the_table_remembers_the_last_deadlocks() {
    for kept in [0, 1, 3] {
        let table = LockTable::<u64>::builder().deadlock_history(kept).build();
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
