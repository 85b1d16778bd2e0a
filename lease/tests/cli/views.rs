//! `status`, `list`, `watch`, `break` and `bench`.

use std::process::Stdio;
use std::thread;

use rustix::process::Signal;
use serde_json::Value;

use crate::sandbox::{Running, Sandbox, text, wait_until};

fn json(sandbox: &Sandbox, args: &[&str]) -> Value {
    let output = sandbox.output(args.iter().copied().chain(["--json"]));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

#[test]
fn the_holder_is_shown() {
    let sandbox = Sandbox::new("status");
    let free = sandbox.output(["status", "job"]);
    assert_eq!(text(&free.stdout), "job is free\n");
    assert_eq!(json(&sandbox, &["status", "job"])["held"], false);

    let mut running = sandbox.start("", "echo $LEASE_TOKEN; sleep 60");
    let token = running.line();
    let table = sandbox.output(["status", "job"]);
    let table = text(&table.stdout);
    assert_eq!(table.lines().count(), 2, "{table}");
    assert!(
        table.starts_with("NAME") && table.contains("job"),
        "{table}"
    );
    let holder = json(&sandbox, &["status", "job"]);
    assert_eq!(holder["held"], true);
    assert_eq!(holder["token"].to_string(), token);
    assert!(holder["expires"].as_f64() > holder["since"].as_f64());

    assert_eq!(json(&sandbox, &["list", "jo"]).as_array().unwrap().len(), 1);
    assert_eq!(json(&sandbox, &["list"]).as_array().unwrap().len(), 1);
    assert_eq!(json(&sandbox, &["list", "j%"]).as_array().unwrap().len(), 0);
    running.signal(Signal::TERM);
    running.end();
}

#[test]
fn each_change_is_shown() {
    let sandbox = Sandbox::new("watch");
    let mut command = sandbox.lease(["watch", "job", "--json"]);
    let mut watch = Running::new(command.stdout(Stdio::piped()));
    let mut next = || serde_json::from_str::<Value>(&watch.line()).unwrap();
    assert_eq!(next()["held"], false);
    let mut running = sandbox.start("", "echo $LEASE_TOKEN; sleep 60");
    let change = next();
    assert_eq!(change["held"], true);
    assert_eq!(change["token"].to_string(), running.line());
    running.signal(Signal::TERM);
    running.end();
    assert_eq!(next()["held"], false);
}

#[test]
fn of_two_breaks_one_succeeds() {
    let sandbox = Sandbox::new("two-breaks");
    let mut running = sandbox.start("--ttl 1m", "echo $LEASE_TOKEN; sleep 60");
    let token = running.line();
    let wrong = sandbox.output(["break", "job", "--token", "999"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(sandbox.is_held());

    let args = ["break", "job", "--token", token.as_str()];
    let outputs = thread::scope(|scope| {
        let other = scope.spawn(|| sandbox.output(args));
        [sandbox.output(args), other.join().unwrap()]
    });
    let mut codes = outputs
        .each_ref()
        .map(|output| output.status.code().unwrap());
    codes.sort_unstable();
    assert_eq!(codes, [0, 1], "{outputs:?}");
    for output in &outputs {
        let lines = text(&output.stdout).lines().count() + text(&output.stderr).lines().count();
        assert_eq!(lines, 1, "{output:?}");
    }
    wait_until("the break", || !sandbox.is_held());
}

#[test]
fn a_bench_prints_percentiles() {
    let sandbox = Sandbox::new("bench");
    let output = sandbox.output(["bench", "--duration", "300ms", "--clients", "2", "--json"]);
    assert!(output.status.success(), "{output:?}");
    let results: Value = serde_json::from_slice(&output.stdout).unwrap();
    for result in results.as_array().unwrap() {
        assert!(result["count"].as_u64() > Some(0));
        let quantile = |name| result["milliseconds"][name].as_f64().unwrap();
        assert!(quantile("p50") <= quantile("p99") && quantile("p99") <= quantile("max"));
    }
    let table = sandbox.output(["bench", "--duration", "100ms", "--clients", "2"]);
    assert_eq!(text(&table.stdout).lines().count(), 3, "{table:?}");
    assert_eq!(
        json(&sandbox, &["list", "lease-bench"])
            .as_array()
            .unwrap()
            .len(),
        0
    );
}

#[test]
fn a_check_reports_each_case() {
    let sandbox = Sandbox::new("check");
    let args = ["check", "--only", "breaking"];
    let table = sandbox.output(args);
    assert!(table.status.success(), "{table:?}");
    assert!(
        text(&table.stdout).contains("1 of 1 cases held"),
        "{table:?}"
    );

    // An engine that refuses all writes keeps no rule.
    let database = rusqlite::Connection::open(sandbox.database()).unwrap();
    database.execute_batch("BEGIN IMMEDIATE").unwrap();
    let result = sandbox.output(args.into_iter().chain(["--json"]));
    assert_eq!(result.status.code(), Some(1), "{result:?}");
    let result: Value = serde_json::from_slice(&result.stdout).unwrap();
    assert_eq!(result["cases"][0]["held"], false);
    assert!(result["cases"][0]["reason"].is_string());

    let none = sandbox.output(["check", "--only", "no such case"]);
    assert_eq!(none.status.code(), Some(125), "{none:?}");
}
