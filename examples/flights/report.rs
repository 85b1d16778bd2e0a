//! Turns rounds into results: medians, a table that compares the strategies, and a verdict.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::audit::Audits;
use crate::data::Dataset;
use crate::measure::{Round, SAMPLE_EVERY, histogram};
use crate::strategy::{Aborts, Entry, Group, Steps};
use crate::totals::Tally;

/// All results of the program. This is also the shape of the JSON.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) file: String,
    pub(crate) flights: usize,
    pub(crate) aircraft: usize,
    pub(crate) origins: usize,
    pub(crate) destinations: usize,
    pub(crate) threads: usize,
    pub(crate) repeat: usize,
    /// Whether an auditor ran beside every round, or only beside one more round that is not timed.
    pub(crate) audited: bool,
    /// One step in so many was timed.
    pub(crate) sample_every: usize,
    /// The least time that reading the clock adds to a step that was timed.
    pub(crate) clock_ns: u64,
    pub(crate) baseline: &'static str,
    /// One for each amount of work.
    pub(crate) runs: Vec<Run>,
    /// The totals of one pass; every round of every strategy arrived at `passes` times these.
    pub(crate) totals: Totals,
}

/// All strategies with one amount of work in each step.
#[derive(Debug, Serialize)]
pub(crate) struct Run {
    pub(crate) work_ns: u64,
    /// How often each round replayed all flights.
    pub(crate) passes: usize,
    pub(crate) strategies: Vec<Summary>,
}

/// The rounds of one strategy with one amount of work.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    pub(crate) timed: Vec<Round>,
    /// The audits of one more round, which is not timed because the auditor slows it down.
    pub(crate) extra_audits: Option<Audits>,
}

/// One strategy over all rounds.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    name: &'static str,
    group: Group,
    /// Whether a step is atomic, so that all of its audits must be consistent.
    atomic: bool,
    /// Median of the rounds.
    flights_per_second: f64,
    /// `flights_per_second` divided by that of the baseline.
    ratio: f64,
    /// Median of the rounds.
    waits: u64,
    /// Those of all rounds; `None` if steps do not abort.
    aborts: Option<Aborts>,
    /// Those of all rounds; `None` if the strategy detects no deadlocks.
    deadlocks: Option<u64>,
    /// Those of all rounds, or of the one round that was audited.
    audits: Option<Audits>,
    /// The timed steps of all rounds.
    step_ns: StepTimes,
    rounds: Vec<RoundSummary>,
}

#[derive(Debug, Serialize)]
struct StepTimes {
    samples: u64,
    p50: u64,
    p99: u64,
    #[serde(rename = "p99.9")]
    p99_9: u64,
    max: u64,
}

#[derive(Debug, Serialize)]
struct RoundSummary {
    seconds: f64,
    flights_per_second: f64,
    ratio: f64,
    waits: u64,
    aborts: Option<Aborts>,
    deadlocks: Option<u64>,
    audits: Option<Audits>,
}

/// The totals by name.
#[derive(Debug, Serialize)]
pub(crate) struct Totals {
    aircraft: BTreeMap<String, Aircraft>,
    departures: BTreeMap<String, u64>,
    arrivals: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize)]
struct Aircraft {
    miles: u64,
    flights: u64,
}

impl Totals {
    pub(crate) fn new(tally: &Tally, names: &Dataset) -> Self {
        let by_name = |names: &[String], counts: &[u64]| {
            let pairs = names.iter().cloned().zip(counts.iter().copied());
            pairs.collect()
        };
        Self {
            aircraft: (names.aircraft.iter().cloned())
                .zip(&tally.aircraft)
                .map(|(name, flown)| {
                    let (miles, flights) = (flown.miles, flown.flights);
                    (name, Aircraft { miles, flights })
                })
                .collect(),
            departures: by_name(&names.origins, &tally.departures),
            arrivals: by_name(&names.destinations, &tally.arrivals),
        }
    }
}

/// Sums up the rounds of a strategy, of `steps` each; `baseline` holds the baseline's rounds in the
/// same order.
pub(crate) fn summarise(
    entry: &Entry,
    steps: usize,
    rounds: &Rounds,
    baseline: &Rounds,
) -> Summary {
    let mut times = histogram();
    let each: Vec<RoundSummary> = std::iter::zip(&rounds.timed, &baseline.timed)
        .map(|(round, base)| {
            times
                .add(&round.steps)
                .expect("a histogram that resizes accepts any value");
            let seconds = round.elapsed.as_secs_f64();
            RoundSummary {
                seconds,
                flights_per_second: steps as f64 / seconds,
                ratio: base.elapsed.as_secs_f64() / seconds,
                waits: round.waits,
                aborts: round.aborts,
                deadlocks: round.deadlocks,
                audits: round.audits,
            }
        })
        .collect();
    let rate = median_rate(steps, rounds);
    Summary {
        name: entry.name,
        group: entry.group,
        atomic: entry.steps == Steps::Atomic,
        flights_per_second: rate,
        ratio: rate / median_rate(steps, baseline),
        waits: median(each.iter().map(|r| r.waits as f64).collect()).round() as u64,
        aborts: each.iter().map(|r| r.aborts).sum(),
        deadlocks: each.iter().map(|r| r.deadlocks).sum(),
        audits: (rounds.extra_audits).or_else(|| each.iter().map(|r| r.audits).sum()),
        step_ns: StepTimes::of(&times),
        rounds: each,
    }
}

fn median_rate(steps: usize, rounds: &Rounds) -> f64 {
    let rate = |round: &Round| steps as f64 / round.elapsed.as_secs_f64();
    median(rounds.timed.iter().map(rate).collect())
}

impl StepTimes {
    fn of(steps: &Histogram<u64>) -> Self {
        Self {
            samples: steps.len(),
            p50: steps.value_at_quantile(0.5),
            p99: steps.value_at_quantile(0.99),
            p99_9: steps.value_at_quantile(0.999),
            max: steps.max(),
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        (values[middle - 1] + values[middle]) / 2.0
    }
}

/// Columns of the terminal that the output needs at most.
const WIDTH: usize = 80;

/// Amounts of work side by side.
const BESIDE: usize = 2;

/// The text that the program prints.
pub(crate) fn text(report: &Report, details: bool) -> String {
    let passes = report.runs.iter().map(|run| {
        let passes = grouped(run.passes as u64);
        format!("{passes} with {}", amount(run.work_ns))
    });
    let mut out = format!(
        "\
{file}:
{flights}, {aircraft}, {origins}, {destinations}
{threads}, {rounds} of each strategy in turn
",
        file = report.file,
        flights = counted(report.flights, "flight", "flights"),
        aircraft = counted(report.aircraft, "aircraft", "aircraft"),
        origins = counted(report.origins, "origin", "origins"),
        destinations = counted(report.destinations, "destination", "destinations"),
        threads = counted(report.threads, "thread", "threads"),
        rounds = counted(report.repeat, "round", "rounds"),
    );
    let passes = listed(passes.collect());
    out += &wrapped("passes of the file in a round: ", &passes, 2);
    for runs in report.runs.chunks(BESIDE) {
        out += "\n";
        out += &comparison(runs);
    }
    out += "\n";
    out += &wrapped("", &verdict(report), 0);
    if details {
        for run in &report.runs {
            out += "\n";
            out += &detail(run);
        }
    }
    out += "\n";
    out += &legend(report, details);
    out
}

/// The strategies in their groups, with the rates of a few amounts of work side by side.
fn comparison(runs: &[Run]) -> String {
    let first = &runs[0];
    let mut lines = vec![String::new(); 2];
    lines[0] += &format!("{:14}", "");
    lines[1] += &format!("{:14}", "strategy");
    for run in runs {
        lines[0] += &format!("   {:->22}", format!(" {}", amount(run.work_ns)));
        lines[1] += &format!("{:>11}{:>6}{:>8}", "flights/s", "ratio", "p99 ns");
    }
    lines[0] += &format!("{:>16}", "inconsistent");
    lines[1] += &format!("{:>16}", "audits");
    let mut group = None;
    for i in by_group(&first.strategies) {
        let of = &first.strategies[i];
        if group != Some(of.group) {
            group = Some(of.group);
            lines.push(of.group.title().to_owned());
        }
        let mut line = format!("{:14}", format!("  {}", of.name));
        for run in runs {
            let of = &run.strategies[i];
            let rate = grouped(of.flights_per_second.round() as u64);
            line += &format!("{rate:>11}{:>6.2}{:>8}", of.ratio, short(of.step_ns.p99));
        }
        let audits: Option<Audits> = runs.iter().map(|run| run.strategies[i].audits).sum();
        let audits = audits.map_or(String::new(), |of| {
            format!("{} of {}", grouped(of.disagreed), grouped(of.made))
        });
        line += &format!("{audits:>16}");
        lines.push(line);
    }
    ended(lines.iter().map(|line| line.trim_end()))
}

/// The indices of the strategies, one group after the other.
fn by_group(strategies: &[Summary]) -> Vec<usize> {
    let of = |group| (0..strategies.len()).filter(move |&i| strategies[i].group == group);
    Group::ALL.into_iter().flat_map(of).collect()
}

/// One sentence: the fastest atomic strategy for each amount of work.
fn verdict(report: &Report) -> String {
    let mut named = "";
    let fastest = report.runs.iter().map(|run| {
        let atomic = run.strategies.iter().filter(|of| of.atomic);
        // The baseline is atomic and always run. Of equals, the first one is named.
        let best = atomic.reduce(|a, b| if b.ratio > a.ratio { b } else { a });
        let best = best.expect("the baseline is among the strategies");
        let subject = match named {
            "" => format!("{} is the fastest ", best.name),
            same if same == best.name => String::new(),
            _ => format!("{} ", best.name),
        };
        named = best.name;
        let factor = if best.name == report.baseline {
            String::new()
        } else {
            format!(" ({:.2} times {})", best.ratio, report.baseline)
        };
        format!("{subject}with {}{factor}", amount(run.work_ns))
    });
    let fastest = listed(fastest.collect());
    format!("Verdict: of the strategies whose steps are atomic, {fastest}.")
}

/// Times, waits, aborts and deadlocks with one amount of work.
fn detail(run: &Run) -> String {
    let mut lines = vec![format!(
        "{:16}{:>12}{:>12}{:>12}{:>14}",
        format!("{}:", amount(run.work_ns)),
        "p50 ns",
        "p99 ns",
        "p99.9 ns",
        "waits"
    )];
    let strategies = by_group(&run.strategies)
        .into_iter()
        .map(|i| &run.strategies[i]);
    for of in strategies.clone() {
        lines.push(format!(
            "{:16}{:>12}{:>12}{:>12}{:>14}",
            format!("  {}", of.name),
            short(of.step_ns.p50),
            short(of.step_ns.p99),
            short(of.step_ns.p99_9),
            grouped(of.waits)
        ));
    }
    let mut out = ended(lines.iter().map(|line| line.as_str()));
    for of in strategies {
        if let Some(aborts) = of.aborts {
            let line = format!(
                "{}: aborts in all rounds: {} by read conflicts, {} by write conflicts, {} wounded \
                 by an older transaction",
                of.name,
                grouped(aborts.read_conflicts),
                grouped(aborts.write_conflicts),
                grouped(aborts.overtaken)
            );
            out += &wrapped("", &line, 2);
        }
        if let Some(deadlocks) = of.deadlocks {
            let line = format!(
                "{}: deadlocks in all rounds: {}",
                of.name,
                grouped(deadlocks)
            );
            out += &wrapped("", &line, 2);
        }
    }
    out
}

/// The meaning of each column.
fn legend(report: &Report, details: bool) -> String {
    let mut entries = vec![
        (
            "work",
            "time that a step spends before it releases its locks or commits".to_owned(),
        ),
        ("flights/s", "median of the rounds".to_owned()),
        (
            "ratio",
            format!("flights/s divided by that of {}", report.baseline),
        ),
        (
            "p99 ns",
            format!(
                "99th percentile of the duration of a step, including its locks; one step in \
                 {SAMPLE_EVERY} is timed, and reading the clock adds at least {} ns",
                report.clock_ns
            ),
        ),
        (
            "audits",
            format!(
                "an auditor thread sums the totals {}; an audit is inconsistent if departures \
                 do not equal arrivals, which only steps that are not atomic may cause",
                if report.audited {
                    "during every round"
                } else {
                    "during one more round, which is not timed"
                }
            ),
        ),
    ];
    if details {
        entries.push((
            "waits",
            "median of the rounds: locks that were not free at once (mutexes, rwlocks), threads \
             that queued (lock-all, session), updates that were repeated (cells), attempts that \
             aborted (transactions)"
                .to_owned(),
        ));
    }
    let mut out = "Every total of every round equals that of a sequential run.\n".to_owned();
    for (name, meaning) in entries {
        let lead = format!("{name:10} ");
        out += &wrapped(&lead, &meaning, lead.len());
    }
    out
}

/// The lines of `lead` and `text`, broken at [`WIDTH`]; each line after the first is indented.
fn wrapped(lead: &str, text: &str, indent: usize) -> String {
    let (mut out, mut column) = (lead.to_owned(), lead.len());
    for (i, word) in text.split(' ').enumerate() {
        if i > 0 && column + 1 + word.len() > WIDTH {
            out = out + "\n" + &" ".repeat(indent);
            column = indent;
        } else if i > 0 {
            out.push(' ');
            column += 1;
        }
        out += word;
        column += word.len();
    }
    out.push('\n');
    out
}

fn ended<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// `a`, `a and b`, `a, b and c`.
fn listed(mut parts: Vec<String>) -> String {
    let last = parts.pop().unwrap_or_default();
    if parts.is_empty() {
        last
    } else {
        format!("{} and {last}", parts.join(", "))
    }
}

/// An amount of work in words.
fn amount(ns: u64) -> String {
    match ns {
        0 => "no work".to_owned(),
        ns if ns % 1_000 == 0 => format!("{} us of work", grouped(ns / 1_000)),
        ns => format!("{} ns of work", grouped(ns)),
    }
}

/// Nanoseconds in at most seven columns.
fn short(ns: u64) -> String {
    match ns {
        0..1_000_000 => grouped(ns),
        _ => format!("{} ms", grouped(ns / 1_000_000)),
    }
}

fn counted(n: usize, one: &str, many: &str) -> String {
    format!("{} {}", grouped(n as u64), if n == 1 { one } else { many })
}

/// `1234567` as `1,234,567`.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.char_indices() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
