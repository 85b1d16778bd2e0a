//! Turns rows into Markdown.

use std::fmt::Write as _;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{env, fs, thread};

use crate::questions::Question;
use crate::row::{Row, Target};

/// A section with its rows.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) question: Question,
    pub(crate) rows: Vec<Row>,
    /// The milliseconds of a sync of the disk, before the section and after it.
    pub(crate) sync: (f64, f64),
}

/// Renders the whole report. The figures that miss their targets precede the others.
pub(crate) fn report(sections: &[Section], took: Duration) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = head(&mut text, took);
    let _ = summary(&mut text, sections);
    for one in sections {
        let _ = section(&mut text, one);
    }
    text
}

fn head(text: &mut String, took: Duration) -> std::fmt::Result {
    writeln!(text, "# Report of latchwork-lease\n")?;
    writeln!(
        text,
        "Written by `cargo bench -p latchwork-lease --bench report --all-features -- --write \
         lease/REPORT.md` in {:.0} s; edit the generator, not this file.\n",
        took.as_secs_f64()
    )?;
    writeln!(text, "| | |\n|---|---|")?;
    writeln!(text, "| date | {} |", today())?;
    let cpu = field("/proc/cpuinfo", "model name", ':').unwrap_or_else(|| "unknown".to_owned());
    writeln!(text, "| processor | {cpu} ({}) |", env::consts::ARCH)?;
    let cores = thread::available_parallelism().map_or(1, usize::from);
    writeln!(text, "| cores | {cores} |")?;
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = load.split(' ').take(2).collect();
    writeln!(
        text,
        "| load at the end | {}: processes that were ready, on average of 1 and 5 minutes |",
        load.join(" and ")
    )?;
    let system = field("/etc/os-release", "PRETTY_NAME", '=').unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    // The words behind the first dash name a build, not a version.
    let kernel = kernel.trim().split('-').next().unwrap_or_default();
    writeln!(text, "| system | {system}, kernel {kernel} |")?;
    writeln!(text, "| compiler | {} |", rustc())?;
    writeln!(text, "| SQLite | {} |", rusqlite::version())?;
    writeln!(text, "| PostgreSQL | {} |\n", postgres())?;
    writeln!(
        text,
        "Each ratio is ours divided by the baseline's. Both were measured in one run and in turn, \
         and the side that began alternated. A ratio is the median over all rounds, with the \
         quartiles beside it. The column `context` shows the median results, ours first: they are \
         context, not evidence, because the machine is shared, and its disk \
         syncs within 0.1 ms or, after many syncs, within 4 ms. A slow disk moves ratios towards 1, \
         and a server with `fsync=off` does not wait for it. Targets were set before anything \
         was measured; a row without one is information.\n"
    )
}

fn summary(text: &mut String, sections: &[Section]) -> std::fmt::Result {
    writeln!(text, "## Where it falls short\n")?;
    let rows = || sections.iter().flat_map(|section| &section.rows);
    let judged = rows().filter(|row| row.reached().is_some()).count();
    let reached = rows().filter(|row| row.reached() == Some(true)).count();
    writeln!(text, "{reached} of {judged} targets are reached.")?;
    for Section { question, rows, .. } in sections {
        for row in rows.iter().filter(|row| row.reached() == Some(false)) {
            writeln!(
                text,
                "- Missed: {}: {}{}: {}, target {}.",
                lower_first(question.title),
                row.what,
                against(row),
                figure(row),
                row.target.map(target).unwrap_or_default()
            )?;
        }
        if rows.is_empty() {
            writeln!(text, "- Not measured: {}.", lower_first(question.title))?;
        }
    }
    let is_slower = |row: &&Row| {
        let worse = |(first, third): (f64, f64)| {
            if row.lower { first > 1.0 } else { third < 1.0 }
        };
        !row.against.is_empty() && row.quartiles.is_some_and(worse)
    };
    let mut slower = sections
        .iter()
        .flat_map(|section| section.rows.iter().map(|row| (&section.question, row)))
        .filter(|(_, row)| is_slower(row))
        .peekable();
    if slower.peek().is_some() {
        writeln!(
            text,
            "\nThe other side was faster in at least three quarters of the rounds here:"
        )?;
    }
    for (question, row) in slower {
        writeln!(
            text,
            "- {}: {}{}: {}.",
            lower_first(question.title),
            row.what,
            against(row),
            figure(row)
        )?;
    }
    writeln!(text)
}

fn section(text: &mut String, section: &Section) -> std::fmt::Result {
    let Section {
        question,
        rows,
        sync,
    } = section;
    writeln!(text, "## {}\n\n{}", question.title, question.method)?;
    if question.syncs {
        writeln!(
            text,
            "A sync of 4 KiB took {:.2} ms before this section and {:.2} ms after it.",
            sync.0, sync.1
        )?;
    }
    writeln!(text)?;
    if rows.is_empty() {
        return writeln!(text, "Not measured: the engine is not installed.\n");
    }
    writeln!(
        text,
        "| what | against | target | figure | quartiles | reached | context |\n\
         |---|---|---|---|---|---|---|"
    )?;
    for row in rows {
        let reached = match row.reached() {
            Some(true) => "yes",
            Some(false) => "no",
            None => "",
        };
        let quartiles = row
            .quartiles
            .map(|(first, third)| format!("{first:.2} to {third:.2}"));
        writeln!(
            text,
            "| {} | {} | {} | {} | {} | {reached} | {} |",
            row.what,
            row.against,
            row.target.map(target).unwrap_or_default(),
            figure(row),
            quartiles.unwrap_or_default(),
            row.context,
        )?;
    }
    writeln!(text)
}

fn against(row: &Row) -> String {
    match row.against {
        "" => String::new(),
        baseline => format!(", against {baseline}"),
    }
}

fn figure(row: &Row) -> String {
    let space = if row.unit.is_empty() { "" } else { " " };
    format!("{}{space}{}", short(row.figure), row.unit)
}

fn target(target: Target) -> String {
    match target {
        Target::AtMost(limit) => format!("≤ {}", short(limit)),
        Target::AtLeast(limit) => format!("≥ {}", short(limit)),
    }
}

fn short(number: f64) -> String {
    if number.fract() == 0.0 {
        format!("{number}")
    } else if number.abs() < 10.0 {
        format!("{number:.2}")
    } else {
        format!("{number:.1}")
    }
}

/// A title within a sentence: names keep their capitals.
fn lower_first(title: &str) -> String {
    let mut characters = title.chars();
    let first = characters.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(characters).collect()
}

fn rustc() -> String {
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    output(Command::new(rustc).arg("--version"))
}

#[cfg(feature = "postgres")]
fn postgres() -> String {
    match crate::questions::server() {
        Some(server) => server.psql("postgres", "SHOW server_version"),
        None => "not installed".to_owned(),
    }
}

#[cfg(not(feature = "postgres"))]
fn postgres() -> String {
    "not measured: the feature `postgres` is off".to_owned()
}

fn output(command: &mut Command) -> String {
    let output = command.output().ok();
    let text = output.and_then(|output| String::from_utf8(output.stdout).ok());
    text.map_or("unknown".to_owned(), |text| text.trim().to_owned())
}

fn field(file: &str, name: &str, separator: char) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    let (_, value) = line.split_once(separator)?;
    Some(value.trim().trim_matches('"').to_owned())
}

/// Returns today's date in UTC, year first.
fn today() -> String {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    // The civil calendar, in eras of 400 years that begin in March.
    let days = since.as_secs() / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}
