//! The threads that make the requests of the engine `postgres://…`.
#![cfg(feature = "postgres")]

#[path = "support/server.rs"]
mod server;
mod support;

use std::fs;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use latchwork_lease::engine::{Engine, Nonce};
use latchwork_lease::postgres::PostgresEngine;
use latchwork_lease::{Leases, Release};
use support::{KEY, attempt, ms, soon};

const LONG: Duration = Duration::from_secs(60);

/// One test at a time, because threads of the whole process are counted.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Returns the number of threads that the engine has started.
fn threads() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm"));
    tasks
        .filter_map(|task| name(task.unwrap()).ok())
        .filter(|name| name.trim() == "lease-postgres")
        .count()
}

#[test]
fn a_request_is_made_by_the_thread_of_the_caller() {
    let _alone = alone();
    let Some(server) = server::shared() else {
        return;
    };
    let url = server.url(&server.database());
    let (one, two) = (
        PostgresEngine::connect(&url).unwrap(),
        PostgresEngine::connect(&url).unwrap(),
    );
    attempt(&one, KEY, 1, LONG).unwrap();
    assert_eq!(attempt(&two, KEY, 2, LONG), None);
    assert_eq!(threads(), 0);
    // The ear has a thread.
    two.wait_hint(KEY, Nonce::new(2), Instant::now() + ms(10))
        .unwrap();
    assert_eq!(threads(), 1);
    one.release(KEY, Nonce::new(1), soon()).unwrap();
    attempt(&two, KEY, 2, LONG).unwrap();
    assert_eq!(threads(), 1);
    drop(two);
    assert_eq!(threads(), 0);
}

#[test]
fn calls_work_within_a_runtime() {
    let _alone = alone();
    let Some(server) = server::shared() else {
        return;
    };
    let url = server.url(&server.database());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let leases = Leases::connect(&url).unwrap();
        let lease = leases.acquire("a", LONG).unwrap();
        assert!(leases.holder("a").unwrap().is_some());
        assert_eq!(lease.release().unwrap(), Release::Done);
        let lease = leases.acquire_async("a", LONG).await.unwrap();
        drop(lease);
        leases.shutdown(Duration::from_secs(5)).unwrap();
        drop(leases);
        let engine = PostgresEngine::connect(&url).unwrap();
        attempt(&engine, KEY, 1, LONG).unwrap();
        drop(engine);
    });
}
