//! Many threads, few cells, and a record of who has read and written which version: transactions,
//! snapshots, single reads and writes, and attempts that were lost. There must be an order of all
//! of them that explains it and agrees with the clock.

use std::sync::Barrier;
use std::thread;

use crate::common::history::{Txn, check};
use crate::common::watchdog;
use crate::common::work::txns::{Cell, Done, Mix, Recorder, judge};

/// What one thread does in one history. Few things with noise: on a busy machine each yield is a
/// time slice.
const EACH: usize = if cfg!(latchwork_noise) { 16 } else { 60 };

const MIX: Mix = Mix {
    snapshots: 1,
    singles: 1,
};

/// One history: `threads` do `each` things on `cells` cells.
fn round(seed: u64, threads: u64, cells: usize, each: usize) -> Done {
    let cells: Vec<Cell> = (0..cells).map(|_| Cell::new(0)).collect();
    let ready = Barrier::new(threads as usize);
    let most = cells.len() as u64 + cells.len() as u64 / 4;
    let records: Vec<_> = thread::scope(|s| {
        let threads: Vec<_> = (0..threads)
            .map(|thread| {
                let mut recorder = Recorder::new(&cells, thread, seed, most, MIX);
                let ready = &ready;
                s.spawn(move || {
                    ready.wait();
                    for _ in 0..each {
                        recorder.step();
                    }
                    recorder.into_record()
                })
            })
            .collect();
        let threads = threads.into_iter();
        threads
            .map(|t| t.join().expect("no thread panics"))
            .collect()
    });
    judge(records)
}

/// Rounds until enough was lost to others that the order is worth something. The watchdog looks
/// after each of them.
fn rounds(name: &'static str, cells: usize, each: usize, enough: usize) {
    let mut done = Done::default();
    let std::ops::Range { start, end } = crate::common::histories();
    for seed in start..end.max(start + 5_000) {
        if seed >= end && done.lost >= enough {
            break;
        }
        let _dog = watchdog(name);
        done += round(seed, 3, cells, each);
    }
    let total = done.commits + done.lost + done.snapshots;
    println!("{cells} cells: {total} operations, {done:?}");
    assert!(
        done.lost >= enough,
        "hardly anybody was in the way: {done:?}"
    );
    assert!(done.snapshots > 100 && done.pairs > 10 * enough, "{done:?}");
}

#[test]
fn few_cells() {
    rounds("few_cells", 3, EACH, 200);
}

/// More than are looked through at each read.
#[test]
fn cells_beyond_those_that_are_looked_through() {
    let name = "cells_beyond_those_that_are_looked_through";
    rounds(name, 24, EACH / 2, 200);
}

/// Cells, each with a version.
type Versions<'a> = &'a [(usize, u64)];

fn txn(began: u64, ended: u64, reads: Versions<'_>, writes: Versions<'_>) -> Txn {
    Txn {
        began,
        ended,
        reads: reads.to_vec(),
        writes: writes.to_vec(),
    }
}

#[test]
fn transactions_that_have_an_order() {
    let history = [
        txn(0, 9, &[(0, 0)], &[(1, 1)]),
        // Overlaps with all, and comes last of them although it ended first.
        txn(1, 3, &[(0, 2), (1, 1)], &[]),
        txn(0, 9, &[(0, 0)], &[(0, 1)]),
        txn(0, 9, &[(0, 1)], &[(0, 2)]),
        // Begins when another ends: that is not after it.
        txn(3, 10, &[(0, 0), (1, 0)], &[]),
    ];
    // 4 before 0 and 2, 0 before 1 and 2, 2 before 3 (twice), 3 before 1.
    assert_eq!(check(&history), Ok(7));
    assert_eq!(check(&[]), Ok(0));
}

#[test]
fn transactions_that_have_none() {
    let overlapping = |txns: &[(Versions<'_>, Versions<'_>)]| -> Vec<Txn> {
        let txns = txns.iter();
        txns.map(|(reads, writes)| txn(0, 9, reads, writes))
            .collect()
    };
    let wrong = [
        (
            "write skew",
            overlapping(&[
                (&[(0, 0), (1, 0)], &[(0, 1)]),
                (&[(0, 0), (1, 0)], &[(1, 1)]),
            ]),
        ),
        (
            "lost update",
            overlapping(&[(&[(0, 0)], &[(0, 1)]), (&[(0, 0)], &[(0, 2)])]),
        ),
        (
            "long fork",
            overlapping(&[
                (&[], &[(0, 1)]),
                (&[], &[(1, 1)]),
                (&[(0, 1), (1, 0)], &[]),
                (&[(0, 0), (1, 1)], &[]),
            ]),
        ),
        (
            "torn read",
            overlapping(&[(&[], &[(0, 1), (1, 1)]), (&[(0, 1), (1, 0)], &[])]),
        ),
        (
            "read-only anomaly",
            overlapping(&[
                (&[(0, 0)], &[(1, 1)]),
                (&[], &[(0, 1)]),
                (&[(0, 1), (1, 0)], &[]),
            ]),
        ),
        (
            "real-time inversion",
            vec![txn(0, 1, &[], &[(0, 1)]), txn(2, 3, &[(0, 0)], &[])],
        ),
        (
            "read from the future",
            vec![txn(0, 1, &[(0, 1)], &[]), txn(2, 3, &[], &[(0, 1)])],
        ),
        ("skipped", overlapping(&[(&[], &[(0, 2)])])),
        ("out of nowhere", overlapping(&[(&[(0, 7)], &[])])),
        (
            "written twice",
            overlapping(&[(&[], &[(0, 1)]), (&[], &[(0, 1)])]),
        ),
    ];
    for (what, history) in wrong {
        let found = check(&history);
        assert!(found.is_err(), "{what} was accepted: {found:?}");
    }
}
