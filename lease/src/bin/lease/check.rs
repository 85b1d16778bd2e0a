//! `lease check`: the suite of conformance against the engine of a URL.

use std::env;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use latchwork_lease::conformance::{self, Case, Held, Open, ProcessCase};
use latchwork_lease::engine::Engine;
use latchwork_lease::memory::MemoryEngine;
use serde_json::json;

use crate::args::Check;
use crate::exit::{self, Failure, one_line};
use crate::view::{print_json, printed};
use crate::{connect_failure, duration, table, url};

/// A case, in this process or across several.
enum Any {
    Case(Case),
    Process(ProcessCase),
}

impl Any {
    fn name(&self) -> &'static str {
        match self {
            Any::Case(case) => case.name(),
            Any::Process(case) => case.name(),
        }
    }

    fn run(&self, url: &str, open: &Open<'_>) -> Result<Held, conformance::Failure> {
        let start = |role: &str| {
            let program = env::current_exe().unwrap_or_else(|_| "lease".into());
            let mut command = Command::new(program);
            // The URL may have a password, so it is no argument.
            command.args(["act", role]).env(url::VARIABLE, url);
            command
        };
        match self {
            Any::Case(case) => case.run(open),
            Any::Process(case) => case.run(open, &start),
        }
    }
}

/// The result of one case.
struct Checked {
    name: &'static str,
    took: Duration,
    result: Result<Held, String>,
}

/// Plays a role of a case across processes.
pub(crate) fn act(url: &str, role: &str) -> Result<u8, Failure> {
    let engine = conformance::open(url).map_err(|error| connect_failure(&error))?;
    conformance::act(engine, role);
    Ok(0)
}

pub(crate) fn check(url: &str, args: &Check) -> Result<u8, Failure> {
    let is_memory = url.starts_with("memory:");
    // No other process can reach the memory of this one.
    let processes = conformance::process_cases().filter(|_| !is_memory);
    let cases = conformance::cases().map(Any::Case);
    let cases: Vec<Any> = cases
        .chain(processes.map(Any::Process))
        .filter(|case| {
            let only = args.only.as_deref();
            only.is_none_or(|text| case.name().contains(text))
        })
        .collect();
    if cases.is_empty() {
        return Err(Failure::own("no case has such a name"));
    }
    let memory = MemoryEngine::new();
    let try_open = || -> Result<Arc<dyn Engine>, Failure> {
        if is_memory {
            return Ok(Arc::new(memory.clone()));
        }
        conformance::open(url).map_err(|error| connect_failure(&error))
    };
    // An engine that cannot be reached is a failure of its own, not of each case.
    let guarantees = try_open()?.guarantees();
    // A later connection that fails is a violation, which the suite reports as a panic.
    std::panic::set_hook(Box::new(|_| {}));
    let open = || try_open().unwrap_or_else(|failure| panic!("{failure}"));

    let bar = ProgressBar::new(cases.len() as u64);
    if args.json.json {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg}") {
        bar.set_style(style);
    }
    let mut all = Vec::new();
    for case in cases {
        bar.set_message(case.name());
        let start = Instant::now();
        let result = case.run(url, &open);
        all.push(Checked {
            name: case.name(),
            took: start.elapsed(),
            result: result.map_err(|failure| failure.reason),
        });
        bar.inc(1);
    }
    bar.finish_and_clear();
    let _ = std::panic::take_hook();

    let failed = all.iter().filter(|one| one.result.is_err()).count();
    if args.json.json {
        let cases = all.iter().map(|one| {
            json!({
                "case": one.name,
                "held": one.result.is_ok(),
                "reason": one.result.as_ref().err(),
                "repetitions": one.result.as_ref().ok().map(|held| held.repetitions),
                "seconds": one.took.as_millis() as f64 / 1000.0,
            })
        });
        print_json(&json!({
            "guarantees": {
                "exclusive": format!("{:?}", guarantees.exclusive),
                "token_order": format!("{:?}", guarantees.token_order),
                "fair": guarantees.fair,
                "tolerates": guarantees.tolerates,
                "least_lease": guarantees.least_lease.as_secs_f64(),
            },
            "cases": cases.collect::<Vec<_>>(),
        }))?;
    } else {
        let rows: Vec<_> = all.iter().map(row).collect();
        printed(table::print(&["CASE", " TOOK", "RESULT"], &rows))?;
        let held = all.len() - failed;
        println!("{held} of {} cases held", all.len());
    }
    Ok(if failed == 0 { 0 } else { exit::NO })
}

fn row(one: &Checked) -> Vec<String> {
    let result = match &one.result {
        Ok(Held { repetitions: 0, .. }) => "held".to_owned(),
        Ok(held) => format!("held, {} times too late to be checked", held.repetitions),
        Err(reason) => format!("VIOLATED: {}", one_line(reason)),
    };
    vec![one.name.to_owned(), duration::format(one.took), result]
}
