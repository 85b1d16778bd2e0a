//! The engine `postgres://…` under faults: servers and clients that end or stop, answers that are
//! lost, poolers.
#![cfg(feature = "postgres")]

#[path = "support/server.rs"]
mod server;
mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, fs};

use latchwork::table::{Fence, FencedCell, FencingToken};
use latchwork_lease::engine::{
    Attempt, Engine, EngineError, Nonce, Outcome, Released, Renewal, Renewed,
};
use latchwork_lease::postgres::PostgresEngine;
use latchwork_lease::{AcquireOptions, Lease, Leases, Release};
use server::Server;
use support::{KEY, attempt, key, ms, request, soon};

const LONG: Duration = Duration::from_secs(60);
const URL: &str = "LEASE_TEST_URL";

fn connect(url: &str) -> PostgresEngine {
    PostgresEngine::connect(url).unwrap_or_else(|error| panic!("{error}"))
}

fn renew(engine: &PostgresEngine, nonce: u128, token: u64) -> Renewed {
    let (nonce, token) = (Nonce::new(nonce), FencingToken::new(token));
    let renewal = Renewal {
        key: KEY,
        nonce,
        token,
        ttl: LONG,
    };
    engine.renew_many(&[renewal], soon()).unwrap()[0]
}

/// Repeats a call until the server answers, and returns the time that this lasted.
fn until_it_answers<T>(mut call: impl FnMut() -> Result<T, EngineError>) -> (T, Duration) {
    let start = Instant::now();
    loop {
        match call() {
            Ok(value) => return (value, start.elapsed()),
            Err(error) => {
                assert!(error.is_temporary, "{error}");
                assert!(start.elapsed() < Duration::from_secs(20), "{error}");
                thread::sleep(ms(20));
            }
        }
    }
}

/// The body of the process that is killed or stopped. Alone it does nothing.
#[test]
fn role() {
    let Ok(url) = env::var(URL) else { return };
    let engine = connect(&url);
    let token = attempt(&engine, KEY, 77, ms(1000)).unwrap();
    println!("said {token}");
    thread::sleep(LONG);
}

/// Starts a process that holds the key for a second, and waits until it does.
fn holder(url: &str) -> Child {
    let mut process = Command::new(env::current_exe().unwrap())
        .args(["role", "--exact", "--nocapture"])
        .env(URL, url)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut text = Vec::new();
    let mut output = process.stdout.take().unwrap();
    while !String::from_utf8_lossy(&text).contains("said ") {
        let mut byte = [0];
        output.read_exact(&mut byte).unwrap();
        text.push(byte[0]);
    }
    process
}

#[test]
fn a_client_that_is_killed_or_stops_frees_its_lease_and_locks_nothing() {
    let Some(server) = server::shared() else {
        return;
    };
    let database = server.database();
    let engine = connect(&server.url(&database));
    for (signal, token) in [("KILL", 2), ("STOP", 4)] {
        let mut process = holder(&server.url(&database));
        let granted = Instant::now();
        server::kill(signal, &[process.id()]);
        assert_eq!(attempt(&engine, KEY, 1, LONG), None);
        // Other keys are not affected.
        attempt(&engine, key(signal), 1, LONG).unwrap();
        while attempt(&engine, KEY, 1, LONG).is_none() {
            thread::sleep(ms(10));
        }
        let after = granted.elapsed();
        assert!(
            after >= ms(800) && after < ms(2000),
            "{after:?} after {signal}"
        );
        assert_eq!(
            engine.holder(KEY, soon()).unwrap().unwrap().token.get(),
            token
        );
        engine.release(KEY, Nonce::new(1), soon()).unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }
}

#[test]
fn a_server_that_restarts_is_reached_within_five_seconds_and_keeps_leases() {
    let Some(mut server) = Server::start(&[]) else {
        return;
    };
    let engine = connect(&server.url("postgres"));
    let waiter = connect(&server.url("postgres"));
    let mut token = attempt(&engine, KEY, 1, LONG).unwrap();
    // A crash, the end of all sessions, and an orderly end.
    for signal in ["QUIT", "INT"] {
        thread::scope(|scope| {
            let wait = scope.spawn(|| waiter.wait_hint(KEY, Nonce::new(2), Instant::now() + LONG));
            thread::sleep(ms(200));
            server.end(signal);
            let error = engine
                .try_acquire(&request(KEY, 1, LONG), soon())
                .unwrap_err();
            assert!(error.is_temporary, "{error}");
            server.resume();
            let (renewed, after) = until_it_answers(|| {
                let renewal = Renewal {
                    key: KEY,
                    nonce: Nonce::new(1),
                    token: FencingToken::new(token),
                    ttl: LONG,
                };
                engine.renew_many(&[renewal], soon())
            });
            assert_eq!(renewed, [Renewed::Held]);
            assert!(after < Duration::from_secs(5), "{after:?} after {signal}");
            // The wait does not hang: it ends, or ends with an error, when its connection does.
            let ended = wait.join().unwrap();
            assert!(ended.is_ok() || ended.is_err_and(|error| error.is_temporary));
        });
        assert_eq!(
            engine.release(KEY, Nonce::new(1), soon()).unwrap(),
            Released::Done
        );
        let next = attempt(&waiter, KEY, 1, LONG).unwrap();
        assert!(next > token);
        token = next;
    }
}

#[test]
fn a_server_that_restarts_in_any_state_of_an_acquisition_leaves_nothing() {
    let Some(mut server) = Server::start(&[]) else {
        return;
    };
    let url = server.url("postgres");
    let connect = || {
        // Longer than a restart on a loaded machine.
        let builder = Leases::builder().request_timeout(Duration::from_secs(20));
        builder.connect(&url).unwrap()
    };
    let (one, other) = (connect(), connect());
    let restart = |server: &mut Server| {
        server.end("QUIT");
        server.resume();
    };
    // Held: the lease is renewed on both sides of the restart, and its token remains.
    let held = one.acquire("a", Duration::from_secs(15)).unwrap();
    let deadline = held.deadline();
    restart(&mut server);
    while held.deadline() == deadline {
        assert!(held.is_held(), "it is not renewed");
        thread::sleep(ms(20));
    }

    // Waiting: the waiter survives the connection, and is granted by the release.
    thread::scope(|scope| {
        let waiter = scope.spawn(|| other.acquire("a", LONG).unwrap());
        thread::sleep(ms(500));
        restart(&mut server);
        let token = held.token();
        assert_eq!(held.release().unwrap(), Release::Done);
        let lease = waiter.join().unwrap();
        assert!(lease.token() > token);
        assert_eq!(lease.release().unwrap(), Release::Done);
    });

    // Asked: requests wait for a row while the server ends.
    let mut client = postgres::Client::connect(&url, postgres::NoTls).unwrap();
    client
        .batch_execute("BEGIN; SELECT FROM latchwork.lease WHERE name = 'a' FOR UPDATE")
        .unwrap();
    thread::scope(|scope| {
        let asker = scope.spawn(|| one.acquire("a", LONG).unwrap());
        thread::sleep(ms(300));
        restart(&mut server);
        let lease = asker.join().unwrap();
        assert!(other.try_acquire("a", LONG).unwrap().is_none());
        assert_eq!(lease.release().unwrap(), Release::Done);
    });

    // Released: the release fails, and is repeated until it is confirmed.
    let lease = other.acquire("a", LONG).unwrap();
    server.end("QUIT");
    let released = lease.release();
    assert!(released.is_err(), "{released:?}");
    server.resume();
    let mut options = AcquireOptions::new(LONG);
    options.give_up_after = Some(Duration::from_secs(20));
    let lease = one.acquire_with("a", &options).unwrap();
    assert_eq!(lease.release().unwrap(), Release::Done);
    // A request without an answer is released until the end of its lease, and has no other effect.
    assert!(one.list("").unwrap().is_empty());
}

#[test]
fn a_server_that_stops_delays_calls_until_their_deadline_and_leaves_nothing() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let engine = connect(&server.url("postgres"));
    assert_eq!(attempt(&engine, key("other"), 1, LONG), Some(1));
    server.signal_all("STOP");
    let mut outcomes = Vec::new();
    for nonce in 1..=3 {
        let start = Instant::now();
        let error = engine
            .try_acquire(&request(KEY, nonce, LONG), start + ms(300))
            .unwrap_err();
        assert!(start.elapsed() < ms(500), "{:?}", start.elapsed());
        assert!(error.is_temporary, "{error}");
        outcomes.push(error.outcome);
    }
    // The first was sent; the others found no connection.
    assert_eq!(
        outcomes,
        [Outcome::Unknown, Outcome::NotDone, Outcome::NotDone]
    );
    server.signal_all("CONT");

    // The first request may have been granted meanwhile. Its release leaves nothing behind.
    until_it_answers(|| engine.release(KEY, Nonce::new(1), soon()));
    assert!(attempt(&engine, KEY, 4, LONG).is_some());
    assert_eq!(attempt(&engine, key("other"), 2, LONG), None);
}

#[test]
fn a_standby_that_is_promoted_repeats_tokens_and_the_fence_keeps_holders_apart() {
    let Some(mut primary) = Server::start(&[]) else {
        return;
    };
    let ready = |server: &Server, condition: &str| {
        let start = Instant::now();
        while server.psql("postgres", condition) != "t" {
            assert!(start.elapsed() < Duration::from_secs(20), "{condition}");
            thread::sleep(ms(20));
        }
    };
    let engine = connect(&primary.url("postgres"));
    let (few, many) = (key("few"), key("many"));
    for key in [few, many] {
        assert_eq!(attempt(&engine, key, 1, LONG), Some(1));
        engine.release(key, Nonce::new(1), soon()).unwrap();
    }
    let standby = primary.standby();
    ready(&primary, "SELECT count(*) = 1 FROM pg_stat_replication");

    // The standby ceases to follow, as behind a link that is cut. The last grants reach it never.
    standby.psql("postgres", "ALTER SYSTEM SET primary_conninfo = ''");
    standby.psql("postgres", "SELECT pg_reload_conf()");
    ready(&standby, "SELECT count(*) = 0 FROM pg_stat_wal_receiver");
    assert_eq!(attempt(&engine, few, 2, LONG), Some(2));
    for nonce in 2..=4 {
        assert_eq!(attempt(&engine, many, nonce, LONG), Some(nonce as u64));
        engine.release(many, Nonce::new(nonce), soon()).unwrap();
    }
    let ports = (primary.port(), standby.port());
    let url = format!(
        "postgres://postgres@127.0.0.1:{},127.0.0.1:{}/postgres",
        ports.0, ports.1
    );
    let engine = connect(&url);
    primary.end("QUIT");
    // The standby grants nothing before it is promoted.
    let start = Instant::now();
    loop {
        let error = engine
            .try_acquire(&request(few, 9, LONG), soon())
            .unwrap_err();
        assert!(error.is_temporary, "{error}");
        if error.to_string().contains("is a standby") {
            assert_eq!(error.outcome, Outcome::NotDone, "{error}");
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{error}");
    }
    assert_eq!(standby.psql("postgres", "SELECT pg_promote()"), "t");

    // One number has two holders, and each resource accepts that which it saw first.
    let (again, _) = until_it_answers(|| engine.try_acquire(&request(few, 3, LONG), soon()));
    assert!(matches!(again, Attempt::Granted(token) if token.get() == 2));
    let fence = |token, nonce| Fence::new(FencingToken::new(token), nonce);
    for [first, second] in [[2, 3], [3, 2]] {
        let resource = FencedCell::new("nothing");
        resource.write(fence(2, first), "first").unwrap();
        assert!(resource.write(fence(2, second), "second").is_err());
        resource.write(fence(2, first), "first again").unwrap();
        // The control: without the nonce, the resource accepts both.
        let by_number = FencedCell::new("nothing");
        by_number.write(fence(2, 0), "first").unwrap();
        by_number.write(fence(2, 0), "second").unwrap();
    }
    // The lease that was lost with the data is not renewed.
    let old = Renewal {
        key: few,
        nonce: Nonce::new(2),
        token: FencingToken::new(2),
        ttl: LONG,
    };
    assert_eq!(engine.renew_many(&[old], soon()).unwrap(), [Renewed::Lost]);

    // A resource that saw greater tokens refuses the new holders, until the floor is raised.
    let resource = FencedCell::new("nothing");
    resource.write(fence(4, 4), "before").unwrap();
    assert_eq!(attempt(&engine, many, 5, LONG), Some(2));
    assert!(resource.write(fence(2, 5), "after").is_err());
    engine.release(many, Nonce::new(5), soon()).unwrap();
    let seen = resource.seen().expect("it was written").token;
    engine.raise_floor(many, seen, soon()).unwrap();
    assert_eq!(attempt(&engine, many, 6, LONG), Some(5));
    resource.write(fence(5, 6), "repaired").unwrap();
    assert!(resource.write(fence(4, 4), "late").is_err());
    assert_eq!(*resource.read(), "repaired");
}

#[test]
fn a_crash_after_a_release_keeps_the_key_until_the_end_and_repeats_no_token() {
    // The server writes what it need not write at once so late that a crash loses it.
    let Some(mut server) = Server::start(&["wal_writer_delay=10s"]) else {
        return;
    };
    let engine = connect(&server.url("postgres"));
    let length = ms(3000);
    // A function makes the row, and releases it until the engine expects no waiters.
    for nonce in 1..=17 {
        attempt(&engine, KEY, nonce, length).unwrap();
        engine.release(KEY, Nonce::new(nonce), soon()).unwrap();
    }
    let mut lost = 0;
    for nonce in 100..104 {
        let token = attempt(&engine, KEY, nonce, length).unwrap();
        let granted = Instant::now();
        let released = engine.release(KEY, Nonce::new(nonce), soon());
        assert_eq!(released.unwrap(), Released::Done);
        server.end("QUIT");
        server.resume();
        let (holder, _) = until_it_answers(|| engine.holder(KEY, soon()));
        if let Some(holder) = holder {
            assert_eq!(holder.token.get(), token, "the grant was durable");
            lost += 1;
        }
        let next = loop {
            if let Some(next) = attempt(&engine, KEY, nonce + 50, length) {
                break next;
            }
            assert!(granted.elapsed() < length + ms(1000), "it outlives its end");
            thread::sleep(ms(20));
        };
        assert!(next > token, "token {next} follows {token}");
        let released = engine.release(KEY, Nonce::new(nonce + 50), soon());
        assert_eq!(released.unwrap(), Released::Done);
    }
    assert!(lost > 0, "no crash lost a release, so nothing was tested");
}

#[test]
fn a_grant_is_durable_where_commits_are_not() {
    let settings = ["wal_writer_delay=10s", "synchronous_commit=off"];
    let Some(mut server) = Server::start(&settings) else {
        return;
    };
    let engine = connect(&server.url("postgres"));
    let mut last = 0;
    for nonce in 1..=40 {
        let token = attempt(&engine, KEY, nonce, LONG).unwrap();
        assert!(token > last, "token {token} follows {last}");
        last = token;
        // Before and after the engine expects waiters.
        if nonce == 1 || nonce == 40 {
            server.end("QUIT");
            server.resume();
            let (holder, _) = until_it_answers(|| engine.holder(KEY, soon()));
            assert_eq!(holder.expect("the grant was durable").token.get(), token);
        }
        until_it_answers(|| engine.release(KEY, Nonce::new(nonce), soon()));
    }
}

/// A relay between clients and a server that can swallow the answers.
struct Relay {
    port: u16,
    swallows: Arc<AtomicBool>,
}

impl Relay {
    fn new(server: u16) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let relay = Relay {
            port: listener.local_addr().unwrap().port(),
            swallows: Arc::new(AtomicBool::new(false)),
        };
        let swallows = Arc::clone(&relay.swallows);
        thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                let server = TcpStream::connect(("127.0.0.1", server)).unwrap();
                let (to_server, to_client) = (server.try_clone(), client.try_clone());
                let (from_client, from_server) = (client, server);
                thread::spawn(move || copy(from_client, to_server.unwrap(), |_| true));
                let swallows = Arc::clone(&swallows);
                thread::spawn(move || {
                    // Relaxed: the test sets the flag before it makes the request.
                    copy(from_server, to_client.unwrap(), |_| {
                        !swallows.load(Ordering::Relaxed)
                    });
                });
            }
        });
        relay
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, passes: impl Fn(&[u8]) -> bool) {
    let mut bytes = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        if passes(&bytes[..read]) && to.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

#[test]
fn a_request_whose_answer_is_lost_is_unknown_and_can_be_repeated() {
    let Some(server) = server::shared() else {
        return;
    };
    let database = server.database();
    let direct = connect(&server.url(&database));
    let relay = Relay::new(server.port());
    let url = format!("postgres://postgres@127.0.0.1:{}/{database}", relay.port);
    let engine = connect(&url);
    // A session parses a statement when it is first used. What is lost below is the answer to the
    // statement itself.
    let parse = || {
        assert!(attempt(&engine, key("other"), 9, LONG).is_some());
        engine.release(key("other"), Nonce::new(9), soon()).unwrap();
    };

    parse();
    relay.swallows.store(true, Ordering::Relaxed);
    let error = engine
        .try_acquire(&request(KEY, 1, LONG), Instant::now() + ms(300))
        .unwrap_err();
    assert_eq!(
        (error.outcome, error.is_temporary),
        (Outcome::Unknown, true),
        "{error}"
    );
    // The server has granted it.
    assert_eq!(direct.holder(KEY, soon()).unwrap().unwrap().token.get(), 1);
    relay.swallows.store(false, Ordering::Relaxed);
    assert_eq!(attempt(&engine, KEY, 1, LONG), Some(1));

    parse();
    relay.swallows.store(true, Ordering::Relaxed);
    let error = engine
        .release(KEY, Nonce::new(1), Instant::now() + ms(300))
        .unwrap_err();
    assert_eq!(error.outcome, Outcome::Unknown);
    relay.swallows.store(false, Ordering::Relaxed);
    assert_eq!(
        engine.release(KEY, Nonce::new(1), soon()).unwrap(),
        Released::WasLost
    );
    assert_eq!(attempt(&direct, KEY, 2, LONG), Some(2));
    assert_eq!(renew(&engine, 2, 2), Renewed::Held);
}

#[test]
fn a_session_that_the_server_ends_is_replaced() {
    let Some(server) = server::shared() else {
        return;
    };
    let database = server.database();
    let engine = connect(&server.url(&database));
    assert_eq!(attempt(&engine, KEY, 1, LONG), Some(1));
    for _ in 0..3 {
        server.psql(
            &database,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        );
        let (renewed, _) = until_it_answers(|| engine.holder(KEY, soon()));
        assert_eq!(renewed.unwrap().token.get(), 1);
    }
}

#[test]
fn a_changed_date_of_the_server_cannot_repeat_a_token() {
    let Some(server) = server::shared() else {
        return;
    };
    let database = server.database();
    let engine = connect(&server.url(&database));
    let mut last = 0;
    for nonce in 1..=4 {
        let token = attempt(&engine, KEY, nonce, LONG).unwrap();
        assert!(token > last);
        last = token;
        // What a clock that jumps ahead makes of the row.
        server.psql(
            &database,
            "UPDATE latchwork.lease SET expires = expires - interval '1 h'",
        );
        assert_eq!(renew(&engine, nonce, token), Renewed::Lost);
    }
}

/// PgBouncer in front of a server.
struct Pooler {
    process: Child,
    port: u16,
}

impl Pooler {
    fn start(server: &Server, mode: &str) -> Option<Pooler> {
        let program = "/usr/sbin/pgbouncer";
        if fs::metadata(program).is_err() {
            server::assert_not_required("pgbouncer");
            eprintln!("SKIPPED: PgBouncer is not installed");
            return None;
        }
        let port = server::free_port();
        let folder = server.folder();
        let users = folder.join(format!("{port}.users"));
        fs::write(&users, "\"postgres\" \"\"\n").unwrap();
        let file = folder.join(format!("{port}.ini"));
        fs::write(
            &file,
            format!(
                "[databases]\n* = host=127.0.0.1 port={} user=postgres\n[pgbouncer]\n\
                 listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
                 auth_type = any\nauth_file = {}\npool_mode = {mode}\ndefault_pool_size = 3\n",
                server.port(),
                users.display()
            ),
        )
        .unwrap();
        let process = server::command("/usr/sbin/pgbouncer".as_ref())
            .arg("-q")
            .arg(&file)
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(start.elapsed() < Duration::from_secs(10), "no pooler");
            thread::sleep(ms(20));
        }
        Some(Pooler { process, port })
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn requests_and_waits_work_through_a_pooler() {
    let Some(server) = server::shared() else {
        return;
    };
    for mode in ["transaction", "session", "statement"] {
        let database = server.database();
        let Some(pooler) = Pooler::start(&server, mode) else {
            return;
        };
        let url = format!("postgres://postgres@127.0.0.1:{}/{database}", pooler.port);
        let (first, second) = (connect(&url), connect(&url));
        let mut delays = Vec::new();
        for nonce in 0..20 {
            attempt(&first, KEY, nonce, LONG).unwrap();
            assert_eq!(attempt(&second, KEY, 100, LONG), None);
            thread::scope(|scope| {
                let wait = scope.spawn(|| {
                    second.wait_hint(KEY, Nonce::new(100), soon()).unwrap();
                    Instant::now()
                });
                thread::sleep(ms(30));
                first.release(KEY, Nonce::new(nonce), soon()).unwrap();
                let released = Instant::now();
                delays.push(wait.join().unwrap().saturating_duration_since(released));
            });
            // It has a place in the queue.
            second.release(KEY, Nonce::new(100), soon()).unwrap();
        }
        delays.sort_unstable();
        assert!(delays[10] < ms(60), "{mode}: {delays:?}");
        let two = [request(key("a"), 1, LONG), request(key("b"), 1, LONG)];
        first.try_acquire_all(&two, soon()).unwrap().unwrap();
        assert_eq!(second.list("tests", "", soon()).unwrap().len(), 2);
    }
}

#[test]
#[allow(unsafe_code)]
fn a_child_of_a_fork_uses_no_connection_of_its_parent_to_a_server() {
    let Some(server) = server::shared() else {
        return;
    };
    let engine = connect(&server.url(&server.database()));
    assert_eq!(attempt(&engine, KEY, 1, LONG), Some(1));
    // SAFETY: the child calls nothing that needs another thread, and ends by _exit.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        let refused = engine
            .try_acquire(&request(KEY, 2, LONG), soon())
            .is_err_and(|error| !error.is_temporary && error.to_string().contains("before a fork"));
        drop(engine);
        // SAFETY: ends the process without the handlers of the parent.
        unsafe { libc::_exit(i32::from(!refused)) }
    }
    let mut status = 0;
    // SAFETY: waits for the child that was made above, and writes its status.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0, "the child used the engine");
    assert_eq!(
        engine.release(KEY, Nonce::new(1), soon()).unwrap(),
        Released::Done
    );
}

#[test]
fn a_row_that_another_client_locks_expires_no_other_lease() {
    let Some(server) = server::shared() else {
        return;
    };
    let database = server.database();
    let leases = Leases::connect(&server.url(&database)).unwrap();
    // One request renews several of them, because they were acquired at nearly the same time.
    let acquire = |at| {
        leases
            .acquire(&format!("row{at}"), Duration::from_secs(6))
            .unwrap()
    };
    let held: Vec<_> = (0..10).map(acquire).collect();
    let (server, start) = (&*server, Instant::now());
    thread::scope(|scope| {
        scope.spawn(|| {
            server.psql(
                &database,
                "BEGIN; SELECT FROM latchwork.lease WHERE name = 'row3' FOR UPDATE; \
                 SELECT pg_sleep(8); COMMIT",
            );
        });
        thread::sleep(Duration::from_secs(7).saturating_sub(start.elapsed()));
        let lost = held.iter().filter(|lease| !lease.is_held());
        let lost: Vec<_> = lost.map(Lease::name).collect();
        assert_eq!(lost, ["row3"]);
    });
}

#[test]
fn a_request_that_waits_for_a_locked_row_reports_the_lock() {
    let Some(server) = server::shared() else {
        return;
    };
    let database = server.database();
    let leases = Leases::connect(&server.url(&database)).unwrap();
    let ttl = Duration::from_secs(3);
    leases.acquire("b", ttl).unwrap().release().unwrap();
    // It is shorter than the time limit of a request.
    let held = leases.acquire("a", ms(1500)).unwrap();
    let server = &*server;
    thread::scope(|scope| {
        scope.spawn(|| {
            server.psql(
                &database,
                "BEGIN; SELECT FROM latchwork.lease WHERE name = 'b' FOR UPDATE; \
                 SELECT pg_sleep(8); COMMIT",
            );
        });
        thread::sleep(ms(300));
        for _ in 0..3 {
            let error = leases.acquire("b", ttl).unwrap_err();
            assert!(error.to_string().contains("lock timeout"), "{error}");
        }
        assert!(held.is_held());
    });
}
