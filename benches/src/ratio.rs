//! Comparing two contenders that run in turn, so that what drifts on the machine drifts for both.
//!
//! A round is one run of the subject and one of the baseline, back to back, the order changing from
//! round to round; its result is the quotient of the two. Rounds are summed up by their median and
//! quartiles, never by a mean: a round that was interrupted is an outlier, not evidence.

use std::time::{Duration, Instant};

/// The median of some values, with the quartiles around it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quartiles {
    /// A quarter of the values lie below.
    pub lower: f64,
    /// Half of the values lie below.
    pub median: f64,
    /// Three quarters of the values lie below.
    pub upper: f64,
}

impl Quartiles {
    /// Returns the quartiles of `values`, or `None` if there are none.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        // Linear interpolation between the two nearest ranks.
        let at = |part: f64| {
            let rank = part * last as f64;
            let below = sorted[rank.floor() as usize];
            let above = sorted[rank.ceil() as usize];
            below + (above - below) * rank.fract()
        };
        Some(Self {
            lower: at(0.25),
            median: at(0.5),
            upper: at(0.75),
        })
    }
}

/// How long to measure.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Rounds for each pair of contenders.
    pub rounds: usize,
    /// How often both contenders are built anew: new seeds, new memory. Each pair runs all its
    /// rounds.
    pub rebuilds: usize,
    /// The length of one run on one thread.
    pub span: Duration,
    /// The length of one run on several threads.
    pub crowd_span: Duration,
}

impl Plan {
    /// The plan of a published report.
    pub const FULL: Self = Self {
        rounds: 61,
        rebuilds: 3,
        span: Duration::from_millis(1),
        crowd_span: Duration::from_millis(20),
    };

    /// A plan for a quick measurement.
    pub const QUICK: Self = Self {
        rounds: 9,
        rebuilds: 2,
        span: Duration::from_millis(1),
        crowd_span: Duration::from_millis(10),
    };
}

/// Something to measure: each call is one run and returns its result, nanoseconds an operation or
/// operations a second.
pub type Contender<'a> = Box<dyn FnMut() -> f64 + 'a>;

/// The results of the rounds of one comparison.
#[derive(Clone, Copy, Debug)]
pub struct Comparison {
    /// Subject divided by baseline, round by round.
    pub ratio: Quartiles,
    /// The median result of the subject alone, as context.
    pub subject: f64,
    /// The median result of the baseline alone, as context.
    pub baseline: f64,
}

/// Runs the pairs that `build` makes, in turn, and compares them.
///
/// # Panics
/// If `plan` has no rounds.
pub fn compare<'a>(
    plan: Plan,
    mut build: impl FnMut() -> (Contender<'a>, Contender<'a>),
) -> Comparison {
    let mut rounds = Vec::new();
    for _ in 0..plan.rebuilds {
        let (mut subject, mut baseline) = build();
        // The first run of each pays for page faults and cold caches.
        subject();
        baseline();
        rounds.extend((0..plan.rounds).map(|round| in_turn(round, &mut subject, &mut baseline)));
    }
    summary(&rounds).expect("a plan has rounds")
}

/// One round: both contenders once, the order depending on `round`.
pub fn in_turn<T>(round: usize, first: impl FnOnce() -> T, second: impl FnOnce() -> T) -> (T, T) {
    if round % 2 == 0 {
        let first = first();
        (first, second())
    } else {
        let second = second();
        (first(), second)
    }
}

fn summary(rounds: &[(f64, f64)]) -> Option<Comparison> {
    Some(Comparison {
        ratio: Quartiles::of(rounds.iter().map(|(subject, baseline)| subject / baseline))?,
        subject: Quartiles::of(rounds.iter().map(|round| round.0))?.median,
        baseline: Quartiles::of(rounds.iter().map(|round| round.1))?.median,
    })
}

/// A run on one thread is cut into so many slices, of which the fastest counts. An interruption
/// only adds time, and a slice is short beside the time that the scheduler grants a thread at once.
const SLICES: u32 = 4;

/// Makes a contender of `run`, which does as many operations as its argument states. The result is
/// nanoseconds an operation.
///
/// A trial determines the number, so that all slices of a run together last about `span`.
#[must_use]
pub fn timed<'a>(span: Duration, mut run: impl FnMut(u64) + 'a) -> Contender<'a> {
    let slice = span / SLICES;
    let mut times = 64;
    loop {
        let took = time(&mut run, times);
        if took >= slice / 4 {
            let scale = slice.as_secs_f64() / took.as_secs_f64();
            times = ((times as f64 * scale) as u64).max(1);
            break;
        }
        times *= 2;
    }
    Box::new(move || {
        let fastest = (0..SLICES).map(|_| time(&mut run, times)).min();
        fastest.unwrap_or_default().as_secs_f64() * 1e9 / times as f64
    })
}

fn time(run: &mut impl FnMut(u64), times: u64) -> Duration {
    let start = Instant::now();
    run(times);
    start.elapsed()
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::*;

    #[test]
    fn quartiles_interpolate_between_ranks() {
        let quartiles = Quartiles::of([4.0, 1.0, 3.0, 2.0]);
        let expected = Quartiles {
            lower: 1.75,
            median: 2.5,
            upper: 3.25,
        };
        assert_eq!(quartiles, Some(expected));
    }

    #[test]
    fn quartiles_of_nothing_do_not_exist() {
        assert_eq!(Quartiles::of([]), None);
    }

    #[test]
    fn an_outlier_does_not_move_the_median() {
        let quartiles = Quartiles::of([1.0, 1.0, 1.0, 1.0, 1e9]).expect("not empty");
        assert_eq!((quartiles.median, quartiles.upper), (1.0, 1.0));
    }

    #[test]
    fn both_contenders_run_in_every_round_and_keep_their_places() {
        for round in 0..4 {
            assert_eq!(
                in_turn(round, || "subject", || "baseline"),
                ("subject", "baseline")
            );
        }
    }

    #[test]
    fn every_slice_of_a_run_does_as_much() {
        let mut calls = Vec::new();
        let mut contender = timed(Duration::from_micros(100), |times| {
            calls.push(times);
            (0..times).for_each(|time| {
                black_box(time);
            });
        });
        let each = contender();
        drop(contender);
        let run = &calls[calls.len() - SLICES as usize..];
        assert!(run.iter().all(|times| *times == run[0]));
        assert!(each > 0.0);
    }

    #[test]
    fn a_comparison_divides_round_by_round() {
        let plan = Plan {
            rounds: 3,
            rebuilds: 2,
            ..Plan::QUICK
        };
        let mut built = 0;
        let comparison = compare(plan, || {
            built += 1;
            (Box::new(|| 6.0), Box::new(|| 4.0))
        });
        assert_eq!(built, 2);
        assert_eq!(comparison.ratio.median, 1.5);
        assert_eq!((comparison.subject, comparison.baseline), (6.0, 4.0));
    }
}
