//! Whether a test finds a bug that was put into the crate on purpose (`src/sync/plant.rs`).

use std::process::{Command, Output};

/// Schedules, or histories of real threads, that find any of them: the first that does is the last.
const ENOUGH: [(&str, &str); 2] = [
    ("LATCHWORK_SCHEDULES", "200000"),
    ("LATCHWORK_HISTORIES", "10000"),
];

/// Runs the test `by` of this binary in a process of its own, with the bug in it, and wants it to
/// fail and to say `because`.
///
/// # Panics
/// If it finds nothing, or something else.
pub fn finds(by: &str, bug: &str, because: &str) {
    text_of(by, bug, because);
    println!("planted {bug}|{by}|1|tests|{because}");
}

/// What it says, and from which number on: another one where it is found by something else first,
/// since a bug breaks more than one thing.
fn text_of(by: &str, bug: &str, because: &str) -> (String, u64) {
    let mut text = String::new();
    for first in [0, 1_000_000, 2_000_000, 3_000_000, 4_000_000] {
        let seed = first.to_string();
        let own = [("LATCHWORK_PLANT", bug), ("LATCHWORK_SEED", &*seed)];
        let settings = [&own[..], &ENOUGH].concat();
        let (found, said) = run(by, &settings);
        if found && said.contains(because) {
            return (said, first);
        }
        text = said;
    }
    panic!("{by} does not find {bug:?} by {because:?}, but says\n{text}");
}

/// As [`finds`], by exploring schedules: the number of the one that failed fails again, and not
/// without the bug.
///
/// # Panics
/// As [`finds`].
pub fn finds_and_replays(by: &str, bug: &str, because: &str) {
    let (text, first) = text_of(by, bug, because);
    let number = |line: &str| {
        let rest = line.strip_prefix(&format!("{by}: schedule "))?;
        Some(rest.split_once(" fails")?.0.to_owned())
    };
    let seed = text.lines().find_map(number);
    let seed = seed.unwrap_or_else(|| panic!("{by} names no schedule:\n{text}"));
    let one = [("LATCHWORK_SEED", &*seed), ("LATCHWORK_SCHEDULES", "1")];
    for _ in 0..2 {
        let (found, text) = run(by, &[one[0], one[1], ("LATCHWORK_PLANT", bug)]);
        assert!(found, "schedule {seed} passes now");
        assert!(text.contains(because), "schedule {seed} fails otherwise");
    }
    assert!(!run(by, &one).0, "schedule {seed} fails without it too");
    let amount = 1 + seed.parse::<u64>().expect("a number") - first;
    println!("planted {bug}|{by}|{amount}|schedules|schedule {seed}, {because}");
}

/// Whether the test fails with these settings, and what it says.
fn run(test: &str, settings: &[(&str, &str)]) -> (bool, String) {
    let own = std::env::current_exe().expect("this binary has a path");
    let mut command = Command::new(own);
    command.args([test, "--exact", "--nocapture"]);
    let own = ["LATCHWORK_PLANT", "LATCHWORK_SEED"];
    for name in own.iter().chain(ENOUGH.iter().map(|(name, _)| name)) {
        command.env_remove(name);
    }
    command.envs(settings.iter().copied());
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().expect("this binary runs");
    let text = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (!status.success(), text.concat())
}
