//! The engine `etcd://…` while members and connections fail.
#![cfg(feature = "etcd")]

#[path = "support/etcd.rs"]
mod etcd;
#[path = "support/relay.rs"]
mod relay;
mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use etcd::Cluster;
use latchwork::table::FencingToken;
use latchwork_lease::engine::{Engine, EngineError, Nonce, Outcome, Released, Renewal, Renewed};
use latchwork_lease::etcd::EtcdEngine;
use latchwork_lease::{AcquireError, Leases, Release};
use relay::Relay;
use support::{KEY, attempt, key, ms, request, soon};

const LONG: Duration = Duration::from_secs(60);

fn connect(url: &str) -> EtcdEngine {
    EtcdEngine::connect(url).unwrap()
}

/// Repeats a request until it is answered, and returns how long that lasted.
fn until_it_answers<T>(mut request: impl FnMut() -> Result<T, EngineError>) -> (T, Duration) {
    let start = Instant::now();
    loop {
        match request() {
            Ok(answer) => return (answer, start.elapsed()),
            Err(error) => assert!(start.elapsed() < Duration::from_secs(30), "{error}"),
        }
        thread::sleep(ms(20));
    }
}

#[test]
fn a_request_whose_answer_is_lost_is_unknown_and_can_be_repeated() {
    let Some(cluster) = Cluster::start(1) else {
        return;
    };
    let direct = connect(&cluster.url());
    let relay = Relay::new(cluster.port(0));
    let engine = connect(&format!("etcd://127.0.0.1:{}", relay.port));
    // The group exists, so the answer to the transaction is lost, or that to the keep-alive.
    assert!(attempt(&engine, key("other"), 9, LONG).is_some());
    let token = attempt(&engine, KEY, 1, LONG).unwrap();

    Relay::set(&relay.swallows, true);
    let deadline = || Instant::now() + ms(500);
    let error = engine.release(KEY, Nonce::new(1), deadline()).unwrap_err();
    assert_eq!(
        (error.outcome, error.is_temporary),
        (Outcome::Unknown, true),
        "{error}"
    );
    // The keep-alive fails, so the transaction was not sent.
    let error = engine
        .try_acquire(&request(key("new"), 2, LONG), deadline())
        .unwrap_err();
    assert_eq!(error.outcome, Outcome::NotDone, "{error}");
    let start = Instant::now();
    while direct.holder(KEY, soon()).unwrap().is_some() {
        assert!(start.elapsed() < LONG, "the release was not executed");
        thread::sleep(ms(10));
    }
    assert!(direct.holder(key("new"), soon()).unwrap().is_none());
    Relay::set(&relay.swallows, false);
    let released = engine.release(KEY, Nonce::new(1), soon());
    assert_eq!(released.unwrap(), Released::WasLost);
    assert!(attempt(&engine, KEY, 3, LONG).unwrap() > token);

    // The transaction of an ask: its answer alone is lost.
    Relay::set(&relay.holds, true);
    let asked = request(key("asked"), 4, LONG);
    let error = engine.try_acquire(&asked, deadline()).unwrap_err();
    assert_eq!(error.outcome, Outcome::Unknown, "{error}");
    Relay::set(&relay.holds, false);
    Relay::set(&relay.lets_go, true);
    let start = Instant::now();
    let first = loop {
        match direct.holder(key("asked"), soon()).unwrap() {
            Some(holder) => break holder.token.get(),
            None => assert!(start.elapsed() < LONG, "the ask was not executed"),
        }
        thread::sleep(ms(10));
    };
    // Its repetition has the same token, and later acquisitions another engine lease [EC6].
    assert_eq!(attempt(&engine, key("asked"), 4, LONG), Some(first));
    assert!(attempt(&engine, key("later"), 5, LONG).is_some());
    let listed = cluster.ctl(&["get", "--prefix", "--keys-only", "latchwork/l/"]);
    let lease_of = |nonce: u128| {
        let end = format!("/{nonce:032x}");
        let line = listed.lines().find(|line| line.ends_with(&end));
        line.unwrap().split('/').nth(2).unwrap().to_owned()
    };
    assert_eq!(lease_of(4), lease_of(9));
    assert_ne!(lease_of(5), lease_of(9));
    assert_eq!(
        engine.release(key("asked"), Nonce::new(4), soon()).unwrap(),
        Released::Done
    );
}

/// The longest time without an acquisition, from the fault on, and the number of acquisitions.
fn outage(cluster: &mut Cluster, fault: impl FnOnce(&mut Cluster)) -> Duration {
    let leases = Leases::connect(&cluster.url()).unwrap();
    let held = leases.acquire("held", Duration::from_secs(10)).unwrap();
    let token = held.token();
    let done = AtomicBool::new(false);
    let gap = thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let (mut last, mut longest, mut token) = (Instant::now(), Duration::ZERO, 0);
            // Relaxed: the flag publishes nothing.
            while !done.load(Ordering::Relaxed) {
                // A call may fail during the fault, and leaves nothing behind.
                let Ok(lease) = leases.acquire("outage", Duration::from_secs(10)) else {
                    continue;
                };
                assert!(lease.token().get() > token, "a token follows {token}");
                token = lease.token().get();
                longest = longest.max(last.elapsed());
                last = Instant::now();
                let _ = lease.release();
            }
            longest.max(last.elapsed())
        });
        thread::sleep(ms(500));
        fault(cluster);
        thread::sleep(Duration::from_secs(8));
        // Relaxed: as above.
        done.store(true, Ordering::Relaxed);
        worker.join().unwrap()
    });
    assert!(held.is_held(), "a lease was lost in {gap:?}");
    assert_eq!(held.token(), token);
    assert_eq!(held.release().unwrap(), Release::Done);
    gap
}

/// The target is 4 s. A loaded machine elects later.
const LONGEST_OUTAGE: Duration = Duration::from_secs(7);

#[test]
fn a_leader_that_is_killed_ends_no_lease() {
    let Some(mut cluster) = Cluster::start(3) else {
        return;
    };
    let gap = outage(&mut cluster, |cluster| {
        let leader = cluster.leader();
        cluster.kill(leader);
    });
    println!("leader killed: an outage of {gap:.2?}");
    assert!(gap < LONGEST_OUTAGE, "an outage of {gap:?}");
}

#[test]
fn a_leader_that_is_stopped_delays_requests_for_a_short_time() {
    let Some(mut cluster) = Cluster::start(3) else {
        return;
    };
    let gap = outage(&mut cluster, |cluster| {
        let leader = cluster.leader();
        cluster.signal(leader, "STOP");
        thread::sleep(Duration::from_secs(5));
        cluster.signal(leader, "CONT");
    });
    println!("leader stopped for 5 s: an outage of {gap:.2?}");
    assert!(gap < LONGEST_OUTAGE, "an outage of {gap:?}");
}

#[test]
fn a_cluster_without_a_quorum_is_reported_and_recovers() {
    let Some(mut cluster) = Cluster::start(3) else {
        return;
    };
    let url = cluster.url();
    let engine = connect(&url);
    let token = attempt(&engine, KEY, 1, LONG).unwrap();
    let lost: Vec<usize> = (0..3).filter(|at| *at != cluster.leader()).collect();
    for at in &lost {
        cluster.kill(*at);
    }
    // The leader detects it after its election timeout.
    thread::sleep(Duration::from_secs(2));
    let start = Instant::now();
    let error = engine
        .try_acquire(
            &request(key("new"), 2, LONG),
            Instant::now() + Duration::from_secs(2),
        )
        .unwrap_err();
    assert!(error.is_temporary, "{error}");
    assert!(error.to_string().starts_with("etcd 127.0.0.1:"), "{error}");
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "the deadline passed"
    );
    let error = EtcdEngine::connect(&url).unwrap_err();
    assert!(
        error.is_temporary && error.outcome == Outcome::NotDone,
        "{error}"
    );
    assert!(error.to_string().contains("is there a quorum?"), "{error}");
    let leases = Leases::connect("memory:").and(Leases::connect(&url));
    assert!(leases.is_err());

    for at in &lost {
        cluster.spawn(*at);
    }
    let (held, _) = until_it_answers(|| engine.holder(KEY, soon()));
    assert_eq!(held.unwrap().token.get(), token);
    let renewal = Renewal {
        key: KEY,
        nonce: Nonce::new(1),
        token: FencingToken::new(token),
        ttl: LONG,
    };
    let (renewed, _) = until_it_answers(|| engine.renew_many(&[renewal], soon()));
    assert_eq!(renewed, [Renewed::Held]);
    // A request that failed may have an effect, which a release by nonce ends.
    until_it_answers(|| engine.release(key("new"), Nonce::new(2), soon()));
    assert!(engine.holder(key("new"), soon()).unwrap().is_none());
    let (next, _) = until_it_answers(|| engine.try_acquire(&request(key("new"), 3, LONG), soon()));
    assert!(
        matches!(next, latchwork_lease::engine::Attempt::Granted(_)),
        "{next:?}"
    );
}

#[test]
fn an_acquisition_without_a_quorum_reports_what_is_known() {
    let Some(mut cluster) = Cluster::start(3) else {
        return;
    };
    let leases = Leases::connect(&cluster.url()).unwrap();
    drop(leases.acquire("first", Duration::from_secs(10)).unwrap());
    for at in 0..3 {
        cluster.kill(at);
    }
    let start = Instant::now();
    let error = leases.acquire("a", Duration::from_secs(10)).unwrap_err();
    assert!(
        matches!(
            error,
            AcquireError::Unavailable {
                outcome: Outcome::NotDone,
                ..
            }
        ),
        "{error}"
    );
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "{:?}",
        start.elapsed()
    );
    for at in 0..3 {
        cluster.spawn(at);
    }
    let start = Instant::now();
    let lease = loop {
        match leases.acquire("a", Duration::from_secs(10)) {
            Ok(lease) => break lease,
            Err(error) => assert!(start.elapsed() < Duration::from_secs(30), "{error}"),
        }
    };
    assert_eq!(lease.release().unwrap(), Release::Done);
}

#[test]
fn a_member_that_is_stopped_is_set_aside_and_returns() {
    let Some(cluster) = Cluster::start(3) else {
        return;
    };
    let engine = connect(&cluster.url());
    assert!(attempt(&engine, KEY, 1, LONG).is_some());
    // A follower, which the engine asks first: the order of the URL is that of the endpoints.
    let leader = cluster.leader();
    let follower = (0..3).find(|at| *at != leader).unwrap();
    let mut endpoints: Vec<String> = vec![format!("127.0.0.1:{}", cluster.port(follower))];
    endpoints.extend(
        (0..3)
            .filter(|at| *at != follower)
            .map(|at| format!("127.0.0.1:{}", cluster.port(at))),
    );
    let engine = connect(&format!("etcd://{}", endpoints.join(",")));
    let before = |cluster: &Cluster, at| cluster.requests_at(at, "Txn");
    assert!(attempt(&engine, key("first"), 2, LONG).is_some());
    assert!(before(&cluster, follower) > 0, "it is asked first");
    cluster.signal(follower, "STOP");
    let mut slow = 0;
    for nonce in 10..40 {
        let start = Instant::now();
        attempt(&engine, key(&format!("name/{nonce}")), nonce, LONG).unwrap();
        // Half of the time limit of 5 s, or the greatest limit of a member.
        slow += usize::from(start.elapsed() >= ms(950));
    }
    cluster.signal(follower, "CONT");
    // The first request alone waited for the member. A probe may overlap with another one.
    assert!(
        (1..=2).contains(&slow),
        "{slow} requests waited for the member"
    );
    // It answers a probe, so it is asked if another member fails.
    let counted = before(&cluster, follower);
    let start = Instant::now();
    while cluster.requests_at(follower, "Range") == 0 {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "it is not probed"
        );
        thread::sleep(ms(50));
    }
    assert!(counted <= before(&cluster, follower));
}

/// The repetitions of requests once kept an overloaded cluster overloaded.
#[test]
fn a_cluster_that_answers_late_receives_one_request_at_a_time() {
    let Some(cluster) = Cluster::start(1) else {
        return;
    };
    let relay = Relay::new(cluster.port(0));
    let engine = connect(&format!("etcd://127.0.0.1:{}", relay.port));
    for nonce in 0..8 {
        assert!(attempt(&engine, key(&format!("name/{nonce}")), nonce, LONG).is_some());
    }
    assert!(attempt(&engine, KEY, 8, LONG).is_some());

    Relay::set(&relay.swallows, true);
    let late = engine.release(KEY, Nonce::new(8), Instant::now() + ms(100));
    assert_eq!(late.unwrap_err().outcome, Outcome::Unknown);
    let before = cluster.requests_at(0, "Txn");
    let deadline = Instant::now() + ms(1000);
    let release = |nonce: u128| {
        let name = format!("name/{nonce}");
        engine.release(key(&name), Nonce::new(nonce), deadline)
    };
    let outcomes: Vec<Outcome> = thread::scope(|scope| {
        let calls: Vec<_> = (0..8)
            .map(|nonce| scope.spawn(move || release(nonce)))
            .collect();
        let ended = calls.into_iter().map(|call| call.join().unwrap());
        ended.map(|answer| answer.unwrap_err().outcome).collect()
    });
    // One thread had the turn until the deadline of all of them.
    let unknown = outcomes
        .iter()
        .filter(|outcome| **outcome == Outcome::Unknown);
    assert_eq!(unknown.count(), 1, "{outcomes:?}");
    assert_eq!(cluster.requests_at(0, "Txn") - before, 1);

    // Once the cluster answers, all of them are answered.
    Relay::set(&relay.swallows, false);
    let deadline = Instant::now() + Duration::from_secs(20);
    thread::scope(|scope| {
        for nonce in 0..8 {
            let (engine, name) = (&engine, format!("name/{nonce}"));
            scope.spawn(move || {
                let released = engine.release(key(&name), Nonce::new(nonce), deadline);
                assert!(
                    matches!(released, Ok(Released::Done | Released::WasLost)),
                    "{released:?}"
                );
            });
        }
    });
    assert!(engine.list("tests", "", soon()).unwrap().is_empty());
}

#[test]
fn a_dead_holder_frees_its_name_after_its_lease() {
    let Some(cluster) = Cluster::start(3) else {
        return;
    };
    let ttl = Duration::from_secs(2);
    let waiter = connect(&cluster.url());
    let mut late = Vec::new();
    for nonce in 1..=5 {
        let holder = connect(&cluster.url());
        let token = attempt(&holder, KEY, nonce, ttl).unwrap();
        let start = Instant::now();
        // Without its engine no request extends the lease, as if the process had died.
        drop(holder);
        let next = loop {
            if let Some(next) = attempt(&waiter, KEY, nonce + 100, LONG) {
                break next;
            }
            let deadline = Instant::now() + Duration::from_secs(1);
            waiter
                .wait_hint(KEY, Nonce::new(nonce + 100), deadline)
                .unwrap();
            assert!(start.elapsed() < LONG, "the name stays locked");
        };
        let elapsed = start.elapsed();
        assert!(next > token && elapsed > ttl - ms(200), "{elapsed:?}");
        late.push(elapsed.saturating_sub(ttl));
        let released = waiter.release(KEY, Nonce::new(nonce + 100), soon());
        assert_eq!(released.unwrap(), Released::Done);
    }
    println!("dead holder: freed {late:.2?} after its lease");
    // The target is 1 s. A loaded machine detects the end later.
    assert!(
        late.iter().all(|late| *late < Duration::from_secs(4)),
        "{late:?}"
    );
}
