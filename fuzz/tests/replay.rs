//! Every input that was worth keeping, and a smoke of inputs from fixed seeds.

use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use latchwork_fuzz::{
    CellTally, EndingTally, LeaseTally, MapTally, MixedTally, ProgramTally, Rng, SessionTally,
    Tally, TaskTally, cells, endings, leases, map, map_two_threads, mixed, one_thread, sessions,
    snapshots, tasks, transactions, two_threads, version, watchdog,
};

/// The inputs of the corpus `name`: the lines of its file, which `ci/corpus` packs.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(format!("{name}.hex"));
    let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let inputs: Vec<_> = text.lines().map(bytes).collect();
    assert!(
        inputs.len() >= 20,
        "{} has {} inputs only",
        file.display(),
        inputs.len()
    );
    inputs
}

/// The bytes that hexadecimal digits stand for.
fn bytes(hex: &str) -> Vec<u8> {
    let pairs = hex.as_bytes().chunks(2);
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(pair, 16).ok()
    };
    assert!(hex.len() % 2 == 0, "{hex:?} has half a byte");
    pairs
        .map(|pair| byte(pair).unwrap_or_else(|| panic!("{hex:?} has no hexadecimal digits")))
        .collect()
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

/// Runs `inputs` and asserts that each kind of outcome comes up.
fn run_tasks(inputs: impl Iterator<Item = Vec<u8>>) {
    let mut total = TaskTally::default();
    inputs.for_each(|input| total.add(tasks(&input)));
    println!("{total:?}");
    let TaskTally {
        granted,
        pending,
        cancelled,
        refused,
        changed,
        ..
    } = total;
    assert!(
        granted
            .min(pending)
            .min(cancelled)
            .min(refused)
            .min(changed)
            > 10,
        "{total:?}"
    );
}

#[test]
fn the_corpus_of_tasks() {
    let _dog = watchdog("the_corpus_of_tasks");
    run_tasks(corpus("tasks").into_iter());
}

#[test]
fn a_smoke_of_tasks() {
    let _dog = watchdog("a_smoke_of_tasks");
    run_tasks(smoke(10_000));
}

/// Runs `inputs` and asserts that many wait, and some in circles.
fn run_sessions(inputs: impl Iterator<Item = Vec<u8>>) {
    let mut total = SessionTally::default();
    inputs.for_each(|input| total.add(sessions(&input)));
    println!("{total:?}");
    assert!(total.victims > 20 && total.waits > 100, "{total:?}");
}

#[test]
fn the_corpus_of_sessions() {
    let _dog = watchdog("the_corpus_of_sessions");
    run_sessions(corpus("sessions").into_iter());
}

#[test]
fn a_smoke_of_sessions() {
    let _dog = watchdog("a_smoke_of_sessions");
    run_sessions(smoke(5_000));
}

/// Tests of cells take turns: each expects all of its values back at once, which another's pin
/// would prevent.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `inputs` and asserts that each kind of outcome comes up.
fn run_cells(inputs: impl Iterator<Item = Vec<u8>>) {
    let _turn = turn();
    let mut total = CellTally::default();
    inputs.for_each(|input| total.add(cells(&input)));
    println!("{total:?}");
    let CellTally {
        written,
        refused,
        woken,
        shared,
        moved,
        ..
    } = total;
    assert!(
        written.min(refused).min(woken).min(shared).min(moved) > 10,
        "{total:?}"
    );
}

#[test]
fn the_corpus_of_cells() {
    let _dog = watchdog("the_corpus_of_cells");
    run_cells(corpus("cells").into_iter());
}

#[test]
fn a_smoke_of_cells() {
    let _dog = watchdog("a_smoke_of_cells");
    run_cells(smoke(10_000));
}

/// Runs `inputs` and asserts that each kind of outcome comes up.
fn run_programs(inputs: impl Iterator<Item = Vec<u8>>, run: fn(&[u8]) -> ProgramTally) {
    let _turn = turn();
    let mut total = ProgramTally::default();
    inputs.for_each(|input| total.add(run(&input)));
    println!("{total:?}");
    let ProgramTally {
        committed,
        lost,
        owning,
        ended,
        pending,
        woken,
        past,
        ..
    } = total;
    let least = [committed, lost, owning, ended, pending, woken, past];
    assert!(least.into_iter().all(|n| n > 5), "{total:?}");
}

#[test]
fn the_corpus_of_transactions() {
    let _dog = watchdog("the_corpus_of_transactions");
    run_programs(corpus("transactions").into_iter(), transactions);
}

#[test]
fn a_smoke_of_transactions() {
    let _dog = watchdog("a_smoke_of_transactions");
    run_programs(smoke(10_000), transactions);
}

#[test]
fn the_corpus_of_snapshots() {
    let _dog = watchdog("the_corpus_of_snapshots");
    run_programs(corpus("snapshots").into_iter(), snapshots);
}

#[test]
fn a_smoke_of_snapshots() {
    let _dog = watchdog("a_smoke_of_snapshots");
    run_programs(smoke(10_000), snapshots);
}

/// Runs `inputs` and asserts that each kind of outcome comes up.
fn run_maps(inputs: impl Iterator<Item = Vec<u8>>) {
    let _turn = turn();
    let mut total = MapTally::default();
    inputs.for_each(|input| total.add(map(&input)));
    println!("{total:?}");
    assert!(total.least() > 10, "{total:?}");
}

#[test]
fn the_corpus_of_maps() {
    let _dog = watchdog("the_corpus_of_maps");
    run_maps(corpus("map").into_iter());
}

#[test]
fn a_smoke_of_maps() {
    let _dog = watchdog("a_smoke_of_maps");
    run_maps(smoke(4_000));
}

/// Runs `inputs` and asserts that conditional calls were refused.
fn run_maps_of_two(inputs: impl Iterator<Item = Vec<u8>>) {
    let _turn = turn();
    let (mut calls, mut refused) = (0, 0);
    for input in inputs {
        let (more, no) = map_two_threads(&input);
        calls += more;
        refused += no;
    }
    println!("{calls} calls, {refused} refused");
    assert!(refused > 10 && calls > 5 * refused, "{refused} of {calls}");
}

#[test]
fn the_corpus_of_maps_of_two_threads() {
    let _dog = watchdog("the_corpus_of_maps_of_two_threads");
    run_maps_of_two(corpus("map_two_threads").into_iter());
}

#[test]
fn a_smoke_of_maps_of_two_threads() {
    let _dog = watchdog("a_smoke_of_maps_of_two_threads");
    run_maps_of_two(smoke(1_000));
}

/// Runs `inputs` and asserts that each kind of outcome comes up.
fn run_mixed(inputs: impl Iterator<Item = Vec<u8>>) {
    let mut total = MixedTally::default();
    inputs.for_each(|input| total.add(mixed(&input)));
    println!("{total:?}");
    assert!(total.least() > 10, "{total:?}");
}

#[test]
fn the_corpus_of_mixed_locks() {
    let _dog = watchdog("the_corpus_of_mixed_locks");
    run_mixed(corpus("mixed").into_iter());
}

#[test]
fn a_smoke_of_mixed_locks() {
    let _dog = watchdog("a_smoke_of_mixed_locks");
    run_mixed(smoke(5_000));
}

/// Runs `inputs` and asserts that each kind of outcome comes up.
fn run_endings(inputs: impl Iterator<Item = Vec<u8>>) {
    let _turn = turn();
    let mut total = EndingTally::default();
    inputs.for_each(|input| total.add(endings(&input)));
    println!("{total:?}");
    assert!(total.least() > 10, "{total:?}");
}

#[test]
fn the_corpus_of_endings() {
    let _dog = watchdog("the_corpus_of_endings");
    run_endings(corpus("endings").into_iter());
}

#[test]
fn a_smoke_of_endings() {
    let _dog = watchdog("a_smoke_of_endings");
    run_endings(smoke(1_000));
}

/// Runs `inputs` and asserts that each kind of outcome comes up.
fn run_leases(inputs: impl Iterator<Item = Vec<u8>>) {
    let mut total = LeaseTally::default();
    inputs.for_each(|input| total.add(leases(&input)));
    println!("{total:?}");
    assert!(total.least() > 10, "{total:?}");
}

#[test]
fn the_corpus_of_leases() {
    let _dog = watchdog("the_corpus_of_leases");
    run_leases(corpus("leases").into_iter());
}

#[test]
fn a_smoke_of_leases() {
    let _dog = watchdog("a_smoke_of_leases");
    run_leases(smoke(3_000));
}

#[test]
fn the_corpus_of_versions() {
    let right = corpus("version").iter().filter(|t| version(t)).count();
    assert!(right >= 8, "{right}");
}

/// Digits mostly, around as many as there may be.
#[test]
fn a_smoke_of_versions() {
    let text = |seed: u64| {
        let mut rng = Rng::new(seed);
        let len = rng.below(24);
        let byte = |_| match rng.below(60) {
            0 => b"+- _.x\xC3"[rng.below(7) as usize],
            1..=9 => b'0',
            10..=19 => b'1',
            _ => b'0' + rng.below(10) as u8,
        };
        (0..len).map(byte).collect::<Vec<_>>()
    };
    let right = (0..100_000).filter(|seed| version(&text(*seed))).count();
    assert!((20_000..90_000).contains(&right), "{right}");
}
