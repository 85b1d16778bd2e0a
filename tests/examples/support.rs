//! Running the example, files for it to read, and the totals to expect.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;

pub(crate) const HEADER: &str = "tailnum,origin,dest,distance\n";

/// The example beside this test. `cargo test` builds both; with `--test examples` it builds the
/// test alone, and this is the example as it was built last.
pub(crate) fn flights() -> Command {
    let test = std::env::current_exe().expect("the test has a path");
    let profile = test.parent().and_then(Path::parent).expect("…/deps/test");
    let name = format!("flights{}", std::env::consts::EXE_SUFFIX);
    let example = profile.join("examples").join(name);
    assert!(
        example.is_file(),
        "{} is not built: run `cargo test`, or `cargo build --example flights` for this profile",
        example.display()
    );
    Command::new(example)
}

/// A directory of one test, removed at its end.
pub(crate) struct Place(pub(crate) PathBuf);

impl Place {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("flights-{}-{number}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).expect("the target directory is writable");
        Self(path)
    }

    pub(crate) fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).expect("the directory is writable");
        path
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).expect("the directory exists");
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("readable").file_name().into_string())
            .map(|name| name.expect("the tests use plain names"))
            .collect();
        names.sort();
        names
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("a Vec takes everything");
    encoder.finish().expect("a Vec takes everything")
}

pub(crate) fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).expect("messages are UTF-8")
}

/// Runs the example with `options` on `file`, and returns its JSON after a run that must succeed.
pub(crate) fn results(place: &Place, file: &Path, options: &[&str]) -> Value {
    let json = place.0.join("results.json");
    let output = flights()
        .args(["--repeat", "1", "--passes", "1"])
        .args(options)
        .arg("--json")
        .arg(&json)
        .arg(file)
        .output()
        .expect("the example starts");
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(
        stderr(&output),
        "",
        "nothing to say, and no progress bar off a terminal"
    );
    let text = fs::read(&json).expect("the results were written");
    serde_json::from_slice(&text).expect("the results are JSON")
}

/// The program must refuse: exit code 2, nothing on stdout, one line on stderr, which is returned
/// without its prefix.
pub(crate) fn refusal(command: &mut Command) -> String {
    let output = command.output().expect("the example starts");
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(output.stdout.is_empty(), "stdout is not empty: {said}");
    let line = said.strip_suffix('\n').expect("a whole line");
    assert!(!line.contains('\n'), "more than one line: {said}");
    line.strip_prefix("flights: ")
        .expect("the name of the program")
        .to_owned()
}

/// The text of a run that must succeed.
#[allow(dead_code)]
pub(crate) fn printed(command: &mut Command) -> String {
    let output = command.output().expect("the example starts");
    assert!(output.status.success(), "{}", stderr(&output));
    String::from_utf8(output.stdout).expect("the table is UTF-8")
}

/// The results with the one amount of work that was given.
pub(crate) fn only_run(results: &Value) -> &Value {
    match &results["runs"].as_array().expect("an array")[..] {
        [run] => run,
        runs => panic!("one amount of work, {} runs", runs.len()),
    }
}

pub(crate) fn names(run: &Value) -> Vec<&str> {
    let strategies = run["strategies"].as_array().expect("an array");
    strategies
        .iter()
        .map(|s| s["name"].as_str().expect("a name"))
        .collect()
}

/// Rows that keep a few keys hot, with the totals they add up to, counted apart from the program.
pub(crate) fn generated(rows: u64) -> (String, Value) {
    let mut csv = String::from("day,distance,dest,carrier,tailnum,origin\n");
    let mut aircraft: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut departures: BTreeMap<String, u64> = BTreeMap::new();
    let mut arrivals: BTreeMap<String, u64> = BTreeMap::new();
    for row in 0..rows {
        let mixed = row.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        let (tail, distance) = (mixed % 41, 80 + mixed % 4_903);
        let origin = ["EWR", "JFK", "LGA"][(mixed % 3) as usize];
        // Some end where they started: one airport, and yet two keys.
        let dest = ["EWR", "IAH", "MIA", "BQN", "ATL"][(mixed / 41 % 5) as usize];
        // `NA` and nothing at all both mean that the aircraft is not known.
        let tail = match tail {
            0 => "NA".to_owned(),
            1 => String::new(),
            n => format!("N{n:03}"),
        };
        csv += &format!("{row},{distance},{dest},\"a, b\",{tail},{origin}\n");
        if tail.starts_with("N0") {
            let flown = aircraft.entry(tail).or_default();
            *flown = (flown.0 + distance, flown.1 + 1);
        }
        *departures.entry(origin.to_owned()).or_default() += 1;
        *arrivals.entry(dest.to_owned()).or_default() += 1;
    }
    let aircraft: BTreeMap<_, _> = (aircraft.into_iter())
        .map(|(tail, (miles, flights))| {
            (
                tail,
                serde_json::json!({ "miles": miles, "flights": flights }),
            )
        })
        .collect();
    let totals = serde_json::json!({
        "aircraft": aircraft, "departures": departures, "arrivals": arrivals,
    });
    (csv, totals)
}
