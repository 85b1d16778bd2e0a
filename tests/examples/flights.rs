//! The `flights` example as users run it: totals, accepted files, and the errors for all others.

use std::fs;
use std::process::Stdio;

use serde_json::Value;

use crate::{data, totals, work};

use crate::support::{
    HEADER, Place, flights, generated, gzip, names, only_run, printed, refusal, results, stderr,
};

// The comparison of totals is also tested directly: no strategy that can be chosen gets one wrong.

#[test]
fn every_strategy_arrives_at_the_right_totals() {
    let place = Place::new();
    let (csv, expected) = generated(5_000);
    let file = place.file("flights.csv", csv);
    let options = [
        "--threads",
        "4",
        "--repeat",
        "3",
        "--passes",
        "2",
        "--work",
        "50",
    ];
    let json = place.0.join("results.json");
    let run = flights()
        .args(options)
        .arg(&file)
        .arg("--json")
        .arg(&json)
        .output();
    let output = run.expect("the example starts");
    assert!(output.status.success(), "{}", stderr(&output));

    let results: Value =
        serde_json::from_slice(&fs::read(&json).expect("written")).expect("the results are JSON");
    assert_eq!(results["totals"], expected);
    let all = [
        "mutex",
        "ordered",
        "levels",
        "rwlock",
        "lock-all",
        "session",
        "cells",
        "transactions",
        "map",
    ];
    assert_eq!(names(only_run(&results)), all);
    let run = only_run(&results);
    for (of, key, value) in [
        (&results, "flights", 5_000),
        (&results, "threads", 4),
        (run, "work_ns", 50),
        (run, "passes", 2),
    ] {
        assert_eq!(of[key], value, "{key}");
    }
    let table = String::from_utf8(output.stdout).expect("the table is UTF-8");
    for strategy in run["strategies"].as_array().expect("an array") {
        let name = strategy["name"].as_str().expect("a name");
        assert!(
            table
                .lines()
                .any(|line| line.trim_start().starts_with(name)),
            "{table}"
        );
        assert_eq!(
            strategy["rounds"].as_array().map(Vec::len),
            Some(3),
            "{name}"
        );
        // One step in 16, and the first of each pass: 313 of 5,000 in each of 2 passes in each of 3
        // rounds.
        assert_eq!(strategy["step_ns"]["samples"], 313 * 2 * 3, "{name}");
        assert!(
            strategy["flights_per_second"].as_f64() > Some(0.0),
            "{name}"
        );
    }
    assert_eq!(
        run["strategies"][0]["ratio"], 1.0,
        "the baseline is compared with itself"
    );
    assert_eq!(
        place.names(),
        ["flights.csv", "results.json"],
        "no temporary file stays"
    );
}

#[test]
fn the_same_flights_in_any_dress_give_the_same_totals() {
    let place = Place::new();
    let (plain, expected) = generated(300);
    let crlf = plain.replace('\n', "\r\n\r\n");
    let half = plain.len() / 2;
    let members = [
        gzip(&plain.as_bytes()[..half]),
        gzip(&plain.as_bytes()[half..]),
    ]
    .concat();
    // The first bytes decide what a file is, not its name.
    for (name, bytes) in [
        ("plain.csv", plain.clone().into_bytes()),
        ("plain.gz", plain.trim_end().as_bytes().to_vec()),
        ("packed.csv", gzip(plain.as_bytes())),
        ("two-members.csv.gz", members),
        ("windows.csv", format!("\u{feff}{crlf}").into_bytes()),
        (
            "spaced.csv",
            plain
                .replace(',', " ,")
                .replace("\"a ,", "\"a,")
                .into_bytes(),
        ),
    ] {
        let file = place.file(name, bytes);
        let results = results(&place, &file, &["--strategy", "mutex"]);
        assert_eq!(results["totals"], expected, "{name}");
    }
}

/// The numbers of a row of the table that begins with `name`, without separators.
fn row(text: &str, name: &str) -> Vec<f64> {
    let line = text
        .lines()
        .find(|line| line.trim_start().starts_with(name));
    let line = line.unwrap_or_else(|| panic!("no row {name}: {text}"));
    let fields = line.split_whitespace().map(|field| field.replace(',', ""));
    fields.filter_map(|field| field.parse().ok()).collect()
}

#[test]
fn two_amounts_of_work_stand_side_by_side_by_default() {
    let place = Place::new();
    let file = place.file("flights.csv", generated(500).0);
    let json = place.0.join("results.json");
    let text = printed(
        flights()
            .args(["--repeat", "2", "--passes", "1", "--json"])
            .arg(&json)
            .arg(&file),
    );
    let results = fs::read(&json).expect("the results were written");
    let results: Value = serde_json::from_slice(&results).expect("the results are JSON");
    let runs = results["runs"].as_array().expect("an array");
    let amounts: Vec<_> = runs.iter().map(|run| run["work_ns"].as_u64()).collect();
    assert_eq!(amounts, [Some(0), Some(1_000)]);
    for heading in ["no work", "1 us of work", "locks", "ordered", "optimistic"] {
        let headings = text.lines().filter(|line| line.contains(heading));
        assert!(headings.count() > 0, "{heading}: {text}");
    }
    assert!(text.lines().skip(1).all(|line| line.len() <= 80), "{text}");

    // The rates that are printed, the ratios beside them and the JSON agree.
    let mutex = row(&text, "mutex");
    for (of, name) in names(&runs[0]).iter().enumerate() {
        let fields = row(&text, &format!("{name} "));
        for (run, column) in [(&runs[0], 0), (&runs[1], 3)] {
            let (rate, ratio) = (fields[column], fields[column + 1]);
            let expected = &run["strategies"][of];
            let given = expected["flights_per_second"].as_f64().expect("a rate");
            assert!((rate - given).abs() <= 0.5, "{name}: {rate} {given}");
            let given = expected["ratio"].as_f64().expect("a ratio");
            assert!((ratio - given).abs() <= 0.006, "{name}: {ratio} {given}");
            // The rates are rounded to integers, and the ratio to two digits.
            let quotient = rate / mutex[column];
            assert!((ratio - quotient).abs() <= 0.006, "{name}: {quotient}");
        }
    }

    // The verdict names the best of the strategies whose steps are atomic, for each amount.
    let verdict = text
        .lines()
        .skip_while(|line| !line.starts_with("Verdict:"));
    let verdict: Vec<_> = verdict.take_while(|line| !line.is_empty()).collect();
    let verdict = verdict.join(" ");
    for run in runs {
        let atomic = run["strategies"].as_array().expect("an array").iter();
        let atomic = atomic.filter(|of| of["atomic"] == true);
        let ratio = |of: &&Value| of["ratio"].as_f64().expect("a ratio");
        let best = atomic.max_by(|a, b| ratio(a).total_cmp(&ratio(b)));
        let best = best.expect("the baseline is atomic");
        let name = best["name"].as_str().expect("a name");
        assert!(verdict.contains(name), "{name}: {verdict}");
        if name != "mutex" {
            let factor = format!("({:.2} times mutex)", ratio(&best));
            assert!(verdict.contains(&factor), "{factor}: {verdict}");
        }
    }
    assert_eq!(
        verdict.matches('.').count() - verdict.matches(" times").count(),
        1
    );
}

#[test]
fn each_amount_of_work_is_run_once_and_in_the_given_order() {
    let place = Place::new();
    let file = place.file("one.csv", format!("{HEADER}N1,EWR,IAH,1400\n"));
    for (options, expected) in [
        (&["--work", "7"][..], &[7][..]),
        (&["--work", "7,0,7"], &[7, 0]),
        (&["--work", "2000", "--work", "0"], &[2_000, 0]),
        (&["--work", "0,1,2"], &[0, 1, 2]),
    ] {
        let options = [&["--strategy", "mutex"], options].concat();
        let results = results(&place, &file, &options);
        let runs = results["runs"].as_array().expect("an array");
        let amounts: Vec<_> = runs.iter().map(|run| run["work_ns"].as_u64()).collect();
        let expected: Vec<_> = expected.iter().map(|&ns| Some(ns)).collect();
        assert_eq!(amounts, expected, "{options:?}");
    }
}

#[test]
fn the_chosen_strategies_run_and_the_baseline_always_does() {
    let place = Place::new();
    let file = place.file("one.csv", format!("{HEADER}N1,EWR,IAH,1400\n"));
    for (options, expected) in [
        (&["--strategy", "lock-all"][..], &["mutex", "lock-all"][..]),
        (
            &["--strategy", "ordered,lock-all"],
            &["mutex", "ordered", "lock-all"],
        ),
        (
            &["--strategy", "lock-all", "--strategy", "mutex"],
            &["mutex", "lock-all"],
        ),
        (&["--strategy", "ordered,ordered"], &["mutex", "ordered"]),
        (
            &["--strategy", "cells,rwlock"],
            &["mutex", "rwlock", "cells"],
        ),
        (&["--strategy", "transactions"], &["mutex", "transactions"]),
        (&["--strategy", "session"], &["mutex", "session"]),
        (&["--strategy", "map"], &["mutex", "map"]),
        (&["--strategy", "mutex"], &["mutex"]),
    ] {
        let results = results(&place, &file, options);
        for run in results["runs"].as_array().expect("an array") {
            assert_eq!(names(run), expected, "{options:?}");
        }
    }
}

#[test]
fn a_bad_file_is_refused_with_its_line() {
    let place = Place::new();
    let row = "N1,EWR,IAH,1400\n";
    let rows = row.repeat(1_000);
    let whole = gzip(format!("{HEADER}{rows}").as_bytes());
    let mut damaged = whole.clone();
    let crc = damaged.len() - 8;
    damaged[crc] ^= 1;
    let text = |tail: &str| format!("{HEADER}{row}{tail}").into_bytes();
    for (bytes, at, what) in [
        (vec![], ":1:", "empty"),
        (b"\n\n".to_vec(), ":", "empty"),
        (HEADER.as_bytes().to_vec(), ":1:", "no flights"),
        (gzip(HEADER.as_bytes()), ":1:", "no flights"),
        (
            b"tailnum,origin,distance\nN1,EWR,5\n".to_vec(),
            ":1:",
            "`dest`",
        ),
        (
            b"\ntailnum,origin,distance\nN1,EWR,5\n".to_vec(),
            ":2:",
            "`dest`",
        ),
        (
            b"tailnum,origin,dest,dest,distance\nN1,A,B,C,5\n".to_vec(),
            ":1:",
            "`dest` twice",
        ),
        (text("N1,EWR,IAH,far\n"), ":3:", "`far`"),
        (text("N1,EWR,IAH,\n"), ":3:", "distance"),
        (text("N1,EWR,IAH,-5\n"), ":3:", "`-5`"),
        (text("N1,EWR,IAH,1.5\n"), ":3:", "`1.5`"),
        (text("N1,EWR,IAH,4294967296\n"), ":3:", "4294967295"),
        (text("N1,EWR,IAH,\"1\n2\"\n"), ":3:", "distance"),
        (text("\"N\n1\",EWR,IAH,1\nN1,EWR,IAH,x\n"), ":5:", "`x`"),
        (text("N1,EWR,IAH\n"), ":3:", "3 fields"),
        (text("N1,EWR,IAH,5,6\n"), ":3:", "5 fields"),
        (text("\n\nN1,EWR,IAH\n"), ":5:", "3 fields"),
        (text("N1,,IAH,5\n"), ":3:", "origin"),
        (text("N1,EWR,NA,5\n"), ":3:", "destination"),
        (
            b"tailnum,origin,dest,distance\r\nN1,A,B,1\r\nN1,A,B,x\r\n".to_vec(),
            ":3:",
            "`x`",
        ),
        ([&text("")[..], b"N1,\xff,IAH,5\n"].concat(), ":3:", "UTF-8"),
        (gzip(&text("N1,EWR,IAH,far\n")), ":3:", "`far`"),
        (
            whole[..whole.len() / 2].to_vec(),
            ":",
            "gzip data ends too early",
        ),
        (
            whole[..whole.len() - 3].to_vec(),
            ":1002:",
            "gzip data ends too early",
        ),
        (whole[..5].to_vec(), ":1:", "gzip data ends too early"),
        (damaged, ":1002:", "gzip data is damaged"),
    ] {
        let file = place.file("bad.csv", bytes);
        let line = refusal(flights().arg(&file));
        let rest = line
            .strip_prefix(&*file.to_string_lossy())
            .expect("the file comes first");
        assert!(
            rest.starts_with(at) && rest.contains(what),
            "{at} {what}: {line}"
        );
        let number = rest[1..]
            .split(':')
            .next()
            .and_then(|n| n.parse::<u32>().ok());
        assert!(number.is_some(), "no line number: {line}");
    }
    let nowhere = place.0.join("nowhere.csv");
    assert!(refusal(flights().arg(&nowhere)).starts_with(&*nowhere.to_string_lossy()));
    assert!(refusal(flights().arg(&place.0)).starts_with(&*place.0.to_string_lossy()));
    assert!(refusal(flights().arg("two\nlines.csv")).starts_with("two?lines.csv:"));
}

#[test]
fn a_bad_command_line_is_refused() {
    let place = Place::new();
    let file = place.file("one.csv", format!("{HEADER}N1,EWR,IAH,1400\n"));
    for (options, what) in [
        (&["--threads", "0"][..], "--threads"),
        (&["--threads", "-1"], "-1"),
        (&["--repeat", "0"], "--repeat"),
        (&["--passes", "0"], "--passes"),
        (&["--work", "soon"], "--work"),
        (&["--work", "0,soon"], "soon"),
        (&["--work", "1000001"], "1000001"),
        (&["--work", ""], "--work"),
        (
            &["--strategy", "hope"],
            "mutex, ordered, levels, rwlock, lock-all, session, cells, transactions",
        ),
        (&["--strategy", "mutex,hope"], "'hope'"),
        (
            &["--strategy", ""],
            "mutex, ordered, levels, rwlock, lock-all, session, cells, transactions",
        ),
        (&["--audit=often"], "often"),
        (&["--colour"], "--colour"),
        (&["second.csv"], "second.csv"),
    ] {
        let line = refusal(flights().arg(&file).args(options));
        assert!(line.contains(what), "{options:?}: {line}");
    }
}

#[test]
fn a_place_for_the_results_that_cannot_be_written_is_refused_before_the_run() {
    let place = Place::new();
    let good = place.file("good.csv", format!("{HEADER}N1,EWR,IAH,1400\n"));
    let bad = place.file("bad.csv", "nothing\n");
    let kept = place.file("kept.json", "kept");
    let read_only = place.file("read-only.json", "kept");
    let mut permissions = fs::metadata(&read_only).expect("it exists").permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&read_only, permissions).expect("it is ours");
    let before = place.names();

    let slash = place.0.join("results/");
    for json in [
        &place.0,
        &place.0.join("nowhere/results.json"),
        &slash,
        &read_only,
    ] {
        let line = refusal(flights().arg(&bad).arg("--json").arg(json));
        assert!(
            line.contains("cannot write the results"),
            "before the flights are read: {line}"
        );
    }
    let line = refusal(flights().arg(&good).arg("--json").arg(&good));
    assert!(line.contains("--json"), "{line}");
    let line = refusal(flights().arg(&bad).arg("--json").arg(&kept));
    assert!(line.contains("no column"), "{line}");
    assert_eq!(
        fs::read(&kept).expect("it exists"),
        b"kept",
        "no success, no new results"
    );
    assert_eq!(place.names(), before, "nothing was left behind");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let place = Place::new();
    let file = place.file("one.csv", format!("{HEADER}N1,EWR,IAH,1400\n"));
    for options in [&["--repeat", "1"][..], &["--help"]] {
        let mut child = flights()
            .args(options)
            .arg(&file)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the example starts");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{options:?}: {}", stderr(&output));
        assert_eq!(stderr(&output), "", "{options:?}");
    }
}

#[test]
fn a_single_lost_update_is_found_and_named() {
    let place = Place::new();
    let rows = "N1,EWR,IAH,1400\nN2,JFK,MIA,0\nNA,EWR,MIA,7\n";
    let file = place.file("flights.csv", format!("{HEADER}{rows}"));
    let dataset = data::read(&file).expect("the file is good");
    let expected = totals::Tally::sequential(&dataset).times(3);

    let cells = totals::Cells::new(&dataset);
    for _ in 0..3 {
        for flight in &dataset.flights {
            cells.add(flight, work::Work::nanos(0));
        }
    }
    assert_eq!(cells.tally().check(&expected, &dataset), Ok(()));

    type Lose = fn(&mut totals::Tally);
    let cases: [(Lose, &str); 4] = [
        (
            |t| t.aircraft[0].miles -= 1_400,
            "aircraft N1: expected 4200 miles, got 2800",
        ),
        (
            |t| t.aircraft[1].flights -= 1,
            "aircraft N2: expected 3 flights, got 2",
        ),
        (
            |t| t.departures[0] += 1,
            "origin EWR: expected 6 departures, got 7",
        ),
        (
            |t| t.arrivals[1] = 0,
            "destination MIA: expected 6 arrivals, got 0",
        ),
    ];
    for (lose, said) in cases {
        let mut got = cells.tally();
        lose(&mut got);
        let mismatch = got.check(&expected, &dataset).expect_err(said).to_string();
        assert_eq!(mismatch, format!("wrong total: {said}"));
    }
    let mut got = cells.tally();
    got.departures[0] = 0;
    got.arrivals[0] = 0;
    let mismatch = got
        .check(&expected, &dataset)
        .expect_err("two are wrong")
        .to_string();
    assert!(
        mismatch.contains("origin EWR") && mismatch.contains("1 more"),
        "{mismatch}"
    );
}
