//! The table at the end: what happened, and whether the totals are right.

use std::io::{self, Write};

use crate::Cli;
use crate::crew::Outcome;
use crate::data::Dataset;
use crate::shards::{Subject, Total, Totals};

/// A total that differs from the sequential run.
#[derive(Debug)]
pub(crate) struct Difference {
    name: String,
    expected: Total,
    found: Total,
}

/// Returns the totals that differ from those of the sequential run.
pub(crate) fn differences(data: &Dataset, expected: &Totals, found: &Totals) -> Vec<Difference> {
    let mut subjects: Vec<_> = expected.0.keys().chain(found.0.keys()).copied().collect();
    subjects.sort_unstable();
    subjects.dedup();
    let total = |totals: &Totals, subject| totals.0.get(&subject).copied().unwrap_or_default();
    subjects
        .into_iter()
        .filter(|&subject| total(expected, subject) != total(found, subject))
        .map(|subject| Difference {
            name: name(data, subject),
            expected: total(expected, subject),
            found: total(found, subject),
        })
        .collect()
}

fn name(data: &Dataset, subject: Subject) -> String {
    let of = |names: &[String], id: u32| {
        let name = names.get(id as usize);
        name.cloned().unwrap_or_else(|| "unknown".to_owned())
    };
    match subject {
        Subject::Aircraft(id) => format!("aircraft {}", of(&data.aircraft, id)),
        Subject::Origin(id) => format!("departures {}", of(&data.origins, id)),
        Subject::Destination(id) => format!("arrivals {}", of(&data.destinations, id)),
    }
}

/// How many wrong totals the table lists.
const LISTED: usize = 8;

/// Prints the table.
pub(crate) fn print(cli: &Cli, outcome: &Outcome, wrong: &[Difference]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let seconds = outcome.took.as_secs_f64();
    let takeovers = &outcome.takeovers;
    let mut row = |name: &str, value: String| writeln!(out, "{name:34} {value:>12}");
    row("worker processes", cli.workers.to_string())?;
    row("seconds", format!("{seconds:.1}"))?;
    row(
        "flights a second",
        format!("{:.0}", outcome.flights as f64 / seconds),
    )?;
    row("workers killed", outcome.killed.to_string())?;
    row(
        "workers stopped past their lease",
        outcome.stopped.to_string(),
    )?;
    row("shards taken over", takeovers.len().to_string())?;
    if !takeovers.is_empty() {
        let time = |q| format!("{:.2} s", takeovers.value_at_quantile(q) as f64 / 1000.0);
        row("time to take over, p50", time(0.5))?;
        row("time to take over, p99", time(0.99))?;
    }
    row("losses noticed by the worker", outcome.noticed.to_string())?;
    row(
        "late writes refused by the fence",
        outcome.refused.to_string(),
    )?;
    row("totals that are wrong", wrong.len().to_string())?;
    let surplus: i64 = wrong
        .iter()
        .filter(|d| d.name.starts_with("departures"))
        .map(|d| d.found.flights - d.expected.flights)
        .sum();
    row("flights counted more than once", surplus.to_string())?;
    for difference in wrong.iter().take(LISTED) {
        let Difference {
            name,
            expected,
            found,
        } = difference;
        writeln!(
            out,
            "  {name}: {} flights instead of {}, {} miles instead of {}",
            found.flights, expected.flights, found.miles, expected.miles
        )?;
    }
    if wrong.len() > LISTED {
        writeln!(out, "  and {} more", wrong.len() - LISTED)?;
    }
    match (wrong.is_empty(), cli.no_fence) {
        (true, false) => writeln!(out, "All totals equal those of the sequential run."),
        (true, true) => writeln!(
            out,
            "No late write happened in this run; try another --seed."
        ),
        (false, _) => writeln!(out, "The totals are damaged."),
    }
}
