//! A subscriber that panics when it is told of a wait.
#![cfg(all(feature = "tracing", unix))]

mod common;

use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio, exit};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use common::{until_waits, watchdog};
use latchwork::{LockTable, table::ExclusiveGuard};

static BREAKS: AtomicBool = AtomicBool::new(false);

struct Subscriber;

impl tracing::Subscriber for Subscriber {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        assert!(!BREAKS.load(Relaxed), "as planned");
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

/// Lets go of a key, and cannot wait for it to come back.
fn bump_in_vain() {
    tracing::subscriber::set_global_default(Subscriber).expect("the only subscriber");
    let table: LockTable<u64> = LockTable::new();
    thread::scope(|s| {
        let mut guard = table.lock(&1);
        s.spawn(|| {
            let _held = table.lock(&1);
            loop {
                thread::park();
            }
        });
        until_waits(&table, 1);
        BREAKS.store(true, Relaxed);
        let _ = catch_unwind(AssertUnwindSafe(|| ExclusiveGuard::bump(&mut guard)));
        // The other thread never ends.
        exit(0);
    });
}

/// A guard that has lost its key is not to be used: there might be two.
#[test]
fn a_bump_that_cannot_have_its_key_back_ends_the_process() {
    const NAME: &str = "a_bump_that_cannot_have_its_key_back_ends_the_process";
    if std::env::var_os("LATCHWORK_CHILD").is_some() {
        return bump_in_vain();
    }
    let _dog = watchdog(NAME);
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", NAME])
        .env("LATCHWORK_CHILD", "1")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    // SIGABRT
    assert_eq!(child.unwrap().signal(), Some(6));
}

/// Who was to wait is out of the queue as the panic passes.
#[test]
fn a_wait_that_cannot_be_told_of_leaves_nothing() {
    let _dog = watchdog("a_wait_that_cannot_be_told_of_leaves_nothing");
    tracing::subscriber::set_global_default(Subscriber).expect("the only subscriber");
    let table: LockTable<u64> = LockTable::new();
    let guard = table.lock(&1);
    BREAKS.store(true, Relaxed);
    let lock = || drop(table.lock(&1));
    let lock_shared = || drop(table.lock_shared(&1));
    assert!(catch_unwind(AssertUnwindSafe(lock)).is_err());
    assert!(catch_unwind(AssertUnwindSafe(lock_shared)).is_err());
    BREAKS.store(false, Relaxed);
    assert_eq!(table.stats().waiting, 0);
    drop(guard);
    assert!(table.try_lock(&1).is_some());
}
