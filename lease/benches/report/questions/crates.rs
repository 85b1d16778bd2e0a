//! The number of crates that a user compiles.

use std::collections::BTreeSet;
use std::env;
use std::process::Command;

use super::Question;
use crate::row::{Row, Target};

pub(crate) const QUESTION: Question = Question {
    title: "Dependencies",
    method: "The distinct crates of `cargo tree -e normal` for the present target, without \
             `latchwork-lease` itself.",
    syncs: false,
    ask,
};

fn ask() -> Vec<Row> {
    vec![
        row("core and `sqlite`", "sqlite").target(Target::AtMost(40.0)),
        row("core, `sqlite` and `postgres`", "sqlite,postgres").target(Target::AtMost(100.0)),
        row("core and `etcd`", "etcd"),
        row(
            "core, `sqlite`, `postgres`, `etcd` and `cli`",
            "sqlite,postgres,etcd,cli",
        ),
        row("core and `redis`", "redis"),
        row("core alone", ""),
    ]
}

fn row(what: &str, features: &str) -> Row {
    let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["tree", "-e", "normal", "-p", "latchwork-lease"])
        .args(["--prefix", "none", "--format", "{p}", "--offline"])
        .args(["--no-default-features", "--features", features])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let text = String::from_utf8(output.stdout).unwrap();
    let crates: BTreeSet<(&str, &str)> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            Some((words.next()?, words.next()?))
        })
        .filter(|(name, _)| *name != "latchwork-lease")
        .collect();
    Row::alone(what, crates.len() as f64, "crates")
}
