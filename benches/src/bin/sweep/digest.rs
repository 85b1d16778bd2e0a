//! The result of a sweep: medians of the runs that are believed, or no verdict.

use latchwork_bench::ratio::Quartiles;
use latchwork_bench::scenarios::{Axis, Scenario};

use crate::plan::Depth;
use crate::raw::{Cell, PARTS, Run};

/// Fewer times than this support no statement about the slowest in a thousand.
const ENOUGH_TIMES: u64 = 1_000;

/// One scenario, measured.
#[derive(Debug)]
pub(crate) struct Answer<'a> {
    pub(crate) scenario: &'a Scenario,
    /// The labels under the axis, in its order.
    pub(crate) ticks: Vec<f64>,
    pub(crate) threads: Vec<usize>,
    /// A line for each contender, with a point for each tick.
    pub(crate) lines: Vec<Line>,
}

/// One contender of a scenario.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) ours: bool,
    pub(crate) note: &'static str,
    pub(crate) points: Vec<Point>,
}

/// One contender in one setting.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    /// `None` is no verdict.
    pub(crate) verdict: Option<Verdict>,
    pub(crate) believed: usize,
    pub(crate) tried: usize,
}

/// The summary of the runs that are believed.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    /// Operations a second.
    pub(crate) rate: Quartiles,
    /// Operations of the first contender divided by those of this one in the same round; `None` if
    /// no round has both.
    pub(crate) ratio: Option<Quartiles>,
    /// Nanoseconds for each of [`PARTS`]; `None` where too few were timed.
    pub(crate) nanos: [Option<f64>; PARTS.len()],
    pub(crate) fairness: f64,
}

impl<'a> Answer<'a> {
    /// Puts together what `cells` have of `scenario`, measured to this depth; `None` if nothing.
    pub(crate) fn of(scenario: &'a Scenario, cells: &[Cell], depth: Depth) -> Option<Self> {
        let named = |cell: &&Cell| cell.scenario == scenario.name;
        let mut cells: Vec<_> = cells.iter().filter(named).collect();
        cells.sort_by(|a, b| a.value.total_cmp(&b.value));
        let need = need(depth);
        let lines = scenario.contenders.iter().map(|contender| Line {
            name: contender.name,
            ours: contender.ours,
            note: contender.note,
            points: cells
                .iter()
                .map(|cell| point(cell, contender.name, scenario.contenders[0].name, need))
                .collect(),
        });
        (!cells.is_empty()).then(|| Self {
            scenario,
            ticks: cells.iter().map(|cell| cell.value).collect(),
            threads: cells.iter().map(|cell| cell.threads).collect(),
            lines: lines.collect(),
        })
    }

    /// What varies, in words.
    pub(crate) fn axis(&self) -> String {
        match self.scenario.axis {
            Axis::Threads => "threads".to_owned(),
            Axis::Value { label, .. } => label.to_owned(),
        }
    }

    /// The last setting in which a contender has a verdict.
    pub(crate) fn last(&self) -> Option<usize> {
        let known = |&place: &usize| {
            let mut lines = self.lines.iter();
            lines.any(|line| line.points[place].verdict.is_some())
        };
        (0..self.ticks.len()).rev().find(known)
    }

    /// Where the line of the first contender, which is optimistic, crosses that of the pessimistic
    /// one; `None` if the question has no such contender.
    pub(crate) fn crossings(&self) -> Option<Crossings> {
        let pessimist = self.scenario.pessimist?;
        let line = self.lines.iter().find(|line| line.name == pessimist)?;
        // The ratio of the same round: the machine disturbed both sides alike.
        let lead = |point: &Point| Some(point.verdict.as_ref()?.ratio?.median.ln());
        let points = line.points.iter().enumerate();
        let leads: Vec<(usize, f64)> = points
            .filter_map(|(place, point)| Some((place, lead(point)?)))
            .collect();
        Some(Crossings {
            names: [self.lines[0].name, pessimist],
            first: leads.first().filter(|_| leads.len() > 1).map(|(_, l)| *l),
            at: crossings(&leads, &self.ticks),
        })
    }

    /// The same in words.
    pub(crate) fn crossings_in_words(&self) -> Option<String> {
        let crossings = self.crossings()?;
        let [optimist, pessimist] = crossings.names;
        let Some(first) = crossings.first else {
            return Some(format!(
                "No verdict on where {optimist} and {pessimist} cross."
            ));
        };
        let [leader, other] = if first > 0.0 {
            [optimist, pessimist]
        } else {
            [pessimist, optimist]
        };
        if crossings.at.is_empty() {
            return Some(format!(
                "Throughout {leader} is ahead: the lines of {optimist} and {pessimist} do not cross."
            ));
        }
        let axis = self.axis();
        let at = crossings.at.iter().map(|crossing| {
            let [left, right] = crossing.between;
            format!("between {left} and {right}, at about {:.2}", crossing.value)
        });
        let at = at.collect::<Vec<_>>().join("; again ");
        Some(format!(
            "At first {leader} is ahead of {other}; their lines cross {at} ({axis})."
        ))
    }
}

/// Where two lines cross.
#[derive(Debug)]
pub(crate) struct Crossings {
    names: [&'static str; 2],
    /// By how much the optimist is ahead at first, as a logarithm; `None` if there is no line to
    /// speak of.
    first: Option<f64>,
    pub(crate) at: Vec<Crossing>,
}

/// One place where they do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Crossing {
    /// Ticks from the left, and parts of the way to the next.
    pub(crate) place: f64,
    /// The value under the place, interpolated between the two ticks.
    pub(crate) value: f64,
    between: [f64; 2],
}

/// Where a line through these points, each at a tick, changes its sign.
fn crossings(points: &[(usize, f64)], ticks: &[f64]) -> Vec<Crossing> {
    let crosses = points.windows(2).filter_map(|pair| {
        let [(left, before), (right, after)] = *pair else {
            return None;
        };
        let part = before / (before - after);
        let along = |[left, right]: [f64; 2]| left + (right - left) * part;
        let between = [ticks[left], ticks[right]];
        // At a tick itself it is counted once, by the interval before.
        (before != 0.0 && before * after <= 0.0).then(|| Crossing {
            place: along([left as f64, right as f64]),
            value: along(between),
            between,
        })
    });
    crosses.collect()
}

/// How many runs must be believed for a verdict.
fn need(depth: Depth) -> usize {
    depth.runs().div_ceil(2).max(2)
}

/// Returns whether a contender of the setting has a verdict.
pub(crate) fn has_verdict(cell: &Cell, depth: Depth) -> bool {
    let believed = |runs: &[Run]| runs.iter().filter(|run| run.believed).count();
    cell.runs
        .iter()
        .any(|(_, runs)| believed(runs) >= need(depth))
}

fn runs_of<'c>(cell: &'c Cell, name: &str) -> &'c [Run] {
    let found = cell.runs.iter().find(|(of, _)| of == name);
    found.map_or(&[], |(_, runs)| runs)
}

fn point(cell: &Cell, name: &str, first: &str, need: usize) -> Point {
    let runs = runs_of(cell, name);
    let believed: Vec<_> = runs.iter().filter(|run| run.believed).collect();
    let median = |values: Vec<f64>| Some(Quartiles::of(values)?.median);
    let verdict = || {
        let rounds = runs_of(cell, first).iter().zip(runs);
        let both = rounds.filter(|(first, run)| first.believed && run.believed);
        let nanos = |part: usize| {
            let rare = PARTS[part] > 0.9 && PARTS[part] < 1.0;
            let known = believed
                .iter()
                .filter(|run| run.timed >= if rare { ENOUGH_TIMES } else { 1 });
            median(known.map(|run| run.nanos[part] as f64).collect())
        };
        Some(Verdict {
            rate: Quartiles::of(believed.iter().map(|run| run.rate))?,
            ratio: Quartiles::of(both.map(|(first, run)| first.rate / run.rate)),
            nanos: [0, 1, 2, 3, 4].map(nanos),
            fairness: median(believed.iter().map(|run| run.fairness).collect())?,
        })
    };
    Point {
        verdict: (believed.len() >= need).then(verdict).flatten(),
        believed: believed.len(),
        tried: runs.len(),
    }
}

#[cfg(test)]
mod tests {
    use latchwork_bench::control::Reading;

    use super::*;

    fn run(rate: f64, believed: bool) -> Run {
        let reading = Reading {
            one: 1.0,
            scaling: 1.0,
        };
        Run {
            rate,
            fairness: 1.0,
            timed: 10,
            nanos: [1, 2, 3, 4, 5],
            control: [reading; 2],
            believed,
        }
    }

    fn cell() -> Cell {
        let ours = vec![run(6.0, true), run(9.0, false), run(8.0, true)];
        let other = vec![run(3.0, true), run(3.0, true), run(2.0, true)];
        Cell {
            scenario: "any".to_owned(),
            threads: 1,
            value: 1.0,
            runs: vec![("ours".to_owned(), ours), ("other".to_owned(), other)],
        }
    }

    #[test]
    fn only_what_is_believed_counts_and_ratios_are_of_one_round() {
        let point = point(&cell(), "other", "ours", 2);
        let verdict = point.verdict.expect("three runs are believed");
        assert_eq!(verdict.rate.median, 3.0);
        // 6/3 and 8/2: the second round of ours is not believed.
        assert_eq!(verdict.ratio.map(|ratio| ratio.median), Some(3.0));
        assert_eq!(verdict.nanos, [Some(1.0), Some(2.0), None, None, Some(5.0)]);
    }

    #[test]
    fn a_setting_has_a_verdict_if_one_contender_has() {
        assert!(has_verdict(&cell(), Depth::Quick));
        let mut torn = cell();
        for (_, runs) in &mut torn.runs {
            runs.iter_mut().skip(1).for_each(|run| run.believed = false);
        }
        assert!(!has_verdict(&torn, Depth::Quick));
    }

    #[test]
    fn too_few_runs_are_no_verdict() {
        let point = point(&cell(), "ours", "ours", 3);
        assert!(point.verdict.is_none());
        assert_eq!((point.believed, point.tried), (2, 3));
    }

    #[test]
    fn lines_cross_between_the_ticks_where_the_sign_changes() {
        let ticks = [0.0, 0.5, 1.0, 2.0];
        let found = crossings(&[(0, 1.0), (1, 1.0), (2, -1.0), (3, 3.0)], &ticks);
        let [first, second] = found[..] else {
            panic!("two changes: {found:?}")
        };
        assert_eq!((first.place, first.value), (1.5, 0.75));
        assert_eq!(first.between, [0.5, 1.0]);
        assert_eq!((second.place, second.value), (2.25, 1.25));
        assert_eq!(crossings(&[(0, 1.0), (3, 2.0)], &ticks), []);
        // Over a tick without a verdict, and at a tick.
        let found = crossings(&[(0, 1.0), (2, -1.0)], &ticks);
        assert_eq!(found.iter().map(|c| c.place).collect::<Vec<_>>(), [1.0]);
        let found = crossings(&[(0, 1.0), (1, 0.0), (2, -1.0)], &ticks);
        assert_eq!(found.iter().map(|c| c.place).collect::<Vec<_>>(), [1.0]);
    }
}
