//! Prints how much two threads do together, against one of them alone, for cells and transactions.
//!
//! ```text
//! cargo run --release -p latchwork-bench --bin scaling [ROUNDS]
//! ```
//!
//! It uses the public interface of `latchwork` only. Each round runs one thread, then both, between
//! two runs of a control: additions to words on cache lines of their own. A round counts if the
//! control scales 1.85 to 2.2 both times. The report measures the same in several processes.

use std::process::ExitCode;
use std::time::Duration;

use comfy_table::{Table, presets};
use latchwork_bench::crew::{Crew, ENOUGH, Pool, own_counters};
use latchwork_bench::subjects::SCALING;

/// The length of one run.
const SPAN: Duration = Duration::from_millis(5);

/// For each round that must be believed, so many are tried at most.
const PATIENCE: usize = 6;

fn number(argument: Option<String>) -> Option<usize> {
    match argument {
        None => Some(ENOUGH),
        Some(text) => text.parse().ok().filter(|rounds| *rounds >= ENOUGH),
    }
}

fn main() -> ExitCode {
    let Some(rounds) = number(std::env::args().nth(1)) else {
        eprintln!("usage: scaling [ROUNDS], at least {ENOUGH}");
        return ExitCode::FAILURE;
    };
    let crew = Crew::new();
    let control = crew.pace(own_counters(), SPAN);
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    let heading = [
        "operation",
        "two against one",
        "quartiles",
        "ns, one and two threads",
        "rounds",
    ];
    table.set_header(heading);
    for subject in SCALING {
        let sides = subject.sides(|job| crew.pace(job, SPAN));
        let (mut done, mut believed) = (Vec::new(), 0);
        while believed < rounds && done.len() < PATIENCE * rounds {
            let round = crew.round(done.len(), &sides, &control);
            believed += usize::from(round.is_believed());
            done.push(round);
        }
        let pool = Pool::of(subject.figure, &done);
        let (median, quartiles) = match pool.figure {
            Some(q) => (
                format!("{:.2}", q.median),
                format!("{:.2} to {:.2}", q.lower, q.upper),
            ),
            None => ("no verdict".to_owned(), String::new()),
        };
        let [one, two] = pool.nanos;
        table.add_row([
            subject.name.to_owned(),
            median,
            quartiles,
            format!("{one:.1} / {two:.1}"),
            format!("{} of {}", pool.believed, pool.tried),
        ]);
    }
    println!("{table}");
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::{ENOUGH, number};

    #[test]
    fn fewer_rounds_than_give_a_result_are_refused() {
        assert_eq!(number(None), Some(ENOUGH));
        assert_eq!(number(Some("50".to_owned())), Some(50));
        assert_eq!(number(Some("20".to_owned())), None);
        assert_eq!(number(Some("x".to_owned())), None);
    }
}
