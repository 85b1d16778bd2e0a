//! Shards over a changing number of workers.

use std::process::Command;

use super::Question;
use crate::row::{Row, Target, quantile};

pub(crate) const QUESTION: Question = Question {
    title: "A consumer group of 64 shards",
    method: "The example `consumer_group` on SQLite, with its defaults: leases of 4 s, and \
             workers that start, join, leave and are killed. The time is that from the change \
             until all shards are held and no worker holds more than its part. Each row is the \
             greatest of three runs, in lengths of a lease. The membership of a worker lasts half \
             of a lease, so the shards of one that was killed are free after half of a lease.",
    syncs: false,
    ask,
};

const RUNS: usize = 3;

/// Runs the example, and returns what it prints.
fn run() -> String {
    let arguments = "run --release --quiet -p latchwork-lease --all-features --example";
    let output = Command::new(env!("CARGO"))
        .args(arguments.split(' '))
        .arg("consumer_group")
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the group is balanced: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn ask() -> Vec<Row> {
    let runs: Vec<String> = (0..RUNS).map(|_| run()).collect();
    let row = |change: &str| {
        let seconds = runs.iter().map(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix(change));
            let fields: Vec<&str> = line.unwrap_or_default().split_whitespace().collect();
            // Workers, shards, the least and the most of a worker, seconds, lengths of a lease.
            let number = |at: usize| -> f64 { fields[at].parse().unwrap() };
            (number(4), number(5))
        });
        let (seconds, leases): (Vec<f64>, Vec<f64>) = seconds.unzip();
        let (least, most) = (quantile(&seconds, 0.0), quantile(&seconds, 1.0));
        let row = Row::alone(
            format!("{change}: balanced again"),
            quantile(&leases, 1.0),
            "leases",
        );
        row.target(Target::AtMost(1.0))
            .context(format!("{least:.2} to {most:.2} s"))
    };
    ["two start", "two join", "one is killed", "one leaves"]
        .map(row)
        .into()
}
