//! The file of the measurements: a line of JSON with the place and the plan, and one for each
//! setting that is done.
//!
//! A line is written when all of its runs are there, and the last may be torn off: a sweep that was
//! interrupted continues after the last whole line.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::path::Path;

use latchwork_bench::control::Reading;
use latchwork_bench::machine::{self, Machine};
use serde::{Deserialize, Serialize};

use crate::plan::Plan;

/// Where and how the runs of a file were made. What differs in one of them does not belong into one
/// plot, but for the commit: it moves on while the program that was built from it is the same.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Head {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) system: String,
    pub(crate) compiler: String,
    pub(crate) allocator: String,
    pub(crate) commit: String,
    /// Distinguishes builds, including those of changed sources.
    pub(crate) build: String,
    pub(crate) peers: Vec<(String, String)>,
    pub(crate) plan: Plan,
}

impl Head {
    pub(crate) fn here(plan: Plan) -> Self {
        let machine = Machine::here();
        let peers = machine::peers().map(|(name, version)| (name.to_owned(), version.to_owned()));
        Self {
            cpu: machine.cpu,
            cores: machine.cores,
            system: machine.system,
            compiler: machine.rustc.to_owned(),
            allocator: machine::allocator(),
            commit: machine::commit().unwrap_or_else(|| "unknown".to_owned()),
            build: machine::build().unwrap_or_default(),
            peers: peers.collect(),
            plan,
        }
    }

    /// In what runs of the one cannot be drawn beside runs of the other.
    fn differs(&self, other: &Self) -> Option<&'static str> {
        let same = [
            ("processor", self.cpu == other.cpu),
            ("number of cores", self.cores == other.cores),
            ("system", self.system == other.system),
            ("allocator", self.allocator == other.allocator),
            ("build", self.build == other.build),
            ("depth or number of threads", self.plan == other.plan),
        ];
        same.into_iter()
            .find_map(|(what, same)| (!same).then_some(what))
    }
}

/// All runs of one scenario in one setting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cell {
    pub(crate) scenario: String,
    pub(crate) threads: usize,
    pub(crate) value: f64,
    /// The runs of each contender, one a round.
    pub(crate) runs: Vec<(String, Vec<Run>)>,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// Operations a second.
    pub(crate) rate: f64,
    pub(crate) fairness: f64,
    /// How many operations were timed.
    pub(crate) timed: u64,
    /// Nanoseconds that the parts [`PARTS`] of them did not exceed.
    pub(crate) nanos: [u64; PARTS.len()],
    /// The control before and after.
    pub(crate) control: [Reading; 2],
    pub(crate) believed: bool,
}

/// The parts of which times are kept.
pub(crate) const PARTS: [f64; 5] = [0.5, 0.9, 0.99, 0.999, 1.0];

/// A file that is being written.
#[derive(Debug)]
pub(crate) struct Raw {
    file: File,
    pub(crate) head: Head,
    pub(crate) cells: Vec<Cell>,
}

impl Raw {
    /// Opens the file of a sweep with this head, and reads its lines; makes the file if there is
    /// none.
    pub(crate) fn open(path: &Path, mut head: Head) -> Result<Self, String> {
        let said = |error: std::io::Error| format!("{}: {error}", path.display());
        let old = match File::open(path) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(said(error)),
        };
        let mut cells = Vec::new();
        // Up to here all lines are whole.
        let mut length = 0;
        if let Some(old) = old {
            let mut old = BufReader::new(old);
            let mut line = String::new();
            while old.read_line(&mut line).map_err(said)? > 0 && line.ends_with('\n') {
                if length == 0 {
                    let found = serde_json::from_str::<Head>(&line);
                    let differs = match &found {
                        Ok(found) => found.differs(&head),
                        Err(_) => Some("version of this program"),
                    };
                    if let Some(what) = differs {
                        return Err(format!(
                            "{} is of another {what}: --fresh starts anew, --out names another folder",
                            path.display()
                        ));
                    }
                    head = found.unwrap_or(head);
                } else {
                    let cell = serde_json::from_str(&line);
                    cells.push(cell.map_err(|error| format!("{}: {error}", path.display()))?);
                }
                length += line.len() as u64;
                line.clear();
            }
        }
        let mut options = OpenOptions::new();
        let file = options.create(true).append(true).open(path).map_err(said)?;
        file.set_len(length).map_err(said)?;
        let mut raw = Self { file, head, cells };
        if length == 0 {
            let head = serde_json::to_string(&raw.head);
            raw.line(head).map_err(said)?;
        }
        Ok(raw)
    }

    fn line(&mut self, text: serde_json::Result<String>) -> std::io::Result<()> {
        // One write, so that a line is there or is not.
        self.file.write_all(format!("{}\n", text?).as_bytes())
    }

    /// The runs of one setting, if it was measured.
    pub(crate) fn find(&self, scenario: &str, threads: usize, value: f64) -> Option<&Cell> {
        let of = |cell: &&Cell| (cell.threads, cell.value) == (threads, value);
        self.cells
            .iter()
            .filter(of)
            .find(|cell| cell.scenario == scenario)
    }

    /// Stores the runs.
    pub(crate) fn add(&mut self, cell: Cell) -> std::io::Result<()> {
        self.line(serde_json::to_string(&cell))?;
        self.cells.push(cell);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::plan::Depth;

    fn cell(threads: usize) -> Cell {
        let runs = vec![("ours".to_owned(), Vec::new())];
        Cell {
            scenario: "spread".to_owned(),
            threads,
            value: 0.1,
            runs,
        }
    }

    #[test]
    fn a_sweep_goes_on_after_its_last_whole_line() {
        let folder = std::env::temp_dir().join(format!("sweep-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a temporary folder");
        let path = folder.join("raw.jsonl");
        let head = Head::here(Plan::new(Depth::Quick, None));
        let mut raw = Raw::open(&path, head.clone()).expect("it is new");
        raw.add(cell(1)).expect("there is room");
        raw.add(cell(2)).expect("there is room");
        drop(raw);

        let text = fs::read_to_string(&path).expect("it is there");
        fs::write(&path, &text[..text.len() - 7]).expect("there is room");
        let mut raw = Raw::open(&path, head.clone()).expect("it is of the same");
        assert_eq!(raw.cells, [cell(1)]);
        raw.add(cell(2)).expect("there is room");
        assert_eq!(fs::read_to_string(&path).expect("it is there"), text);
        assert!(raw.find("spread", 2, 0.1).is_some());
        assert!(raw.find("spread", 2, 0.2).is_none());
        drop(raw);

        let commit = "a later one".to_owned();
        let later = Head {
            commit,
            ..head.clone()
        };
        let raw = Raw::open(&path, later).expect("the program is the same");
        assert_eq!(raw.head.commit, head.commit);
        drop(raw);
        let build = "another".to_owned();
        let other = Raw::open(&path, Head { build, ..head });
        assert!(other.is_err_and(|error| error.contains("another build: --fresh")));
        fs::remove_dir_all(&folder).expect("it is ours");
    }
}
