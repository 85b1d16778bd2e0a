//! Many leases of one process.

use super::Question;
use crate::child::{MANY, Process};
use crate::row::{Row, Target};
use crate::support::Folder;

pub(crate) const QUESTION: Question = Question {
    title: "10,000 leases of 10 seconds, held by one process",
    method: "The processor time of the process is divided by the time of the clock, over 12 \
             seconds. SQLite does its work in the process, and servers in their own. The leases \
             are acquired in ten requests, and none is lost.",
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
