//! The examples `scheduler` and `consumer_group` in small.

use std::process::{Command, Output};

fn example(name: &str, arguments: &[&str]) -> Output {
    let run = [
        "run",
        "--quiet",
        "-p",
        "latchwork-lease",
        "--example",
        name,
        "--",
    ];
    let mut command = Command::new(env!("CARGO"));
    command.args(run).args(arguments).output().unwrap()
}

/// Returns the number in a row of the table.
fn row(output: &Output, name: &str) -> u64 {
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.trim().parse().ok());
    number.unwrap_or_else(|| panic!("no row '{name}' in {output:?}"))
}

#[test]
fn a_fleet_runs_each_job_once_although_a_worker_is_killed() {
    let arguments = [
        "--workers=3",
        "--jobs=4",
        "--periods=6",
        "--period=200",
        "--ttl=500",
    ];
    let output = example("scheduler", &arguments);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(row(&output, "jobs x periods"), 24);
    assert_eq!(row(&output, "runs  "), 24);
    assert_eq!(row(&output, "runs missing"), 0);
    assert_eq!(row(&output, "runs more than once"), 0);
    assert_eq!(row(&output, "workers killed"), 1);
}

#[test]
fn a_group_is_balanced_after_each_change() {
    let arguments = ["--shards=16", "--lease=2000", "--patience=15"];
    let output = example("consumer_group", &arguments);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    for (change, workers, most) in [
        ("two start", "2", "8"),
        ("two join", "4", "4"),
        ("one is killed", "3", "6"),
        ("one leaves", "2", "8"),
    ] {
        let line = text.lines().find_map(|line| line.strip_prefix(change));
        let fields: Vec<&str> = line.unwrap_or_default().split_whitespace().collect();
        assert_eq!(fields[..2], [workers, "16"], "{text}");
        assert!(fields[3].parse::<u32>().unwrap() <= most.parse().unwrap());
    }
}

#[test]
fn bad_input_is_one_line() {
    for (name, time) in [("scheduler", "--ttl"), ("consumer_group", "--lease")] {
        for (argument, expected) in [
            ("--on=nowhere:x", "nowhere"),
            ("--on=sqlite:/no/such/folder/x.db", "/no/such/folder"),
            (&format!("{time}=1"), time),
        ] {
            let output = example(name, &[argument]);
            let text = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{name}: {output:?}");
            assert!(text.contains(expected), "{name}: {text}");
            let lines = text.lines().take_while(|line| !line.is_empty());
            assert_eq!(lines.count(), 1, "{name}: {text}");
        }
    }
}
