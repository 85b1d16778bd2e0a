//! Shards over a changing number of workers.

use std::process::Command;

use super::Question;
use crate::row::{Row, Target, quantile};

pub(crate) const QUESTION: Question = Question {
    title: "A consumer group of 64 shards",
    method: "The example `consumer_group` on SQLite, with its defaults: leases of 2.25 s, and \
             workers that start, join, leave and are killed. The time is that from the change \
             until all shards are held and no worker holds more than its part. Each row is the \
             greatest of three runs. The target is the time of a takeover that the example \
             promises: the rest of a lease, and a quarter of the time for the other workers.",
    syncs: false,
    ask,
};

const RUNS: usize = 3;

/// The length of a lease of the example, in seconds.
const LEASE: f64 = 2.25;

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
            // Workers, shards, the least and the most of a worker, seconds, part of the time.
            fields[4].parse().unwrap()
        });
        let seconds: Vec<f64> = seconds.collect();
        let (least, most) = (quantile(&seconds, 0.0), quantile(&seconds, 1.0));
        Row::alone(format!("{change}: balanced again"), most, "s")
            .target(Target::AtMost(3.0))
            .context(format!(
                "{least:.2} to {most:.2} s; {:.2} of a lease",
                most / LEASE
            ))
    };
    ["two start", "two join", "one is killed", "one leaves"]
        .map(row)
        .into()
}
