//! How much memory do more threads than cores leave that replace values without a pause?
//!
//! The high-water mark of memory is one of a process, and the memory that one contender leaves
//! would be another's gain. So each run is a process of its own: this program, with an option on
//! its command line.

use std::process::Command;
use std::time::Duration;

use arc_swap::ArcSwap;
use crossbeam_utils::CachePadded;
use latchwork::VersionedCell;
use latchwork_bench::cells::{ByHand, Read, Update, Value, updates_until};
use latchwork_bench::machine;
use latchwork_bench::ratio::{Plan, Quartiles};
use latchwork_bench::throughput;

use super::super::Question;
use super::{BY_HAND, RCU};
use crate::row::Row;

pub(in super::super) const QUESTION: Question = Question {
    name: "cells-crowd",
    title: "Cells: more threads than cores",
    prose: "8 threads update without a pause for 3 seconds, each a cell of its own on a cache line of its own, or all \
            the same cell. Each run is a process of its own, and the memory is the growth of its high-water mark \
            between the first update and the last. A thread that the system has suspended may be pinned, and then \
            holds back the garbage of all threads. The updates are counted in the end: none is lost.",
    measure,
};

/// The option that makes this program one run.
pub(crate) const OPTION: &str = "--crowd";

const THREADS: usize = 8;
pub(super) const OURS: &str = "`update`";
const CONTENDERS: [&str; 3] = [OURS, RCU, BY_HAND];

/// The result of one run.
#[derive(Clone, Copy)]
pub(super) struct Crowd {
    rate: f64,
    pub(super) grown_mib: f64,
}

fn measure(plan: Plan) -> Vec<Row> {
    let full = plan.rounds == Plan::FULL.rounds;
    let (rounds, span) = if full { (3, 3000) } else { (1, 500) };
    let mut rows = Vec::new();
    for (shape, cells) in [("each its own cell", THREADS), ("one cell", 1)] {
        let mut runs = CONTENDERS.map(|_| Vec::new());
        for round in 0..rounds {
            for turn in 0..CONTENDERS.len() {
                let which = (round + turn) % CONTENDERS.len();
                runs[which].push(in_a_process(CONTENDERS[which], THREADS, cells, span));
            }
        }
        let [ours, rcu, by_hand] = &runs;
        for (what, runs) in CONTENDERS.iter().zip(&runs) {
            let what = format!("8 threads, {shape}, {what}: memory");
            let grown = quartiles(runs.iter().map(|run| run.grown_mib));
            let row = Row::mebibytes(&what, grown);
            rows.push(if what.contains(OURS) {
                row.at_most(64.0)
            } else {
                row
            });
        }
        let what = format!("8 threads, {shape}, {OURS}");
        rows.push(rates(&what, ours, RCU, rcu).at_least(0.5));
        rows.push(rates(&what, ours, BY_HAND, by_hand));
    }
    rows
}

fn rates(what: &str, ours: &[Crowd], against: &str, theirs: &[Crowd]) -> Row {
    let rates = |runs: &[Crowd]| runs.iter().map(|run| run.rate).collect::<Vec<_>>();
    let (ours, theirs) = (rates(ours), rates(theirs));
    let result = latchwork_bench::ratio::Comparison {
        ratio: quartiles(ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs)),
        subject: quartiles(ours.iter().copied()).median,
        baseline: quartiles(theirs.iter().copied()).median,
    };
    Row::throughput(what, against, &result)
}

fn quartiles(values: impl Iterator<Item = f64>) -> Quartiles {
    Quartiles::of(values).expect("there is a round")
}

pub(super) fn in_a_process(contender: &str, threads: usize, cells: usize, millis: u64) -> Crowd {
    let numbers = [threads, cells, millis as usize].map(|number| number.to_string());
    let arguments = [contender.to_owned()].into_iter().chain(numbers);
    let printed = once_more(OPTION, &arguments.collect::<Vec<_>>());
    match numbers_of(&printed).as_deref() {
        Ok(&[rate, grown_mib]) => Crowd { rate, grown_mib },
        _ => panic!("two numbers are expected, not {printed}"),
    }
}

/// Runs this program once more, with an option and its arguments, and returns what it printed.
pub(crate) fn once_more(option: &str, arguments: &[String]) -> String {
    let program = std::env::current_exe().expect("a running program has a path");
    let output = Command::new(program)
        .arg(option)
        .args(arguments)
        .output()
        .expect("the program starts once more");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "a run failed: {errors}");
    String::from_utf8(output.stdout).expect("numbers are text")
}

/// The numbers of a text, which are all that it consists of.
pub(crate) fn numbers_of(text: &str) -> Result<Vec<f64>, String> {
    let numbers = text.split_whitespace();
    let number = |word: &str| word.parse().map_err(|error| format!("{word}: {error}"));
    numbers.map(number).collect()
}

/// Does one run, with the arguments that follow [`OPTION`], and prints updates a second and
/// mebibytes.
pub(crate) fn one_run(arguments: &[String]) -> Result<(), String> {
    let [contender, threads, cells, millis] = arguments else {
        return Err(format!("{OPTION} is for this program itself"));
    };
    let number = |text: &str| text.parse::<u64>().map_err(|e| format!("{text}: {e}"));
    let (cells, span) = (number(cells)?, Duration::from_millis(number(millis)?));
    let threads = number(threads)? as usize;
    let Crowd { rate, grown_mib } = match contender.as_str() {
        OURS => crowd(threads, cells, span, || VersionedCell::new(u64::FIRST)),
        RCU => crowd(threads, cells, span, || ArcSwap::from_pointee(u64::FIRST)),
        BY_HAND => crowd(threads, cells, span, || ByHand::new(u64::FIRST)),
        _ => return Err(format!("{contender} is no contender")),
    };
    println!("{rate} {grown_mib}");
    Ok(())
}

fn crowd<C: Update>(threads: usize, cells: u64, span: Duration, cell: impl Fn() -> C) -> Crowd
where
    for<'c> &'c C: Read<u64>,
{
    let cells: Vec<_> = (0..cells).map(|_| CachePadded::new(cell())).collect();
    let before = machine::most_memory_kib();
    let run = throughput::run(threads, span, |index, stop| {
        updates_until(&*cells[index % cells.len()], stop)
    });
    let grown = machine::most_memory_kib() - before;
    let counted: u64 = cells.iter().map(|cell| (&mut &**cell).read()).sum();
    assert_eq!(counted, run.done, "an update is lost");
    Crowd {
        rate: run.rate(),
        grown_mib: grown as f64 / 1024.0,
    }
}
