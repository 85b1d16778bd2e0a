//! One client that acquires and releases.

use std::time::Instant;

use super::Question;
use crate::by_hand::{Client, Ours, Sqlite};
use crate::row::{Row, Target, alternate, medians, milliseconds};
use crate::support::Folder;

pub(crate) const QUESTION: Question = Question {
    title: "Acquire and release, one client",
    method: "Both sides commit twice on the same disk with the same settings: SQLite with a \
             write-ahead log and `synchronous=FULL` in `BEGIN IMMEDIATE`, PostgreSQL with its \
             defaults, and etcd with its defaults over its gateway. At PostgreSQL, the release \
             of this crate does not wait for the disk, and the statement by hand does; the rows \
             with `fsync=off` compare what remains. The statements by hand are prepared. A run \
             makes 20 pairs.",
    syncs: true,
    ask,
};

const ROUNDS: usize = 61;
const PAIRS: usize = 20;

fn ask() -> Vec<Row> {
    let mut rows = vec![on_sqlite()];
    rows.extend(on_postgres());
    rows.extend(on_etcd());
    rows
}

/// Returns the milliseconds of a pair.
fn run(client: &mut dyn Client) -> f64 {
    let start = Instant::now();
    for _ in 0..PAIRS {
        client.acquire();
        client.release();
    }
    milliseconds(start.elapsed()) / PAIRS as f64
}

/// Compares two clients, which alternate.
pub(super) fn compare(mut ours: impl Client, mut theirs: impl Client) -> Vec<(f64, f64)> {
    run(&mut ours);
    run(&mut theirs);
    alternate(ROUNDS, || run(&mut ours), || run(&mut theirs))
}

fn on_sqlite() -> Row {
    let folder = Folder::new();
    let ours = Ours::connect(&format!("sqlite:{}", folder.file("ours").display()));
    let theirs = Sqlite::open(&folder.file("theirs"));
    row(
        "SQLite",
        "the two transactions by hand",
        2.0,
        &compare(ours, theirs),
    )
}

#[cfg(feature = "postgres")]
fn on_postgres() -> Vec<Row> {
    use crate::by_hand::Postgres;
    let measure = |(name, server): (&str, std::sync::Arc<crate::server::Server>)| {
        // Apart, because a notification wakes the sessions of its database that listen.
        let (ours, theirs) = (
            server.url(&server.database()),
            server.url(&server.database()),
        );
        Postgres::create(&theirs);
        let pairs = compare(Ours::connect(&ours), Postgres::connect(&theirs));
        row(name, "the two statements by hand", 1.3, &pairs)
    };
    let rows = super::servers().into_iter().map(measure);
    super::judge_the_first(rows.collect())
}

#[cfg(not(feature = "postgres"))]
fn on_postgres() -> Vec<Row> {
    Vec::new()
}

#[cfg(feature = "etcd")]
fn on_etcd() -> Vec<Row> {
    use crate::by_hand::Etcd;
    let measure = |(name, cluster): (&str, crate::etcd::Cluster)| {
        let theirs = Etcd::connect(&format!("127.0.0.1:{}", cluster.port(0)));
        let pairs = compare(Ours::connect(&cluster.url()), theirs);
        row(name, "the two transactions by hand", 1.25, &pairs)
    };
    let mut rows: Vec<Row> = super::clusters().into_iter().map(measure).collect();
    // The target is that of a cluster of three.
    for row in rows.iter_mut().skip(1) {
        row.target = None;
    }
    rows
}

#[cfg(not(feature = "etcd"))]
fn on_etcd() -> Vec<Row> {
    Vec::new()
}

fn row(what: &str, against: &'static str, limit: f64, pairs: &[(f64, f64)]) -> Row {
    let (ours, theirs) = medians(pairs);
    Row::ratio(what, against, pairs)
        .target(Target::AtMost(limit))
        .context(format!("{ours:.2} / {theirs:.2} ms"))
}
