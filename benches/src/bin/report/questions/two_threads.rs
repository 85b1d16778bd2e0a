//! Do two threads that use cells do twice the work of one?
//!
//! The placement of code and data makes a process faster or slower as a whole. So the rounds are
//! those of several processes: this program, with an option on its command line.

use std::time::Duration;

use latchwork_bench::crew::{Crew, Figure, Pool, Round, own_counters};
use latchwork_bench::ratio::Plan;
use latchwork_bench::subjects::{AUDITED, MAPS, READ, SCALING, Subject};

use super::Question;
use super::cells::crowd::{numbers_of, once_more};
use crate::row::Row;

pub(super) const QUESTION: Question = Question {
    name: "two-threads",
    title: "Cells and transactions: two threads against one",
    prose: "Two threads that live as long as the measurement, each on a core of its own, against \
            one of them alone. A run lasts about 5 ms, and all of it counts, from the first \
            operation to the end of the slower thread. Each round is one run of one thread and \
            one of both, between two runs of the control of *Two threads, different keys*. A \
            round is believed if the control scales 1.85 to 2.2 before and after it. The rounds \
            are those of five processes, of each until 21 are believed or 120 were tried; fewer \
            than 21 in all give no number. The column `context` gives nanoseconds of an \
            operation for one thread, and for each of two. With *a cell for each*, each thread \
            has a cell on cache lines of its own; with *one cell*, both threads read the same \
            one.",
    measure: |plan| measure(plan, SCALING),
};

pub(super) const READ_QUESTION: Question = Question {
    name: "read-and-load",
    title: "Cells: a read less a plain load",
    prose: "One thread reads a value over and over. The baseline is the same loop around a load \
            of an atomic word, and the number is the difference between the two. The last two \
            rows are the least cost of a read whose thread publishes that it reads: a full \
            fence before the load, as an instruction of its own or as an exchange, and a store \
            after it. The cost of `read` above the last row is its own. Rounds, processes and control are those of *Cells and transactions: two threads against \
            one*.",
    measure: |plan| measure(plan, READ),
};

pub(super) const AUDITED_QUESTION: Question = Question {
    name: "audited",
    title: "Transactions: transfers beside an auditor, and mutexes",
    prose: "One thread transfers between 1,024 accounts while another sums all of them at one \
            instant, without a pause, and checks the sum. The accounts are cells, summed in \
            snapshots; or values in mutexes, all of which the auditor locks in their order. The \
            number compares the transfers, not the audits. Rounds, processes and control are \
            those of *Cells and transactions: two threads against one*.",
    measure: |plan| measure(plan, AUDITED),
};

/// The option that makes this program one of the processes.
pub(crate) const OPTION: &str = "--rounds";

const PROCESSES: usize = 5;

/// The rounds of one process.
#[derive(Clone, Copy, Debug)]
struct Rounds {
    believed: usize,
    tried: usize,
    span: Duration,
}

pub(super) fn measure(plan: Plan, subjects: &[Subject]) -> Vec<Row> {
    let [believed, tried, millis] = match plan.rounds == Plan::FULL.rounds {
        true => [21, 120, 5],
        false => [5, 15, 2],
    };
    let arguments = [subjects[0].name.to_owned()].into_iter();
    let arguments = arguments.chain([believed, tried, millis].map(|number| number.to_string()));
    let arguments: Vec<_> = arguments.collect();
    let mut rounds = vec![Vec::new(); subjects.len()];
    for process in 1..=PROCESSES {
        eprintln!("  process {process} of {PROCESSES}");
        for line in once_more(OPTION, &arguments).lines() {
            let (at, round) = parsed(line).unwrap_or_else(|error| panic!("{error}"));
            rounds[at].push(round);
        }
    }
    subjects
        .iter()
        .zip(&rounds)
        .map(|(subject, rounds)| row(subject, &Pool::of(subject.figure, rounds)))
        .collect()
}

/// A line of a process: the place of a subject, and a round.
fn parsed(line: &str) -> Result<(usize, Round), String> {
    let wrong = || format!("not a round of a subject: {line}");
    let (at, round) = line.split_once(' ').ok_or_else(wrong)?;
    Ok((at.parse().map_err(|_| wrong())?, round.parse()?))
}

fn row(subject: &Subject, pool: &Pool) -> Row {
    let [first, second] = pool.nanos;
    let context = match subject.figure {
        Figure::Scaling | Figure::Quotient => format!("{first:.1} / {second:.1} ns"),
        Figure::Difference => format!("{second:.2} and {first:.2} ns"),
    };
    let context = format!("{context}, {}", pool.in_words());
    let row = match subject.figure {
        Figure::Scaling => Row::scaling(subject.name, pool.figure, context),
        Figure::Difference => Row::nanoseconds(subject.name, subject.against, pool.figure, context),
        Figure::Quotient => Row::quotient(subject.name, subject.against, pool.figure, context),
    };
    match subject.at_least {
        Some(bound) => row.at_least(bound),
        None => row,
    }
}

/// Does the rounds of one process, with the arguments that follow [`OPTION`], and prints them.
pub(crate) fn one_run(arguments: &[String]) -> Result<(), String> {
    let wrong = || format!("{OPTION} is for this program itself");
    let (first, numbers) = arguments.split_first().ok_or_else(wrong)?;
    let subjects = [SCALING, READ, AUDITED, MAPS]
        .into_iter()
        .find(|subjects| subjects[0].name == first)
        .ok_or_else(wrong)?;
    let &[believed, tried, millis] = numbers_of(&numbers.join(" "))?.as_slice() else {
        return Err(wrong());
    };
    let plan = Rounds {
        believed: believed as usize,
        tried: tried as usize,
        span: Duration::from_millis(millis as u64),
    };
    rounds(subjects, plan, |at, round| println!("{at} {round}"));
    Ok(())
}

/// Does rounds of all subjects in turn, until there are enough of each to believe.
fn rounds(subjects: &[Subject], plan: Rounds, mut report: impl FnMut(usize, Round)) {
    let crew = Crew::new();
    let control = crew.pace(own_counters(), plan.span);
    let sides = subjects
        .iter()
        .map(|subject| subject.sides(|job| crew.pace(job, plan.span)));
    let sides: Vec<_> = sides.collect();
    let mut believed = vec![0; subjects.len()];
    for number in 0..plan.tried {
        for (at, sides) in sides.iter().enumerate() {
            if believed[at] < plan.believed {
                let round = crew.round(number, sides, &control);
                believed[at] += usize::from(round.is_believed());
                report(at, round);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_process_has_a_place_and_a_round() {
        let round = Round {
            before: 2.0,
            after: 1.9,
            first: 3.5,
            second: 4.0,
        };
        assert_eq!(parsed(&format!("7 {round}")), Ok((7, round)));
        assert!(parsed(&round.to_string()).is_err());
        assert!(parsed("7").is_err());
    }

    #[test]
    fn a_row_states_how_many_rounds_were_believed() {
        let round = Round {
            before: 2.0,
            after: 2.0,
            first: 3.0,
            second: 4.0,
        };
        let row_of = |subject: &Subject, rounds: &[Round]| {
            let row = row(subject, &Pool::of(subject.figure, rounds));
            (row.value.map(|v| v.median), row.reached(), row.context)
        };
        let context = |nanos: &str| format!("{nanos}, control 2.00, 21 of 21 rounds believed");
        let pin = row_of(&SCALING[0], &[round; 21]);
        assert_eq!(pin, (Some(1.5), Some(false), context("3.0 / 4.0 ns")));
        let read = row_of(&READ[0], &[round; 21]);
        assert_eq!(read, (Some(1.0), None, context("4.00 and 3.00 ns")));
        // Too few rounds reach no target.
        let (value, reached, _) = row_of(&SCALING[0], &[round; 20]);
        assert_eq!((value, reached), (None, Some(false)));
    }

    #[test]
    fn rounds_end_when_enough_are_believed_or_tried() {
        let plan = Rounds {
            believed: 1,
            tried: 3,
            span: Duration::from_micros(50),
        };
        let mut seen = Vec::new();
        rounds(&SCALING[..2], plan, |at, round| seen.push((at, round)));
        for at in 0..2 {
            let of = seen.iter().filter(|(place, _)| *place == at);
            let of: Vec<_> = of.map(|(_, round)| round.is_believed()).collect();
            let first = of.iter().position(|believed| *believed);
            assert_eq!(of.len(), first.map_or(3, |first| first + 1));
        }
    }
}
