//! What the engines cost, against the same work by hand. Run with `--release -- --ignored`.
#![cfg(all(feature = "sqlite", target_os = "linux"))]

mod support;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use latchwork::table::FencingToken;
use latchwork_lease::engine::{Engine, Nonce, Renewal, Renewed};
use latchwork_lease::sqlite::SqliteEngine;
use support::{Folder, KEY, attempt, key, ms, request, soon};

const LONG: Duration = Duration::from_secs(60);

/// Returns the processor time of this thread, which makes all calls that are measured.
fn processor_time() -> Duration {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

/// A row of the same size, written by the same two transactions at the same durability.
fn by_hand(folder: &Folder) -> impl FnMut(i64) {
    let connection = rusqlite::Connection::open(folder.file("by-hand.db")).unwrap();
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
             CREATE TABLE lease (namespace TEXT, name TEXT, token INTEGER, nonce BLOB, owner TEXT,
                 expires INTEGER, PRIMARY KEY (namespace, name)) WITHOUT ROWID",
        )
        .unwrap();
    move |nonce| {
        let run = |statement: &str| {
            connection
                .prepare_cached(statement)
                .unwrap()
                .execute([])
                .unwrap();
        };
        run("BEGIN IMMEDIATE");
        connection
            .prepare_cached(
                "INSERT INTO lease AS l VALUES ('tests', 'reports/nightly', 1, ?1, 'a test', ?2)
                 ON CONFLICT DO UPDATE SET nonce = excluded.nonce, token = l.token + 1,
                     expires = excluded.expires WHERE l.nonce IS NULL RETURNING token",
            )
            .unwrap()
            .query_row((nonce.to_be_bytes(), nonce + 60_000), |row| {
                row.get::<_, i64>(0)
            })
            .unwrap();
        run("COMMIT");
        run("BEGIN IMMEDIATE");
        let changed = connection
            .prepare_cached(
                "UPDATE lease SET nonce = NULL
                 WHERE namespace = 'tests' AND name = 'reports/nightly' AND nonce = ?1",
            )
            .unwrap()
            .execute([nonce.to_be_bytes()])
            .unwrap();
        assert_eq!(changed, 1);
        run("COMMIT");
    }
}

#[test]
#[ignore = "measures time; needs an optimised build and a quiet machine"]
fn acquire_and_release_cost_at_most_twice_the_transactions_by_hand() {
    let folder = Folder::new();
    let engine = SqliteEngine::open(folder.file("leases.db")).unwrap();
    let mut by_hand = by_hand(&folder);
    let mut ratios = Vec::new();
    // Turns of both, because a disk has moods.
    for turn in 0..20 {
        let start = Instant::now();
        for round in 0..100 {
            by_hand(turn * 100 + round);
        }
        let hand = start.elapsed();
        let start = Instant::now();
        for round in 0..100 {
            let nonce = (turn * 100 + round) as u128;
            attempt(&engine, KEY, nonce, LONG).unwrap();
            engine.release(KEY, Nonce::new(nonce), soon()).unwrap();
        }
        let ours = start.elapsed();
        ratios.push((
            ours.as_secs_f64() / hand.as_secs_f64(),
            ours / 100,
            hand / 100,
        ));
    }
    ratios.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (ratio, ours, hand) = ratios[10];
    println!("acquire + release: {ours:?}, by hand {hand:?}: {ratio:.2} times (median of 20)");
    assert!(ratio <= 2.0);
}

#[test]
#[ignore = "measures time; needs an optimised build and a quiet machine"]
fn ten_thousand_leases_of_ten_seconds_need_less_than_a_twentieth_of_a_core() {
    let folder = Folder::new();
    let engine = SqliteEngine::open(folder.file("leases.db")).unwrap();
    let names: Vec<String> = (0..10_000)
        .map(|number| format!("jobs/{number:05}"))
        .collect();
    let ttl = Duration::from_secs(10);
    for several in names.chunks(1000) {
        let requests: Vec<_> = several
            .iter()
            .map(|name| request(key(name), 1, ttl))
            .collect();
        engine.try_acquire_all(&requests, soon()).unwrap().unwrap();
    }
    let renewals: Vec<_> = names
        .iter()
        .map(|name| Renewal {
            key: key(name),
            nonce: Nonce::new(1),
            token: FencingToken::new(1),
            ttl,
        })
        .collect();
    let (start, used) = (Instant::now(), processor_time());
    let period = Duration::from_millis(3333);
    for turn in 1..=4 {
        let begin = Instant::now();
        let renewed = engine.renew_many(&renewals, soon()).unwrap();
        assert!(renewed.iter().all(|renewed| *renewed == Renewed::Held));
        println!("one renewal of all: {:?}", begin.elapsed());
        thread::sleep((period * turn).saturating_sub(start.elapsed()));
    }
    let share = (processor_time() - used).as_secs_f64() / start.elapsed().as_secs_f64();
    println!(
        "10,000 leases of 10 s, renewed at a third: {:.1} % of a core",
        share * 100.0
    );
    assert!(share < 0.05);
}

#[test]
#[ignore = "measures time; needs an optimised build and a quiet machine"]
fn a_release_reaches_a_waiter_within_fifty_milliseconds() {
    let folder = Folder::new();
    let open = || SqliteEngine::open(folder.file("leases.db")).unwrap();
    let (holder, waiter) = (open(), open());
    let mut delays = Vec::new();
    for nonce in 0..500 {
        attempt(&holder, KEY, nonce, LONG).unwrap();
        thread::scope(|scope| {
            let wait = scope.spawn(|| {
                waiter.wait_hint(KEY, Nonce::new(1 << 100), soon()).unwrap();
                Instant::now()
            });
            thread::sleep(Duration::from_micros(5000 + 37 * (nonce as u64 % 300)));
            let released = Instant::now();
            holder.release(KEY, Nonce::new(nonce), soon()).unwrap();
            delays.push(wait.join().unwrap().saturating_duration_since(released));
        });
    }
    delays.sort_unstable();
    println!(
        "hand-over: p50 {:?}, p99 {:?}, maximum {:?}",
        delays[250], delays[495], delays[499]
    );
    assert!(delays[495] <= ms(50));

    attempt(&holder, KEY, 1, LONG).unwrap();
    let (start, used) = (Instant::now(), processor_time());
    waiter
        .wait_hint(KEY, Nonce::new(2), Instant::now() + ms(2000))
        .unwrap();
    let share = (processor_time() - used).as_secs_f64() / start.elapsed().as_secs_f64();
    println!("a waiter: {:.2} % of a core", share * 100.0);
    assert!(share < 0.01);
}
