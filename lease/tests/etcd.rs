//! The engine `etcd://…` at real clusters, without faults of their members.
#![cfg(feature = "etcd")]

#[allow(unused)]
#[path = "support/contract.rs"]
mod contract;
#[path = "support/etcd.rs"]
mod etcd;
mod support;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use etcd::Cluster;
use latchwork::table::FencingToken;
use latchwork_lease::engine::{Engine, Key, Nonce, Outcome, Released, Renewal, Renewed};
use latchwork_lease::etcd::EtcdEngine;
use latchwork_lease::{Leases, Release};
use serde_json::json;
use support::{Folder, attempt, ms, request, soon};

const LONG: Duration = Duration::from_secs(60);

/// Returns a cluster of one member that tests share while one of them runs.
fn shared() -> Option<Arc<Cluster>> {
    static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
    let mut shared = SHARED
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(cluster) = shared.upgrade() {
        return Some(cluster);
    }
    let cluster = Arc::new(Cluster::start(1)?);
    *shared = Arc::downgrade(&cluster);
    Some(cluster)
}

fn connect(cluster: &Cluster) -> EtcdEngine {
    EtcdEngine::connect(&cluster.url()).unwrap()
}

/// A name that no other test uses.
fn key(name: &str) -> Key<'_> {
    Key {
        namespace: "tests",
        name,
    }
}

fn refusal(url: &str) -> String {
    support::refusal(EtcdEngine::connect(url))
}

/// Deletes the keys with a prefix that etcdctl cannot express.
fn delete(cluster: &Cluster, prefix: &[u8]) {
    let mut end = prefix.to_vec();
    *end.last_mut().unwrap() += 1;
    let body = json!({ "key": STANDARD.encode(prefix), "range_end": STANDARD.encode(end) });
    let answer = cluster.post("/v3/kv/deleterange", &body);
    assert!(answer["deleted"].is_string(), "{answer}");
}

#[cfg(feature = "conformance")]
fn assert_conforms(members: usize) {
    let Some(cluster) = Cluster::start(members) else {
        return;
    };
    let url = cluster.url();
    let open = || -> Arc<dyn Engine> { Arc::new(EtcdEngine::connect(&url).unwrap()) };
    contract::assert_conforms(&open);
}

#[cfg(feature = "conformance")]
#[test]
fn the_engine_conforms_at_one_node() {
    assert_conforms(1);
}

#[cfg(feature = "conformance")]
#[test]
fn the_engine_conforms_at_three_nodes() {
    assert_conforms(3);
}

#[cfg(feature = "conformance")]
#[test]
fn the_engine_conforms_across_processes() {
    let Some(cluster) = shared() else {
        return;
    };
    contract::assert_conforms_across_processes(&cluster.url());
}

/// The body of the processes of the suite. Alone it does nothing.
#[cfg(feature = "conformance")]
#[test]
fn act() {
    contract::act();
}

#[test]
fn waiters_are_granted_in_the_order_of_their_requests() {
    let Some(cluster) = shared() else {
        return;
    };
    let key = key("order");
    let engines: Vec<EtcdEngine> = (0..5).map(|_| connect(&cluster)).collect();
    let ask = |at: usize| attempt(&engines[at], key, at as u128, LONG);
    let mut last = ask(0).unwrap();
    for at in 1..5 {
        assert_eq!(ask(at), None);
    }
    for (holder, engine) in engines.iter().enumerate().take(4) {
        // The last waiter asks first, and stays the last one.
        for at in (holder + 1..5).rev() {
            assert_eq!(ask(at), None);
        }
        let released = engine.release(key, Nonce::new(holder as u128), soon());
        assert_eq!(released.unwrap(), Released::Done);
        for at in (holder + 2..5).rev() {
            assert_eq!(ask(at), None);
        }
        let token = ask(holder + 1).unwrap();
        assert!(token > last, "{token} follows {last}");
        last = token;
    }
    engines[4].release(key, Nonce::new(4), soon()).unwrap();
}

#[test]
fn a_floor_applies_to_requests_that_wait() {
    let Some(cluster) = shared() else {
        return;
    };
    let key = Key {
        namespace: "floors",
        name: "a",
    };
    let (holder, waiter) = (connect(&cluster), connect(&cluster));
    let first = attempt(&holder, key, 1, LONG).unwrap();
    assert_eq!(attempt(&waiter, key, 2, LONG), None);
    let floor = FencingToken::new(first + 1_000_000);
    holder.raise_floor(key, floor, soon()).unwrap();
    let seen = |engine: &EtcdEngine| engine.holder(key, soon()).unwrap().unwrap().token.get();
    assert_eq!(seen(&waiter), first);
    assert_eq!(attempt(&holder, key, 1, LONG), Some(first));
    holder.release(key, Nonce::new(1), soon()).unwrap();
    let second = attempt(&waiter, key, 2, LONG).unwrap();
    assert!(second > floor.get(), "{second}");
    assert_eq!(seen(&holder), second);
    let renewal = Renewal {
        key,
        nonce: Nonce::new(2),
        token: FencingToken::new(second),
        ttl: LONG,
    };
    assert_eq!(
        waiter.renew_many(&[renewal], soon()).unwrap(),
        [Renewed::Held]
    );
    waiter.release(key, Nonce::new(2), soon()).unwrap();
    let greatest = holder.raise_floor(key, FencingToken::new(u64::MAX), soon());
    let error = greatest.unwrap_err();
    assert_eq!(
        (error.outcome, error.is_temporary),
        (Outcome::NotDone, false)
    );
}

/// Acquires many names with one engine, and returns their renewals.
fn acquire_many<'a>(engine: &EtcdEngine, names: &'a [String]) -> Vec<Renewal<'a>> {
    let acquire = |(at, name): (usize, &'a String)| {
        let nonce = at as u128 + 1000;
        Renewal {
            key: key(name),
            nonce: Nonce::new(nonce),
            token: FencingToken::new(attempt(engine, key(name), nonce, LONG).unwrap()),
            ttl: LONG,
        }
    };
    names.iter().enumerate().map(acquire).collect()
}

#[test]
fn a_key_that_is_removed_is_lost_at_the_next_renewal() {
    let Some(cluster) = shared() else {
        return;
    };
    for count in [3, 150] {
        let (engine, other) = (connect(&cluster), connect(&cluster));
        let names: Vec<String> = (0..count)
            .map(|at| format!("removed/{count}/{at}"))
            .collect();
        let renewals = acquire_many(&engine, &names);
        let lost = || -> Vec<usize> {
            let answers = engine.renew_many(&renewals, soon()).unwrap();
            assert!(!answers.contains(&Renewed::Unknown));
            let lost = |at: &usize| answers[*at] == Renewed::Lost;
            (0..count).filter(lost).collect()
        };
        assert!(lost().is_empty());
        // By another process, in the order of the engine.
        let broken = other.break_lease(renewals[1].key, renewals[1].token, soon());
        assert!(broken.unwrap());
        assert_eq!(lost(), [1]);
        // By hand: of many keys, some are compared in each renewal.
        delete(
            &cluster,
            format!("latchwork/q/tests\0{}\0", names[2]).as_bytes(),
        );
        let found = (0..count / 100 + 1).any(|_| lost() == [1, 2]);
        assert!(found, "{count} leases: the removed key is not noticed");
        // All of them, as an operator would.
        delete(
            &cluster,
            format!("latchwork/q/tests\0removed/{count}/").as_bytes(),
        );
        delete(&cluster, b"latchwork/l/");
        assert_eq!(lost().len(), count);
    }
}

#[test]
fn thousands_of_leases_are_renewed_in_few_requests() {
    let Some(cluster) = Cluster::start(1) else {
        return;
    };
    let engine = connect(&cluster);
    let names: Vec<String> = (0..1000).map(|at| format!("many/{at}")).collect();
    let renewals = acquire_many(&engine, &names);
    let before = cluster.requests();
    for _ in 0..5 {
        let answers = engine.renew_many(&renewals, soon()).unwrap();
        assert!(answers.iter().all(|answer| *answer == Renewed::Held));
    }
    // A keep-alive and a read of the keys each.
    assert_eq!(cluster.requests() - before, 10);
    // Concurrent calls share requests.
    let before = cluster.requests();
    thread::scope(|scope| {
        for some in renewals.chunks(50) {
            let engine = &engine;
            scope.spawn(move || {
                let answers = engine.renew_many(some, soon()).unwrap();
                assert!(answers.iter().all(|answer| *answer == Renewed::Held));
            });
        }
    });
    let requests = cluster.requests() - before;
    assert!(requests < 20, "{requests} requests for 20 calls");
}

#[test]
fn a_process_renews_its_leases_in_few_requests() {
    let Some(cluster) = Cluster::start(1) else {
        return;
    };
    let leases = Leases::connect(&cluster.url()).unwrap();
    let acquire = |at| {
        leases
            .acquire(&format!("some/{at}"), Duration::from_secs(10))
            .unwrap()
    };
    let held: Vec<_> = (0..300).map(acquire).collect();
    thread::sleep(Duration::from_secs(8));
    let (before, start) = (cluster.requests(), Instant::now());
    thread::sleep(Duration::from_secs(12));
    let requests = cluster.requests() - before;
    assert!(held.iter().all(|lease| lease.is_held()));
    assert!(requests >= 4, "{requests} requests: they are not renewed");
    // A loaded machine merges more, never fewer.
    let seconds = start.elapsed().as_secs_f64();
    assert!(
        requests as f64 <= seconds,
        "{requests} requests in {seconds} s"
    );
    leases.shutdown(Duration::from_secs(60)).unwrap();
}

#[test]
fn several_names_are_acquired_in_one_transaction() {
    let Some(cluster) = Cluster::start(1) else {
        return;
    };
    let (leases, other) = (
        Leases::connect(&cluster.url()).unwrap(),
        Leases::connect(&cluster.url()).unwrap(),
    );
    let ttl = Duration::from_secs(10);
    let names = |count: usize| (0..count).map(|at| format!("set/{at:02}"));
    // A group of this length exists then.
    leases.acquire("first", ttl).unwrap().release().unwrap();
    let before = cluster.requests_of("Txn");
    let set = leases.acquire_all(names(60), ttl).unwrap();
    assert_eq!(cluster.requests_of("Txn") - before, 1);
    assert!(set.is_held() && set.len() == 60);
    let tokens: Vec<u64> = set.iter().map(|lease| lease.token().get()).collect();
    assert!(tokens.iter().all(|token| *token == tokens[0]), "{tokens:?}");
    // One name that is held prevents all, and nothing remains of the attempt.
    assert!(
        other
            .try_acquire_all(["a", "set/07", "z"], ttl)
            .unwrap()
            .is_none()
    );
    assert!(other.holder("a").unwrap().is_none() && other.holder("z").unwrap().is_none());
    // The leases are renewed and released as others.
    thread::sleep(Duration::from_secs(5));
    assert!(set.is_held());
    let waiting = thread::spawn(move || {
        let set = other.acquire_all(["a", "set/07", "z"], ttl).unwrap();
        let token = set.get("set/07").unwrap().token().get();
        set.release().unwrap();
        token
    });
    thread::sleep(ms(300));
    assert_eq!(set.release().unwrap(), Release::Done);
    assert!(waiting.join().unwrap() > tokens[0]);
    // More names than a transaction accepts.
    let large = leases.acquire_all(names(130), ttl).unwrap();
    assert!(large.is_held() && large.len() == 130);
    assert_eq!(large.release().unwrap(), Release::Done);
    let keys = cluster.ctl(&["get", "--prefix", "--keys-only", "latchwork/q/"]);
    assert_eq!(keys.trim(), "");
}

#[test]
fn a_wait_leaves_no_watch_behind() {
    let Some(cluster) = Cluster::start(1) else {
        return;
    };
    let (holder, waiter) = (connect(&cluster), connect(&cluster));
    let key = key("watched");
    attempt(&holder, key, 1, LONG).unwrap();
    assert_eq!(attempt(&waiter, key, 2, LONG), None);
    let watches = || -> u64 {
        let metrics = cluster.metrics(0);
        let name = "etcd_debugging_mvcc_watcher_total ";
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().parse().unwrap()
    };
    for _ in 0..5 {
        let start = Instant::now();
        waiter
            .wait_hint(key, Nonce::new(2), start + ms(200))
            .unwrap();
        assert!(
            start.elapsed() >= ms(200),
            "the wait ended while the key was held"
        );
    }
    thread::scope(|scope| {
        let wait = scope.spawn(|| waiter.wait_hint(key, Nonce::new(2), Instant::now() + LONG));
        let start = Instant::now();
        while watches() == 0 {
            assert!(start.elapsed() < LONG, "a waiter watches");
            thread::sleep(ms(10));
        }
        let released = Instant::now();
        holder.release(key, Nonce::new(1), soon()).unwrap();
        wait.join().unwrap().unwrap();
        assert!(
            released.elapsed() < Duration::from_secs(5),
            "the release is not seen"
        );
    });
    assert!(attempt(&waiter, key, 2, LONG).is_some());
    let start = Instant::now();
    while watches() > 0 {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{} watches remain",
            watches()
        );
        thread::sleep(ms(50));
    }
}

#[test]
fn a_compacted_revision_ends_a_wait() {
    let Some(cluster) = Cluster::start(1) else {
        return;
    };
    let (holder, waiter) = (connect(&cluster), connect(&cluster));
    let key = key("compacted");
    attempt(&holder, key, 1, LONG).unwrap();
    assert_eq!(attempt(&waiter, key, 2, LONG), None);
    for value in ["a", "b", "c"] {
        cluster.ctl(&["put", "other", value]);
    }
    let revision = holder_revision(&cluster);
    cluster.ctl(&["compaction", &revision.to_string()]);
    let start = Instant::now();
    waiter.wait_hint(key, Nonce::new(2), start + LONG).unwrap();
    assert!(start.elapsed() < LONG, "the wait missed the compaction");
    // It reads again, and then waits for the release.
    assert_eq!(attempt(&waiter, key, 2, LONG), None);
    thread::scope(|scope| {
        let wait = scope.spawn(|| waiter.wait_hint(key, Nonce::new(2), Instant::now() + LONG));
        thread::sleep(ms(200));
        holder.release(key, Nonce::new(1), soon()).unwrap();
        wait.join().unwrap().unwrap();
    });
    assert!(attempt(&waiter, key, 2, LONG).is_some());
}

fn holder_revision(cluster: &Cluster) -> i64 {
    let answer = cluster.post("/v3/kv/range", &json!({ "key": STANDARD.encode("other") }));
    answer["header"]["revision"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap()
}

/// As in etcd-io/etcd#11456, where the call for a lock returns one to a session that has ended.
#[test]
fn a_waiter_whose_engine_lease_ends_is_not_granted() {
    let Some(cluster) = shared() else {
        return;
    };
    let key = key("11456");
    let engines: Vec<EtcdEngine> = (0..3).map(|_| connect(&cluster)).collect();
    let nonces = [11_456_001, 11_456_002, 11_456_003];
    let ask = |at: usize| attempt(&engines[at], key, nonces[at], LONG);
    let holder = ask(0).unwrap();
    assert_eq!((ask(1), ask(2)), (None, None));
    let listed = cluster.ctl(&["get", "--prefix", "--keys-only", "latchwork/l/"]);
    let own = format!("/{:032x}", nonces[1]);
    let line = listed.lines().find(|line| line.ends_with(&own)).unwrap();
    cluster.ctl(&["lease", "revoke", line.split('/').nth(2).unwrap()]);
    engines[0]
        .release(key, Nonce::new(nonces[0]), soon())
        .unwrap();
    // Its request is a new one, behind the other waiter.
    assert_eq!(ask(1), None);
    let next = ask(2).unwrap();
    engines[2]
        .release(key, Nonce::new(nonces[2]), soon())
        .unwrap();
    let last = ask(1).unwrap();
    assert!(holder < next && next < last, "{holder}, {next}, {last}");
    engines[1]
        .release(key, Nonce::new(nonces[1]), soon())
        .unwrap();
}

#[test]
fn bad_input_is_refused_in_one_line() {
    let Some(cluster) = shared() else {
        return;
    };
    let (url, port) = (cluster.url(), cluster.port(0));
    assert!(refusal(&format!("{url}?sslmode=require")).contains("an option is unknown"));
    assert!(refusal(&format!("{url},127.0.0.1:{port}")).contains("occurs twice"));
    let twice = refusal(&format!("{url},localhost:{port}"));
    assert!(twice.contains("are the same member"), "{twice}");
    let wrong = refusal(&url.replace("etcd://", "etcd://user:sEcret@"));
    assert!(wrong.contains("authentication is not enabled"), "{wrong}");
    assert!(!wrong.contains("sEcret"));

    let another = Cluster::start(1).unwrap();
    let both = refusal(&format!("{url},{}", another.endpoints()));
    assert!(both.contains("another cluster"), "{both}");
    another.ctl(&["put", "latchwork/layout", "7"]);
    assert!(refusal(&another.url()).contains("the layout \"7\" of another release"));

    // A server of HTTP that is not etcd.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let foreign = format!("etcd://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let _ = client.read(&mut [0; 1024]);
            let _ = client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
        }
    });
    assert!(refusal(&foreign).contains("is not that of etcd"));

    // A member of an older release beside one that suffices.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let old = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let _ = client.read(&mut [0; 1024]);
            let _ = client.write_all(
                b"HTTP/1.1 200 OK\r\nContent-Length: 48\r\nConnection: close\r\n\r\n\
                  {\"etcdserver\":\"3.3.25\",\"etcdcluster\":\"3.3.0\"}   ",
            );
        }
    });
    let mixed = refusal(&format!("{url},{old}"));
    let expected = format!("etcd {old}: the release 3.3.25 is older than 3.4");
    assert!(mixed.contains(&expected), "{mixed}");

    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let error = EtcdEngine::connect(&format!("etcd://{free}")).unwrap_err();
    assert!(
        error.is_temporary && error.outcome == Outcome::NotDone,
        "{error}"
    );
    assert!(error.to_string().contains("refused"), "{error}");
    let text = Leases::connect("etcd://a:b").unwrap_err().to_string();
    assert!(text.contains("an endpoint is malformed"), "{text}");
}

#[test]
fn a_user_needs_its_password_and_the_privilege_that_is_documented() {
    let Some(mut cluster) = Cluster::start(1) else {
        return;
    };
    for command in [
        "user add root:sEcret",
        "user grant-role root root",
        "role add the_role",
        "user add user:sEcret",
        "user add other:sEcret",
        "user grant-role user the_role",
        "role grant-permission the_role --prefix=true readwrite latchwork/",
        "auth enable",
    ] {
        cluster.ctl(&command.split(' ').collect::<Vec<_>>());
    }
    let with = |user: &str| cluster.url().replace("etcd://", &format!("etcd://{user}@"));
    for (user, expected) in [
        ("user:sEcreT", "authentication failed"),
        ("nobody:sEcret", "authentication failed"),
        ("other:sEcret", "permission denied"),
    ] {
        let text = refusal(&with(user));
        assert!(text.contains(expected), "{text}");
        assert!(!text.to_lowercase().contains("secret"), "{text}");
    }
    assert!(refusal(&cluster.url()).contains("user name is empty"));

    let key = key("secured");
    let engine = EtcdEngine::connect(&with("user:sEcret")).unwrap();
    assert!(!format!("{engine:?}").contains("sEcret"));
    let token = attempt(&engine, key, 1, LONG).unwrap();
    // The server forgets its tokens.
    cluster.kill(0);
    cluster.spawn(0);
    let start = Instant::now();
    let held = loop {
        match engine.holder(key, soon()) {
            Ok(held) => break held.unwrap(),
            Err(error) => assert!(start.elapsed() < LONG, "{error}"),
        }
        thread::sleep(ms(50));
    };
    assert_eq!(held.token.get(), token);
    let renewal = Renewal {
        key,
        nonce: Nonce::new(1),
        token: held.token,
        ttl: LONG,
    };
    assert_eq!(
        engine.renew_many(&[renewal], soon()).unwrap(),
        [Renewed::Held]
    );
    assert_eq!(
        engine.release(key, Nonce::new(1), soon()).unwrap(),
        Released::Done
    );
}

#[test]
fn credentials_that_expire_are_renewed_and_those_that_are_revoked_are_reported() {
    let arguments = ["--auth-token-ttl", "1"].map(str::to_owned);
    let Some(cluster) = Cluster::start_with(1, "http", &arguments) else {
        return;
    };
    let root = |command: &str| {
        let login = ["--user", "root:sEcret"];
        let words: Vec<&str> = login.into_iter().chain(command.split(' ')).collect();
        cluster.ctl(&words);
    };
    let permit = "role grant-permission the_role --prefix=true readwrite latchwork/";
    for command in [
        "user add root:sEcret",
        "user grant-role root root",
        "role add the_role",
        "user add user:sEcret",
        "user grant-role user the_role",
        permit,
        "auth enable",
    ] {
        cluster.ctl(&command.split(' ').collect::<Vec<_>>());
    }
    let url = cluster.url().replace("etcd://", "etcd://user:sEcret@");
    let engine = EtcdEngine::connect(&url).unwrap();
    let key = key("expiring");
    let token = attempt(&engine, key, 1, LONG).unwrap();
    let renew = || {
        let renewal = Renewal {
            key,
            nonce: Nonce::new(1),
            token: FencingToken::new(token),
            ttl: LONG,
        };
        engine.renew_many(&[renewal], soon())
    };
    // The token of the user expires, and the next request requests another one.
    for _ in 0..2 {
        thread::sleep(ms(2500));
        assert_eq!(renew().unwrap(), [Renewed::Held]);
    }
    let refused = |expected: &str| {
        let error = renew().unwrap_err();
        assert!(!error.is_temporary, "{error}");
        let text = format!("{error} {error:?}");
        assert!(
            text.contains(expected) && !text.contains("sEcret"),
            "{text}"
        );
        assert!(!error.to_string().contains('\n'), "{error}");
    };
    // The role loses its privilege, and the user is deleted. Each is one line, and is repaired.
    root("role revoke-permission the_role --prefix=true latchwork/");
    refused("permission denied");
    root(permit);
    assert_eq!(renew().unwrap(), [Renewed::Held]);
    root("user delete user");
    refused("authentication failed");
    root("user add user:sEcret");
    root("user grant-role user the_role");
    assert_eq!(renew().unwrap(), [Renewed::Held]);
}

/// Makes an authority, and certificates that it signs for this machine and for a client.
fn certificates(folder: &Path) -> Option<()> {
    let run = |arguments: &str| {
        let made = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(folder)
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .status();
        made.is_ok_and(|status| status.success())
    };
    std::fs::write(folder.join("server.ext"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    std::fs::write(folder.join("client.ext"), "extendedKeyUsage=clientAuth\n").unwrap();
    for authority in ["ca", "wrong"] {
        if !run(&format!(
            "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={authority} -out {authority}.crt \
             -keyout {authority}.key"
        )) {
            eprintln!("SKIPPED: openssl cannot make a certificate");
            return None;
        }
    }
    for name in ["server", "client"] {
        assert!(run(&format!(
            "req -newkey rsa:2048 -nodes -subj /O={name} -out {name}.csr -keyout {name}.key"
        )));
        assert!(run(&format!(
            "x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -out \
             {name}.crt -extfile {name}.ext"
        )));
    }
    Some(())
}

#[test]
fn tls_verifies_the_server_and_the_client() {
    let folder = Folder::new();
    if certificates(folder.path()).is_none() {
        return;
    }
    let file = |name: &str| folder.file(name).display().to_string();
    let arguments = [
        "--cert-file".to_owned(),
        file("server.crt"),
        "--key-file".to_owned(),
        file("server.key"),
        "--trusted-ca-file".to_owned(),
        file("ca.crt"),
        "--client-cert-auth".to_owned(),
    ];
    let Some(cluster) = Cluster::start_with(1, "https", &arguments) else {
        return;
    };
    let url = |options: &str| format!("{}?{options}", cluster.url());
    let client = format!("cert={}&key={}", file("client.crt"), file("client.key"));
    let trusted = format!("cacert={}&{client}", file("ca.crt"));
    let start = Instant::now();
    let engine = loop {
        match EtcdEngine::connect(&url(&trusted)) {
            Ok(engine) => break engine,
            Err(error) => assert!(start.elapsed() < LONG, "{error}"),
        }
        thread::sleep(ms(100));
    };
    let token = attempt(&engine, key("encrypted"), 1, LONG).unwrap();
    let waiter = EtcdEngine::connect(&url(&trusted)).unwrap();
    assert_eq!(attempt(&waiter, key("encrypted"), 2, LONG), None);
    waiter
        .wait_hint(key("encrypted"), Nonce::new(2), Instant::now() + ms(100))
        .unwrap();
    engine
        .release(key("encrypted"), Nonce::new(1), soon())
        .unwrap();
    assert!(attempt(&waiter, key("encrypted"), 2, LONG).unwrap() > token);

    let text = refusal(&url(&format!("cacert={}&{client}", file("wrong.crt"))));
    assert!(text.contains("certificate"), "{text}");
    let text = refusal(&url(&format!("cacert={}", file("none"))));
    assert!(text.starts_with("cacert "), "{text}");
    let text = refusal(&url(&format!("{trusted}x")));
    assert!(text.starts_with("key "), "{text}");
    // Without a certificate of the client, and without TLS.
    let failed = |options: &str| EtcdEngine::connect(&url(options)).unwrap_err();
    let error = failed(&format!("cacert={}", file("ca.crt")));
    assert_eq!(error.outcome, Outcome::NotDone, "{error}");
    let error = failed("tls=off");
    assert!(error.to_string().contains("does it use TLS?"), "{error}");
}

#[test]
#[allow(unsafe_code)]
fn a_child_of_a_fork_uses_no_connection_of_its_parent_to_a_cluster() {
    let Some(cluster) = shared() else {
        return;
    };
    let key = key("forked");
    let engine = connect(&cluster);
    assert!(attempt(&engine, key, 1, LONG).is_some());
    // SAFETY: the child calls nothing that needs another thread, and ends by _exit.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        let refused = engine
            .try_acquire(&request(key, 2, LONG), soon())
            .is_err_and(|error| !error.is_temporary && error.to_string().contains("before a fork"));
        drop(engine);
        // SAFETY: ends the process without the handlers of the parent.
        unsafe { libc::_exit(i32::from(!refused)) }
    }
    let mut status = 0;
    // SAFETY: waits for the child that was made above, and writes its status.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0, "the child used the engine");
    let released = engine.release(key, Nonce::new(1), soon());
    assert_eq!(released.unwrap(), Released::Done);
}
