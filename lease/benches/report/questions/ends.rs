//! Holders that are dead, and engines that do not answer.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use latchwork_lease::{Leases, LossReason};

use super::Question;
use crate::child::Process;
use crate::row::{Row, Target, milliseconds, quantile};
use crate::support::Folder;

pub(crate) const QUESTION: Question = Question {
    title: "The end of a lease of one second",
    method: "A process that holds a lease is killed while another waits for it; the time is that \
             from the signal until the other has the lease, without the second of the lease. In \
             the other rows the engine ceases to answer; the time is that from the last \
             `Lease::deadline` until the callback of `on_lost`. Each row is the greatest of five \
             trials.",
    syncs: false,
    ask,
};

const LENGTH: Duration = Duration::from_secs(1);
const TRIALS: usize = 5;

fn ask() -> Vec<Row> {
    let folder = Folder::new();
    let url = format!("sqlite:{}", folder.file("leases").display());
    let mut rows = vec![dead_holder("SQLite", &url), locked(&folder)];
    rows.extend(on_postgres());
    rows
}

fn row(what: String, limit: f64, times: &[f64]) -> Row {
    let (least, most) = (quantile(times, 0.0), quantile(times, 1.0));
    Row::alone(what, most, "ms")
        .target(Target::AtMost(limit))
        .context(format!("{least:.1} to {most:.1} ms"))
}

fn dead_holder(engine: &str, url: &str) -> Row {
    let leases = Leases::connect(url).unwrap();
    let times: Vec<f64> = (0..TRIALS)
        .map(|_| {
            let mut holder = Process::start("holder", url);
            holder.send(&format!("hold {}", LENGTH.as_millis()));
            assert_eq!(holder.answer(), "held");
            thread::scope(|scope| {
                let waiter = scope.spawn(|| {
                    let lease = leases.acquire("one", LENGTH).unwrap();
                    let at = Instant::now();
                    lease.release().unwrap();
                    at
                });
                // Beyond the first renewal, so that the time left differs.
                thread::sleep(Duration::from_millis(fastrand::u64(400..700)));
                let killed = holder.kill();
                milliseconds(waiter.join().unwrap() - killed) - milliseconds(LENGTH)
            })
        })
        .collect();
    row(
        format!("{engine}: a dead holder's lease is acquired"),
        1000.0,
        &times,
    )
    .context(format!(
        "{:.0} to {:.0} ms after the signal",
        quantile(&times, 0.0) + milliseconds(LENGTH),
        quantile(&times, 1.0) + milliseconds(LENGTH)
    ))
}

/// Holds a lease while the engine does not answer, and returns how late its loss is reported.
fn loss(leases: &Leases, stop: impl FnOnce(), resume: impl FnOnce()) -> f64 {
    let lease = leases.acquire("two", LENGTH).unwrap();
    let (sender, receiver) = mpsc::channel();
    lease.on_lost(move |reason| {
        let _ = sender.send((Instant::now(), reason));
    });
    thread::sleep(Duration::from_millis(fastrand::u64(400..700)));
    stop();
    let (at, reason) = receiver.recv_timeout(LENGTH * 5).unwrap();
    assert_eq!(reason, LossReason::Expired);
    assert!(!lease.is_held());
    // Renewals that were answered before the stop have moved it.
    let deadline = lease.deadline();
    let late = milliseconds(at.saturating_duration_since(deadline))
        - milliseconds(deadline.saturating_duration_since(at));
    resume();
    drop(lease);
    // The release in the background must not meet the next trial.
    thread::sleep(Duration::from_millis(300));
    late
}

fn locked(folder: &Folder) -> Row {
    let path = folder.file("locked");
    let leases = Leases::connect(&format!("sqlite:{}", path.display())).unwrap();
    let other = rusqlite::Connection::open(&path).unwrap();
    other.busy_timeout(LENGTH).unwrap();
    let run = |statement| other.execute_batch(statement).unwrap();
    let times: Vec<f64> = (0..TRIALS)
        .map(|_| loss(&leases, || run("BEGIN IMMEDIATE"), || run("ROLLBACK")))
        .collect();
    let what = "SQLite: a loss is reported, another process locks the file";
    row(what.to_owned(), 50.0, &times)
}

#[cfg(feature = "postgres")]
fn on_postgres() -> Vec<Row> {
    let Some(server) = super::server() else {
        return Vec::new();
    };
    let url = server.url(&server.database());
    let dead = dead_holder("PostgreSQL", &url);
    let leases = Leases::connect(&url).unwrap();
    let times: Vec<f64> = (0..TRIALS)
        .map(|_| {
            loss(
                &leases,
                || server.signal_all("STOP"),
                || server.signal_all("CONT"),
            )
        })
        .collect();
    let what = "PostgreSQL: a loss is reported, all processes of the server are stopped";
    vec![dead, row(what.to_owned(), 50.0, &times)]
}

#[cfg(not(feature = "postgres"))]
fn on_postgres() -> Vec<Row> {
    Vec::new()
}
