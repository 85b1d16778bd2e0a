//! Every input that was worth keeping, and a smoke of inputs from fixed seeds.

use std::fs;
use std::path::Path;

use latchwork_fuzz::{Rng, Tally, one_thread, two_threads, watchdog};

/// The inputs of the corpus `name`, in a stable order.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("a corpus is readable").path())
        .collect();
    files.sort();
    let inputs: Vec<_> = files
        .iter()
        .map(|file| fs::read(file).expect("a corpus is readable"))
        .collect();
    assert!(
        inputs.len() >= 20,
        "{} has {} inputs only",
        folder.display(),
        inputs.len()
    );
    inputs
}

/// `n` inputs of up to 512 bytes, the same in every run.
fn smoke(n: u64) -> impl Iterator<Item = Vec<u8>> {
    (0..n).map(|seed| {
        let mut rng = Rng::new(seed);
        let len = rng.below(512);
        (0..len).map(|_| rng.draw() as u8).collect()
    })
}

/// Runs `inputs` and asserts that they conflict, go below the root, and inflate.
fn run(inputs: impl Iterator<Item = Vec<u8>>) {
    let mut total = Tally::default();
    for input in inputs {
        let tally = one_thread(&input);
        total.granted += tally.granted;
        total.refused += tally.refused;
        total.most_children_bytes = total.most_children_bytes.max(tally.most_children_bytes);
        total.most_monitors = total.most_monitors.max(tally.most_monitors);
    }
    println!("{total:?}");
    assert!(total.granted > 10 && total.refused > 10, "{total:?}");
    assert!(
        total.most_children_bytes > 0 && total.most_monitors > 0,
        "{total:?}"
    );
}

#[test]
fn the_corpus_of_one_thread() {
    let _dog = watchdog("the_corpus_of_one_thread");
    run(corpus("one_thread").into_iter());
}

#[test]
fn the_corpus_of_two_threads() {
    let _dog = watchdog("the_corpus_of_two_threads");
    for input in corpus("two_threads") {
        two_threads(&input);
    }
}

#[test]
fn a_smoke_of_one_thread() {
    let _dog = watchdog("a_smoke_of_one_thread");
    run(smoke(10_000));
}

#[test]
fn a_smoke_of_two_threads() {
    let _dog = watchdog("a_smoke_of_two_threads");
    let granted: u64 = smoke(2_000).map(|input| two_threads(&input)).sum();
    assert!(granted > 2_000, "{granted}");
}
