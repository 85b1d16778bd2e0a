//! The results of rounds and controls: lines of JSON, and a table.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::{MILLISECOND, Nanos, nanos};
use crate::history::Verdict;
use crate::servers::Kind;

/// A line of the file of a campaign.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Line {
    Round(Round),
    Control(Control),
}

/// The result of one round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Round {
    pub(crate) kind: Kind,
    pub(crate) fault: String,
    /// The number of the cycle through all faults.
    pub(crate) cycle: u32,
    pub(crate) seconds: f64,
    /// When each phase ended, in seconds since the begin of the round.
    #[serde(default)]
    pub(crate) phases: Vec<f64>,
    pub(crate) verdict: Verdict,
    /// Milliseconds.
    pub(crate) outage: u64,
    /// The longest outage after the end of the fault.
    pub(crate) afterwards: u64,
    pub(crate) takeover: Option<u64>,
    pub(crate) free_after: u64,
    pub(crate) ghosts: u64,
    pub(crate) gave_up: u64,
    pub(crate) unavailable: u64,
    pub(crate) unconfirmed: u64,
    /// The rules that were broken.
    pub(crate) broken: Vec<String>,
    /// The targets that were exceeded, by less than a failure.
    pub(crate) over: Vec<String>,
    /// The longest delay with which a thread of the campaign was woken since the fault.
    #[serde(default)]
    pub(crate) late: u64,
    /// Whether etcd elected a leader although no server was damaged.
    #[serde(default)]
    pub(crate) had_election: bool,
    /// What a request of the probe reported, if its outage exceeded the target.
    #[serde(default)]
    pub(crate) causes: Vec<String>,
    /// The number of processes that were ready to run, as the system counts it.
    pub(crate) load: f64,
}

/// The result of a control, which must be detected.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Control {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) rounds: u32,
    pub(crate) is_detected: bool,
    #[serde(default)]
    pub(crate) ghosts: u64,
    pub(crate) verdict: Verdict,
}

/// The threads and processes that a request passes.
const DELAYS: u64 = 4;

pub(crate) fn milliseconds(time: Nanos) -> u64 {
    time.div_ceil(MILLISECOND)
}

impl Round {
    pub(crate) fn new(kind: Kind, fault: String) -> Round {
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').next().and_then(|load| load.parse().ok());
        Round {
            kind,
            fault,
            cycle: 0,
            seconds: 0.0,
            phases: Vec::new(),
            verdict: Verdict::default(),
            outage: 0,
            afterwards: 0,
            takeover: None,
            free_after: 0,
            ghosts: 0,
            gave_up: 0,
            unavailable: 0,
            unconfirmed: 0,
            broken: Vec::new(),
            over: Vec::new(),
            late: 0,
            had_election: false,
            causes: Vec::new(),
            load: load.unwrap_or(0.0),
        }
    }

    /// Compares a time with its target, and with the time that is a failure.
    ///
    /// A failure must exceed the time that the delays of this machine explain: a request passes
    /// four threads and processes, and each of them may be woken late.
    pub(crate) fn bound(
        &mut self,
        rule: &str,
        what: &str,
        time: Nanos,
        target: Duration,
        failure: Duration,
    ) {
        let text = format!("{rule}: {what} of {} ms", milliseconds(time));
        let late = DELAYS * self.late * MILLISECOND;
        if time > nanos(failure).saturating_add(late) {
            self.broken.push(text);
        } else if time > nanos(target) {
            self.over.push(text);
        }
    }

    /// The result in one line, for people.
    pub(crate) fn line(&self) -> String {
        let v = &self.verdict;
        let takeover = self.takeover.map(|ms| format!(", takeover {ms}"));
        let mut line = format!(
            "{:<8} {:<34} {:>5} leases, {:>3} lost, {:>3} refused, outage {:>5} ms{}, free {} ms, \
             notice {} ms",
            self.kind.name(),
            self.fault,
            v.acquisitions,
            v.losses,
            v.refused,
            self.outage,
            takeover.unwrap_or_default(),
            self.free_after,
            milliseconds(v.longest_notice),
        );
        if v.regressions + v.overlaps > 0 {
            let (tokens, overlaps) = (v.regressions, v.overlaps);
            let _ = write!(line, "; {tokens} tokens not greater, {overlaps} overlaps");
        }
        for over in &self.over {
            let _ = write!(line, "; above its target: {over}");
        }
        for broken in &self.broken {
            let _ = write!(line, "\n    BROKEN {broken}");
        }
        if !self.over.is_empty() || !self.broken.is_empty() {
            let (load, late) = (self.load, self.late);
            let _ = write!(
                line,
                "\n    load {load:.1}, a thread was woken {late} ms late"
            );
        }
        for cause in &self.causes {
            let _ = write!(line, "\n    {cause}");
        }
        line
    }
}

impl Control {
    pub(crate) fn undetected(kind: Kind, name: &str) -> Control {
        Control {
            kind,
            name: name.to_owned(),
            rounds: 0,
            is_detected: false,
            ghosts: 0,
            verdict: Verdict::default(),
        }
    }

    pub(crate) fn line(&self) -> String {
        let v = &self.verdict;
        let found = if self.is_detected {
            "detected"
        } else {
            "NOT DETECTED"
        };
        format!(
            "{:<8} control: {:<25} {found} in round {}: {} stale writes, {} overlaps, {} tokens \
             not greater, {} ghosts",
            self.kind.name(),
            self.name,
            self.rounds,
            v.stale,
            v.overlaps,
            v.regressions,
            self.ghosts
        )
    }
}

/// Reads the lines of a campaign. A line that was interrupted is dropped.
pub(crate) fn read(path: &Path) -> Vec<Line> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

pub(crate) fn append(path: &Path, line: &Line) -> Result<(), String> {
    let text = serde_json::to_string(line).map_err(|error| error.to_string())?;
    let file = OpenOptions::new().create(true).append(true).open(path);
    let mut file = file.map_err(|error| error.to_string())?;
    writeln!(file, "{text}").map_err(|error| error.to_string())
}

/// Renders the table of a campaign.
pub(crate) fn table(lines: &[Line]) -> String {
    let mut rows: BTreeMap<(&str, &str), Vec<&Round>> = BTreeMap::new();
    let (mut seconds, mut controls) = (0.0, Vec::new());
    for line in lines {
        match line {
            Line::Round(round) => {
                let row = rows.entry((round.kind.name(), &round.fault)).or_default();
                row.push(round);
                seconds += round.seconds;
            }
            Line::Control(control) => controls.push(control),
        }
    }
    let mut text = String::new();
    let mut all = Verdict::default();
    let (mut ghosts, mut broken, mut count) = (0, 0, 0);
    for round in rows.values().flatten() {
        all.add(&round.verdict);
        ghosts += round.ghosts;
        broken += round.broken.len();
        count += 1;
    }
    let lossless: u64 = rows
        .values()
        .flatten()
        .filter(|round| !round.fault.ends_with("data"))
        .map(|round| round.verdict.regressions + round.verdict.repeated)
        .sum();
    let minutes = seconds / 60.0;
    let _ = writeln!(
        text,
        "{count} rounds in {minutes:.0} minutes: {} leases, {} writes, {} refused writes;\n\
         {} stale writes accepted, {} numbers with two holders, {ghosts} ghosts,\n\
         {lossless} tokens out of order outside of lost data, {broken} broken rules.\n",
        all.acquisitions, all.writes, all.refused, all.stale, all.shared
    );
    text.push_str(
        "| engine | fault | rounds | leases | refused | outage | afterwards | takeover | notice \
         | over |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    for ((kind, fault), rounds) in &rows {
        let mut verdict = Verdict::default();
        rounds.iter().for_each(|round| verdict.add(&round.verdict));
        let outage = rounds.iter().map(|round| round.outage).max().unwrap_or(0);
        let afterwards = rounds.iter().map(|round| round.afterwards).max();
        let afterwards = afterwards.unwrap_or(0);
        let takeover = rounds.iter().filter_map(|round| round.takeover).max();
        let takeover = takeover.map_or(String::new(), |ms| ms.to_string());
        let notice = match verdict.losses {
            0 => String::new(),
            _ => milliseconds(verdict.longest_notice).to_string(),
        };
        let over: usize = rounds.iter().map(|round| round.over.len()).sum();
        let _ = writeln!(
            text,
            "| {kind} | {fault} | {} | {} | {} | {outage} | {afterwards} | {takeover} | {notice} \
             | {over} |",
            rounds.len(),
            verdict.acquisitions,
            verdict.refused
        );
    }
    text.push_str(
        "\n| engine | control | stale writes | overlaps | tokens not greater | ghosts |\n\
         |---|---|---|---|---|---|\n",
    );
    let mut by_name: BTreeMap<(&str, &str), Vec<&Control>> = BTreeMap::new();
    for control in controls {
        let name = (control.kind.name(), control.name.as_str());
        by_name.entry(name).or_default().push(control);
    }
    for ((kind, name), controls) in by_name {
        let mut verdict = Verdict::default();
        controls
            .iter()
            .for_each(|control| verdict.add(&control.verdict));
        let ghosts: u64 = controls.iter().map(|control| control.ghosts).sum();
        let missed = controls
            .iter()
            .filter(|control| !control.is_detected)
            .count();
        let missed = match missed {
            0 => String::new(),
            missed => format!("; NOT DETECTED in {missed} of {}", controls.len()),
        };
        let _ = writeln!(
            text,
            "| {kind} | {name} | {} | {} | {} | {ghosts}{missed} |",
            verdict.stale, verdict.overlaps, verdict.regressions
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns whether a time of 5 s breaks a rule with a limit of 3 s.
    fn is_broken(late: u64) -> bool {
        let mut round = Round::new(Kind::Sqlite, String::new());
        round.late = late;
        let [target, failure, time] = [1, 3, 5].map(Duration::from_secs);
        round.bound("I5", "outage", nanos(time), target, failure);
        assert_eq!(round.broken.len() + round.over.len(), 1);
        !round.broken.is_empty()
    }

    #[test]
    fn only_a_delay_that_was_measured_excuses_a_time() {
        assert!(is_broken(0));
        assert!(is_broken(499));
        assert!(!is_broken(500));
    }
}
