//! Who sees what in which order: observers that would disagree if a write were not the same moment
//! for everybody.

use std::sync::Arc;

use latchwork::{VersionedCell, atomically, cell::Version, model, snapshot};
use latchwork_loom_tests::{Model, spawn};
use loom::thread::JoinHandle;

type Cells = Arc<[VersionedCell<u32>; 2]>;

/// Writes both in one transaction.
fn commit([one, other]: [&VersionedCell<u32>; 2]) {
    atomically(|tx| {
        tx.set(one, 1)?;
        tx.set(other, 1)
    });
}

/// Reads one after the other.
fn both(cells: &[VersionedCell<u32>; 2]) -> String {
    format!("{}{}", cells[0].get(), cells[1].get())
}

/// One writes the first cell and then reads the second, one writes the second, one takes a
/// snapshot.
fn write_and_read() -> String {
    let cells: Cells = Arc::new([0, 0].map(VersionedCell::new));
    let first = spawn(&cells, |cells| {
        cells[0].set(1);
        cells[1].get()
    });
    let second = spawn(&cells, |cells| cells[1].set(1));
    let (x, y) = snapshot(|s| (*s.read(&cells[0]), *s.read(&cells[1])));
    second.join().unwrap();
    format!("y{} s{x}{y}", first.join().unwrap())
}

/// Who writes a cell and then misses the write of another is before it for snapshots too: never `y0
/// s01`.
#[test]
fn a_snapshot_agrees_with_who_writes_and_then_reads() {
    Model::new("one writes and reads, one writes, and a snapshot")
        .rules("[C4]")
        .preemptions(Some(3))
        .outcomes(&[
            "y0 s00", "y0 s10", "y0 s11", "y1 s00", "y1 s01", "y1 s10", "y1 s11",
        ])
        .check(write_and_read);
}

/// Who finds a stamp that a reader has set for a commit comes after all of the commit: never `1 0`.
#[test]
fn who_finds_the_stamp_of_a_reader_comes_after_the_commit() {
    Model::new("a transaction of two cells, a reader of one, and a reader of both")
        .rules("[X2]")
        .preemptions(Some(2))
        .outcomes(&["00", "01", "11"])
        .check(|| {
            let cells: Cells = Arc::new([0, 0].map(VersionedCell::new));
            let other = spawn(&cells, |cells| cells[0].get());
            let both = spawn(&cells, both);
            commit(cells.each_ref());
            other.join().unwrap();
            both.join().unwrap()
        });
}

/// The same of who finds the commit by its status.
#[test]
fn who_finds_the_status_comes_after_the_commit() {
    Model::new("a transaction of two cells, and a reader of both")
        .rules("[X2]")
        .preemptions(Some(4))
        .outcomes(&["00", "01", "11"])
        .check(|| {
            let cells: Cells = Arc::new([0, 0].map(VersionedCell::new));
            let both = spawn(&cells, both);
            commit(cells.each_ref());
            both.join().unwrap()
        });
}

/// Who reads a write plainly, and then beneath a transaction that did not see that write, would
/// disagree with both: never `x1 y0 10`.
#[test]
fn plain_reads_agree_with_who_has_validated() {
    Model::new("a transaction copies a cell, one writes that, and one reads both plainly")
        .rules("[X3]")
        .preemptions(Some(2))
        .outcomes(&[
            "x0 y0 10",
            "x0 y0 11",
            "x0 y10 10",
            "x0 y11 11",
            "x1 y0 11",
            "x1 y10 10",
            "x1 y11 11",
        ])
        .check(|| {
            let cells: Arc<[VersionedCell<u32>; 3]> = Arc::new([0, 0, 0].map(VersionedCell::new));
            let copier = spawn(&cells, |[x, y, z]| {
                atomically(|tx| {
                    let seen = *tx.read(x)?;
                    tx.set(y, 10 + seen)?;
                    tx.set(z, 10 + seen)
                });
            });
            let reader = spawn(&cells, |[x, y, _]| format!("x{} y{}", x.get(), y.get()));
            cells[0].set(1);
            copier.join().unwrap();
            format!("{} {}", reader.join().unwrap(), cells[1].get())
        });
}

/// Writes the first cell and takes a snapshot of the second, beside another thread that reads the
/// first, and beside another snapshot.
fn write_and_take_a_snapshot<const N: usize>(
    cells: &Arc<[VersionedCell<u32>; N]>,
    beside: bool,
    other: JoinHandle<u32>,
) -> String {
    let third = beside.then(|| spawn(cells, |_| snapshot(|_| {})));
    cells[0].set(1);
    let seen = snapshot(|s| *s.read(&cells[1]));
    if let Some(third) = third {
        third.join().unwrap();
    }
    format!("s{seen} r{}", other.join().unwrap())
}

/// Whom a snapshot has missed comes after all that was before it: never `s0 r0`.
#[test]
fn whom_a_snapshot_misses_sees_what_was_before_it() {
    for (name, beside) in [
        (
            "one writes and takes a snapshot, one writes and reads",
            false,
        ),
        ("the same, beside another snapshot", true),
    ] {
        Model::new(name)
            .rules("[C4]")
            .preemptions(Some(if beside { 2 } else { 4 }))
            .outcomes(&["s0 r1", "s1 r0", "s1 r1"])
            .check(move || {
                model::make_fences_steps();
                let cells: Cells = Arc::new([0, 0].map(VersionedCell::new));
                let other = spawn(&cells, |cells| {
                    cells[1].set(1);
                    cells[0].get()
                });
                write_and_take_a_snapshot(&cells, beside, other)
            });
    }
}

/// The same of a transaction: its stamp is the moment that it has read.
#[test]
fn whose_commit_a_snapshot_misses_sees_what_was_before_it() {
    for (name, beside) in [
        (
            "one writes and takes a snapshot, one commits and reads",
            false,
        ),
        ("the same, beside another snapshot", true),
    ] {
        Model::new(name)
            .rules("[X5]")
            .preemptions(Some(if beside { 2 } else { 3 }))
            .outcomes(&["s0 r1", "s1 r0", "s1 r1"])
            .check(move || {
                model::make_fences_steps();
                let cells: Arc<[VersionedCell<u32>; 3]> =
                    Arc::new([0, 0, 0].map(VersionedCell::new));
                let other = spawn(&cells, |cells| {
                    commit([&cells[1], &cells[2]]);
                    cells[0].get()
                });
                write_and_take_a_snapshot(&cells, beside, other)
            });
    }
}

/// A commit touches the word of a cell no more: it looks for a mark, and who has marked it looks
/// for the commit. A wake-up that is lost is a deadlock.
#[test]
fn a_commit_wakes_who_has_just_begun_to_wait() {
    Model::new("one waits, one commits")
        .rules("[C5]")
        .preemptions(Some(4))
        .outcomes(&["1"])
        .check(|| {
            model::make_fences_steps();
            let cells: Cells = Arc::new([0, 0].map(VersionedCell::new));
            let waiter = spawn(&cells, |cells| cells[0].wait_changed(Version::FIRST));
            commit(cells.each_ref());
            waiter.join().unwrap().to_string()
        });
}
