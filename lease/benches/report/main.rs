//! Measures the figures of this crate against baselines, and writes them as Markdown.
//!
//! `cargo bench -p latchwork-lease --bench report --all-features -- --write lease/REPORT.md`
//! measures all; a word behind `--` selects the sections whose title contains it.
//!
//! Where several processes are needed, the program starts itself again: see [`child`].

// Some parts of the sections serve only the rows of PostgreSQL and etcd.
#![cfg_attr(not(all(feature = "postgres", feature = "etcd")), allow(dead_code))]

mod by_hand;
mod child;
mod counting;
#[cfg(feature = "etcd")]
#[path = "../../tests/support/etcd.rs"]
mod etcd;
#[cfg(feature = "redis")]
#[path = "../../tests/support/redis.rs"]
mod nodes;
mod questions;
mod render;
mod row;
#[cfg(feature = "postgres")]
#[path = "../../tests/support/server.rs"]
mod server;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::io::Write as _;
use std::time::Instant;
use std::{env, fs};

use support::Folder;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let Some(("--child", rest)) = arguments
        .split_first()
        .map(|(first, rest)| (first.as_str(), rest))
    {
        return child::run(rest);
    }
    // `cargo test --benches` runs this without the argument.
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("`cargo bench -p latchwork-lease --bench report` measures");
        return;
    }
    let (mut path, mut words) = (None, Vec::new());
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--bench" => {}
            "--write" => path = Some(arguments.next().expect("--write has a file")),
            word => words.push(word.to_lowercase()),
        }
    }

    let start = Instant::now();
    let mut sections = Vec::new();
    for question in questions::all() {
        let title = question.title.to_lowercase();
        if !words.is_empty() && !words.iter().any(|word| title.contains(word)) {
            continue;
        }
        let began = Instant::now();
        let before = disk();
        let rows = (question.ask)();
        let sync = (before, disk());
        eprintln!("{}: {:.1} s", question.title, began.elapsed().as_secs_f64());
        sections.push(render::Section {
            question,
            rows,
            sync,
        });
    }
    let text = render::report(&sections, start.elapsed());
    match path {
        // Cargo runs a benchmark in the folder of its package.
        Some(path) => {
            let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
            let path = std::path::Path::new(root).join(path);
            fs::write(&path, text).expect("the report can be written");
        }
        None => print!("{text}"),
    }
}

/// Returns the median milliseconds of a sync of the disk with the data of the engines.
fn disk() -> f64 {
    let folder = Folder::new();
    let mut file = fs::File::create(folder.file("probe")).unwrap();
    let times: Vec<f64> = (0..21)
        .map(|_| {
            let start = Instant::now();
            file.write_all(&[1; 4096]).unwrap();
            file.sync_data().unwrap();
            row::milliseconds(start.elapsed())
        })
        .collect();
    row::quantile(&times, 0.5)
}
