//! Replays a year of flights in parallel, each flight one step on two or three keys, and compares
//! strategies for that step.
//!
//! A flight adds to its aircraft (miles and flights), its origin (departures) and its destination
//! (arrivals). Every strategy must produce the totals of a sequential run, to the last mile. An
//! auditor thread sums the totals concurrently and counts the sums that are inconsistent.
//! Run it with `cargo run --release --example flights`, and with `-- --help` for the options.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use clap::builder::{PossibleValue, PossibleValuesParser, RangedU64ValueParser, TypedValueParser};
use indicatif::{ProgressBar, ProgressStyle};

use audit::Audits;
use data::MAX_STEPS;
use failure::Failure;
use json::JsonFile;
use measure::{Replay, SAMPLE_EVERY, Watch};
use report::{Report, Rounds, Run, Totals};
use strategy::{ALL, BASELINE, Entry, Steps};
use totals::Tally;
use work::Work;

mod audit;
mod data;
mod failure;
mod json;
mod measure;
mod report;
mod strategy;
mod totals;
mod work;

/// The shipped data, relative to the package.
const SHIPPED: &str = "examples/data/nycflights13.csv.gz";

/// Replays flights in parallel, each a step on its aircraft, origin and destination.
///
/// Every strategy replays all flights in each round and must arrive at exactly the totals of a
/// sequential run; a wrong total is exit code 1. Bad input is one line on stderr and exit code 2.
#[derive(Debug, Parser)]
#[command(name = "flights", verbatim_doc_comment, after_help = after_help())]
struct Cli {
    /// CSV file, plain or gzip, with columns tailnum, origin, dest and distance [default: shipped]
    ///
    /// Other columns are ignored, and the order is free. The shipped file has the flights that left
    /// New York in 2013.
    file: Option<PathBuf>,

    /// Threads that replay the flights [default: one for each available core]
    #[arg(long, value_name = "N", value_parser = count(1024))]
    threads: Option<usize>,

    /// Strategies to run, comma-separated or repeated [default: all]
    ///
    /// The global mutex is always run, because the ratios refer to it.
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = strategies())]
    strategy: Vec<&'static Entry>,

    /// Rounds; in each, all strategies run one after the other
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = count(10_000))]
    repeat: usize,

    /// Passes over the file in a round [default: enough for 0.1 s of the baseline]
    #[arg(long, value_name = "N", value_parser = count(1_000_000))]
    passes: Option<usize>,

    /// Nanoseconds of work inside each step, comma-separated or repeated
    ///
    /// The strategies run with each amount. A step works while it holds its locks, or before its
    /// transaction commits.
    #[arg(long, value_name = "NS", value_delimiter = ',', default_value = "0,1000",
          value_parser = nanoseconds())]
    work: Vec<u64>,

    /// Audit the totals during every round, instead of during one more round of each strategy
    ///
    /// An auditor thread sums departures and arrivals again and again, under the locks of the
    /// strategy or in a snapshot. The auditor competes with the steps, so the rates are lower. The
    /// steps of `cells` are not atomic, and some of their audits are inconsistent; an inconsistent
    /// audit of another strategy is exit code 1.
    #[arg(long)]
    audit: bool,

    /// Also print medians, tails, waits, aborts and deadlocks of each strategy
    #[arg(long)]
    details: bool,

    /// Also write all results to this file, which appears only when everything has succeeded
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn count(max: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=max)
}

fn nanoseconds() -> RangedU64ValueParser {
    RangedU64ValueParser::new().range(..=1_000_000)
}

fn strategies() -> impl TypedValueParser<Value = &'static Entry> {
    let names = ALL.iter().map(|e| PossibleValue::new(e.name).help(e.about));
    PossibleValuesParser::new(names).map(|name| {
        let known = ALL.iter().find(|entry| entry.name == name);
        known.expect("the parser lets only known names through")
    })
}

fn after_help() -> String {
    format!(
        "One step in {SAMPLE_EVERY} is timed for the latencies: reading the clock twice costs about as\n\
         much as a short step, so timing every step would measure the clock."
    )
}

fn main() -> ExitCode {
    failure::exit("flights", Cli::try_parse(), run)
}

fn run(cli: &Cli) -> Result<(), Failure> {
    let json = cli.json.as_deref().map(JsonFile::prepare).transpose();
    let json = json.map_err(Failure::usage)?;
    let path = cli.file.clone().unwrap_or_else(shipped);
    if json.as_ref().is_some_and(|json| json.is(&path)) {
        return Err(Failure::usage(
            "--json names the file that holds the flights",
        ));
    }
    let dataset = data::read(&path).map_err(Failure::usage)?;
    let expected = Tally::sequential(&dataset);

    let threads = match cli.threads {
        Some(threads) => threads,
        None => std::thread::available_parallelism().map_or(1, usize::from),
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|e| Failure::usage(format!("cannot start {threads} threads: {e}")))?;
    let chosen = chosen(&cli.strategy);
    let progress = progress_bar();
    let once = Replay {
        dataset: &dataset,
        pool: &pool,
        work: Work::nanos(0),
        passes: 1,
        watch: if cli.audit {
            Watch::Audited
        } else {
            Watch::Unaudited
        },
        progress: &progress,
    };
    progress.set_message("choosing the passes");
    let replays = amounts(&cli.work).into_iter().map(|work_ns| {
        let work = Work::nanos(work_ns);
        let passes = passes(cli.passes, &Replay { work, ..once })?;
        Ok((
            work_ns,
            Replay {
                work,
                passes,
                ..once
            },
        ))
    });
    let replays = replays.collect::<Result<Vec<_>, Failure>>()?;
    let rounds_of_each = cli.repeat + usize::from(!cli.audit);
    let passes: usize = replays.iter().map(|(_, replay)| replay.passes).sum();
    let steps = dataset.flights.len() * passes * chosen.len() * rounds_of_each;
    progress.reset();
    progress.set_length(steps as u64);
    let mut runs = Vec::new();
    for (work_ns, replay) in &replays {
        let run = run_all(*work_ns, replay, &chosen, cli.repeat, &expected);
        runs.push(run.inspect_err(|_| progress.finish_and_clear())?);
    }
    progress.finish_and_clear();

    let report = Report {
        file: path.display().to_string(),
        flights: dataset.flights.len(),
        aircraft: dataset.aircraft.len(),
        origins: dataset.origins.len(),
        destinations: dataset.destinations.len(),
        threads,
        repeat: cli.repeat,
        audited: cli.audit,
        sample_every: SAMPLE_EVERY,
        clock_ns: measure::clock_cost_ns(),
        baseline: BASELINE.name,
        runs,
        totals: Totals::new(&expected, &dataset),
    };
    print(&report::text(&report, cli.details))?;
    json.map_or(Ok(()), |file| file.write(&report))
        .map_err(Failure::usage)
}

/// The shipped data, named from the current directory where it lies below that.
fn shipped() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(SHIPPED);
    let here = std::env::current_dir().ok();
    match here.and_then(|here| Some(path.strip_prefix(here).ok()?.to_owned())) {
        Some(short) => short,
        None => path,
    }
}

/// The strategies to run, each once, the baseline first.
fn chosen(named: &[&'static Entry]) -> Vec<&'static Entry> {
    let wanted = |entry: &&Entry| {
        named.is_empty()
            || entry.name == BASELINE.name
            || named.iter().any(|n| n.name == entry.name)
    };
    ALL.iter().filter(wanted).collect()
}

/// The amounts of work, each once, in the order in which they were given.
fn amounts(given: &[u64]) -> Vec<u64> {
    let mut amounts = Vec::new();
    for &ns in given {
        if !amounts.contains(&ns) {
            amounts.push(ns);
        }
    }
    amounts
}

/// The passes over the file in each round: the given number, or enough for a round that is long
/// enough to be measured.
fn passes(asked: Option<usize>, once: &Replay<'_>) -> Result<usize, Failure> {
    let most = MAX_STEPS / once.dataset.flights.len();
    match asked {
        None => Ok(measure::passes_for(BASELINE.replay, once, most)),
        Some(asked) if asked > most => Err(Failure::usage(format!(
            "--passes {asked} is too much for this file: at most {most}"
        ))),
        Some(asked) => Ok(asked),
    }
}

/// Runs all strategies with one amount of work and sums up their rounds.
fn run_all(
    work_ns: u64,
    replay: &Replay<'_>,
    chosen: &[&'static Entry],
    repeat: usize,
    once: &Tally,
) -> Result<Run, Failure> {
    let rounds = rounds(replay, chosen, repeat, &once.times(replay.passes))?;
    let steps = replay.dataset.flights.len() * replay.passes;
    let strategies = std::iter::zip(chosen, &rounds)
        .map(|(entry, of)| report::summarise(entry, steps, of, &rounds[0]));
    Ok(Run {
        work_ns,
        passes: replay.passes,
        strategies: strategies.collect(),
    })
}

/// Runs all rounds and checks each; element `i` has the rounds of `chosen[i]`.
fn rounds(
    replay: &Replay<'_>,
    chosen: &[&'static Entry],
    repeat: usize,
    expected: &Tally,
) -> Result<Vec<Rounds>, Failure> {
    let mut rounds: Vec<Rounds> = chosen.iter().map(|_| Rounds::default()).collect();
    let checked = |entry: &'static Entry, replay: &Replay<'_>| {
        let round = (entry.replay)(replay);
        let checked = round.tally.check(expected, replay.dataset);
        checked.map_err(|wrong| Failure::failed(format!("{}: {wrong}", entry.name)))?;
        check_audits(entry, round.audits)?;
        Ok(round)
    };
    for round in 0..repeat {
        for turn in 0..chosen.len() {
            // Another strategy starts each round, so that none always runs after the same one.
            let i = (round + turn) % chosen.len();
            let name = chosen[i].name;
            let message = format!("round {} of {repeat}: {name}", round + 1);
            replay.progress.set_message(message);
            rounds[i].timed.push(checked(chosen[i], replay)?);
        }
    }
    if replay.watch == Watch::Unaudited {
        let audited = Replay {
            watch: Watch::Audited,
            ..*replay
        };
        for (entry, of) in std::iter::zip(chosen, &mut rounds) {
            replay
                .progress
                .set_message(format!("audit: {}", entry.name));
            of.extra_audits = checked(entry, &audited)?.audits;
        }
    }
    Ok(rounds)
}

/// No audit observes half of an atomic step.
fn check_audits(entry: &Entry, audits: Option<Audits>) -> Result<(), Failure> {
    match (entry.steps, audits) {
        (Steps::Atomic, Some(Audits { made, disagreed })) if disagreed > 0 => {
            Err(Failure::failed(format!(
                "{}: departures did not equal arrivals in {disagreed} of {made} audits",
                entry.name
            )))
        }
        _ => Ok(()),
    }
}

/// On stderr, and only if that is a terminal.
fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::no_length();
    if !bar.is_hidden() {
        let style = ProgressStyle::with_template("{wide_bar} {percent:>3}%  {msg}");
        bar.set_style(style.expect("the template is well-formed"));
        // Drawn by a thread of its own, so that no thread that is measured ever draws.
        bar.enable_steady_tick(Duration::from_millis(100));
    }
    bar
}

/// A reader that stops reading, as `head` does, is no error.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::usage(format!("cannot write to stdout: {e}")))
        }
        _ => Ok(()),
    }
}
