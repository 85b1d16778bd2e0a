//! The threads that make the requests of the engine `quorum:redis://…`.
//!
//! One test, because it counts what the threads of the process do.
#![cfg(all(feature = "redis", target_os = "linux"))]

#[path = "support/redis.rs"]
mod redis;
mod support;

use std::fs;
use std::thread;
use std::time::Duration;

use latchwork_lease::engine::{Engine, Nonce, Released};
use latchwork_lease::quorum::QuorumEngine;
use redis::{Redis, url};
use support::{KEY, attempt, key, soon};

const LONG: Duration = Duration::from_secs(60);
const NODES: u64 = 5;
const PAIRS: u64 = 50;

/// Returns how often threads of nodes began to wait.
fn waits() -> u64 {
    let mut waits = 0;
    for task in fs::read_dir("/proc/self/task").unwrap().flatten() {
        let read = |file| fs::read_to_string(task.path().join(file)).unwrap_or_default();
        if read("comm").trim() == "lease node" {
            let status = read("status");
            let number = status
                .lines()
                .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            waits += number.unwrap().trim().parse::<u64>().unwrap();
        }
    }
    waits
}

#[test]
fn a_caller_alone_uses_no_thread_of_the_nodes() {
    let Some(nodes) = Redis::several(NODES as usize) else {
        return;
    };
    let url = url(&nodes);
    let engine = QuorumEngine::connect(&url).unwrap();
    let pair = |nonce: u64| {
        let nonce = u128::from(nonce);
        assert!(attempt(&engine, KEY, nonce, LONG).is_some());
        let released = engine.release(KEY, Nonce::new(nonce), soon());
        assert_eq!(released.unwrap(), Released::Done);
    };
    // Through the threads, each pair would be two requests to each node. They also read answers
    // that no caller awaits at intervals, which count on a slow machine: it has several trials.
    let least = 2 * NODES * PAIRS;
    let alone = |trial: u64| {
        let before = waits();
        (0..PAIRS).for_each(|number| pair(1 + trial * PAIRS + number));
        waits() - before
    };
    let counts: Vec<u64> = (0..10).map(alone).collect();
    println!("{PAIRS} pairs: {counts:?} waits, {least} through the threads");
    assert!(
        counts.iter().any(|count| *count < least / 4),
        "{counts:?} waits of the threads for {PAIRS} pairs each"
    );
    // Several callers use the threads, and none of their requests is lost.
    thread::scope(|scope| {
        for caller in 0..4 {
            let engine = &engine;
            scope.spawn(move || {
                let name = format!("name/{caller}");
                for nonce in (0..PAIRS).map(|number| u128::from(10_000 * (caller + 1) + number)) {
                    assert!(attempt(engine, key(&name), nonce, LONG).is_some());
                    let released = engine.release(key(&name), Nonce::new(nonce), soon());
                    assert_eq!(released.unwrap(), Released::Done);
                }
            });
        }
    });
}
