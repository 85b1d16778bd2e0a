//! Eight processes on one name of etcd.

use std::fs::File;
use std::io::Write;
use std::time::Instant;

use super::Question;
use crate::child::Process;
use crate::row::{Row, Target, milliseconds, quantile};
use crate::support::Folder;

pub(crate) const QUESTION: Question = Question {
    title: "Eight processes on one name of etcd",
    method: "Each process acquires and releases in a loop for one second, without a pause. The \
             order is that of the create revisions if no lease is granted after one with a \
             greater token. The bound is a disk that does nothing but sync: a hand-over needs one \
             transaction for the release and one for the next request of the releaser.",
    syncs: true,
    ask,
};

const PROCESSES: usize = 8;
const ROUNDS: usize = 11;

fn ask() -> Vec<Row> {
    let clusters = super::clusters().into_iter();
    clusters
        .flat_map(|(name, cluster)| of_cluster(name, &cluster.url()))
        .collect()
}

fn of_cluster(name: &str, url: &str) -> Vec<Row> {
    let mut processes: Vec<Process> = (0..PROCESSES)
        .map(|_| Process::start("queue", url))
        .collect();
    let (mut rates, mut disordered) = (Vec::new(), 0);
    for _ in 0..ROUNDS {
        for process in &mut processes {
            process.send("loop 1000");
        }
        // Each grant: when, and its token.
        let mut grants: Vec<(f64, f64)> = Vec::new();
        for process in &mut processes {
            let numbers = process.numbers();
            grants.extend(numbers.chunks(2).map(|pair| (pair[1], pair[0])));
        }
        grants.sort_by(|a, b| a.0.total_cmp(&b.0));
        disordered += grants
            .windows(2)
            .filter(|pair| pair[0].1 > pair[1].1)
            .count();
        let span = grants[grants.len() - 1].0 - grants[0].0;
        rates.push((grants.len() - 1) as f64 / span * 1000.0);
    }
    let bound = 1000.0 / (2.0 * sync());
    vec![
        Row::alone(
            format!("{name}: grants out of order"),
            disordered as f64,
            "",
        )
        .target(Target::AtMost(0.0)),
        Row {
            quartiles: Some((quantile(&rates, 0.25), quantile(&rates, 0.75))),
            lower: false,
            ..Row::alone(
                format!("{name}: hand-overs"),
                quantile(&rates, 0.5),
                "a second",
            )
        }
        .target(Target::AtLeast(100.0))
        .context(format!("two syncs of the disk allow {bound:.0} a second")),
    ]
}

/// Returns the median milliseconds of a sync of the disk.
fn sync() -> f64 {
    let folder = Folder::new();
    let mut file = File::create(folder.file("probe")).unwrap();
    let times: Vec<f64> = (0..101)
        .map(|_| {
            let start = Instant::now();
            file.write_all(&[1; 512]).unwrap();
            file.sync_data().unwrap();
            milliseconds(start.elapsed())
        })
        .collect();
    quantile(&times, 0.5)
}
