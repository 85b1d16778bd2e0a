//! The threads of the crate end with the last handle and lease.
//!
//! One test, because it counts the threads of the process.
#![cfg(target_os = "linux")]

use std::time::{Duration, Instant};
use std::{fs, thread};

use latchwork_lease::Leases;

const LONG: Duration = Duration::from_secs(60);

/// Returns the number of threads of the crate.
fn threads() -> usize {
    let tasks = fs::read_dir("/proc/self/task").expect("the system lists threads");
    // A thread may end while its name is read.
    let names = tasks
        .flatten()
        .flat_map(|task| fs::read_to_string(task.path().join("comm")));
    names.filter(|name| name.starts_with("lease ")).count()
}

fn wait_until(condition: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while !condition() {
        if start.elapsed() > LONG {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
    true
}

#[test]
fn threads_end_with_the_last_handle_and_lease() {
    assert_eq!(threads(), 0);
    for round in 0..3 {
        let leases = Leases::connect("memory:").unwrap();
        assert_eq!(threads(), 0, "a connection without leases has no threads");
        let lease = leases.acquire("a", LONG).unwrap();
        let asked = pollster::block_on(leases.acquire_async("b", LONG)).unwrap();
        // A thread that has just started has no name yet.
        assert!(
            wait_until(|| (2..=4).contains(&threads())),
            "{} threads",
            threads()
        );
        if round == 0 {
            asked.release().unwrap();
        } else {
            drop(asked);
        }
        drop(leases);
        // The lease is still renewed.
        assert!(threads() > 0 && lease.is_held());
        if round == 2 {
            std::mem::forget(lease);
            continue;
        }
        drop(lease);
        assert!(
            wait_until(|| threads() == 0),
            "{} threads remain",
            threads()
        );
    }
    // The forgotten lease keeps the timer thread.
    assert!(threads() > 0);
}
