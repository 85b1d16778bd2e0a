//! Virtual cores count the costs that are known beforehand.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use std::process::Command;

/// The cells of each row of the control on one core and on four, by name.
fn control() -> Vec<Vec<String>> {
    let cores = Command::new(env!("CARGO_BIN_EXE_cores"))
        .args(["--only", "Control", "--cores", "1,4"])
        .output()
        .expect("the program starts");
    let said = String::from_utf8_lossy(&cores.stderr);
    assert!(cores.status.success(), "{said}");
    let text = String::from_utf8(cores.stdout).expect("the tables are text");
    let rows = text.lines().filter(|line| line.starts_with("| "));
    rows.map(|row| row.split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

/// The counts of `cell` for the first and for the last number of cores.
fn numbers(cell: &str) -> (f64, f64) {
    let numbers: Vec<f64> = cell
        .split(" / ")
        .map(|number| number.parse().expect("a number"))
        .collect();
    (numbers[0], numbers[1])
}

#[test]
fn lines_move_when_two_write_them_and_not_otherwise() {
    const RMWS: usize = 3;
    const MISSES: usize = 6;
    const REQUESTS: usize = 7;
    let rows = control();
    let row = |name: &str| {
        let row = rows.iter().find(|row| row[1].starts_with(name));
        row.unwrap_or_else(|| panic!("no row {name}: {rows:?}"))
    };
    for quiet in ["nothing", "a word of each core, each", "one word, read"] {
        assert_eq!(numbers(&row(quiet)[MISSES]), (0.0, 0.0), "{quiet}");
    }
    // With a clock of the machine, each operation would add to the word.
    let time = row("the time between two readings");
    assert_eq!(numbers(&time[MISSES]), (0.0, 0.0));
    assert_eq!(time[RMWS].parse(), Ok(0.0), "{time:?}");
    for busy in ["a word of each core, eight", "one word, added"] {
        let row = row(busy);
        // Where the run is cut off in an operation, it is not exactly one.
        let rmws: f64 = row[RMWS].parse().expect("a number");
        assert!((rmws - 1.0).abs() < 0.05, "{busy}: {rmws}");
        let (alone, together) = numbers(&row[MISSES]);
        assert_eq!(alone, 0.0, "{busy}");
        // One in six, by the costs of the model; fewer additions fit in between where the code is
        // not optimised, and each moves the line once at most.
        assert!((0.1..=1.0).contains(&together), "{busy}: {together}");
        assert_eq!(numbers(&row[REQUESTS]), (alone, together), "{busy}");
    }
}
