//! The queue of the engine `postgres://…`: which waiter a release notifies, and which it serves.
#![cfg(feature = "postgres")]

#[path = "support/server.rs"]
mod server;
mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use latchwork_lease::Leases;
use latchwork_lease::engine::{Attempt, Engine, Nonce, Released};
use latchwork_lease::postgres::PostgresEngine;
use server::Server;
use support::{KEY, attempt, ms, request, soon};

const LONG: Duration = Duration::from_secs(60);

/// Less than the time after which a waiter reads again without a notification.
const NOTIFIED: Duration = Duration::from_millis(1500);

/// A database with several engines, each as in a process of its own.
struct Place {
    server: Arc<Server>,
    database: String,
}

impl Place {
    fn new() -> Option<Self> {
        let server = server::shared()?;
        let database = server.database();
        Some(Place { server, database })
    }

    fn open(&self) -> PostgresEngine {
        PostgresEngine::connect(&self.server.url(&self.database)).unwrap()
    }
}

/// An engine that listens, so that its next place has an ear.
fn listening(place: &Place) -> PostgresEngine {
    let engine = place.open();
    let other = place.open();
    let key = support::key("listening");
    attempt(&other, key, 1, LONG).expect("the key is free");
    let _ = engine.wait_hint(key, Nonce::new(2), Instant::now() + ms(1));
    other.release(key, Nonce::new(1), soon()).unwrap();
    engine
}

fn release(engine: &PostgresEngine, nonce: u128) -> Released {
    engine.release(KEY, Nonce::new(nonce), soon()).unwrap()
}

/// Waits for a notification, and returns how long it took.
fn wait(engine: &PostgresEngine, nonce: u128) -> Duration {
    let start = Instant::now();
    engine
        .wait_hint(KEY, Nonce::new(nonce), start + LONG)
        .unwrap();
    start.elapsed()
}

#[test]
fn waiters_are_served_in_the_order_of_their_requests() {
    let Some(place) = Place::new() else { return };
    let engines: Vec<_> = (0..3).map(|_| place.open()).collect();
    assert!(engines[0].guarantees().fair);
    attempt(&engines[0], KEY, 1, LONG).unwrap();
    for nonce in 2..=5 {
        assert_eq!(attempt(&engines[nonce % 3], KEY, nonce as u128, LONG), None);
    }
    // A repeated request keeps its place.
    assert_eq!(attempt(&engines[1], KEY, 2, LONG), None);
    for nonce in 2..=5 {
        let holder = nonce - 1;
        assert_eq!(release(&engines[0], holder), Released::Done);
        // Neither a later waiter nor a new one precedes it.
        for other in [nonce + 1, 100] {
            if other != 6 {
                assert_eq!(attempt(&engines[0], KEY, other, LONG), None, "{other}");
            }
        }
        assert!(attempt(&engines[1], KEY, nonce, LONG).is_some(), "{nonce}");
    }
    release(&engines[0], 5);
    assert!(attempt(&engines[2], KEY, 100, LONG).is_some());
}

#[test]
fn no_wake_up_is_lost() {
    const ROUNDS: u128 = 200;
    let Some(place) = Place::new() else { return };
    let (holder, waiter) = (place.open(), listening(&place));
    let both = Barrier::new(2);
    // No thread panics between two barriers, so that a failure does not hang.
    let mut late = Vec::new();
    let has_failed = AtomicBool::new(false);
    // Relaxed: the barriers order the accesses.
    let fail = || has_failed.store(true, Ordering::Relaxed);
    let goes_on = || !has_failed.load(Ordering::Relaxed);
    thread::scope(|scope| {
        let (holder, both) = (&holder, &both);
        scope.spawn(move || {
            for round in (0..ROUNDS).take_while(|_| goes_on()) {
                let is_granted = attempt(holder, KEY, 1000 + round, LONG).is_some();
                both.wait();
                if !is_granted {
                    fail();
                }
                // At nearly the same time as the request of the waiter, before and after it.
                for _ in 0..(round % 40) * 500 {
                    std::hint::spin_loop();
                }
                let _ = holder.release(KEY, Nonce::new(1000 + round), soon());
                both.wait();
                // Between the second and the third barrier, no thread sets the flag.
                both.wait();
            }
        });
        for round in (0..ROUNDS).take_while(|_| goes_on()) {
            both.wait();
            while attempt(&waiter, KEY, round, LONG).is_none() {
                let waited = wait(&waiter, round);
                if waited >= NOTIFIED {
                    late.push((round, waited));
                    fail();
                }
            }
            release(&waiter, round);
            both.wait();
            both.wait();
        }
    });
    assert!(late.is_empty(), "{late:?}");
    assert!(
        goes_on(),
        "the waiter has released the key, and it is not free"
    );
}

#[test]
fn a_release_notifies_one_waiter() {
    let Some(place) = Place::new() else { return };
    let (holder, one, two) = (place.open(), listening(&place), listening(&place));
    attempt(&holder, KEY, 1, LONG).unwrap();
    let waiters = [(&one, 2), (&two, 3), (&one, 4)];
    for (engine, nonce) in waiters {
        assert_eq!(attempt(engine, KEY, nonce, LONG), None);
    }
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        for (engine, nonce) in waiters {
            let sender = sender.clone();
            scope.spawn(move || {
                let waited = wait(engine, nonce);
                sender.send((nonce, waited)).unwrap();
            });
        }
        thread::sleep(ms(100));
        release(&holder, 1);
        let (first, waited) = receiver.recv().unwrap();
        assert!(first == 2 && waited < NOTIFIED, "{first} after {waited:?}");
        // The others read again later, without a notification.
        for _ in 0..2 {
            let (nonce, waited) = receiver.recv().unwrap();
            assert!(waited >= NOTIFIED, "{nonce} after {waited:?}");
        }
    });
}

#[test]
fn a_waiter_that_leaves_passes_the_key_on() {
    let Some(place) = Place::new() else { return };
    let (holder, one, two) = (place.open(), listening(&place), listening(&place));
    attempt(&holder, KEY, 1, LONG).unwrap();
    assert_eq!(attempt(&one, KEY, 2, LONG), None);
    assert_eq!(attempt(&two, KEY, 3, LONG), None);
    thread::scope(|scope| {
        let wait = scope.spawn(|| wait(&two, 3));
        thread::sleep(ms(100));
        // While the key is held, a place that ends notifies no waiter.
        assert_eq!(attempt(&one, KEY, 4, LONG), None);
        release(&one, 4);
        release(&holder, 1);
        assert_eq!(release(&one, 2), Released::WasLost);
        let waited = wait.join().unwrap();
        assert!(waited >= ms(90) && waited < NOTIFIED, "{waited:?}");
    });
    assert!(attempt(&two, KEY, 3, LONG).is_some());
}

#[test]
fn a_waiter_that_is_gone_is_passed_over() {
    let Some(place) = Place::new() else { return };
    let engine = place.open();
    attempt(&engine, KEY, 1, LONG).unwrap();
    for nonce in [2, 3] {
        assert_eq!(attempt(&engine, KEY, nonce, LONG), None);
    }
    release(&engine, 1);
    // The holder of the first place has died.
    let start = Instant::now();
    loop {
        match engine.try_acquire(&request(KEY, 3, LONG), soon()).unwrap() {
            Attempt::Granted(_) => break,
            Attempt::Busy { free_in } => {
                let left = free_in.expect("the end of the wait is known");
                assert!(left <= ms(300), "{left:?}");
                thread::sleep(left);
            }
        }
    }
    let after = start.elapsed();
    assert!(after >= ms(200) && after < ms(2000), "{after:?}");
    // It delays the others once.
    release(&engine, 3);
    assert!(attempt(&engine, KEY, 4, LONG).is_some());
    // A place ends three seconds after its last request.
    assert_eq!(attempt(&engine, KEY, 5, LONG), None);
    thread::sleep(ms(3100));
    release(&engine, 4);
    assert!(attempt(&engine, KEY, 6, LONG).is_some());
}

#[test]
fn a_waiter_whose_ear_is_cut_asks_again() {
    let Some(place) = Place::new() else { return };
    let (holder, waiter) = (place.open(), listening(&place));
    attempt(&holder, KEY, 1, LONG).unwrap();
    assert_eq!(attempt(&waiter, KEY, 2, LONG), None);
    thread::scope(|scope| {
        let cut = scope.spawn(|| wait(&waiter, 2));
        thread::sleep(ms(100));
        let ended = place.server.psql(
            &place.database,
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
             WHERE datname = current_database() AND query LIKE 'LISTEN%'",
        );
        assert_eq!(ended, "1");
        let waited = cut.join().unwrap();
        assert!(waited < NOTIFIED, "{waited:?}");
        // Without an ear it observes, and has a new ear then.
        assert_eq!(attempt(&waiter, KEY, 2, LONG), None);
        let again = scope.spawn(|| wait(&waiter, 2));
        thread::sleep(ms(100));
        release(&holder, 1);
        let waited = again.join().unwrap();
        assert!(waited >= ms(90) && waited < NOTIFIED, "{waited:?}");
    });
    assert!(attempt(&waiter, KEY, 2, LONG).is_some());
}

#[test]
fn a_plain_statement_overtakes_no_waiter() {
    let Some(place) = Place::new() else { return };
    let (holder, waiter) = (place.open(), place.open());
    // These engines expect no waiter, so each sends the plain statement first.
    let fresh: Vec<_> = (0..3).map(|_| place.open()).collect();
    for engine in &fresh {
        let key = support::key("other");
        for nonce in 1..=17 {
            attempt(engine, key, nonce, LONG).unwrap();
            engine.release(key, Nonce::new(nonce), soon()).unwrap();
        }
    }
    attempt(&holder, KEY, 1, LONG).unwrap();
    assert_eq!(attempt(&waiter, KEY, 2, LONG), None);
    assert_eq!(release(&fresh[0], 1), Released::Done);
    assert_eq!(attempt(&fresh[1], KEY, 3, LONG), None);
    assert_eq!(attempt(&waiter, KEY, 2, LONG), Some(2));
    // The release of a waiter leaves the queue, and not the lease.
    assert_eq!(release(&fresh[2], 3), Released::WasLost);
    assert_eq!(attempt(&place.open(), KEY, 4, LONG), None);
    assert_eq!(release(&waiter, 2), Released::Done);
}

/// Starts a server that counts statements.
fn counting() -> Option<Server> {
    let server = Server::start(&["shared_preload_libraries=pg_stat_statements"])?;
    server.psql("postgres", "CREATE EXTENSION pg_stat_statements");
    Some(server)
}

/// Returns the number of statements of this crate that the server has executed.
fn requests(server: &Server) -> usize {
    let calls = server.psql(
        "postgres",
        "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements
         WHERE toplevel AND query LIKE '%latchwork%' AND query NOT LIKE '%pg_stat%'",
    );
    calls.parse().unwrap()
}

#[test]
fn an_acquisition_without_waiters_needs_two_plain_statements() {
    let Some(server) = counting() else { return };
    let engine = PostgresEngine::connect(&server.url("postgres")).unwrap();
    // The first 32 requests expect waiters.
    for nonce in 1..=17 {
        attempt(&engine, KEY, nonce, LONG).unwrap();
        assert_eq!(release(&engine, nonce), Released::Done);
    }
    let plain = || -> usize {
        let calls = server.psql(
            "postgres",
            "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements
             WHERE toplevel AND query LIKE 'UPDATE latchwork.lease SET%'",
        );
        calls.parse().unwrap()
    };
    let before = (requests(&server), plain());
    for nonce in 100..200 {
        attempt(&engine, KEY, nonce, LONG).unwrap();
        assert_eq!(release(&engine, nonce), Released::Done);
    }
    let sent = (requests(&server) - before.0, plain() - before.1);
    assert_eq!(sent, (200, 200));
}

#[test]
fn an_acquisition_that_waits_needs_three_requests() {
    let Some(server) = counting() else { return };
    const PROCESSES: usize = 8;
    const EACH: usize = 50;
    let url = server.url("postgres");
    let start = Barrier::new(PROCESSES);
    thread::scope(|scope| {
        for _ in 0..PROCESSES {
            scope.spawn(|| {
                let leases = Leases::connect(&url).unwrap();
                start.wait();
                for _ in 0..EACH {
                    let lease = leases.acquire("one", LONG).unwrap();
                    lease.release().unwrap();
                }
            });
        }
    });
    let each = requests(&server) as f64 / (PROCESSES * EACH) as f64;
    // Three, those of waiters that ask once a second, and a plain statement now and then.
    assert!(each <= 4.0, "{each} requests an acquisition");
}
