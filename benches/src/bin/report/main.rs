//! Measures every figure that the documentation quotes and prints them as Markdown.
//!
//! ```text
//! cargo run --release -p latchwork-bench --bin report -- [--quick] [--only NAMES [--add FILE]] [--write FILE]
//! cargo run --release -p latchwork-bench --bin report -- --summary FILE
//! cargo run --release -p latchwork-bench --bin report -- --map-counts KEYS
//! ```

mod next_best;
mod questions;
mod render;
mod row;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use latchwork_bench::heap::CountingAllocator;
use latchwork_bench::ratio::Plan;

use crate::questions::cells::{crowd, memory};
use crate::questions::{ALL, map, two_threads};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const USAGE: &str = "\
usage: report [--quick] [--only NAMES [--add FILE]] [--write FILE]
       report --summary FILE
       report --map-counts KEYS
  --quick       fewer and shorter rounds, for a look in passing
  --only NAMES  these questions only, separated by commas; an unknown name lists them
  --add FILE    also put the answers into the report in FILE, marked as measured apart
  --write FILE  also write the report to FILE; not with --only
  --summary FILE  measure nothing; rebuild the first sections of FILE from its tables
  --map-counts KEYS  let so many keys pass through a map, and print what is the same in every run";

/// The request of the command line.
#[derive(Debug, Default)]
struct Options {
    quick: bool,
    only: Option<String>,
    add: Option<PathBuf>,
    write: Option<PathBuf>,
    summary: Option<PathBuf>,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--quick" => options.quick = true,
                "--only" => options.only = Some(value()?),
                "--add" => options.add = Some(value()?.into()),
                "--write" => options.write = Some(value()?.into()),
                "--summary" => options.summary = Some(value()?.into()),
                _ => return Err(format!("{argument} is not an option")),
            }
        }
        if options.only.is_some() && options.write.is_some() {
            return Err("a report in part is not worth keeping".to_owned());
        }
        if options.add.is_some() && (options.only.is_none() || options.quick) {
            return Err("--add goes with --only, and not with --quick".to_owned());
        }
        let measures = options.quick || options.only.is_some() || options.write.is_some();
        if options.summary.is_some() && measures {
            return Err("--summary measures nothing, so it excludes the other options".to_owned());
        }
        Ok(options)
    }
}

fn run() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first().map(|(a, of)| (a.as_str(), of)) {
        Some((crowd::OPTION, of)) => return crowd::one_run(of),
        Some((memory::OPTION, of)) => return memory::one_run(of),
        Some((two_threads::OPTION, of)) => return two_threads::one_run(of),
        Some((map::COUNTS, of)) => return map::counts_once(of),
        Some((map::BYTES, of)) => return map::bytes_once(of),
        _ => {}
    }
    let options =
        Options::parse(arguments.into_iter()).map_err(|error| format!("{error}\n{USAGE}"))?;
    let of_file = |file: &Path, error: std::io::Error| format!("{}: {error}", file.display());
    if let Some(file) = &options.summary {
        let old = std::fs::read_to_string(file);
        return old
            .and_then(|old| std::fs::write(file, render::with_summary(&old)))
            .map_err(|error| of_file(file, error));
    }
    let only: Option<Vec<_>> = options
        .only
        .as_deref()
        .map(|only| only.split(',').collect());
    let is_known = |name: &&str| ALL.iter().any(|question| question.name == *name);
    let is_chosen = |name| only.as_ref().is_none_or(|only| only.contains(&name));
    let chosen: Vec<_> = ALL
        .iter()
        .filter(|question| is_chosen(question.name))
        .collect();
    if !only.iter().flatten().all(is_known) {
        let names: Vec<_> = ALL.iter().map(|question| question.name).collect();
        return Err(format!("the questions are: {}", names.join(", ")));
    }
    let plan = if options.quick {
        Plan::QUICK
    } else {
        Plan::FULL
    };
    let mut answers = Vec::new();
    for question in chosen {
        eprintln!("measuring: {}", question.name);
        answers.push((question, (question.measure)(plan)));
    }
    let report = render::report(&answers, options.quick);
    println!("{report}");
    let (file, text) = match (&options.write, &options.add) {
        (Some(file), _) => (file, Ok(report)),
        (None, Some(file)) => {
            let old = std::fs::read_to_string(file);
            (file, old.map(|old| render::added(old, &answers)))
        }
        (None, None) => return Ok(()),
    };
    text.and_then(|text| std::fs::write(file, text))
        .map_err(|error| of_file(file, error))
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
