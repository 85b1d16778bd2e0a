//! The engine `quorum:redis://…` under faults: nodes that end, hang or lose their data.
#![cfg(feature = "redis")]

#[path = "support/redis.rs"]
mod redis;
mod support;

use std::collections::HashMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use latchwork::table::{FencedCell, FencingToken};
use latchwork_lease::engine::{Engine, Key, Nonce, Outcome, Released, Renewal, Renewed};
use latchwork_lease::quorum::QuorumEngine;
use latchwork_lease::{AcquireError, AcquireOptions, Leases};
use redis::{Redis, url};
use support::{KEY, attempt, key, ms, request, soon};

const LONG: Duration = Duration::from_secs(60);

/// The length of leases that nodes keep when they end, and of which no client remains.
const SHORT: Duration = Duration::from_millis(1500);

/// A key whose tokens are independent of those of the tests.
const PROBE: Key<'static> = Key {
    namespace: "other",
    name: "probe",
};

fn connect(url: &str) -> QuorumEngine {
    QuorumEngine::connect(url).unwrap_or_else(|error| panic!("{error}"))
}

fn renew(engine: &QuorumEngine, nonce: u128, token: u64) -> Renewed {
    let renewal = Renewal {
        key: KEY,
        nonce: Nonce::new(nonce),
        token: FencingToken::new(token),
        ttl: LONG,
    };
    engine.renew_many(&[renewal], soon()).unwrap()[0]
}

/// Waits until the engine reaches all nodes.
fn reach_all(engine: &QuorumEngine, nodes: &[Redis]) {
    for nonce in 1000..2000 {
        let granted = engine.try_acquire(&request(PROBE, nonce, LONG), soon());
        thread::sleep(ms(20));
        let has = |node: &Redis| !node.command(&["KEYS", "*probe*"]).starts_with("*0");
        let is_everywhere = granted.is_ok() && nodes.iter().all(has);
        let _ = engine.release(PROBE, Nonce::new(nonce), soon());
        if is_everywhere {
            return;
        }
    }
    panic!("a node is not reached");
}

/// Returns the number of threads of this process.
fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

/// Acquires and releases until the faults are over, and returns the number of pairs and the
/// greatest time between the ends of two of them.
fn work(leases: &Leases, is_over: &AtomicBool) -> (u32, Duration) {
    let (mut pairs, mut greatest, mut last) = (0, Duration::ZERO, Instant::now());
    let mut token = 0;
    // SeqCst: a flag between the threads of a test.
    while !is_over.load(Ordering::SeqCst) {
        let lease = leases.acquire("work", SHORT).unwrap();
        assert!(lease.token().get() > token, "a token follows token {token}");
        token = lease.token().get();
        lease.release().unwrap();
        pairs += 1;
        greatest = greatest.max(last.elapsed());
        last = Instant::now();
    }
    (pairs, greatest)
}

/// Runs `fault` beside a client that acquires and releases, and beside a lease that is renewed.
fn assert_no_gap(nodes: &mut [Redis], name: &str, fault: impl FnOnce(&mut [Redis])) {
    let leases = Leases::connect(&url(&*nodes)).unwrap();
    let held = leases.acquire("held", SHORT).unwrap();
    let is_over = AtomicBool::new(false);
    let (pairs, gap) = thread::scope(|scope| {
        let worker = scope.spawn(|| work(&leases, &is_over));
        thread::sleep(ms(300));
        fault(nodes);
        is_over.store(true, Ordering::SeqCst);
        worker.join().unwrap()
    });
    println!("{name}: {pairs} pairs, the greatest gap is {gap:?}");
    assert!(pairs > 20, "{name}: {pairs} pairs");
    assert!(gap < Duration::from_secs(2), "{name}: {gap:?}");
    assert!(held.is_held(), "{name}: a lease was lost");
    held.release().unwrap();
}

#[test]
fn two_nodes_that_end_interrupt_no_lease() {
    let Some(mut nodes) = Redis::several(5) else {
        return;
    };
    assert_no_gap(&mut nodes, "killed", |nodes| {
        nodes[0].end();
        thread::sleep(ms(500));
        nodes[3].end();
        thread::sleep(ms(2000));
    });
    // The nodes return, and two others end. Each majority that follows has a node of each before.
    nodes[0].resume();
    nodes[3].resume();
    // Their locks of a client that has ended since are over.
    thread::sleep(SHORT);
    assert_no_gap(&mut nodes, "killed after a restart", |nodes| {
        nodes[1].end();
        nodes[2].end();
        thread::sleep(ms(2000));
    });
}

#[test]
fn two_nodes_that_hang_delay_no_call() {
    let Some(mut nodes) = Redis::several(5) else {
        return;
    };
    assert_no_gap(&mut nodes, "stopped", |nodes| {
        nodes[1].signal("STOP");
        nodes[4].signal("STOP");
        thread::sleep(ms(3000));
    });
    let engine = connect(&url(&nodes));
    // Callers do not wait for them, whatever the answer is, and no thread starts.
    assert!(attempt(&engine, KEY, 1, LONG).is_some());
    let (before, start) = (threads(), Instant::now());
    for nonce in 2..=100 {
        assert_eq!(attempt(&engine, KEY, nonce, LONG), None);
        assert!(engine.holder(KEY, soon()).unwrap().is_some());
    }
    let took = start.elapsed();
    println!("198 calls beside two nodes that hang: {took:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    // The threads of other tests may have ended.
    assert!(
        threads() <= before + 2,
        "{} threads, {before} before",
        threads()
    );
    nodes[1].signal("CONT");
    nodes[4].signal("CONT");
    assert_eq!(
        engine.release(KEY, Nonce::new(1), soon()).unwrap(),
        Released::Done
    );
}

#[test]
fn three_nodes_that_end_are_reported_and_leave_nothing() {
    let Some(mut nodes) = Redis::several(5) else {
        return;
    };
    let engine = connect(&url(&nodes));
    assert!(attempt(&engine, key("other"), 1, LONG).is_some());
    nodes[..3].iter_mut().for_each(Redis::end);
    // The first call finds connections that end: whether its requests arrived is not known.
    let mut last = None;
    for nonce in 2..10 {
        let error = engine
            .try_acquire(&request(KEY, nonce, LONG), soon())
            .unwrap_err();
        assert!(error.is_temporary, "{error}");
        let text = error.to_string();
        assert!(text.contains("2 of 5 nodes answered"), "{text}");
        assert!(
            text.contains(&format!("127.0.0.1:{}", nodes[0].port)),
            "{text}"
        );
        last = Some(error.outcome);
        thread::sleep(ms(50));
    }
    assert_eq!(last, Some(Outcome::NotDone));
    for node in &nodes[3..] {
        let locks = node.command(&["KEYS", "*nightly*"]);
        assert!(locks.starts_with("*0"), "{locks}");
    }
    assert!(engine.holder(KEY, soon()).is_err());
    assert!(engine.list("tests", "", soon()).is_err());
    let released = engine.release(key("other"), Nonce::new(1), soon());
    assert_eq!(released.unwrap_err().outcome, Outcome::Unknown);
    // A node that runs may answer late on a busy machine.
    let start = Instant::now();
    loop {
        let error = QuorumEngine::connect(&url(&nodes)).unwrap_err();
        assert_eq!(
            (error.outcome, error.is_temporary),
            (Outcome::NotDone, true),
            "{error}"
        );
        if error.to_string().contains("2 of 5 nodes can be reached") {
            break;
        }
        assert!(start.elapsed() < LONG, "{error}");
    }
    // With their data, they continue.
    nodes[..3].iter_mut().for_each(Redis::resume);
    reach_all(&engine, &nodes);
    assert!(attempt(&engine, KEY, 99, LONG).unwrap() > 1);
}

#[test]
fn three_nodes_that_hang_make_the_outcome_unknown() {
    let Some(nodes) = Redis::several(5) else {
        return;
    };
    let engine = connect(&url(&nodes));
    let leases = Leases::connect(&url(&nodes)).unwrap();
    nodes[..3].iter().for_each(|node| node.signal("STOP"));
    let start = Instant::now();
    let error = engine
        .try_acquire(&request(KEY, 1, LONG), start + ms(500))
        .unwrap_err();
    let took = start.elapsed();
    assert!(took >= ms(450) && took < ms(2500), "{took:?}");
    assert_eq!(
        (error.outcome, error.is_temporary),
        (Outcome::Unknown, true),
        "{error}"
    );
    let mut options = AcquireOptions::new(ms(2000));
    options.give_up_after = Some(ms(700));
    let error = leases.acquire_with("reports", &options).unwrap_err();
    assert!(
        matches!(
            error,
            AcquireError::Unavailable { .. } | AcquireError::GaveUp
        ),
        "{error}"
    );
    nodes[..3].iter().for_each(|node| node.signal("CONT"));
    // A lease that was requested then is released: at the latest, it ends with its length.
    let lease = leases.acquire("reports", ms(2000)).unwrap();
    lease.release().unwrap();
    let mut released = engine.release(KEY, Nonce::new(1), soon());
    for _ in 0..100 {
        if released.is_ok() {
            break;
        }
        thread::sleep(ms(50));
        released = engine.release(KEY, Nonce::new(1), soon());
    }
    released.unwrap();
    assert!(attempt(&engine, KEY, 2, LONG).is_some());
}

#[test]
fn nodes_that_restart_with_their_data_keep_leases_and_tokens() {
    let Some(mut nodes) = Redis::several(3) else {
        return;
    };
    let engine = connect(&url(&nodes));
    let token = attempt(&engine, KEY, 1, LONG).unwrap();
    for at in 0..3 {
        nodes[at].signal("TERM");
        thread::sleep(ms(200));
        nodes[at].end();
        nodes[at].resume();
        reach_all(&engine, &nodes);
    }
    assert_eq!(renew(&engine, 1, token), Renewed::Held);
    assert_eq!(attempt(&engine, KEY, 2, LONG), None);
    assert_eq!(
        engine.release(KEY, Nonce::new(1), soon()).unwrap(),
        Released::Done
    );
    assert!(attempt(&engine, KEY, 2, LONG).unwrap() > token);
}

#[test]
fn lost_data_is_detected_by_the_fence_and_repaired_by_a_floor() {
    let Some(mut nodes) = Redis::several(3) else {
        return;
    };
    let (first, second) = (connect(&url(&nodes)), connect(&url(&nodes)));
    let name = "report";
    let resource = FencedCell::new(0);
    let fence =
        |token: u64, nonce: u128| latchwork::table::Fence::new(FencingToken::new(token), nonce);
    let mut seen: HashMap<u64, u128> = HashMap::new();
    let mut accept = |token: u64, nonce: u128| {
        let is_accepted = resource.write(fence(token, nonce), 1).is_ok();
        if is_accepted {
            // No two nonces are accepted under one number.
            assert_eq!(*seen.entry(token).or_insert(nonce), nonce, "token {token}");
        }
        is_accepted
    };
    // The counters of the nodes that lose their data begin again.
    for nonce in 11..20 {
        attempt(&first, key(name), nonce, LONG).unwrap();
        first.release(key(name), Nonce::new(nonce), soon()).unwrap();
    }
    let old = attempt(&first, key(name), 1, LONG).unwrap();
    assert!(accept(old, 1));
    // Two of three nodes lose their data while the lease is held.
    for node in &mut nodes[..2] {
        node.end();
        node.lose_data();
        node.resume();
    }
    reach_all(&second, &nodes);
    let mut refused = 0;
    for nonce in 2..=4 {
        // A majority has no lock any more.
        let token = attempt(&second, key(name), nonce, LONG).unwrap();
        refused += u32::from(!accept(token, nonce));
        second
            .release(key(name), Nonce::new(nonce), soon())
            .unwrap();
    }
    // Without this, the test would not show that numbers were repeated.
    assert!(refused > 0, "no token was repeated");
    assert!(
        accept(old, 1),
        "the holder of the greatest fence may continue"
    );
    second
        .raise_floor(key(name), FencingToken::new(old + 100), soon())
        .unwrap();
    let next = attempt(&second, key(name), 9, LONG).unwrap();
    assert!(next > old + 100);
    assert!(accept(next, 9));
    assert!(!accept(old, 1), "the earlier holder is refused");
}

#[test]
fn waiters_are_woken_after_the_node_that_notified_ended() {
    let Some(mut nodes) = Redis::several(3) else {
        return;
    };
    let (holder, waiter) = (connect(&url(&nodes)), connect(&url(&nodes)));
    for at in 0..3 {
        let nonce = 10 + at as u128;
        attempt(&holder, KEY, nonce, LONG).unwrap();
        thread::scope(|scope| {
            let wait = scope.spawn(|| {
                let end = Instant::now() + LONG;
                waiter.wait_hint(KEY, Nonce::new(1), end).unwrap();
                Instant::now()
            });
            thread::sleep(ms(300));
            // One of the three is the node at which the waiter listens.
            nodes[at].end();
            thread::sleep(ms(300));
            let released = Instant::now();
            let done = holder.release(KEY, Nonce::new(nonce), soon()).unwrap();
            assert_eq!(done, Released::Done);
            let woken = wait.join().unwrap();
            assert!(woken >= released, "it ended before the release");
            let took = woken - released;
            assert!(took < Duration::from_secs(5), "{took:?}");
        });
        nodes[at].resume();
        reach_all(&holder, &nodes);
    }
}

#[test]
#[allow(unsafe_code)]
fn a_child_of_a_fork_uses_no_connection_of_its_parent_to_nodes() {
    let Some(nodes) = Redis::several(3) else {
        return;
    };
    let engine = connect(&url(&nodes));
    let token = attempt(&engine, KEY, 1, LONG).unwrap();
    // SAFETY: the child calls nothing that needs another thread, and ends by _exit.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        let refused = engine
            .try_acquire(&request(KEY, 2, LONG), soon())
            .is_err_and(|error| !error.is_temporary);
        drop(engine);
        // SAFETY: ends the child without running anything of the test.
        unsafe { libc::_exit(if refused { 0 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: the pointer is valid for a write, and the child is this process's own.
    let waited = unsafe { libc::waitpid(child, &mut status, 0) };
    assert_eq!((waited, status), (child, 0));
    assert_eq!(renew(&engine, 1, token), Renewed::Held);
}
