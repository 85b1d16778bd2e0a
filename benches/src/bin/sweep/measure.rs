//! Runs all contenders of one setting in turn, with the control between them.

use std::time::Instant;

use indicatif::ProgressBar;
use latchwork_bench::control::{Control, Reading};
use latchwork_bench::scenarios::{Outcome, Scenario, Setting};

use crate::plan::Plan;
use crate::raw::{Cell, PARTS, Run};

/// Measures one setting. Rounds continue until every contender has enough runs to believe, or
/// enough were tried, or the time is up.
///
/// A round runs all contenders that have not enough, with another one first each time, and the
/// control before the first and after each. A run is believed if the control had its full speed on
/// both sides of it. The first contender runs in each round, since the others are compared with its
/// run in the same round.
pub(crate) fn cell(
    scenario: &Scenario,
    setting: Setting,
    plan: Plan,
    control: &Control,
    end: Instant,
    progress: &ProgressBar,
) -> Cell {
    let contenders = &scenario.contenders;
    let mut runs: Vec<Vec<Run>> = contenders.iter().map(|_| Vec::new()).collect();
    let enough = |runs: &Vec<Run>| {
        let believed = runs.iter().filter(|run| run.believed).count();
        believed >= plan.depth.runs()
    };
    let mut round = 0;
    // The rounds asked for are run in any case. Without a believed run in twice as many, the
    // machine is too busy for this setting now.
    let more = |round: usize, runs: &[Vec<Run>]| {
        let believed = || runs.iter().flatten().any(|run| run.believed);
        let asked = plan.depth.runs();
        let hopeful = round < 2 * asked || believed();
        round < asked || (round < plan.depth.rounds() && hopeful && Instant::now() < end)
    };
    while more(round, &runs) && !runs.iter().all(enough) {
        let mut last = control.read();
        for turn in 0..contenders.len() {
            let which = (round + turn) % contenders.len();
            if which != 0 && enough(&runs[which]) {
                continue;
            }
            let before = control.settled(last);
            let seed = (round * contenders.len()) as u64;
            let load = contenders[which].build(Setting { seed, ..setting });
            let outcome = load.run(setting.threads, plan.depth.span(), scenario.every);
            let after = control.read();
            let believed = control.believes(before, after);
            runs[which].push(kept(&outcome, [before, after], believed));
            last = after;
            if round < plan.depth.runs() {
                progress.inc(1);
            }
        }
        round += 1;
    }
    let names = contenders.iter().map(|contender| contender.name.to_owned());
    Cell {
        scenario: scenario.name.to_owned(),
        threads: setting.threads,
        value: setting.value,
        runs: names.zip(runs).collect(),
    }
}

fn kept(outcome: &Outcome, control: [Reading; 2], believed: bool) -> Run {
    Run {
        rate: outcome.rate,
        fairness: outcome.fairness,
        timed: outcome.times.len(),
        nanos: PARTS.map(|part| outcome.times.nanos(part)),
        control,
        believed,
    }
}
