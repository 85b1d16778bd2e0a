//! Measures named questions over threads 1 to N, continues where it was interrupted, and draws the
//! results.
//!
//! ```text
//! cargo run --release -p latchwork-bench --bin sweep -- [--quick | --full] [--set NAMES] [--threads N] [--cores N]
//! ```

mod digest;
mod measure;
mod page;
mod plan;
mod plot;
mod raw;
mod table;
mod verdict;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use latchwork_bench::control::Control;
use latchwork_bench::scenarios::{self, Scenario, Setting};

use crate::digest::Answer;
use crate::plan::{Depth, Estimate, Plan};
use crate::raw::{Head, Raw};

/// Measures named questions over threads 1 to N and draws the results.
#[derive(Debug, Parser)]
#[command(after_help = "An interrupted sweep goes on where it stopped when it is started again.")]
struct Options {
    /// A few minutes: few and short runs
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
    /// Uses so many of the cores; without it all. The counts of threads then follow: 1 to 64 for 16
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    cores: Option<u16>,
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

/// Returns the time to make the structures of these settings, by making one of each scenario once.
fn making(left: &[(&Scenario, Setting)], runs: usize) -> Duration {
    let mut known: BTreeMap<&str, Duration> = BTreeMap::new();
    let time = |scenario: &Scenario, setting: Setting| {
        let start = Instant::now();
        // Without a run, what a structure makes when it is first used would not count.
        let load = scenario.contenders[0].build(setting);
        drop(load.run(1, Duration::from_micros(1), scenario.every));
        drop(load);
        start.elapsed()
    };
    let each = left.iter().map(|(scenario, setting)| {
        let one = known
            .entry(scenario.name)
            .or_insert_with(|| time(scenario, *setting));
        *one * scenario.contenders.len() as u32 * runs as u32
    });
    each.sum()
}

/// Measures what is not there yet: the settings that matter most first, until the time is up.
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
    let (mut left, there): (Vec<_>, Vec<_>) =
        scenarios.iter().flat_map(settings).partition(missing);
    if left.is_empty() {
        return Ok(());
    }
    left.sort_by_key(|(scenario, setting)| plan.importance(scenario, setting));
    let turns = |settings: &[(&Scenario, Setting)]| {
        let turns = settings.iter().map(|(of, _)| of.contenders.len());
        turns.sum::<usize>() * plan.depth.runs()
    };
    let estimate = Estimate::new(plan, turns(&left), making(&left, plan.depth.runs()));
    eprintln!(
        "{} settings to measure, {} are there; {} on a quiet machine. On a busy one it stops after {}, and those that \
         matter most are measured.",
        left.len(),
        there.len(),
        HumanDuration(estimate.calm),
        HumanDuration(estimate.most)
    );
    let start = Instant::now();
    let end = start + estimate.most;
    let style = "{elapsed_precise} {wide_bar} {percent:>3}%, {eta} left  {msg}";
    let style = ProgressStyle::with_template(style).map_err(|error| error.to_string())?;
    let mut done = turns(&there) as u64;
    let progress = ProgressBar::new(done + turns(&left) as u64).with_style(style);
    // The remaining time is estimated from the present measurements, and not from those of an
    // earlier sweep.
    progress.set_position(done);
    progress.reset_eta();
    let mut controls: BTreeMap<usize, Control> = BTreeMap::new();
    let mut measured = 0;
    for (scenario, setting) in &left {
        if Instant::now() >= end {
            break;
        }
        let threads = setting.threads;
        let noun = if threads == 1 { "thread" } else { "threads" };
        progress.set_message(format!("{}, {threads} {noun}", scenario.name));
        let control = controls
            .entry(threads)
            .or_insert_with(|| Control::new(threads, plan.depth.control_span()));
        let cell = measure::cell(scenario, *setting, plan, control, end, &progress);
        // A setting without a point stays missing, so that the next start measures it again.
        if digest::has_verdict(&cell, plan.depth) {
            raw.add(cell).map_err(|error| error.to_string())?;
            measured += 1;
        }
        done += turns(&[(scenario, *setting)]) as u64;
        progress.set_position(done);
    }
    progress.finish_and_clear();
    let took = HumanDuration(start.elapsed());
    match left.len() - measured {
        0 => eprintln!("measured in {took}"),
        rest => eprintln!(
            "ended after {took}: the machine was too busy for {rest} settings. Start it again to measure them."
        ),
    }
    Ok(())
}

/// Lets this process and its threads use so many cores only.
#[cfg(target_os = "linux")]
fn limit_cores(wanted: usize) -> Result<(), String> {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let said = |error: rustix::io::Errno| format!("the cores cannot be chosen: {error}");
    let allowed = sched_getaffinity(None).map_err(said)?;
    let mut chosen = CpuSet::new();
    let cores = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
    cores.take(wanted).for_each(|core| chosen.set(core));
    let found = chosen.count() as usize;
    if found < wanted {
        return Err(format!("there are {found} cores, and {wanted} are wanted"));
    }
    sched_setaffinity(None, &chosen).map_err(said)
}

#[cfg(not(target_os = "linux"))]
fn limit_cores(_: usize) -> Result<(), String> {
    Err("cores can be chosen on Linux only".to_owned())
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
    if let Some(cores) = options.cores {
        limit_cores(cores.into())?;
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
