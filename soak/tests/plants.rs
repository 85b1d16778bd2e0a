//! The soak finds the bugs that it plants itself, and nothing else.

use std::process::{Command, Output};

fn soak(arguments: &[&str]) -> Output {
    let mut soak = Command::new(env!("CARGO_BIN_EXE_latchwork-soak"));
    soak.args(arguments).output().expect("it runs")
}

/// What it says when it has failed.
fn failure(arguments: &[&str]) -> String {
    let output = soak(arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success(), "it found nothing:\n{text}");
    let failure = text.lines().find(|line| line.starts_with("FAILED: "));
    failure.unwrap_or_else(|| panic!("{text}")).to_owned()
}

#[test]
fn a_sound_run_passes() {
    let output = soak(&["--seconds", "6", "--round", "1"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    for structure in [
        "locks",
        "tasks",
        "cells",
        "transfers",
        "maps",
        "queue",
        "sessions",
        "latches",
        "ordered",
    ] {
        let prefix = format!("soak: {structure} ");
        let count = text.lines().find_map(|line| line.strip_prefix(&prefix));
        let count: u64 = count.expect(&text).parse().expect("a number");
        assert!(count > 0, "{text}");
    }
}

#[test]
fn a_leak_is_found() {
    let failure = failure(&["--seconds", "60", "--round", "1", "--plant", "leak"]);
    assert!(failure.contains("the heap grew"), "{failure}");
}

#[test]
fn a_standstill_is_found() {
    let arguments = [
        "--seconds",
        "60",
        "--patience",
        "3",
        "--plant",
        "standstill",
    ];
    let failure = failure(&arguments);
    assert!(failure.contains("stands still"), "{failure}");
}

#[test]
fn a_wrong_total_is_found() {
    let failure = failure(&["--seconds", "60", "--round", "1", "--plant", "total"]);
    let noticed = ["transfers: money", "at work on transfers panicked"];
    assert!(noticed.iter().any(|by| failure.contains(by)), "{failure}");
}
