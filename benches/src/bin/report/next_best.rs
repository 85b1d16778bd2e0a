//! The first table of the report: this crate against the next best choice for each task.
//!
//! The tasks are listed here, and all figures come from the tables of the report.

use std::fmt::Write as _;

use crate::render::Entry;

/// The heading of the table.
pub(crate) const HEADING: &str = "## Against the next best\n";

/// The number of rows of the table.
const MOST: usize = 15;

/// A task that a program may have.
#[derive(Debug)]
struct Task {
    task: &'static str,
    /// The call of this crate.
    ours: &'static str,
    /// The rows of the report with this name; the section too, because two may have one.
    what: &'static str,
    section: &'static str,
    /// What to use where the next best is faster.
    instead: &'static str,
}

const fn task(
    task: &'static str,
    ours: &'static str,
    [section, what]: [&'static str; 2],
    instead: &'static str,
) -> Task {
    Task {
        task,
        ours,
        what,
        section,
        instead,
    }
}

const LOCKS: &str = "An uncontended lock and unlock";
const CONTENDED: &str = "Contended keys";
const CELLS: &str = "Cells: one thread";
const TRANSACTIONS: &str = "Transactions and snapshots: one thread";
const MAPS: &str = "Maps: versioned, and others";

const TASKS: [Task; MOST] = [
    task(
        "lock a key that is not registered",
        "`LockTable::lock`",
        ["Other crates that lock by key", "u64, 4,096 keys"],
        "that crate",
    ),
    task(
        "lock one of a fixed number of locks",
        "`LockTable::lock`",
        [LOCKS, "exclusive, u64, one key"],
        "an array of `parking_lot::Mutex`",
    ),
    task(
        "lock three keys together",
        "`lock_all`",
        ["Three keys together", "`lock_all`, three u64 keys"],
        "mutexes in one order, if the locks are a fixed set",
    ),
    task(
        "one lock that 8 threads request",
        "`LockTable::lock`",
        [CONTENDED, "8 threads, 1 key"],
        "`parking_lot::Mutex`",
    ),
    task(
        "16 keys that 8 threads lock in strict order",
        "`Fairness::Fifo`",
        [CONTENDED, "8 threads, 16 keys, `Fifo`"],
        "`Fairness::Eventual`, the default, or `parking_lot::Mutex`",
    ),
    task(
        "hand a lock from task to task",
        "`lock_async`",
        [
            "Tasks, and one key handed from one to the next",
            "two tasks hand one key over, `Eventual`",
        ],
        "`tokio::sync::Mutex`, if the locks are a fixed set",
    ),
    task(
        "read a value",
        "`VersionedCell::read`",
        [CELLS, "`read`"],
        "`arc-swap`",
    ),
    task(
        "update a value",
        "`VersionedCell::update`",
        [CELLS, "`update`"],
        "a mutex, if the value is written more often than read",
    ),
    task(
        "transfer between two values",
        "`atomically`",
        [TRANSACTIONS, "transfer"],
        "ordered mutexes, or `lock_all`, if no reader needs both values",
    ),
    task(
        "the same, beside an audit of all values",
        "`atomically`, `snapshot`",
        [
            "Transactions: transfers beside an auditor, and mutexes",
            "one thread that transfers, beside one auditor",
        ],
        "ordered mutexes",
    ),
    task(
        "read 32 values as of one instant",
        "`snapshot`",
        [TRANSACTIONS, "a snapshot of 32 cells"],
        "ordered mutexes",
    ),
    task(
        "read a key of a map",
        "`VersionedMap::get_in`",
        [MAPS, "`get_in`, held pin, 2^14 keys"],
        "`papaya`, if no version, lock or transaction is needed",
    ),
    task(
        "update a key of a map",
        "`VersionedMap::update`",
        [MAPS, "`update`, 2^14 keys"],
        "`dashmap` or `scc`, which change the value in place",
    ),
    task(
        "remove a key of a map and insert another",
        "`remove`, `insert`",
        [MAPS, "churn: `remove` and `insert`, 2^14 keys"],
        "`dashmap` or `scc`",
    ),
    task(
        "lock a key of a map and replace its value",
        "`VersionedMap::lock`",
        [MAPS, "`lock`, `set` and `commit`"],
        "`dashmap`, if readers may wait and no holder asks for a second key",
    ),
];

/// Writes the table of the tasks that the report has measured. Writes nothing if there are none.
pub(crate) fn table(text: &mut String, entries: &[Entry<'_>]) -> std::fmt::Result {
    let rows: Vec<_> = TASKS.iter().filter_map(|task| row(task, entries)).collect();
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(
        text,
        "{HEADING}\n\
         Each row compares this crate with the fastest alternative that was measured for the task. The links lead to \
         the sections, which have the other alternatives. A result is *about equal* if the quartiles are on both sides \
         of 1.\n"
    )?;
    writeln!(
        text,
        "| task | this crate | next best | ratio | result | instead |\n|---|---|---|---|---|---|"
    )?;
    for row in rows {
        writeln!(text, "{row}")?;
    }
    writeln!(text)
}

/// The line of a task, or `None` if the report has no row of it.
fn row(task: &Task, entries: &[Entry<'_>]) -> Option<String> {
    let of_task = |entry: &&Entry<'_>| (entry.section, entry.what) == (task.section, task.what);
    let measured = entries.iter().filter(of_task);
    let sized = measured.filter_map(|entry| Some((entry.slowness()?, entry)));
    let (slowness, best) = sized.max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    let unit = match best.better {
        "higher" => "throughput",
        _ => "time",
    };
    let (result, instead) = match (best.lost_by(), best.won_by()) {
        (Some(_), _) => (format!("{} times slower", digits(slowness)), task.instead),
        (None, Some(_)) => (format!("{} times faster", digits(1.0 / slowness)), ""),
        (None, None) => ("about equal".to_owned(), ""),
    };
    Some(format!(
        "| [{}](#{}) | {} | {} | {} of the {unit} | {result} | {instead} |",
        task.task,
        anchor(task.section),
        task.ours,
        best.against,
        best.median,
    ))
}

/// Two digits, or more before the point.
fn digits(factor: f64) -> String {
    let decimals = usize::from(factor < 9.95);
    // A factor of 1.02 is not 1.0.
    let decimals = decimals + usize::from(factor < 1.095);
    format!("{factor:.decimals$}")
}

/// The name that Markdown gives to a heading.
fn anchor(title: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    let kept: String = title.to_lowercase().chars().filter(kept).collect();
    kept.replace(' ', "-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::entries;

    const COMMITTED: &str = include_str!("../../../REPORT.md");

    /// The line of the task `task` in a report whose rows of it are `rows`.
    fn line(task: &str, rows: &[&str]) -> Option<String> {
        let task = TASKS.iter().find(|of| of.task == task).expect("a task");
        let mut report = format!("## {}\n\n", task.section);
        report += "| what | against | target | median | quartiles | reached | context | better |\n";
        report += "|---|---|---|---|---|---|---|---|\n";
        for row in rows {
            report += &format!("| {} | {row} |\n", task.what);
        }
        super::row(task, &entries(&report))
    }

    #[test]
    fn each_task_has_a_row_in_the_committed_report() {
        let entries = entries(COMMITTED);
        for task in &TASKS {
            let line = row(task, &entries);
            assert!(line.is_some(), "{task:?} has no row");
            let heading = format!("\n## {}\n", task.section);
            assert!(COMMITTED.contains(&heading), "{task:?}");
        }
    }

    #[test]
    fn the_fastest_alternative_is_the_next_best() {
        let rows = [
            "slow |  | 0.40 | 0.38 to 0.42 |  |  | lower",
            "fast |  | 5.32 | 5.20 to 5.40 |  |  | lower",
            "odd |  | 9.99 | 9.90 to 10.0 |  |  | ",
        ];
        let line = line("update a value", &rows).expect("measured");
        assert!(
            line.contains("| fast | 5.32 of the time | 5.3 times slower | a mutex"),
            "{line}"
        );
        assert!(line.starts_with("| [update a value](#cells-one-thread) |"));
    }

    #[test]
    fn a_gain_names_nothing_to_use_instead() {
        let rows = [
            "fast |  | 0.67 | 0.66 to 0.68 |  |  | lower",
            "slow |  | 0.40 | 0.38 to 0.42 |  |  | lower",
        ];
        let line = line("read a value", &rows).expect("measured");
        assert!(
            line.ends_with("| fast | 0.67 of the time | 1.5 times faster |  |"),
            "{line}"
        );
    }

    #[test]
    fn throughput_is_read_the_other_way() {
        let task = "one lock that 8 threads request";
        for (row, end) in [
            (
                "M |  | 0.04 | 0.03 to 0.05 |  |  | higher",
                "| M | 0.04 of the throughput | 25 times slower | `parking_lot::Mutex` |",
            ),
            (
                "M |  | 1.70 | 1.50 to 1.90 |  |  | higher",
                "| M | 1.70 of the throughput | 1.7 times faster |  |",
            ),
            (
                "M |  | 0.98 | 0.96 to 1.02 |  |  | higher",
                "| M | 0.98 of the throughput | about equal |  |",
            ),
        ] {
            let line = line(task, &[row]).expect("measured");
            assert!(line.ends_with(end), "{line}");
        }
    }

    #[test]
    fn a_task_that_was_not_measured_has_no_row() {
        assert_eq!(line("read a value", &[]), None);
        let unknown = "peer |  | not measured |  |  |  | lower";
        assert_eq!(line("read a value", &[unknown]), None);
        let mut text = String::new();
        table(&mut text, &[]).expect("a string");
        assert_eq!(text, "");
    }
}
