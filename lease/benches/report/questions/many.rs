//! Many leases of one process.

use super::Question;
use crate::child::{MANY, Process};
use crate::row::{Row, Target};
use crate::support::Folder;

pub(crate) const QUESTION: Question = Question {
    title: "10,000 leases of 10 seconds, held by one process",
    method: "The processor time of the process is divided by the time of the clock, over 12 \
             seconds. SQLite does its work in the process, and servers in their own. \
             The leases are acquired in ten requests, at etcd in one each, and none is lost.",
    syncs: true,
    ask,
};

/// The milliseconds that are watched: more than three renewals of each lease.
const WATCHED: u64 = 12_000;

fn ask() -> Vec<Row> {
    let folder = Folder::new();
    let mut rows = measure(
        "SQLite",
        &format!("sqlite:{}", folder.file("many").display()),
    );
    rows.extend(on_postgres());
    rows.extend(on_etcd());
    rows.extend(on_redis());
    rows
}

fn measure(engine: &str, url: &str) -> Vec<Row> {
    let mut process = Process::start("many", url);
    process.send("hold");
    assert_eq!(process.answer(), "held");
    process.send(&format!("watch {WATCHED}"));
    let [share, requests, renewed, held] = process.numbers()[..] else {
        panic!("four numbers are expected");
    };
    assert_eq!(held, MANY as f64, "all leases are held at the end");
    let times = renewed / MANY as f64;
    vec![
        Row::alone(
            format!("{engine}: processor time"),
            share * 100.0,
            "% of a core",
        )
        .target(Target::AtMost(5.0)),
        Row::alone(
            format!("{engine}: renewals in one request"),
            renewed / requests,
            "",
        )
        .context(format!(
            "{requests:.0} requests; each lease was renewed {times:.1} times"
        )),
    ]
}

#[cfg(feature = "postgres")]
fn on_postgres() -> Vec<Row> {
    let Some(server) = super::server() else {
        return Vec::new();
    };
    measure("PostgreSQL", &server.url(&server.database()))
}

#[cfg(not(feature = "postgres"))]
fn on_postgres() -> Vec<Row> {
    Vec::new()
}

#[cfg(feature = "etcd")]
fn on_etcd() -> Vec<Row> {
    let Some(cluster) = crate::etcd::Cluster::start(3) else {
        return Vec::new();
    };
    let mut process = Process::start("many", &cluster.url());
    process.send("hold");
    assert_eq!(process.answer(), "held");
    // All leases have been renewed since the last one was acquired.
    std::thread::sleep(std::time::Duration::from_secs(10));
    let before = cluster.requests();
    process.send(&format!("watch {WATCHED}"));
    let [share, _, renewed, held] = process.numbers()[..] else {
        panic!("four numbers are expected");
    };
    let requests = (cluster.requests() - before) as f64;
    assert_eq!(held, MANY as f64, "all leases are held at the end");
    let (a_second, times) = (requests * 1000.0 / WATCHED as f64, renewed / MANY as f64);
    vec![
        Row::alone("etcd x 3: processor time", share * 100.0, "% of a core")
            .target(Target::AtMost(5.0)),
        Row::alone("etcd x 3: requests to renew", a_second, "a second")
            .target(Target::AtMost(1.0))
            .context(format!(
                "{requests:.0} requests, with those that read the keys; each lease was renewed \
                 {times:.1} times"
            )),
    ]
}

#[cfg(not(feature = "etcd"))]
fn on_etcd() -> Vec<Row> {
    Vec::new()
}

#[cfg(feature = "redis")]
fn on_redis() -> Vec<Row> {
    let Some(nodes) = crate::nodes::Redis::several(5) else {
        return Vec::new();
    };
    measure("Five Redis nodes", &crate::nodes::url(&nodes))
}

#[cfg(not(feature = "redis"))]
fn on_redis() -> Vec<Row> {
    Vec::new()
}
