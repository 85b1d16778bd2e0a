//! How long a released lease takes to the next process.

use std::thread;
use std::time::Duration;

use super::Question;
use crate::by_hand::{Client, Ours};
use crate::child::{Process, shared_clock};
#[cfg(feature = "postgres")]
use crate::row::medians;
use crate::row::{Row, Target, quantile};
use crate::support::Folder;

pub(crate) const QUESTION: Question = Question {
    title: "A released lease reaches the next process",
    method: "One process holds the lease and another waits for it. The time is that from the call \
             of the release until the other process has the lease. The holder waits for 20 to \
             40 ms first, chosen at random.",
    syncs: true,
    ask,
};

fn ask() -> Vec<Row> {
    let mut rows = on_postgres();
    rows.extend(on_sqlite());
    rows
}

/// Returns the milliseconds of one hand-over.
fn hop(holder: &mut dyn Client, next: &mut Process) -> f64 {
    holder.acquire();
    next.send("wait");
    thread::sleep(Duration::from_micros(fastrand::u64(20_000..40_000)));
    let start = shared_clock();
    holder.release();
    next.numbers()[0] - start
}

fn on_sqlite() -> Vec<Row> {
    let folder = Folder::new();
    let url = format!("sqlite:{}", folder.file("leases").display());
    let mut holder = Ours::connect(&url);
    let mut next = Process::start("ours", &url);
    let times: Vec<f64> = (0..400).map(|_| hop(&mut holder, &mut next)).collect();
    vec![
        Row {
            quartiles: Some((quantile(&times, 0.25), quantile(&times, 0.75))),
            ..Row::alone("SQLite, median", quantile(&times, 0.5), "ms")
        },
        Row::alone(
            "SQLite, 99th percentile of 400",
            quantile(&times, 0.99),
            "ms",
        )
        .target(Target::AtMost(50.0))
        .context(format!("at most {:.1} ms", quantile(&times, 1.0))),
    ]
}

#[cfg(feature = "postgres")]
fn on_postgres() -> Vec<Row> {
    let rows = super::servers()
        .into_iter()
        .map(|(name, server)| of_server(name, &server));
    super::judge_the_first(rows.collect())
}

#[cfg(feature = "postgres")]
fn of_server(name: &str, server: &crate::server::Server) -> Row {
    use crate::by_hand::Postgres;
    use crate::row::alternate;
    // Apart, because a notification wakes the sessions of its database that listen.
    let (ours, theirs) = (
        server.url(&server.database()),
        server.url(&server.database()),
    );
    Postgres::create(&theirs);
    let (mut our_holder, mut their_holder) = (Ours::connect(&ours), Postgres::connect(&theirs));
    let mut our_next = Process::start("ours", &ours);
    let mut their_next = Process::start("by-hand", &theirs);
    hop(&mut our_holder, &mut our_next);
    hop(&mut their_holder, &mut their_next);
    let pairs = alternate(
        121,
        || hop(&mut our_holder, &mut our_next),
        || hop(&mut their_holder, &mut their_next),
    );
    let (our_median, their_median) = medians(&pairs);
    Row::ratio(name, "`LISTEN` and the statement by hand", &pairs)
        .target(Target::AtMost(1.5))
        .context(format!("{our_median:.2} / {their_median:.2} ms"))
}

#[cfg(not(feature = "postgres"))]
fn on_postgres() -> Vec<Row> {
    Vec::new()
}
