//! Locks that other programs and servers offer.

use super::Question;
use super::alone::compare;
use crate::row::{Row, alternate, medians, milliseconds};

pub(crate) const QUESTION: Question = Question {
    title: "Acquire and release, against other locks",
    method: "One client, on servers of this machine. None of the others has a token that a \
             resource can check, and the advisory locks of PostgreSQL and the locks of `rslock` \
             write no disk. The call `Lock` of etcd also grants locks to clients whose lease has \
             ended. `etcdctl lock NAME true` and `lease run NAME -- true` are processes, and \
             include their start. A run makes 20 pairs, or 3 processes.",
    syncs: true,
    ask,
};

fn ask() -> Vec<Row> {
    let mut rows = Vec::new();
    #[cfg(feature = "etcd")]
    rows.extend(on_etcd());
    #[cfg(feature = "postgres")]
    rows.extend(on_postgres());
    #[cfg(feature = "redis")]
    rows.extend(on_redis());
    rows
}

fn row(what: &str, against: &'static str, pairs: &[(f64, f64)]) -> Row {
    let (ours, theirs) = medians(pairs);
    Row::ratio(what, against, pairs).context(format!("{ours:.2} / {theirs:.2} ms"))
}

#[cfg(feature = "etcd")]
fn on_etcd() -> Vec<Row> {
    use crate::by_hand::{LockCall, Ours};

    let Some(cluster) = crate::etcd::Cluster::start(3) else {
        return Vec::new();
    };
    let endpoint = format!("127.0.0.1:{}", cluster.port(0));
    let pairs = compare(Ours::connect(&cluster.url()), LockCall::connect(&endpoint));
    let mut rows = vec![row("etcd x 3", "the call `/v3/lock/lock`", &pairs)];
    rows.extend(as_processes(&cluster));
    rows
}

/// Compares the two commands, if the command `lease` was built with this program.
#[cfg(feature = "etcd")]
fn as_processes(cluster: &crate::etcd::Cluster) -> Option<Row> {
    use std::process::{Command, Stdio};
    use std::time::Instant;

    const PROCESSES: usize = 3;
    let program = option_env!("CARGO_BIN_EXE_lease")?;
    let run = |command: &mut Command| {
        let start = Instant::now();
        for _ in 0..PROCESSES {
            let status = command.stdout(Stdio::null()).status();
            assert!(status.is_ok_and(|status| status.success()), "{command:?}");
        }
        milliseconds(start.elapsed()) / PROCESSES as f64
    };
    let mut ours = Command::new(program);
    ours.args(["run", "process", "--", "true"])
        .env("LEASE_URL", cluster.url());
    let mut theirs = Command::new("etcdctl");
    theirs
        .args([
            "--endpoints",
            &cluster.endpoints(),
            "lock",
            "process",
            "true",
        ])
        .env("ETCDCTL_API", "3");
    run(&mut ours);
    run(&mut theirs);
    let pairs = alternate(21, || run(&mut ours), || run(&mut theirs));
    let what = "etcd x 3, `lease run` as a process";
    Some(row(what, "`etcdctl lock`", &pairs))
}

#[cfg(feature = "postgres")]
fn on_postgres() -> Vec<Row> {
    use crate::by_hand::{Advisory, Ours};

    let measure = |(name, server): super::Named| {
        let (ours, theirs) = (
            server.url(&server.database()),
            server.url(&server.database()),
        );
        let pairs = compare(Ours::connect(&ours), Advisory::connect(&theirs));
        row(name, "`pg_advisory_lock`", &pairs)
    };
    super::servers().into_iter().map(measure).collect()
}

#[cfg(feature = "redis")]
fn on_redis() -> Vec<Row> {
    use crate::by_hand::{Ours, Rslock};
    use crate::nodes::{Redis, url};

    let (Some(ours), Some(theirs)) = (Redis::several(5), Redis::several(5)) else {
        return Vec::new();
    };
    let pairs = compare(Ours::connect(&url(&ours)), Rslock::connect(&url(&theirs)));
    vec![row("five Redis nodes", "`rslock`", &pairs)]
}
