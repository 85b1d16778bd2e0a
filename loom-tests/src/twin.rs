//! Runs the test that holds a negative twin once more, in a process that may die.

use crate::failure::Failure;
use std::process::Command;

/// Names, in the child process, the twin to search.
const WANTED: &str = "LATCHWORK_MODEL_TWIN";

const STARTED: &str = "TWIN STARTED ";
const SURVIVED: &str = "TWIN SURVIVED";

pub(crate) fn is_wanted_here(model: &str) -> bool {
    std::env::var(WANTED).is_ok_and(|wanted| wanted == model)
}

/// Marks, in the child, that what follows is the search of the twin.
pub(crate) fn announce(model: &str) {
    eprintln!("{STARTED}{model}");
}

/// Ends the child of a twin that nothing noticed.
pub(crate) fn survive() -> ! {
    eprintln!("{SURVIVED}");
    std::process::exit(0)
}

/// Searches the twin `model` of the test that runs now in a child process.
pub(crate) fn run(model: &str, title: &str) -> Result<Failure, String> {
    if std::env::var_os(WANTED).is_some() {
        // The child passes by the other twins of the same test; their failure here would be
        // mistaken for the wanted one.
        return Err(
            "is not the twin that this process searches; give each twin a test of its own"
                .to_owned(),
        );
    }
    // The test harness names each thread after its test.
    let thread = std::thread::current();
    let test = thread.name().ok_or("is not called by a test")?;
    let exe =
        std::env::current_exe().map_err(|error| format!("has no path to its own test: {error}"))?;
    let child = Command::new(exe)
        .args(["--exact", test, "--nocapture"])
        .env(WANTED, model)
        .env("RUST_BACKTRACE", "0")
        .output()
        .map_err(|error| format!("could not start a process: {error}"))?;

    let output = String::from_utf8_lossy(&child.stderr);
    let Some((_, output)) = output.split_once(&format!("{STARTED}{model}\n")) else {
        return Err(format!(
            "the process for test {test:?} did not reach it: {output}"
        ));
    };
    if output.contains(SURVIVED) {
        return Err("nothing noticed what is broken in it".to_owned());
    }
    Failure::find(output, title).ok_or_else(|| {
        format!(
            "the process died without a message, {}: {output}",
            child.status
        )
    })
}
