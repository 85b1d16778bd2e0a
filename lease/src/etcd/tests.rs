//! Tests at a real server, with faults that are planted into the engine.

#[path = "../../tests/support/etcd.rs"]
mod etcd;
#[path = "../../tests/support/relay.rs"]
mod relay;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{EtcdEngine, Plant};
use crate::engine::{Engine, Nonce, Outcome, Renewal};
use etcd::Cluster;
use latchwork::table::FencingToken;
use relay::Relay;
use support::{KEY, attempt, key, ms, request, soon};

pub(super) static PLANT: Mutex<Option<Plant>> = Mutex::new(None);

const SHORT: Duration = Duration::from_secs(2);
const LONG: Duration = Duration::from_secs(60);

fn connect(cluster: &Cluster) -> EtcdEngine {
    EtcdEngine::connect(&cluster.url()).unwrap()
}

/// Ends the engine lease of the request of a nonce.
fn revoke(cluster: &Cluster, nonce: u128) {
    let listed = cluster.ctl(&["get", "--prefix", "--keys-only", "latchwork/l/"]);
    let wanted = format!("/{nonce:032x}");
    let line = listed.lines().find(|line| line.ends_with(&wanted)).unwrap();
    let lease = line.split('/').nth(2).unwrap();
    cluster.ctl(&["lease", "revoke", lease]);
}

/// A waiter whose engine lease ends while it waits, as in etcd-io/etcd#11456 [EC2].
///
/// Returns the number of nonces that hold the name at once.
fn holders_after_the_lease_of_a_waiter_ends(cluster: &Cluster) -> usize {
    let engines: Vec<EtcdEngine> = (0..3).map(|_| connect(cluster)).collect();
    assert!(attempt(&engines[0], KEY, 1, LONG).is_some());
    assert_eq!(attempt(&engines[1], KEY, 2, LONG), None);
    assert_eq!(attempt(&engines[2], KEY, 3, LONG), None);
    revoke(cluster, 2);
    engines[0].release(KEY, Nonce::new(1), soon()).unwrap();
    let granted = [(1, 2), (2, 3)].map(|(at, nonce)| attempt(&engines[at], KEY, nonce, LONG));
    for nonce in 1..=3 {
        let _ = engines[0].release(KEY, Nonce::new(nonce), soon());
    }
    granted.iter().flatten().count()
}

/// Whether a lease lasts for its length in a group that was made earlier [EC4].
fn lasts_in_an_older_group(cluster: &Cluster) -> bool {
    let (engine, other) = (connect(cluster), connect(cluster));
    attempt(&engine, key("older"), 1, SHORT).unwrap();
    thread::sleep(ms(1500));
    let start = Instant::now();
    attempt(&engine, key("younger"), 2, SHORT).unwrap();
    let engine_ends_early = engine.guarantees().ends_early;
    // No thread extends the group any more, as if the process had died.
    drop(engine);
    while other.holder(key("younger"), soon()).unwrap().is_some() {
        assert!(start.elapsed() < Duration::from_secs(20), "it does not end");
        thread::sleep(ms(10));
    }
    start.elapsed() >= SHORT - engine_ends_early
}

/// Whether a lease that is not renewed ends, while another one of its group is renewed [EC5].
fn ends_beside_others(cluster: &Cluster) -> bool {
    let (engine, other) = (connect(cluster), connect(cluster));
    let abandoned = key("abandoned");
    attempt(&engine, abandoned, 1, SHORT).unwrap();
    let renewal = Renewal {
        key: key("renewed"),
        nonce: Nonce::new(2),
        token: FencingToken::new(attempt(&engine, key("renewed"), 2, SHORT).unwrap()),
        ttl: SHORT,
    };
    let start = Instant::now();
    let mut ended = false;
    while start.elapsed() < SHORT * 3 {
        engine.renew_many(&[renewal], soon()).unwrap();
        let is_held = other.holder(abandoned, soon()).unwrap().is_some();
        assert!(
            is_held || start.elapsed() > SHORT - ms(100),
            "it ends too early"
        );
        ended |= !is_held;
        thread::sleep(ms(200));
    }
    assert!(other.holder(key("renewed"), soon()).unwrap().is_some());
    engine.release(abandoned, Nonce::new(1), soon()).unwrap();
    engine
        .release(key("renewed"), Nonce::new(2), soon())
        .unwrap();
    ended
}

/// Whether a request that is executed after its release has no effect [EC6].
fn a_delayed_request_has_no_effect(cluster: &Cluster) -> bool {
    // The tombstone of an earlier run forbids its nonce.
    static NEXT: AtomicU64 = AtomicU64::new(100);
    // Relaxed: a number, which orders nothing.
    let delayed = u128::from(NEXT.fetch_add(1, Ordering::Relaxed));
    let relay = Relay::new(cluster.port(0));
    let url = format!("etcd://127.0.0.1:{}", relay.port);
    let engine = EtcdEngine::connect(&url).unwrap();
    // The group exists, and a later request keeps it.
    attempt(&engine, key("first"), 1, LONG).unwrap();
    // The extension of the group precedes the transaction, and is not delayed.
    Relay::set(&relay.holds, true);
    let error = engine
        .try_acquire(
            &request(key("delayed"), delayed, LONG),
            Instant::now() + ms(500),
        )
        .unwrap_err();
    assert_eq!(error.outcome, Outcome::Unknown, "{error}");
    Relay::set(&relay.holds, false);
    engine
        .release(key("delayed"), Nonce::new(delayed), soon())
        .unwrap();
    Relay::set(&relay.lets_go, true);
    thread::sleep(ms(1000));
    let other = connect(cluster);
    let has_effect = other.holder(key("delayed"), soon()).unwrap().is_some();
    engine.release(key("first"), Nonce::new(1), soon()).unwrap();
    let _ = other.release(key("delayed"), Nonce::new(delayed), soon());
    !has_effect
}

/// Whether a lease lasts although the removal of an earlier request of its nonce is delayed [EC5].
fn a_delayed_removal_ends_no_lease(cluster: &Cluster) -> bool {
    // The tombstone of an earlier run forbids its nonces.
    static NEXT: AtomicU64 = AtomicU64::new(200);
    // Relaxed: a number, which orders nothing.
    let first = u128::from(NEXT.fetch_add(10, Ordering::Relaxed));
    let ttl = Duration::from_secs(4);
    let relay = Relay::new(cluster.port(0));
    let engine = EtcdEngine::connect(&format!("etcd://127.0.0.1:{}", relay.port)).unwrap();
    let other = connect(cluster);
    assert!(attempt(&other, KEY, first + 1, LONG).is_some());
    assert_eq!(attempt(&engine, KEY, first + 2, ttl), None);
    // A later request extends the group beyond the end of the waiter.
    thread::sleep(ms(3000));
    assert!(attempt(&engine, key("beside"), first + 3, ttl).is_some());
    Relay::set(&relay.holds, true);
    let start = Instant::now();
    // Relaxed: a number, which orders nothing.
    while relay.held.load(Ordering::Relaxed) == 0 {
        assert!(start.elapsed() < LONG, "the request is not removed");
        thread::sleep(ms(5));
    }
    Relay::set(&relay.holds, false);
    other.release(KEY, Nonce::new(first + 1), soon()).unwrap();
    assert!(attempt(&engine, KEY, first + 2, ttl).is_some());
    Relay::set(&relay.lets_go, true);
    thread::sleep(ms(500));
    let excludes = attempt(&other, KEY, first + 4, LONG).is_none();
    for (engine, key, nonce) in [
        (&engine, KEY, 2_u128),
        (&engine, key("beside"), 3),
        (&other, KEY, 4),
    ] {
        let _ = engine.release(key, Nonce::new(first + nonce), soon());
    }
    excludes
}

/// Each test passes without its fault and fails with it.
#[test]
fn each_planted_fault_of_the_engine_is_detected() {
    let Some(cluster) = Cluster::start(1) else {
        return;
    };
    type Check = fn(&Cluster) -> bool;
    let one_holder: Check = |cluster| holders_after_the_lease_of_a_waiter_ends(cluster) == 1;
    let checks: [(Plant, Check); 5] = [
        (Plant::OwnKeyUnchecked, one_holder),
        (Plant::GroupUnextended, lasts_in_an_older_group),
        (Plant::EndIgnored, ends_beside_others),
        (Plant::DelayedExecuted, a_delayed_request_has_no_effect),
        (Plant::RemovalForgotten, a_delayed_removal_ends_no_lease),
    ];
    for (plant, check) in checks {
        assert!(check(&cluster), "without {plant:?}");
        *PLANT.lock().unwrap() = Some(plant);
        let passes = check(&cluster);
        *PLANT.lock().unwrap() = None;
        assert!(!passes, "{plant:?} is not detected");
    }
}
