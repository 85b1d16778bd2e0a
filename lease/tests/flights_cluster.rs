//! The example `flights_cluster` in small: every flight is counted once, whatever happens to the
//! workers, and without the fence some are counted twice.

#[cfg(all(feature = "etcd", feature = "redis"))]
#[path = "support/etcd.rs"]
mod etcd;
#[cfg(all(feature = "etcd", feature = "redis"))]
#[path = "support/redis.rs"]
mod redis;
#[cfg(all(feature = "etcd", feature = "redis"))]
#[path = "support/server.rs"]
mod server;
#[cfg(all(feature = "etcd", feature = "redis"))]
mod support;

use std::fmt::Write;
use std::path::PathBuf;
use std::process::{Command, Output};

/// The features of the example. They are equal in all tests, because another build would replace
/// the program that a concurrent test runs.
const FEATURES: &[&str] = match cfg!(all(feature = "etcd", feature = "redis")) {
    true => &["--all-features"],
    false => &[],
};

/// Writes a file of flights, and runs the example on it.
fn replay(name: &str, arguments: &[&str]) -> Output {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let file = folder.join(format!("{name}.csv"));
    let mut flights = "tailnum,origin,dest,distance\n".to_owned();
    for n in 0..4000 {
        let _ = writeln!(
            flights,
            "N{},A{},B{},{}",
            n % 97,
            n % 3,
            n % 11,
            100 + n % 1000
        );
    }
    std::fs::write(&file, flights).unwrap();
    let defaults = ["--pause=10", "--ttl=200"];
    let is_set = |default: &str| {
        let (option, _) = default.split_once('=').unwrap();
        arguments
            .iter()
            .any(|argument| argument.starts_with(option))
    };
    let mut run = Command::new(env!("CARGO"));
    run.args([
        "run",
        "--quiet",
        "-p",
        "latchwork-lease",
        "--example",
        "flights_cluster",
    ])
    .args(FEATURES)
    .arg("--")
    .arg(&file)
    .args(["--shards=16", "--batch=10"])
    .args(defaults.iter().filter(|default| !is_set(default)))
    .args(arguments);
    run.output().unwrap()
}

/// Returns the number in a row of the table.
fn row(output: &Output, name: &str) -> u64 {
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.trim().parse().ok());
    number.unwrap_or_else(|| panic!("no row '{name}' in {output:?}"))
}

#[test]
fn totals_are_right_although_workers_are_killed_and_stopped() {
    let output = replay("fenced", &["--torment=150"]);
    assert!(output.status.success(), "{output:?}");
    assert!(row(&output, "workers killed") + row(&output, "workers stopped past their lease") > 0);
    assert_eq!(row(&output, "totals that are wrong"), 0);
    assert_eq!(row(&output, "flights counted more than once"), 0);
}

/// The control: if nothing were damaged here, the test above would prove nothing.
#[test]
fn totals_are_wrong_without_the_fence() {
    for seed in 1..=5 {
        let output = replay(
            "unfenced",
            &["--torment=100", "--no-fence", &format!("--seed={seed}")],
        );
        assert!(output.status.success(), "{output:?}");
        if row(&output, "totals that are wrong") > 0 {
            return;
        }
    }
    panic!("no late write happened in five runs");
}

/// The fence and the totals are in etcd, and so are the leases.
#[cfg(all(feature = "etcd", feature = "redis"))]
#[test]
fn totals_in_etcd_are_right_although_workers_are_killed_and_stopped() {
    let Some(cluster) = etcd::Cluster::start(3) else {
        return;
    };
    let on = format!("--on={}", cluster.url());
    let replay = |name, arguments: &[&str]| {
        let arguments = [
            arguments,
            &["--ttl=2000", "--pause=40", "--torment=700", &on],
        ]
        .concat();
        self::replay(name, &arguments)
    };
    assert_only_the_fence_protects(|arguments| replay("etcd", arguments));
}

/// The fence and the totals are in the first node, and the leases on a majority of three.
#[cfg(all(feature = "etcd", feature = "redis"))]
#[test]
fn totals_in_redis_are_right_although_workers_are_killed_and_stopped() {
    let Some(nodes) = redis::Redis::several(3) else {
        return;
    };
    let on = format!("--on={}", redis::url(&nodes));
    assert_only_the_fence_protects(|arguments| {
        let arguments = [arguments, &["--torment=120", &on]].concat();
        replay("redis", &arguments)
    });
}

/// The fence and the totals are in PostgreSQL.
#[test]
#[cfg(all(feature = "etcd", feature = "redis"))]
fn totals_in_postgres_are_right_although_workers_are_killed_and_stopped() {
    let Some(server) = server::shared() else {
        return;
    };
    assert_only_the_fence_protects(|arguments| {
        let on = format!("--on={}", server.url(&server.database()));
        let arguments = [arguments, &["--torment=120", &on]].concat();
        replay("postgres", &arguments)
    });
}

/// Checks a replay with the fence, and the control without it.
#[cfg(all(feature = "etcd", feature = "redis"))]
fn assert_only_the_fence_protects(replay: impl Fn(&[&str]) -> Output) {
    let output = replay(&[]);
    assert!(output.status.success(), "{output:?}");
    assert!(row(&output, "workers killed") + row(&output, "workers stopped past their lease") > 0);
    assert_eq!(row(&output, "totals that are wrong"), 0);
    assert_eq!(row(&output, "flights counted more than once"), 0);
    for seed in 1..=5 {
        let output = replay(&["--no-fence", &format!("--seed={seed}")]);
        assert!(output.status.success(), "{output:?}");
        if row(&output, "totals that are wrong") > 0 {
            return;
        }
    }
    panic!("no late write happened in five runs");
}

#[test]
fn bad_input_is_one_line() {
    for (arguments, expected) in [
        (&["--on=nowhere:x"][..], "nowhere"),
        (&["--workers=0"], "--workers"),
        (&["--on=sqlite:/no/such/folder/x.db"], "/no/such/folder"),
    ] {
        let output = replay("bad", arguments);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(
            text.contains(expected) && text.lines().count() == 1,
            "{text}"
        );
    }
}
