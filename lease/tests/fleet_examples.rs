//! The examples `scheduler` and `consumer_group` in small.

use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

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

/// Calls a function, and returns the longest delay with which a thread was woken during the call.
fn with_delay<T>(call: impl FnOnce() -> T) -> (T, Duration) {
    let (is_over, pause) = (AtomicBool::new(false), Duration::from_millis(5));
    thread::scope(|scope| {
        let pulse = scope.spawn(|| {
            let mut longest = Duration::ZERO;
            // Relaxed: the flag publishes no other memory.
            while !is_over.load(Ordering::Relaxed) {
                let start = Instant::now();
                thread::sleep(pause);
                longest = longest.max(start.elapsed().saturating_sub(pause));
            }
            longest
        });
        let result = call();
        // Relaxed: as above.
        is_over.store(true, Ordering::Relaxed);
        (result, pulse.join().unwrap())
    })
}

#[test]
fn a_group_is_balanced_within_one_lease_after_each_change() {
    let arguments = ["--shards=64", "--lease=3000", "--patience=15"];
    // The first call compiles the example, which delays threads.
    example("consumer_group", &["--help"]);
    let (output, delay) = with_delay(|| example("consumer_group", &arguments));
    assert!(output.status.success(), "{output:?}");
    // The workers make some requests one after another, each of which may be woken late.
    let limit = 1.0 + 8.0 * delay.as_secs_f64() / 3.0;
    let text = String::from_utf8_lossy(&output.stdout);
    for (change, workers, most) in [
        ("two start", "2", "32"),
        ("two join", "4", "16"),
        ("one is killed", "3", "22"),
        ("one leaves", "2", "32"),
    ] {
        let line = text.lines().find_map(|line| line.strip_prefix(change));
        let fields: Vec<&str> = line.unwrap_or_default().split_whitespace().collect();
        assert_eq!(fields[..2], [workers, "64"], "{text}");
        assert!(fields[3].parse::<u32>().unwrap() <= most.parse().unwrap());
        let leases: f64 = fields[5].parse().unwrap();
        // The start of two processes is none of the work of the group.
        if change != "two start" {
            assert!(leases <= limit, "a thread was woken {delay:?} late: {text}");
        }
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
