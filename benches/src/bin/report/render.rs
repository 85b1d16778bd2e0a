//! Turns measured rows into the Markdown of the report.

use std::fmt::Write as _;

use latchwork_bench::machine::{Machine, peers_in_words, today};
use latchwork_bench::ratio::Plan;

use crate::next_best;
use crate::questions::Question;
use crate::row::{Row, Sense, Target};

/// The heading of the summary.
const SUMMARY: &str = "## Where it falls short\n";

/// Renders the whole report.
pub(crate) fn report(answers: &[(&Question, Vec<Row>)], quick: bool) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = head(&mut text, quick);
    for (question, rows) in answers {
        let _ = section(&mut text, question, rows);
    }
    with_summary(&text)
}

/// Inserts answers into an existing report. Each replaces its section or is appended, with a note
/// that it was measured apart. The summary is made anew.
pub(crate) fn added(mut report: String, answers: &[(&Question, Vec<Row>)]) -> String {
    for (question, rows) in answers {
        let mut new = String::new();
        let _ = section(&mut new, question, rows);
        let _ = apart(&mut new, question, rows);
        let heading = format!("## {}\n", question.title);
        let start = report.find(&heading).unwrap_or(report.len());
        let end = report[start..]
            .find("\n## ")
            .filter(|_| start < report.len());
        let end = end.map_or(report.len(), |length| start + length + 1);
        report.replace_range(start..end, &new);
    }
    with_summary(&report)
}

/// The report with what is made from its tables, the comparison with the next best and the list of
/// misses: they depend on nothing else, so that they agree with whichever sections were measured
/// last.
pub(crate) fn with_summary(report: &str) -> String {
    let measured = without(&without(report, next_best::HEADING), SUMMARY);
    let entries = entries(&measured);
    let mut made = String::new();
    // Writing to a string does not fail.
    let _ = next_best::table(&mut made, &entries);
    let _ = summarise(&mut made, &entries);
    let first = measured.find("\n## ").map_or(measured.len(), |at| at + 1);
    [&measured[..first], &made, &measured[first..]].concat()
}

/// The report without the section that a heading begins.
fn without(report: &str, heading: &str) -> String {
    let Some(start) = report.find(heading) else {
        return report.to_owned();
    };
    let body = start + heading.len();
    let end = report[body..].find("\n## ").map(|length| body + length + 1);
    [&report[..start], &report[end.unwrap_or(report.len())..]].concat()
}

/// The note that a section was measured apart, with the machine on which it was.
fn apart(text: &mut String, question: &Question, rows: &[Row]) -> std::fmt::Result {
    let machine = Machine::here();
    let judged = rows.iter().filter(|row| row.reached().is_some()).count();
    let reached = rows.iter().filter(|row| row.reached() == Some(true));
    writeln!(
        text,
        "Measured apart on {} by the same program with `--only {} --add benches/REPORT.md` (the whole report does it too): \
         {}, {} cores, {}; {}. {} of {judged} targets are reached.\n",
        today(),
        question.name,
        machine.cpu,
        machine.cores,
        machine.rustc,
        peers_in_words(),
        reached.count(),
    )
}

fn head(text: &mut String, quick: bool) -> std::fmt::Result {
    let machine = Machine::here();
    let plan = if quick { Plan::QUICK } else { Plan::FULL };
    let arguments = if quick { " --quick" } else { "" };
    writeln!(text, "# Report of the benchmarks\n")?;
    writeln!(
        text,
        "Written by `cargo run --release -p latchwork-bench --bin report --{arguments} --write benches/REPORT.md`; \
         edit the generator, not this file.\n"
    )?;
    writeln!(text, "| | |\n|---|---|")?;
    writeln!(text, "| date | {} |", today())?;
    writeln!(text, "| processor | {} |", machine.cpu)?;
    writeln!(text, "| cores | {} |", machine.cores)?;
    writeln!(text, "| system | {} |", machine.system)?;
    writeln!(text, "| compiler | {} |", machine.rustc)?;
    writeln!(text, "| peers | {} |\n", peers_in_words())?;
    writeln!(
        text,
        "Each ratio is ours divided by the baseline's, both measured in one process and in turn: {rounds} rounds, \
         {rebuilds} times over with everything built anew, a run lasting {span} ms on one thread and {crowd} ms on \
         several; of a run on one thread the fastest quarter counts. The ratio is the median over all rounds, with the quartiles beside it. The column `context` gives the \
         median results themselves, ours first: they are context, not evidence, for the same program runs two or \
         three times slower a minute later on a shared machine. Targets were set before anything was measured; a \
         row without one is information. A row that compares ours with a peer says whether a lower or a higher number \
         is better.\n",
        rounds = plan.rounds,
        rebuilds = plan.rebuilds,
        span = plan.span.as_millis(),
        crowd = plan.crowd_span.as_millis(),
    )
}

/// One row of a table, as the report shows it.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    /// The title of its section.
    pub(crate) section: &'a str,
    pub(crate) what: &'a str,
    pub(crate) against: &'a str,
    target: &'a str,
    pub(crate) median: &'a str,
    quartiles: &'a str,
    reached: &'a str,
    pub(crate) better: &'a str,
}

/// The rows of all tables.
pub(crate) fn entries(report: &str) -> Vec<Entry<'_>> {
    let (mut found, mut columns, mut section) = (Vec::new(), Vec::new(), "");
    for line in report.lines() {
        section = line.strip_prefix("## ").unwrap_or(section);
        let Some(cells) = line.strip_prefix('|').and_then(|l| l.strip_suffix('|')) else {
            columns.clear();
            continue;
        };
        let cells: Vec<&str> = cells.split('|').map(str::trim).collect();
        if cells[0] == "what" {
            columns = cells;
        } else if !columns.is_empty() && !cells[0].starts_with("---") {
            let cell = |name: &str| {
                let column = columns.iter().position(|column| *column == name);
                column.and_then(|at| cells.get(at)).copied().unwrap_or("")
            };
            found.push(Entry {
                section,
                what: cell("what"),
                against: cell("against"),
                target: cell("target"),
                median: cell("median"),
                quartiles: cell("quartiles"),
                reached: cell("reached"),
                better: cell("better"),
            });
        }
    }
    found
}

impl Entry<'_> {
    fn name(&self) -> String {
        if self.against.is_empty() {
            self.what.to_owned()
        } else {
            format!("{}, against {}", self.what, self.against)
        }
    }

    /// How many times the median is beyond the target, if the target is missed.
    fn missed_by(&self) -> Option<f64> {
        if self.reached != "**no**" {
            return None;
        }
        let bound = self.target.trim_start_matches(['≤', '≥', ' ']);
        let (Some(median), Some(bound)) = (parsed(self.median), parsed(bound)) else {
            return Some(f64::INFINITY);
        };
        Some(if self.target.starts_with('≤') {
            median / bound
        } else {
            bound / median
        })
    }

    /// How many times the peer is better: less than 1 if it is not. `None`: no peer was measured.
    pub(crate) fn slowness(&self) -> Option<f64> {
        let median = parsed(self.median)?;
        match self.better {
            "lower" => Some(median),
            "higher" => Some(1.0 / median),
            _ => None,
        }
    }

    /// How many times the peer is better, if three quarters of the rounds agree that it is. A
    /// quartile that is rounded to 1 counts for the peer.
    pub(crate) fn lost_by(&self) -> Option<f64> {
        let (lower, upper) = self.quartiles()?;
        let is_agreed = match self.better {
            "lower" => lower >= 1.0,
            _ => upper <= 1.0,
        };
        self.slowness().filter(|lost| is_agreed && *lost > 1.0)
    }

    /// How many times this crate is better, if three quarters of the rounds agree that it is.
    pub(crate) fn won_by(&self) -> Option<f64> {
        let (lower, upper) = self.quartiles()?;
        let is_agreed = match self.better {
            "lower" => upper < 1.0,
            _ => lower > 1.0,
        };
        let won = self.slowness().map(|slowness| 1.0 / slowness);
        won.filter(|won| is_agreed && *won > 1.0)
    }

    fn quartiles(&self) -> Option<(f64, f64)> {
        match self.quartiles.split_once(" to ") {
            Some((lower, upper)) => Some((parsed(lower)?, parsed(upper)?)),
            None => parsed(self.median).map(|median| (median, median)),
        }
    }
}

/// The number with which a cell begins.
fn parsed(cell: &str) -> Option<f64> {
    cell.split(' ').next()?.parse().ok()
}

/// The missed targets, and the rows in which a peer is the better choice; the largest first.
fn summarise(text: &mut String, entries: &[Entry<'_>]) -> std::fmt::Result {
    let judged = entries.iter().filter(|entry| !entry.reached.is_empty());
    let missed = by_size(entries, Entry::missed_by);
    let lost = by_size(entries, Entry::lost_by);
    let judged = judged.count();
    writeln!(text, "{SUMMARY}")?;
    writeln!(
        text,
        "{} of {judged} targets are reached.",
        judged - missed.len()
    )?;
    for entry in missed {
        writeln!(
            text,
            "- Missed: {}: {}, target {}.",
            entry.name(),
            entry.median,
            entry.target
        )?;
    }
    if lost.is_empty() {
        writeln!(text, "\nNo baseline or peer was clearly faster in any row.")?;
    } else {
        writeln!(
            text,
            "\nThe other side was faster in at least three quarters of the rounds here:"
        )?;
    }
    for entry in lost {
        writeln!(text, "- {}: {}.", entry.name(), entry.median)?;
    }
    writeln!(text)
}

/// The entries that have a `size`, the largest first.
fn by_size<'e, 'a>(
    entries: &'e [Entry<'a>],
    size: fn(&Entry<'a>) -> Option<f64>,
) -> Vec<&'e Entry<'a>> {
    let sized = entries.iter().filter_map(|e| Some((size(e)?, e)));
    let mut sized: Vec<_> = sized.collect();
    sized.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    sized.into_iter().map(|(_, entry)| entry).collect()
}

fn section(text: &mut String, question: &Question, rows: &[Row]) -> std::fmt::Result {
    writeln!(text, "## {}\n\n{}\n", question.title, question.prose)?;
    writeln!(
        text,
        "| what | against | target | median | quartiles | reached | context | better |"
    )?;
    writeln!(text, "|---|---|---|---|---|---|---|---|")?;
    for row in rows {
        let reached = match row.reached() {
            None => "",
            Some(true) => "yes",
            Some(false) => "**no**",
        };
        // Only a row that compares ours with a peer states which side is the better choice.
        let better = match row.sense {
            Sense::Time => "lower",
            Sense::Throughput => "higher",
            Sense::Alone => "",
        };
        writeln!(
            text,
            "| {} | {} | {} | {} | {} | {reached} | {} | {better} |",
            row.what,
            row.against,
            target(row),
            median(row),
            quartiles(row),
            row.context,
        )?;
    }
    writeln!(text)
}

fn target(row: &Row) -> String {
    match row.target {
        None => String::new(),
        Some(Target::AtMost(bound)) => format!("≤ {}{}", number(bound), row.unit),
        Some(Target::AtLeast(bound)) => format!("≥ {}{}", number(bound), row.unit),
    }
}

fn median(row: &Row) -> String {
    row.value.map_or_else(
        || "not measured".to_owned(),
        |value| format!("{}{}", number(value.median), row.unit),
    )
}

fn quartiles(row: &Row) -> String {
    match row.value {
        Some(value) if value.lower < value.upper => {
            format!("{} to {}", number(value.lower), number(value.upper))
        }
        _ => String::new(),
    }
}

/// Two decimals for ratios, one or none for greater numbers.
fn number(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use latchwork_bench::ratio::Quartiles;

    use super::{Entry, added, entries, with_summary};
    use crate::questions::Question;
    use crate::row::{Row, Sense};

    const COMMITTED: &str = include_str!("../../../REPORT.md");

    fn question(name: &'static str, title: &'static str) -> Question {
        Question {
            name,
            title,
            prose: "Why.",
            measure: |_| Vec::new(),
        }
    }

    fn row(what: &str, sense: Sense, [lower, median, upper]: [f64; 3]) -> Row {
        Row {
            sense,
            value: Some(Quartiles {
                lower,
                median,
                upper,
            }),
            against: "peer".to_owned(),
            ..Row::exact(what, median, "")
        }
    }

    /// The summary alone, as lines.
    fn summary(report: &str) -> Vec<&str> {
        let lines = report.lines().skip_while(|l| !l.contains("falls short"));
        let lines = lines.skip(1).take_while(|line| !line.starts_with("## "));
        lines.filter(|line| !line.is_empty()).collect()
    }

    #[test]
    fn the_list_of_misses_follows_a_section_that_was_measured_apart() {
        let (one, two) = (question("one", "One"), question("two", "Two"));
        let old = vec![
            row("a", Sense::Time, [6.8, 6.84, 6.9]).at_most(6.0),
            row("b", Sense::Alone, [1.0, 1.2, 1.3]).at_most(2.0),
        ];
        let report = super::report(&[(&one, old)], true);
        assert_eq!(
            summary(&report),
            [
                "1 of 2 targets are reached.",
                "- Missed: a, against peer: 6.84, target ≤ 6.00.",
                "The other side was faster in at least three quarters of the rounds here:",
                "- a, against peer: 6.84.",
            ]
        );

        // The figure changes, the target is reached, and a new section has the largest miss.
        let new = vec![row("a", Sense::Time, [5.9, 5.94, 6.1]).at_most(6.0)];
        let beside = vec![
            row("c", Sense::Alone, [1.0, 1.1, 1.2]).at_most(1.0),
            row("d", Sense::Throughput, [0.2, 0.31, 0.4]).at_least(0.8),
            row("e", Sense::Throughput, [0.9, 0.95, 1.1]),
            row("f", Sense::Throughput, [0.9, 0.95, 0.996]),
        ];
        let report = added(report, &[(&one, new), (&two, beside)]);
        assert_eq!(
            summary(&report),
            [
                "1 of 3 targets are reached.",
                "- Missed: d, against peer: 0.31, target ≥ 0.80.",
                "- Missed: c, against peer: 1.10, target ≤ 1.00.",
                "The other side was faster in at least three quarters of the rounds here:",
                "- a, against peer: 5.94.",
                "- d, against peer: 0.31.",
                "- f, against peer: 0.95.",
            ]
        );
        assert_eq!(with_summary(&report), report, "it is complete");
        assert_eq!(report.matches("falls short").count(), 1);
    }

    #[test]
    fn a_row_that_was_not_measured_is_the_first_miss() {
        let mut missing = row("gone", Sense::Alone, [0.0; 3]).at_most(1.0);
        missing.value = None;
        let rows = vec![
            row("far", Sense::Alone, [9.0; 3]).at_most(1.0),
            missing,
            row("near", Sense::Alone, [0.5; 3]).at_most(1.0),
        ];
        let report = super::report(&[(&question("q", "Q"), rows)], true);
        assert_eq!(
            summary(&report),
            [
                "1 of 3 targets are reached.",
                "- Missed: gone, against peer: not measured, target ≤ 1.00.",
                "- Missed: far, against peer: 9.00, target ≤ 1.00.",
                "No baseline or peer was clearly faster in any row.",
            ]
        );
    }

    #[test]
    fn the_list_of_the_committed_report_is_that_of_its_tables() {
        let rows = entries(COMMITTED);
        assert!(rows.len() > 100, "{} rows", rows.len());
        let compared = |entry: &&Entry<'_>| !entry.better.is_empty();
        assert!(rows.iter().filter(compared).count() > 50);
        assert!(
            with_summary(COMMITTED) == COMMITTED,
            "run `cargo run --release -p latchwork-bench --bin report -- --summary benches/REPORT.md`"
        );
    }
}
