//! Turns measured rows into the Markdown of the report.

use std::fmt::Write as _;

use latchwork_bench::machine::{Machine, peers_in_words, today};
use latchwork_bench::ratio::Plan;

use crate::questions::Question;
use crate::row::{Row, Target};

/// Renders the whole report.
pub(crate) fn report(answers: &[(&Question, Vec<Row>)], quick: bool) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = head(&mut text, quick);
    let rows = || answers.iter().flat_map(|(_, rows)| rows);
    let _ = summary(&mut text, rows().collect());
    for (question, rows) in answers {
        let _ = section(&mut text, question, rows);
    }
    text
}

/// Puts answers into a report that was written before, each in the place of its section or at the end, and says of
/// each that it was measured apart.
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
    report
}

/// What the head and the summary of a report would say of one section.
fn apart(text: &mut String, question: &Question, rows: &[Row]) -> std::fmt::Result {
    let machine = Machine::here();
    let judged = rows.iter().filter(|row| row.reached().is_some()).count();
    let reached = rows.iter().filter(|row| row.reached() == Some(true));
    writeln!(
        text,
        "Measured apart on {} by the same program with `--only {} --add benches/REPORT.md` (the whole report does it too): \
         {}, {} cores, {}; {}. {} of {judged} targets are reached; the count at the top leaves them out.\n",
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
         several; of a run on one thread the fastest quarter counts. The ratio is the median over all rounds, with the quartiles beside it. The last column gives the \
         median results themselves, ours first: they are context, not evidence, for the same program runs two or \
         three times slower a minute later on a shared machine. Targets were set before anything was measured; a \
         row without one is information.\n",
        rounds = plan.rounds,
        rebuilds = plan.rebuilds,
        span = plan.span.as_millis(),
        crowd = plan.crowd_span.as_millis(),
    )
}

/// What was not reached, and where a peer is the better choice.
fn summary(text: &mut String, rows: Vec<&Row>) -> std::fmt::Result {
    let judged: Vec<_> = rows.iter().filter(|row| row.reached().is_some()).collect();
    let missed: Vec<_> = judged
        .iter()
        .filter(|row| row.reached() == Some(false))
        .collect();
    let lost: Vec<_> = rows.iter().filter(|row| row.is_lost()).collect();
    writeln!(text, "## Where it falls short\n")?;
    writeln!(
        text,
        "{} of {} targets are reached.",
        judged.len() - missed.len(),
        judged.len()
    )?;
    for row in missed {
        writeln!(
            text,
            "- Missed: {}: {}, target {}.",
            name(row),
            median(row),
            target(row)
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
    for row in lost {
        writeln!(text, "- {}: {}.", name(row), median(row))?;
    }
    writeln!(text)
}

fn section(text: &mut String, question: &Question, rows: &[Row]) -> std::fmt::Result {
    writeln!(text, "## {}\n\n{}\n", question.title, question.prose)?;
    writeln!(
        text,
        "| what | against | target | median | quartiles | reached | context |"
    )?;
    writeln!(text, "|---|---|---|---|---|---|---|")?;
    for row in rows {
        let reached = match row.reached() {
            None => "",
            Some(true) => "yes",
            Some(false) => "**no**",
        };
        writeln!(
            text,
            "| {} | {} | {} | {} | {} | {reached} | {} |",
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

fn name(row: &Row) -> String {
    if row.against.is_empty() {
        row.what.clone()
    } else {
        format!("{}, against {}", row.what, row.against)
    }
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

/// Two decimals for ratios, one or none for what is larger.
fn number(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.decimals$}")
}
