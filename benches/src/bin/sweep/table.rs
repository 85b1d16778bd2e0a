//! The results, as tables of plain text.

use comfy_table::{Table, presets};
use latchwork_bench::ratio::Quartiles;

use crate::digest::{Answer, Point};
use crate::raw::{Head, PARTS};
use crate::verdict;

/// Rows of cells, the first of them the heading.
pub(crate) type Rows = Vec<Vec<String>>;

/// The facts that a reader needs about the numbers, in one sentence each.
pub(crate) const HOW_TO_READ: [&str; 4] = [
    "Rates are millions of operations a second of all threads together, the median of the runs that are believed; in \
     brackets the rate of the first line divided by this one's in the same round, so that more than 1 is ours ahead.",
    "A verdict compares the fastest line of this crate with the fastest other one. Two are level if the middle half of \
     their ratios reaches to within 5% of 1.",
    "Times are those of one operation in 16 (of each one where it is asked who has the lock next), from its call to its \
     return, with what the clock takes; a thread may have been put aside meanwhile.",
    "Fairness is Jain's index over the threads that did what counts: 1 if all did as much, 1/n if one of n did it all.",
];

/// What a missing number means. It is explained here and nowhere else.
pub(crate) const NO_VERDICT: &str = "No verdict: a dash in a table, and a gap in a line. Before and after each run the control \
     runs: threads that each add to a counter of their own. A run is believed if they scaled as the machine can, within 5%, \
     and one of them alone was as fast after as before, within 10%. Where fewer than half of the runs asked for are believed, \
     another program has used the machine, and there is no number.";

/// A number that is missing.
const NONE: &str = "–";

/// The machine, the build and the plan.
pub(crate) fn facts(head: &Head) -> Vec<[String; 2]> {
    let peers = head.peers.iter();
    let peers: Vec<_> = peers
        .map(|(name, version)| format!("{name} {version}"))
        .collect();
    let depth = head.plan.depth;
    let plan = format!(
        "{} runs of {} ms for each point, up to {} threads",
        depth.runs(),
        depth.span().as_millis(),
        head.plan.threads
    );
    let fact = |name: &str, what: &str| [name.to_owned(), what.to_owned()];
    vec![
        fact("processor", &head.cpu),
        fact("cores", &head.cores.to_string()),
        fact("system", &head.system),
        fact("compiler", &head.compiler),
        fact("allocator", &head.allocator),
        fact("commit", &head.commit),
        fact("peers", &peers.join(", ")),
        fact("plan", &plan),
    ]
}

/// The rates of all contenders in all settings.
pub(crate) fn rates(answer: &Answer<'_>) -> Rows {
    let mut heading = vec![answer.axis()];
    heading.extend(answer.ticks.iter().map(|&value| tick(value)));
    let mut rows = vec![heading];
    for line in &answer.lines {
        let mut row = vec![line.name.to_owned()];
        row.extend(line.points.iter().map(rate));
        rows.push(row);
    }
    rows
}

fn rate(point: &Point) -> String {
    let Some(verdict) = &point.verdict else {
        return NONE.to_owned();
    };
    let rate = number(verdict.rate.median / 1e6);
    match verdict.ratio {
        Some(ratio) => format!("{rate} ({})", number(ratio.median)),
        None => rate,
    }
}

/// The times of all contenders in one setting, and how they were spread.
pub(crate) fn times(answer: &Answer<'_>, place: usize) -> Rows {
    let mut heading = vec!["nanoseconds".to_owned()];
    heading.extend(PARTS.map(part));
    heading.extend(["fairness", "rate, quartiles", "believed"].map(str::to_owned));
    let mut rows = vec![heading];
    for line in &answer.lines {
        let point = &line.points[place];
        let mut row = vec![line.name.to_owned()];
        if let Some(verdict) = &point.verdict {
            let unknown = || NONE.to_owned();
            let nanos = verdict.nanos.iter();
            row.extend(nanos.map(|nanos| nanos.map_or_else(unknown, number)));
            row.push(number(verdict.fairness));
            row.push(quartiles(verdict.rate));
        } else {
            row.extend([NONE; 7].map(str::to_owned));
        }
        row.push(format!("{} of {}", point.believed, point.tried));
        rows.push(row);
    }
    rows
}

fn quartiles(rate: Quartiles) -> String {
    format!(
        "{} to {}",
        number(rate.lower / 1e6),
        number(rate.upper / 1e6)
    )
}

/// The name of a quantile.
pub(crate) fn part(part: f64) -> String {
    match part {
        0.5 => "median".to_owned(),
        1.0 => "longest".to_owned(),
        part => number(100.0 * part) + "%",
    }
}

/// In which setting the times of a scenario are shown: the last that has any.
pub(crate) fn setting(answer: &Answer<'_>, place: usize) -> String {
    let (tick, threads) = (tick(answer.ticks[place]), answer.threads[place]);
    let axis = answer.axis();
    let noun = if threads == 1 { "thread" } else { "threads" };
    if axis == "threads" {
        format!("{threads} {noun}")
    } else {
        format!("{axis}: {tick}, {threads} {noun}")
    }
}

/// A tick as it was set.
pub(crate) fn tick(value: f64) -> String {
    value.to_string()
}

/// Three digits, and whole numbers as they are.
pub(crate) fn number(value: f64) -> String {
    if value.fract() == 0.0 {
        return format!("{value:.0}");
    }
    let decimals = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

/// Everything, as text.
pub(crate) fn text(head: &Head, answers: &[Answer<'_>]) -> String {
    let drawn = |rows: Rows| {
        let mut rows = rows.into_iter();
        let mut table = Table::new();
        table.load_preset(presets::ASCII_MARKDOWN);
        table.set_header(rows.next().unwrap_or_default());
        table.add_rows(rows);
        format!("{table}\n\n")
    };
    let mut text = String::new();
    for [name, what] in facts(head) {
        text += &format!("{name:<10} {what}\n");
    }
    for sentence in HOW_TO_READ.into_iter().chain([NO_VERDICT]) {
        text += &format!("\n{sentence}\n");
    }
    for answer in answers {
        let scenario = answer.scenario;
        text += &format!(
            "\n{} ({})\n{}\n\n",
            scenario.title, scenario.name, scenario.prose
        );
        text += &format!("{}\n\n", verdict::rates(answer));
        text += &drawn(rates(answer));
        if let Some(place) = answer.last() {
            text += &format!("{}\n\n", verdict::times(answer, place));
            text += &drawn(times(answer, place));
        }
        if let Some(crossing) = answer.crossings_in_words() {
            text += &format!("{crossing}\n");
        }
        for line in answer.lines.iter().filter(|line| !line.note.is_empty()) {
            text += &format!("{}: {}\n", line.name, line.note);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_three_digits() {
        let shown = [0.0, 4096.0, 123.4, 12.34, 1.234, 0.1234].map(number);
        assert_eq!(shown, ["0", "4096", "123", "12.3", "1.23", "0.123"]);
    }

    #[test]
    fn parts_have_names() {
        let names = PARTS.map(part);
        assert_eq!(names, ["median", "90%", "99%", "99.9%", "longest"]);
    }
}
