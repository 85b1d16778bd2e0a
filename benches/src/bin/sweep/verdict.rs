//! What the measurements say, in one sentence above each plot: where this crate is ahead of the
//! others, where it is behind, and by how much.
//!
//! Each sentence is computed from the points that are drawn.

use latchwork_bench::ratio::Quartiles;

use crate::digest::{Answer, Line, Verdict};
use crate::raw::PARTS;
use crate::table::{number, setting, tick};

/// The verdict without points.
pub(crate) const NONE: &str = "No verdict: too few runs were undisturbed.";

/// Two contenders are level if the middle half of their ratios reaches into this range.
const LEVEL: [f64; 2] = [0.95, 1.05];

/// The outcome of one setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Ahead,
    Level,
    Behind,
}

/// The best of this crate beside the best of the others, in one setting.
#[derive(Clone, Copy, Debug)]
struct Duel<'a> {
    ours: &'a str,
    peer: &'a str,
    outcome: Outcome,
    /// How many times the operations of the other.
    ratio: f64,
}

/// Returns the verdict on the rates.
pub(crate) fn rates(answer: &Answer<'_>) -> String {
    let duels: Vec<_> = (0..answer.ticks.len())
        .map(|place| duel(answer, place))
        .collect();
    let mut sentences = Vec::new();
    for (outcome, word) in [
        (Outcome::Ahead, "Ahead of every other"),
        (Outcome::Level, "Level with the best other"),
        (Outcome::Behind, "Behind the best other"),
    ] {
        let places = duels.iter().zip(&answer.ticks);
        let found: Vec<(Duel<'_>, f64)> = places
            .filter_map(|(duel, value)| Some(((*duel)?, *value)))
            .filter(|(duel, _)| duel.outcome == outcome)
            .collect();
        if found.is_empty() {
            continue;
        }
        let at: Vec<_> = found.iter().map(|(_, value)| tick(*value)).collect();
        let at = if sentences.is_empty() {
            format!("{} ({})", list(&at), answer.axis())
        } else {
            list(&at)
        };
        let ratios = found.iter().map(|(duel, _)| duel.ratio);
        let lowest = ratios.clone().fold(f64::MAX, f64::min);
        let highest = ratios.fold(0.0, f64::max);
        let span = match [lowest, highest].map(number) {
            [low, high] if low == high => low,
            [low, high] => format!("{low} to {high}"),
        };
        let ours = names(found.iter().map(|(duel, _)| duel.ours));
        let peers = names(found.iter().map(|(duel, _)| duel.peer));
        sentences.push(format!(
            "{word} at {at}: {ours} does {span} times the operations of {peers}."
        ));
    }
    if sentences.is_empty() {
        return NONE.to_owned();
    }
    sentences.join(" ")
}

/// Returns the verdict on the times in one setting: for the slowest in a hundred operations, which
/// a user notices.
pub(crate) fn times(answer: &Answer<'_>, place: usize) -> String {
    const RARE: usize = 2;
    debug_assert_eq!(PARTS[RARE], 0.99);
    let best = |ours: bool| {
        let lines = answer.lines.iter().filter(|line| line.ours == ours);
        let known = lines.filter_map(|line| {
            let nanos = line.points[place].verdict.as_ref()?.nanos[RARE]?;
            Some((line.name, nanos))
        });
        known.min_by(|a, b| a.1.total_cmp(&b.1))
    };
    let at = setting(answer, place);
    match (best(true), best(false)) {
        (None, _) => format!("No verdict: too few operations were timed ({at})."),
        (Some((ours, time)), None) => {
            format!(
                "99% of the operations of {ours} took at most {} ({at}).",
                nanos(time)
            )
        }
        (Some((ours, time)), Some((peer, other))) => format!(
            "99% of the operations of {ours} took at most {}; of the quickest other, {peer}, {} ({at}).",
            nanos(time),
            nanos(other)
        ),
    }
}

/// Compares the fastest of each side, by the ratios of the same rounds.
fn duel<'a>(answer: &Answer<'a>, place: usize) -> Option<Duel<'a>> {
    let fastest = |ours: bool| {
        let lines = answer.lines.iter().filter(|line| line.ours == ours);
        let known = lines.filter_map(|line: &Line| {
            let verdict: &Verdict = line.points[place].verdict.as_ref()?;
            Some((line.name, verdict.rate.median, verdict.ratio?))
        });
        known.max_by(|a, b| a.1.total_cmp(&b.1))
    };
    let ((ours, _, own), (peer, _, other)) = (fastest(true)?, fastest(false)?);
    let ratio = quotient(other, own);
    let outcome = if ratio.lower > LEVEL[1] {
        Outcome::Ahead
    } else if ratio.upper < LEVEL[0] {
        Outcome::Behind
    } else {
        Outcome::Level
    };
    Some(Duel {
        ours,
        peer,
        outcome,
        ratio: ratio.median,
    })
}

/// Both are ratios of the first contender to another one: the quotient is the ratio of the second
/// of these to the first. The range of a quotient joins both ranges.
fn quotient(other: Quartiles, own: Quartiles) -> Quartiles {
    Quartiles {
        lower: other.lower / own.upper,
        median: other.median / own.median,
        upper: other.upper / own.lower,
    }
}

/// Returns the names, each once.
fn names<'a>(all: impl Iterator<Item = &'a str>) -> String {
    let mut unique: Vec<&str> = Vec::new();
    for name in all {
        if !unique.contains(&name) {
            unique.push(name);
        }
    }
    unique.join(" or ")
}

fn list(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

fn nanos(time: f64) -> String {
    match time {
        time if time >= 1e6 => format!("{} ms", number(time / 1e6)),
        time if time >= 1e3 => format!("{} µs", number(time / 1e3)),
        time => format!("{} ns", number(time)),
    }
}

#[cfg(test)]
mod tests {
    use latchwork_bench::scenarios;

    use super::*;
    use crate::digest::Point;

    fn point(rate: f64, ratio: [f64; 3]) -> Point {
        let quartiles = |[lower, median, upper]: [f64; 3]| Quartiles {
            lower,
            median,
            upper,
        };
        Point {
            verdict: Some(Verdict {
                rate: quartiles([rate; 3]),
                ratio: Some(quartiles(ratio)),
                nanos: [Some(1.0), Some(2.0), Some(1_500.0), None, Some(9e6)],
                fairness: 1.0,
            }),
            believed: 2,
            tried: 2,
        }
    }

    fn nothing() -> Point {
        Point {
            verdict: None,
            believed: 0,
            tried: 4,
        }
    }

    fn line(name: &'static str, ours: bool, points: Vec<Point>) -> Line {
        Line {
            name,
            ours,
            note: "",
            points,
        }
    }

    /// At 1 the best peer is behind, at 2 level, at 4 ahead, and at 8 nothing is known.
    #[test]
    fn a_verdict_names_where_it_is_ahead_level_and_behind() {
        let scenario = scenarios::named("spread");
        let one = [1.0; 3];
        let answer = Answer {
            scenario: &scenario,
            ticks: vec![1.0, 2.0, 4.0, 8.0],
            threads: vec![1, 2, 4, 8],
            lines: vec![
                line(
                    "a",
                    true,
                    vec![point(4e6, one), point(4e6, one), point(4e6, one), nothing()],
                ),
                line(
                    "b",
                    false,
                    vec![
                        point(2e6, [1.9, 2.0, 2.1]),
                        point(4e6, [0.9, 1.0, 1.1]),
                        point(8e6, [0.5, 0.5, 0.5]),
                        nothing(),
                    ],
                ),
                line(
                    "slow",
                    false,
                    vec![
                        point(1e6, [4.0; 3]),
                        point(1e6, [4.0; 3]),
                        point(1e6, [4.0; 3]),
                        point(1e6, [4.0; 3]),
                    ],
                ),
            ],
        };
        assert_eq!(
            rates(&answer),
            "Ahead of every other at 1 (threads): a does 2 times the operations of b. \
             Level with the best other at 2: a does 1 times the operations of b. \
             Behind the best other at 4: a does 0.500 times the operations of b."
        );
        assert_eq!(
            times(&answer, 0),
            "99% of the operations of a took at most 1.50 µs; of the quickest other, b, 1.50 µs \
             (1 thread)."
        );
        assert!(times(&answer, 3).starts_with("No verdict"));
    }

    /// Another contender of this crate is faster than the first one: it is compared.
    #[test]
    fn the_fastest_of_ours_is_compared() {
        let scenario = scenarios::named("spread");
        let answer = Answer {
            scenario: &scenario,
            ticks: vec![1.0],
            threads: vec![1],
            lines: vec![
                line("first", true, vec![point(1e6, [1.0; 3])]),
                line("second", true, vec![point(4e6, [0.25; 3])]),
                line("peer", false, vec![point(2e6, [0.5; 3])]),
            ],
        };
        assert_eq!(
            rates(&answer),
            "Ahead of every other at 1 (threads): second does 2 times the operations of peer."
        );
    }

    #[test]
    fn without_points_there_is_no_verdict() {
        let scenario = scenarios::named("spread");
        let answer = Answer {
            scenario: &scenario,
            ticks: vec![1.0],
            threads: vec![1],
            lines: vec![line("a", true, vec![nothing()])],
        };
        assert!(rates(&answer).starts_with("No verdict"));
    }
}
