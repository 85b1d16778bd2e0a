//! Audits of the `flights` example: no audit observes half of an atomic step, and the audits count
//! the steps that are not atomic.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;

use serde_json::Value;

use crate::audit::{self, Audits};
use crate::data::{self, Dataset};
use crate::strategy::cells::VersionedCells;
use crate::strategy::levels::Levels;
use crate::strategy::lock_all::LockAll;
use crate::strategy::mutex::GlobalMutex;
use crate::strategy::ordered::OrderedMutexes;
use crate::strategy::rwlock::RwLocks;
use crate::strategy::session::Sessions;
use crate::strategy::transactions::Transactions;
use crate::strategy::{Steps, Strategy};
use crate::support::{HEADER, Place, flights, generated, only_run, printed, results, stderr};
use crate::totals::{Sums, Tally};
use crate::work::Work;

fn few_flights() -> Dataset {
    let place = Place::new();
    let rows = "N1,EWR,IAH,1400\nN2,JFK,MIA,1089\nNA,EWR,MIA,7\n";
    let file = place.file("flights.csv", format!("{HEADER}{rows}"));
    data::read(&file).expect("the file is good")
}

/// The table of one round of a strategy, with the details.
fn details(file: &Path, strategy: &str) -> String {
    let mut run = flights();
    run.args(["--repeat", "1", "--passes", "1", "--details"]);
    printed(run.args(["--strategy", strategy]).arg(file))
}

fn sums(departures: u64, arrivals: u64) -> Sums {
    Sums {
        departures,
        arrivals,
    }
}

#[test]
fn half_a_flight_shows_in_an_audit_of_cells() {
    let dataset = few_flights();
    let cells = VersionedCells::new(&dataset);
    for (n, flight) in (1..).zip(&dataset.flights) {
        assert_eq!(cells.depart(flight), 0, "nobody else writes");
        assert_eq!(cells.audit(), sums(n, n - 1));
        assert!(!cells.audit().agree());
        assert_eq!(cells.arrive(flight), 0, "nobody else writes");
        assert_eq!(cells.audit(), sums(n, n));
        assert!(cells.audit().agree());
    }
    let expected = Tally::sequential(&dataset);
    assert_eq!(cells.tally().check(&expected, &dataset), Ok(()));
}

#[test]
fn an_audit_that_does_not_agree_is_counted() {
    let dataset = few_flights();
    let cells = VersionedCells::new(&dataset);
    let begun = AtomicU64::new(0);
    let audit = || {
        begun.fetch_add(1, Relaxed);
        cells.audit()
    };
    // Two more have begun, so that the first of them has ended.
    let wait_for_an_audit = || {
        let before = begun.load(Relaxed);
        while begun.load(Relaxed) < before + 2 {
            thread::yield_now();
        }
    };
    let ((), audits) = audit::beside(audit, || {
        wait_for_an_audit();
        cells.depart(&dataset.flights[0]);
        wait_for_an_audit();
        cells.arrive(&dataset.flights[0]);
    });
    assert_eq!(audits.made, begun.load(Relaxed));
    let Audits { made, disagreed } = audits;
    assert!(0 < disagreed && disagreed < made, "{audits:?}");
}

#[test]
fn work_that_is_over_at_once_is_audited_still() {
    let (result, audits) = audit::beside(|| sums(3, 3), || "done");
    assert_eq!(result, "done");
    assert!(audits.made > 0 && audits.disagreed == 0, "{audits:?}");
}

#[test]
#[should_panic(expected = "the work went wrong")]
fn work_that_panics_does_not_leave_an_auditor() {
    audit::beside(|| sums(0, 0), || panic!("the work went wrong"));
}

#[test]
fn no_audit_sees_half_an_atomic_step() {
    fn holds<S: Strategy>() {
        assert_eq!(S::STEPS, Steps::Atomic, "{}", S::NAME);
        let dataset = few_flights();
        let strategy = S::new(&dataset);
        let stop = AtomicBool::new(false);
        let passes = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !stop.load(Relaxed) {
                        for flight in &dataset.flights {
                            strategy.step(flight, Work::nanos(500));
                        }
                        passes.fetch_add(1, Relaxed);
                    }
                });
            }
            let mut moved = 0;
            let mut last = sums(0, 0);
            // Audits that found the totals as they were before say nothing.
            while moved < 100 {
                let sums = strategy.audit();
                if !sums.agree() {
                    stop.store(true, Relaxed);
                    panic!("{}: {sums:?}", S::NAME);
                }
                moved += u64::from(sums != last);
                last = sums;
                thread::yield_now();
            }
            stop.store(true, Relaxed);
        });
        let expected = Tally::sequential(&dataset).times(passes.into_inner() as usize);
        assert_eq!(strategy.tally().check(&expected, &dataset), Ok(()));
    }
    holds::<GlobalMutex>();
    holds::<OrderedMutexes>();
    holds::<Levels>();
    holds::<RwLocks>();
    holds::<LockAll>();
    holds::<Sessions>();
    holds::<Transactions>();
    assert_eq!(VersionedCells::STEPS, Steps::Apart);
}

#[test]
fn an_audited_run_says_so_and_arrives_at_the_same_totals() {
    let place = Place::new();
    let (csv, expected) = generated(500);
    let file = place.file("flights.csv", csv);
    let json = place.0.join("audited.json");
    let mut run = flights();
    run.args([
        "--audit",
        "--threads",
        "2",
        "--repeat",
        "3",
        "--passes",
        "1",
        "--work",
        "0",
    ]);
    let output = run.arg("--json").arg(&json).arg(&file).output();
    let output = output.expect("the example starts");
    assert!(output.status.success(), "{}", stderr(&output));
    let results = fs::read(&json).expect("the results were written");
    let results: Value = serde_json::from_slice(&results).expect("the results are JSON");
    assert_eq!(results["totals"], expected);
    assert_eq!(results["audited"], true);
    for strategy in only_run(&results)["strategies"]
        .as_array()
        .expect("an array")
    {
        let name = &strategy["name"];
        let rounds = strategy["rounds"].as_array().expect("an array");
        let of = |what: &str| {
            let count = |of: &Value| of["audits"][what].as_u64().expect("a count");
            let each: Vec<u64> = rounds.iter().map(count).collect();
            assert_eq!(each.iter().sum::<u64>(), count(strategy), "{name}: {what}");
            each
        };
        assert!(of("made").iter().all(|&made| made > 0), "{name}");
        if *name != VersionedCells::NAME {
            assert_eq!(of("disagreed"), [0; 3], "{name}");
        }
    }
}

#[test]
fn what_transactions_were_lost_to_is_counted() {
    let place = Place::new();
    // Two threads with the same three totals, and long enough in a step to meet.
    let rows = "N1,EWR,IAH,1400\n".repeat(4_096);
    let file = place.file("flights.csv", format!("{HEADER}{rows}"));
    let options = [
        "--threads",
        "2",
        "--work",
        "20000",
        "--strategy",
        "cells,transactions",
    ];
    let found = results(&place, &file, &options);
    let [mutex, cells, transactions] =
        &only_run(&found)["strategies"].as_array().expect("an array")[..]
    else {
        panic!("{found}");
    };
    assert!(mutex["aborts"].is_null() && cells["aborts"].is_null());
    assert!(cells["rounds"][0]["aborts"].is_null());
    assert_eq!(transactions["aborts"], transactions["rounds"][0]["aborts"]);
    let reasons = ["read_conflicts", "write_conflicts", "overtaken"];
    let lost = reasons.map(|reason| transactions["aborts"][reason].as_u64().expect("a count"));
    assert!(lost.iter().sum::<u64>() > 0, "they never met");
    assert_eq!(transactions["waits"], lost.iter().sum::<u64>());
    for (strategy, said) in [("cells", false), ("transactions", true), ("map", true)] {
        let table = details(&file, strategy);
        assert_eq!(table.contains("wounded"), said, "{strategy}: {table}");
    }
}

#[test]
fn deadlocks_are_found_retried_and_counted() {
    let place = Place::new();
    let (csv, expected) = generated(2_000);
    let file = place.file("flights.csv", csv);
    // Audits lock the destinations first, steps the origins, so that they can deadlock.
    let options = [
        "--audit",
        "--threads",
        "2",
        "--work",
        "5000",
        "--strategy",
        "session",
    ];
    let found = results(&place, &file, &options);
    assert_eq!(found["totals"], expected);
    let [mutex, session] = &only_run(&found)["strategies"].as_array().expect("an array")[..] else {
        panic!("{found}");
    };
    assert!(mutex["deadlocks"].is_null());
    let rounds = session["rounds"].as_array().expect("an array");
    let each = rounds
        .iter()
        .map(|round| round["deadlocks"].as_u64().expect("a count"));
    assert_eq!(session["deadlocks"], each.sum::<u64>());
    for (strategy, said) in [("cells", false), ("session", true)] {
        let table = details(&file, strategy);
        assert_eq!(table.contains("deadlocks"), said, "{strategy}: {table}");
    }
}

#[test]
fn timed_rounds_are_audited_only_if_asked() {
    let place = Place::new();
    let file = place.file("one.csv", format!("{HEADER}N1,EWR,IAH,1400\n"));
    let options = ["--work", "0", "--strategy", "cells"];
    let found = results(&place, &file, &options);
    assert_eq!(found["audited"], false);
    let cells = &only_run(&found)["strategies"][1];
    assert!(cells["rounds"][0]["audits"].is_null());
    let audited = results(&place, &file, &[&options[..], &["--audit"]].concat());
    assert_eq!(audited["audited"], true);
    let rounds = &only_run(&audited)["strategies"][1]["rounds"];
    assert!(rounds[0]["audits"]["made"].as_u64() > Some(0), "{rounds}");
}

#[test]
fn each_strategy_is_audited_once_by_default_and_the_table_reports_it() {
    let place = Place::new();
    let file = place.file("flights.csv", generated(500).0);
    let found = results(&place, &file, &[]);
    for run in found["runs"].as_array().expect("an array") {
        for of in run["strategies"].as_array().expect("an array") {
            let (made, disagreed) = (&of["audits"]["made"], &of["audits"]["disagreed"]);
            assert!(made.as_u64() > Some(0), "{of}");
            assert!(of["atomic"] == false || *disagreed == 0, "{of}");
        }
    }
    for option in [None, Some("--audit")] {
        let mut run = flights();
        run.args(["--repeat", "1", "--passes", "1"])
            .args(option)
            .arg(&file);
        let text = printed(&mut run);
        let heading = text
            .lines()
            .any(|line| line.trim_end().ends_with("inconsistent"));
        assert!(heading, "{option:?}: {text}");
        for name in ["mutex", "session", "transactions"] {
            let row = text
                .lines()
                .find(|line| line.trim_start().starts_with(name));
            let fields: Vec<_> = row.expect("a row").split_whitespace().collect();
            let [.., disagreed, "of", made] = fields[..] else {
                panic!("{option:?}: {text}");
            };
            assert_eq!(disagreed, "0", "{name}");
            let made: u64 = made.replace(',', "").parse().expect("a count");
            assert!(made > 0, "{name}");
        }
    }
}
