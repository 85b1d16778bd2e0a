//! Five independent Redis nodes.

use std::time::Instant;

use super::Question;
use crate::by_hand::{Client, Nodes, Ours, Rslock};
use crate::child::{self, Process};
use crate::nodes::{Redis, url};
use crate::row::{Row, Target, alternate, medians, milliseconds};

pub(crate) const QUESTION: Question = Question {
    title: "Five Redis nodes",
    method: "Each node writes its log before it answers, and does not wait for the disk. By hand, \
             a client sends `SET NX PX` to all nodes, then reads five answers, and releases with \
             a script in the same way: it has no token, and it repeats a refused request after 1 \
             to 3 ms. `rslock` has no token either. A run makes 20 pairs. Eight processes acquire and release one name in a loop \
             for one second; an acquisition is a hand-over if another process held the lease \
             before.",
    syncs: false,
    ask,
};

const PAIRS: usize = 20;
const PROCESSES: usize = 8;

fn ask() -> Vec<Row> {
    let (Some(ours), Some(theirs)) = (Redis::several(5), Redis::several(5)) else {
        return Vec::new();
    };
    let (ours, theirs) = (url(&ours), url(&theirs));
    vec![
        alone(&ours, "the lock of `rslock`", &mut Rslock::connect(&theirs))
            .target(Target::AtMost(1.4)),
        alone(&ours, "five `SET NX` by hand", &mut Nodes::connect(&theirs)),
        hand_over(&ours),
    ]
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

fn alone(ours: &str, against: &'static str, theirs: &mut dyn Client) -> Row {
    let mut ours = Ours::connect(ours);
    run(&mut ours);
    run(theirs);
    let pairs = alternate(61, || run(&mut ours), || run(theirs));
    let (our_median, their_median) = medians(&pairs);
    Row::ratio("acquire and release, one client", against, &pairs)
        .context(format!("{our_median:.2} / {their_median:.2} ms"))
}

fn hand_over(url: &str) -> Row {
    let mut processes: Vec<Process> = (0..PROCESSES)
        .map(|_| Process::start("ours", url))
        .collect();
    let (mut acquired, mut handed_over) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        processes.iter_mut().for_each(|one| one.send("loop 1000"));
        let numbers: Vec<_> = processes.iter_mut().map(Process::numbers).collect();
        acquired.push(numbers.iter().map(|both| both[0]).sum::<f64>());
        handed_over.push(numbers.iter().map(|both| both[1]).sum::<f64>());
    }
    child::end(processes);
    let median = |values: &[f64]| crate::row::quantile(values, 0.5);
    Row {
        lower: false,
        ..Row::alone(
            "hand-overs a second, eight processes",
            median(&handed_over),
            "",
        )
    }
    .context(format!("{:.0} acquisitions a second", median(&acquired)))
}
