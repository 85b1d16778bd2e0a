//! Replays a year of flights in parallel, each flight one step on two or three keys, and compares
//! ways to make that step.
//!
//! A flight adds to its aircraft (miles and flights), its origin (departures) and its destination
//! (arrivals). Every strategy has to arrive at the totals of a sequential run, to the last mile;
//! with `--audit`, somebody looks meanwhile whether as many flights have departed as arrived.
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
use json::JsonFile;
use measure::{Replay, Round, SAMPLE_EVERY, Watch};
use report::{Report, Totals};
use strategy::{ALL, BASELINE, Entry, Steps};
use totals::Tally;
use work::Work;

mod audit;
mod data;
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
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = count(10_000))]
    repeat: usize,

    /// How often a round replays the whole file [default: as often as takes the baseline 0.1 s]
    #[arg(long, value_name = "N", value_parser = count(1_000_000))]
    passes: Option<usize>,

    /// Nanoseconds of work inside each step, while its locks, if any, are held
    #[arg(long, value_name = "NS", default_value_t = 0, value_parser = nanoseconds())]
    work: u64,

    /// Meanwhile add up the totals: departures must equal arrivals
    ///
    /// One more thread does so again and again, under the locks of the strategy or in a snapshot, and
    /// the table shows how often, and in how many audits the sums did not agree. With `cells` some do not, for its
    /// steps are not atomic; with the others that is exit code 1.
    #[arg(long)]
    audit: bool,

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

/// Why the program ends early: its exit code and the one line that it says.
#[derive(Debug)]
struct Failure {
    code: u8,
    line: String,
}

impl Failure {
    fn usage(line: impl ToString) -> Self {
        let line = line.to_string();
        Self { code: 2, line }
    }

    fn wrong_total(line: impl ToString) -> Self {
        let line = line.to_string();
        Self { code: 1, line }
    }
}

fn main() -> ExitCode {
    let result = match Cli::try_parse() {
        Ok(cli) => run(&cli),
        Err(e) if e.use_stderr() => Err(Failure::usage(on_one_line(&e))),
        Err(help) => {
            let _ = help.print();
            Ok(())
        }
    };
    let Err(Failure { code, line }) = result else {
        return ExitCode::SUCCESS;
    };
    // One line, whatever a path or a field contains. If stderr is gone, the exit code alone has to
    // tell.
    let line = line.replace(char::is_control, "?");
    let _ = writeln!(io::stderr(), "flights: {line}");
    ExitCode::from(code)
}

/// What clap has to say about the command line, without its hints and usage.
fn on_one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let said = text.lines().take_while(|line| !line.trim().is_empty());
    said.map(str::trim).collect::<Vec<_>>().join(" ")
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
    let mut replay = Replay {
        dataset: &dataset,
        pool: &pool,
        work: Work::nanos(cli.work),
        passes: 1,
        watch: if cli.audit {
            Watch::Audited
        } else {
            Watch::Unaudited
        },
        progress: &progress,
    };
    replay.passes = passes(cli.passes, &replay)?;
    let steps = dataset.flights.len() * replay.passes;
    progress.reset();
    progress.set_length((steps * chosen.len() * cli.repeat) as u64);
    let rounds = rounds(&replay, &chosen, cli.repeat, &expected.times(replay.passes));
    progress.finish_and_clear();
    let rounds = rounds?;

    let report = Report {
        file: path.display().to_string(),
        flights: dataset.flights.len(),
        aircraft: dataset.aircraft.len(),
        origins: dataset.origins.len(),
        destinations: dataset.destinations.len(),
        threads,
        work_ns: cli.work,
        passes: replay.passes,
        repeat: cli.repeat,
        audited: cli.audit,
        sample_every: SAMPLE_EVERY,
        clock_ns: measure::clock_cost_ns(),
        baseline: BASELINE.name,
        strategies: std::iter::zip(&chosen, &rounds)
            .map(|(entry, of)| report::summarise(entry.name, steps, of, &rounds[0]))
            .collect(),
        totals: Totals::new(&expected, &dataset),
    };
    print(&report::table(&report))?;
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

/// How often a round replays all flights: as asked, or as often as makes it long enough to be
/// measured.
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

/// Runs all rounds and checks each; the rounds of `chosen[i]` are in the `i`th vector.
fn rounds(
    replay: &Replay<'_>,
    chosen: &[&'static Entry],
    repeat: usize,
    expected: &Tally,
) -> Result<Vec<Vec<Round>>, Failure> {
    let mut rounds: Vec<Vec<Round>> = chosen.iter().map(|_| Vec::new()).collect();
    for round in 0..repeat {
        for turn in 0..chosen.len() {
            // Another strategy starts each round, so that none always runs after the same one.
            let i = (round + turn) % chosen.len();
            let name = chosen[i].name;
            let message = format!("round {} of {repeat}: {name}", round + 1);
            replay.progress.set_message(message);
            let result = (chosen[i].replay)(replay);
            let checked = result.tally.check(expected, replay.dataset);
            checked.map_err(|wrong| Failure::wrong_total(format!("{name}: {wrong}")))?;
            check_audits(chosen[i], result.audits)?;
            rounds[i].push(result);
        }
    }
    Ok(rounds)
}

/// An atomic step is never seen half done.
fn check_audits(entry: &Entry, audits: Option<Audits>) -> Result<(), Failure> {
    match (entry.steps, audits) {
        (Steps::Atomic, Some(Audits { made, disagreed })) if disagreed > 0 => {
            Err(Failure::wrong_total(format!(
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

/// A reader that has seen enough, as `head` has, is no error.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::usage(format!("cannot write to stdout: {e}")))
        }
        _ => Ok(()),
    }
}
