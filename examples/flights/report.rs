//! Turns rounds into results: medians, and the table that people read.

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, Table, TableComponent, presets};
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::audit::Audits;
use crate::data::Dataset;
use crate::measure::{Round, SAMPLE_EVERY, histogram};
use crate::strategy::Aborts;
use crate::totals::Tally;

/// Everything that a run of the program found out. This is also the shape of the JSON.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) file: String,
    pub(crate) flights: usize,
    pub(crate) aircraft: usize,
    pub(crate) origins: usize,
    pub(crate) destinations: usize,
    pub(crate) threads: usize,
    pub(crate) work_ns: u64,
    /// How often each round replayed all flights.
    pub(crate) passes: usize,
    pub(crate) repeat: usize,
    pub(crate) audited: bool,
    /// Every how many steps one was timed.
    pub(crate) sample_every: usize,
    /// What reading the clock adds to each step that was timed, at the least.
    pub(crate) clock_ns: u64,
    pub(crate) baseline: &'static str,
    pub(crate) strategies: Vec<Summary>,
    /// The totals of one pass; every round of every strategy arrived at `passes` times these.
    pub(crate) totals: Totals,
}

/// One strategy over all rounds.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    name: &'static str,
    /// Median of the rounds.
    flights_per_second: f64,
    /// Median of the ratios to the baseline's throughput in the same round.
    ratio: f64,
    /// Median of the rounds.
    waits: u64,
    /// Those of all rounds; `None` if steps do not abort.
    aborts: Option<Aborts>,
    /// Those of all rounds; `None` if there are none to be found.
    deadlocks: Option<u64>,
    /// Those of all rounds; `None` if none was made.
    audits: Option<Audits>,
    /// The timed steps of all rounds.
    step_ns: Steps,
    rounds: Vec<RoundSummary>,
}

#[derive(Debug, Serialize)]
struct Steps {
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

/// Sums up the `rounds` of a strategy, of `steps` each; `baseline` holds the baseline's rounds in
/// the same order.
pub(crate) fn summarise(
    name: &'static str,
    steps: usize,
    rounds: &[Round],
    baseline: &[Round],
) -> Summary {
    let mut times = histogram();
    let rounds: Vec<RoundSummary> = rounds
        .iter()
        .zip(baseline)
        .map(|(round, base)| {
            times
                .add(&round.steps)
                .expect("a histogram that resizes takes any value");
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
    let median_of = |value: fn(&RoundSummary) -> f64| median(rounds.iter().map(value).collect());
    Summary {
        name,
        flights_per_second: median_of(|r| r.flights_per_second),
        ratio: median_of(|r| r.ratio),
        waits: median_of(|r| r.waits as f64).round() as u64,
        aborts: rounds.iter().map(|r| r.aborts).sum(),
        deadlocks: rounds.iter().map(|r| r.deadlocks).sum(),
        audits: rounds.iter().map(|r| r.audits).sum(),
        step_ns: Steps::of(&times),
        rounds,
    }
}

impl Steps {
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

/// What people read.
pub(crate) fn table(report: &Report) -> String {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    table.remove_style(TableComponent::HorizontalLines);
    table.remove_style(TableComponent::MiddleIntersections);
    let aborting = report.strategies.iter().any(|of| of.aborts.is_some());
    let abort_header = ABORT_HEADER.into_iter().filter(|_| aborting);
    let audit_header = ["audits", "disagreed"].into_iter();
    let audit_header = audit_header.filter(|_| report.audited);
    let locking = report.strategies.iter().any(|of| of.deadlocks.is_some());
    let deadlock_header = ["deadlocks"].into_iter().filter(|_| locking);
    let header = HEADER
        .into_iter()
        .chain(abort_header)
        .chain(deadlock_header);
    table.set_header(header.chain(audit_header));
    for summary in &report.strategies {
        let aborts = ABORT_COLUMNS.iter().filter(|_| aborting);
        let aborts = aborts.map(|count| {
            summary
                .aborts
                .map_or(String::new(), |of| grouped(count(of)))
        });
        let audits = summary
            .audits
            .into_iter()
            .flat_map(|of| [of.made, of.disagreed]);
        let row = [
            summary.name.to_owned(),
            grouped(summary.flights_per_second.round() as u64),
            format!("{:.2}", summary.ratio),
            grouped(summary.step_ns.p50),
            grouped(summary.step_ns.p99),
            grouped(summary.step_ns.p99_9),
            grouped(summary.waits),
        ];
        let deadlocks = [summary.deadlocks.map_or(String::new(), grouped)];
        let deadlocks = deadlocks.into_iter().filter(|_| locking);
        let row = row.into_iter().chain(aborts).chain(deadlocks);
        table.add_row(row.chain(audits.map(grouped)));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!(
        "\
{file}: {flights}, {aircraft}, {origins}, {destinations}
{threads}, {work} ns of work inside each step
{rounds} of each strategy in turn, {passes} of the file in a round
{table}
Every total of every round equals the sequential run's.
flights/s  median of the rounds
ratio      to {baseline} in the same round, median of the rounds
p50 ...    nanoseconds a step, from before its first lock to after its last unlock;
           one step in {SAMPLE_EVERY} is timed, reading the clock adds {clock} ns or more
waits      median of the rounds; for a mutex or rwlock, how often it was not free at once,
           for lock-all and session, how often a thread queued (after it had spun for a
           while), for cells, how often an update was made again because another thread had
           written, for transactions, how often a step was
{aborts}{deadlocks}{audits}",
        deadlocks = if locking { DEADLOCKS } else { "" },
        aborts = if aborting { ABORTS } else { "" },
        audits = if report.audited { AUDITS } else { "" },
        file = report.file,
        flights = counted(report.flights, "flight", "flights"),
        aircraft = counted(report.aircraft, "aircraft", "aircraft"),
        origins = counted(report.origins, "origin", "origins"),
        destinations = counted(report.destinations, "destination", "destinations"),
        threads = counted(report.threads, "thread", "threads"),
        work = grouped(report.work_ns),
        rounds = counted(report.repeat, "round", "rounds"),
        passes = counted(report.passes, "pass", "passes"),
        baseline = report.baseline,
        clock = report.clock_ns,
    )
}

const HEADER: [&str; 7] = [
    "strategy",
    "flights/s",
    "ratio",
    "p50 ns",
    "p99 ns",
    "p99.9 ns",
    "waits",
];

const ABORT_HEADER: [&str; 3] = ["read", "write", "overtaken"];

/// In the order of the header.
const ABORT_COLUMNS: [fn(Aborts) -> u64; 3] = [
    |of| of.read_conflicts,
    |of| of.write_conflicts,
    |of| of.overtaken,
];

const ABORTS: &str = "\
read ...   attempts of transactions that were lost, in all rounds: because a total had been
           written that was read, or was to be written, or because another was let past
";

const DEADLOCKS: &str = "\
deadlocks  how often a session was told to give way and began again, in all rounds
";

const AUDITS: &str = "\
audits     how often the totals were added up meanwhile, in all rounds
disagreed  in how many the departures did not equal the arrivals
";

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
