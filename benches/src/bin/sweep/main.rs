//! Measures named questions over threads 1 to N, continues where it was interrupted, and draws the
//! results.
//!
//! ```text
//! cargo run --release -p latchwork-bench --bin sweep -- [--quick | --full] [--set NAMES] [--threads N]
//! ```

mod digest;
mod measure;
mod page;
mod plan;
mod plot;
mod raw;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use latchwork_bench::control::Control;
use latchwork_bench::scenarios::{self, Scenario, Setting};

use crate::digest::Answer;
use crate::plan::{Depth, Plan};
use crate::raw::{Head, Raw};

/// Measures named questions over threads 1 to N and draws the results.
#[derive(Debug, Parser)]
#[command(after_help = "An interrupted sweep goes on where it stopped when it is started again.")]
struct Options {
    /// Two minutes: few and short runs
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// A night: every number of threads, many and long runs
    #[arg(long)]
    full: bool,
    /// Sets or questions, separated by commas; without it all of them
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    set: Vec<String>,
    /// Threads at the most; without it four for each core, or two if it is quick
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// The folder for raw.jsonl, table.txt and index.html
    #[arg(long, value_name = "FOLDER", default_value = "report")]
    out: PathBuf,
    /// Start anew, and discard the contents of the folder
    #[arg(long)]
    fresh: bool,
    /// Names the questions, and does nothing
    #[arg(long)]
    list: bool,
}

impl Options {
    fn depth(&self) -> Depth {
        match (self.quick, self.full) {
            (true, _) => Depth::Quick,
            (_, true) => Depth::Full,
            _ => Depth::Usual,
        }
    }
}

/// The scenarios of these names, or all.
fn chosen(names: &[String]) -> Result<Vec<Scenario>, String> {
    let all = scenarios::all();
    let is = |scenario: &Scenario, name: &str| scenario.name == name || scenario.set == name;
    let unknown = |name: &&String| !all.iter().any(|scenario| is(scenario, name));
    if let Some(name) = names.iter().find(unknown) {
        return Err(format!("there is no '{name}'; --list names what there is"));
    }
    let wanted =
        |scenario: &Scenario| names.is_empty() || names.iter().any(|name| is(scenario, name));
    Ok(all.into_iter().filter(wanted).collect())
}

/// Measures what is not there yet.
fn sweep(scenarios: &[Scenario], raw: &mut Raw) -> Result<(), String> {
    let plan = raw.head.plan;
    let settings = |scenario| {
        let settings = plan.settings(scenario).into_iter();
        settings.map(move |setting| (scenario, setting))
    };
    let missing = |(scenario, setting): &(&Scenario, Setting)| {
        let found = raw.find(scenario.name, setting.threads, setting.value);
        found.is_none()
    };
    let (left, there): (Vec<_>, Vec<_>) = scenarios.iter().flat_map(settings).partition(missing);
    if left.is_empty() {
        return Ok(());
    }
    let turns = |settings: &[(&Scenario, Setting)]| {
        let turns = settings.iter().map(|(of, _)| of.contenders.len());
        (turns.sum::<usize>() * plan.depth.runs()) as u64
    };
    let least = Duration::from_secs_f64(turns(&left) as f64 * plan.turn().as_secs_f64());
    eprintln!(
        "{} settings to measure, {} are there; at least {}, twice that where the machine is disturbed",
        left.len(),
        there.len(),
        HumanDuration(least)
    );
    let style = "{elapsed_precise} {wide_bar} {percent:>3}%, {eta} left  {msg}";
    let style = ProgressStyle::with_template(style).map_err(|error| error.to_string())?;
    let mut done = turns(&there);
    let progress = ProgressBar::new(done + turns(&left)).with_style(style);
    // The remaining time is estimated from the present measurements, and not from those of an
    // earlier sweep.
    progress.set_position(done);
    progress.reset_eta();
    let mut control: Option<(usize, Control)> = None;
    for (scenario, setting) in left {
        let threads = setting.threads;
        let noun = if threads == 1 { "thread" } else { "threads" };
        progress.set_message(format!("{}, {threads} {noun}", scenario.name));
        let control = match control.take() {
            Some(kept) if kept.0 == threads => control.insert(kept),
            _ => control.insert((threads, Control::new(threads, plan.depth.control_span()))),
        };
        let cell = measure::cell(scenario, setting, plan, &control.1, &progress);
        raw.add(cell).map_err(|error| error.to_string())?;
        done += turns(&[(scenario, setting)]);
        progress.set_position(done);
    }
    progress.finish_and_clear();
    Ok(())
}

fn write(folder: &Path, name: &str, text: &str) -> Result<(), String> {
    let path = folder.join(name);
    fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
}

fn run(options: &Options) -> Result<(), String> {
    let scenarios = chosen(&options.set)?;
    if options.list {
        for scenario in &scenarios {
            println!(
                "{:<13} {:<12} {}",
                scenario.set, scenario.name, scenario.title
            );
        }
        return Ok(());
    }
    if cfg!(debug_assertions) {
        eprintln!("this is not optimised: its numbers say nothing");
    }
    let folder = &options.out;
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let path = folder.join("raw.jsonl");
    if options.fresh && path.exists() {
        fs::remove_file(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let plan = Plan::new(options.depth(), options.threads.map(usize::from));
    let mut raw = Raw::open(&path, Head::here(plan))?;
    sweep(&scenarios, &mut raw)?;
    // All that the folder has, whatever was asked for this time.
    let all = scenarios::all();
    let answers: Vec<_> = all
        .iter()
        .filter_map(|scenario| Answer::of(scenario, &raw.cells, plan.depth))
        .collect();
    let table = table::text(&raw.head, &answers);
    print!("{table}");
    write(folder, "table.txt", &table)?;
    write(folder, "index.html", &page::html(&raw.head, &answers)?)?;
    eprintln!("{}", folder.join("index.html").display());
    Ok(())
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
