//! Searches for bugs that locks were shipped with, in the crates themselves and in `latchwork`, and
//! prints its observations.
//!
//! ```text
//! cargo run --release -p latchwork-bench --bin peer_bugs -- [--write FILE]
//! ```
//!
//! Every line is an observation of this run. A peer that does not show a bug is reported as such,
//! and a race that did not happen here may happen elsewhere. Exits with a failure only if
//! `latchwork` shows one of the bugs.

mod bugs;
mod by_key;
mod collide;
mod probe;
mod render;
mod rw;
mod upgrade;

use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "usage: peer_bugs [--write FILE]";

fn file(mut arguments: impl Iterator<Item = String>) -> Result<Option<PathBuf>, String> {
    match (
        arguments.next().as_deref(),
        arguments.next(),
        arguments.next(),
    ) {
        (None, ..) => Ok(None),
        (Some("--write"), Some(file), None) => Ok(Some(file.into())),
        _ => Err(USAGE.to_owned()),
    }
}

fn run() -> Result<bool, String> {
    let file = file(std::env::args().skip(1))?;
    let findings: Vec<_> = bugs::ALL
        .iter()
        .map(|bug| {
            eprintln!("looking for: {}", bug.name);
            (bug, (bug.look)())
        })
        .collect();
    let report = render::report(&findings);
    println!("{report}");
    if let Some(file) = file {
        std::fs::write(&file, report).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(findings.iter().all(|(_, found)| found.latchwork.is_clean()))
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("latchwork shows a bug");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
