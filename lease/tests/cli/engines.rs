//! The command over engines that are servers: PostgreSQL, etcd and Redis.

use std::fs;
use std::process::Output;

use rustix::process::Signal;
use serde_json::Value;

use crate::etcd::Cluster;
use crate::redis::{Redis, url};
use crate::sandbox::{Running, Sandbox, text, wait_until};
use crate::server::{self, Server};

/// A sandbox whose leases are at an engine.
struct Place<'a> {
    sandbox: &'a Sandbox,
    url: &'a str,
}

impl Place<'_> {
    fn output(&self, args: &[&str]) -> Output {
        let mut command = self.sandbox.lease(args.iter().copied());
        command.env("LEASE_URL", self.url).output().unwrap()
    }

    fn start(&self, script: &str) -> Running {
        let args = ["run", "job", "--ttl", "6s", "--", "sh", "-c", script];
        let mut command = self.sandbox.lease(args);
        command.env("LEASE_URL", self.url);
        Running::new(
            command
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::piped()),
        )
    }

    fn status(&self) -> Value {
        let output = self.output(&["status", "job", "--json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
    }
}

#[track_caller]
fn assert_code(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
}

/// Runs each action against the engine of a URL, which works.
fn assert_that_the_command_works(test: &str, url: &str) {
    let sandbox = Sandbox::new(test);
    let place = Place {
        sandbox: &sandbox,
        url,
    };
    // Two runs have growing tokens, and the URL stays hidden.
    let run = ["run", "job", "--", "sh", "-c", "echo $LEASE_TOKEN; env"];
    let token = || -> u64 {
        let output = place.output(&run);
        assert_code(&output, 0);
        let printed = text(&output.stdout);
        assert!(!printed.contains("LEASE_URL") && !printed.contains("sEcret"));
        text(&output.stdout)
            .lines()
            .next()
            .unwrap()
            .parse()
            .unwrap()
    };
    let first = token();
    assert!(token() > first);

    let mut holder = place.start("echo $LEASE_TOKEN; sleep 60");
    let held = holder.line();
    let status = place.status();
    assert_eq!(status["held"], true);
    assert_eq!(status["token"].to_string(), held);
    assert_code(
        &place.output(&["run", "job", "--no-wait", "--", "true"]),
        75,
    );
    let waited = place.output(&["run", "job", "--wait", "200ms", "--", "true"]);
    assert_code(&waited, 75);
    let listed = place.output(&["list", "jo", "--json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 1);

    // The lease is broken under its token only, and the command is ended then. Those that gave up
    // have left the queue of the engine, so the lease is free.
    assert_code(&place.output(&["break", "job", "--token", "1"]), 1);
    assert_eq!(place.status()["held"], true);
    assert_code(&place.output(&["break", "job", "--token", &held]), 0);
    holder.end_with(76);
    assert_eq!(place.status()["held"], false);

    // A signal releases the lease, and the next run follows at once.
    let mut holder = place.start("echo up; exec sleep 60");
    assert_eq!(holder.line(), "up");
    let mut waiter = place.start("echo $LEASE_TOKEN");
    holder.signal(Signal::TERM);
    holder.end_with(128 + 15);
    assert!(waiter.line().parse::<u64>().unwrap() > first);
    waiter.end_with(0);
    wait_until("the release", || place.status()["held"] == false);

    for case in ["breaking", "a process that is killed"] {
        let checked = place.output(&["check", "--only", case]);
        assert_code(&checked, 0);
        assert!(text(&checked.stdout).contains("1 of 1 cases held"));
    }
    let measured = place.output(&["bench", "--duration", "200ms", "--clients", "2", "--json"]);
    assert_code(&measured, 0);
    let measured: Value = serde_json::from_slice(&measured.stdout).unwrap();
    for row in measured.as_array().unwrap() {
        assert!(row["count"].as_u64() > Some(0), "{measured}");
        assert_eq!(row["failed"].as_u64().unwrap_or(0), 0, "{measured}");
    }
}

/// Checks that an engine that cannot be reached is one line and an exit code of its own.
fn assert_unreachable(test: &str, url: &str) {
    let sandbox = Sandbox::new(test);
    let place = Place {
        sandbox: &sandbox,
        url,
    };
    for args in [
        &["run", "job", "--", "touch", "ran"][..],
        &["status", "job"],
        &["check"],
    ] {
        let output = place.output(args);
        assert_code(&output, 69);
        assert_eq!(text(&output.stderr).lines().count(), 1, "{output:?}");
    }
    assert!(!sandbox.path("ran").exists());
}

/// Checks that each action refuses a URL in one line that has no password, and runs nothing.
fn assert_refused(sandbox: &Sandbox, url: &str, expected: &str) {
    let place = Place { sandbox, url };
    for args in [
        &["run", "job", "--", "touch", "ran"][..],
        &["status", "job"],
        &["list"],
        &["break", "job", "--token", "1"],
        &["watch", "job"],
        &["check"],
        &["bench"],
    ] {
        let output = place.output(args);
        assert_code(&output, 125);
        let errors = text(&output.stderr);
        assert_eq!(errors.lines().count(), 1, "{output:?}");
        assert!(
            errors.starts_with("lease: ") && errors.contains(expected),
            "{errors}"
        );
        assert!(!errors.contains("sEcret"), "{errors}");
    }
    assert!(!sandbox.path("ran").exists());
}

#[test]
fn the_command_works_on_postgres() {
    let Some(mut server) = Server::start(&["password_encryption=scram-sha-256"]) else {
        return;
    };
    server.psql(
        "postgres",
        "CREATE ROLE worker LOGIN PASSWORD 'sEcret'; GRANT CREATE ON DATABASE postgres TO worker",
    );
    let rules = "host all worker 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n";
    fs::write(server.data().join("pg_hba.conf"), rules).unwrap();
    server.psql("postgres", "SELECT pg_reload_conf()");
    let as_user = |user: &str| {
        server
            .url("postgres")
            .replace("postgres@", &format!("{user}@"))
    };
    let url = as_user("worker:sEcret");
    let sandbox = Sandbox::new("postgres-ready");
    let place = Place {
        sandbox: &sandbox,
        url: &url,
    };
    wait_until("the new rules", || {
        place.output(&["status", "job"]).status.success()
    });
    assert_that_the_command_works("postgres", &url);
    server.end("INT");
    assert_unreachable("postgres-unreachable", &url);
}

#[test]
fn a_server_of_postgres_that_is_unsuitable_is_refused_in_one_line() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let sandbox = Sandbox::new("postgres-refused");
    for statement in [
        "CREATE ROLE worker LOGIN PASSWORD 'sEcret'",
        "CREATE ROLE other LOGIN",
        "CREATE DATABASE empty",
        "CREATE DATABASE later",
    ] {
        server.psql("postgres", statement);
    }
    let later = server.url("later");
    let place = Place {
        sandbox: &sandbox,
        url: &later,
    };
    assert_code(&place.output(&["status", "job"]), 0);
    server.psql("later", "UPDATE latchwork.layout SET version = 99");
    let rules = "host all worker 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n";
    fs::write(server.data().join("pg_hba.conf"), rules).unwrap();
    server.psql("postgres", "SELECT pg_reload_conf()");
    let with_user = |user: &str| {
        server
            .url("empty")
            .replace("postgres@", &format!("{user}@"))
    };
    let wrong = with_user("worker:sEcreT");
    let place = Place {
        sandbox: &sandbox,
        url: &wrong,
    };
    wait_until("the new rules", || {
        let output = place.output(&["status", "job"]);
        text(&output.stderr).contains("password authentication failed")
    });
    let old = format!(
        "postgres://a:sEcret@127.0.0.1:{}/b?sslmode=disable",
        server::old(110_022)
    );
    for (url, expected) in [
        (&*wrong, "password authentication failed"),
        (&with_user("worker"), "password"),
        (
            &with_user("nobody:sEcret"),
            "role \"nobody\" does not exist",
        ),
        (&with_user("other"), "CREATE SCHEMA"),
        (
            &server.url("nothing"),
            "database \"nothing\" does not exist",
        ),
        (&later, "layout 99"),
        (&old, "the server is PostgreSQL 11; 12 or later is needed"),
        ("postgres://worker:sEcret@", "has no host"),
        ("postgres://worker:sEcret@host:port/db", "malformed"),
        (
            "postgres://worker:sEcret@host/db?sslmode=maybe",
            "sslmode is disable",
        ),
        ("postgres://worker:sEcret@host/db?sEcret=1", "malformed"),
    ] {
        assert_refused(&sandbox, url, expected);
    }
    let tables = server.psql(
        "empty",
        "SELECT count(*) FROM pg_namespace WHERE nspname = 'latchwork'",
    );
    assert_eq!(tables, "0", "a refused client left a schema");
}

#[test]
fn nodes_of_redis_that_are_unsuitable_are_refused_in_one_line() {
    let Some(node) = Redis::start(&[]) else {
        return;
    };
    let sandbox = Sandbox::new("redis-refused");
    let port = node.port;
    let replica = Redis::start(&["--replicaof", "127.0.0.1", &port.to_string()]).unwrap();
    let cluster = Redis::start(&["--cluster-enabled", "yes"]).unwrap();
    let evicting = Redis::start(&["--maxmemory-policy", "allkeys-lru"]).unwrap();
    let secured = Redis::start(&["--requirepass", "another"]).unwrap();
    let twice = format!("quorum:redis://127.0.0.1:{port},redis://127.0.0.1:{port}/0");
    let spelled = format!("quorum:redis://127.0.0.1:{port},redis://localhost:{port}");
    let password = format!("quorum:redis://:sEcret@127.0.0.1:{}", secured.port);
    for (url, expected) in [
        (twice.as_str(), "named twice"),
        (&spelled, "same server"),
        (&url([&node, &replica]), "it is a replica"),
        (&url([&cluster]), "Redis Cluster"),
        (&url([&evicting]), "may drop locks"),
        (&password, "WRONGPASS"),
        ("quorum:redis://u:sEcret@a:b", "malformed"),
        ("quorum:http://u:sEcret@a", "neither redis nor rediss"),
    ] {
        assert_refused(&sandbox, url, expected);
    }
}

#[test]
fn a_cluster_of_etcd_that_is_unsuitable_is_refused_in_one_line() {
    let Some(mut cluster) = Cluster::start(3) else {
        return;
    };
    let sandbox = Sandbox::new("etcd-refused");
    let twice = format!("{},localhost:{}", cluster.url(), cluster.port(0));
    let user = cluster.url().replace("etcd://", "etcd://user:sEcret@");
    for (url, expected) in [
        (twice.as_str(), "are the same member"),
        (&user, "authentication is not enabled"),
        ("etcd://u:sEcret@a:b", "an endpoint is malformed"),
        ("etcd://u:sEcret@a?sEcret=1", "an option is unknown"),
    ] {
        assert_refused(&sandbox, url, expected);
    }
    // Without a quorum at the start, the engine cannot be reached.
    for at in 0..2 {
        cluster.kill(at);
    }
    assert_unreachable("etcd-quorum", &cluster.url());
}

#[test]
fn the_command_works_on_redis_nodes() {
    let Some(mut nodes) = Redis::several(3) else {
        return;
    };
    let url = url(&nodes);
    assert_that_the_command_works("redis", &url);
    nodes[..2].iter_mut().for_each(Redis::end);
    assert_unreachable("redis-unreachable", &url);
}

#[test]
fn the_command_works_on_etcd() {
    let Some(mut cluster) = Cluster::start(1) else {
        return;
    };
    let url = cluster.url();
    assert_that_the_command_works("etcd", &url);
    cluster.kill(0);
    assert_unreachable("etcd-unreachable", &url);
}

#[test]
fn the_list_of_nodes_is_changed_after_leases_have_ended() {
    let Some(nodes) = Redis::several(4) else {
        return;
    };
    let (old, new) = (url(&nodes[..3]), url(&nodes[1..]));
    let sandbox = Sandbox::new("nodes");
    let at = |url| Place {
        sandbox: &sandbox,
        url,
    };
    let (before, after) = (at(&old), at(&new));
    let mut holder = before.start("echo $LEASE_TOKEN; exec sleep 60");
    let token: u64 = holder.line().parse().unwrap();

    // A lease that is held prevents the change, and the old list stays valid.
    let change = ["nodes", "change", "--to", &new, "--wait"];
    let held = before.output(&[&change[..], &["200ms"]].concat());
    assert_code(&held, 75);
    assert!(text(&held.stderr).contains("1 leases are held"), "{held:?}");
    assert_eq!(before.status()["held"], true);
    assert_code(&after.output(&["status", "job"]), 125);

    // A change that waits succeeds after the release.
    let mut command = sandbox.lease(["nodes", "change", "--wait", "30s"]);
    command.env("LEASE_URL", &old).env("LEASE_NEW_URL", &new);
    command.stdout(std::process::Stdio::piped());
    let mut changing = Running::new(command.stderr(std::process::Stdio::piped()));
    holder.signal(Signal::TERM);
    holder.end_with(128 + 15);
    assert_eq!(changing.line(), "the new list of nodes is valid");
    changing.end_with(0);
    let refused = before.output(&["run", "job", "--", "true"]);
    assert_code(&refused, 125);
    assert!(text(&refused.stderr).contains("all clients must name the same nodes"));
    let output = after.output(&["run", "job", "--", "sh", "-c", "echo $LEASE_TOKEN"]);
    assert_code(&output, 0);
    assert!(text(&output.stdout).trim().parse::<u64>().unwrap() > token);
    // Without the new list, nothing is changed.
    assert_code(&before.output(&["nodes", "change", "--wait", "1s"]), 125);
}

#[test]
fn passwords_of_both_lists_leave_the_list_of_processes() {
    let sandbox = Sandbox::new("nodes-passwords");
    let args = [
        "nodes",
        "change",
        "--on",
        "quorum:redis://u:sEcret@127.0.0.1:1",
        "--to=quorum:redis://u:sEcret@127.0.0.1:2",
    ];
    let output = sandbox.output(args);
    assert_code(&output, 69);
    let errors = text(&output.stderr);
    assert!(!errors.contains("sEcret"), "{errors}");
    for option in ["--on", "--to"] {
        assert!(
            errors.contains(&format!("the password in {option}")),
            "{errors}"
        );
    }
}
