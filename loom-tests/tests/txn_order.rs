//! Who sees what in which order: observers that would disagree if a write were not the same moment for everybody.

use std::sync::Arc;

use latchwork::{VersionedCell, atomically, snapshot};
use latchwork_loom_tests::Model;
use loom::thread;

type Cells = Arc<[VersionedCell<u32>; 2]>;

/// One writes the first cell and then reads the second, one writes the second, one takes a snapshot.
fn write_and_read() -> String {
    let cells: Cells = Arc::new([0, 0].map(VersionedCell::new));
    let first = thread::spawn({
        let cells = cells.clone();
        move || {
            cells[0].set(1);
            cells[1].get()
        }
    });
    let second = thread::spawn({
        let cells = cells.clone();
        move || {
            cells[1].set(1);
        }
    });
    let (x, y) = snapshot(|s| (*s.read(&cells[0]), *s.read(&cells[1])));
    second.join().unwrap();
    format!("y{} s{x}{y}", first.join().unwrap())
}

/// Who writes a cell and then misses the write of another is before it for snapshots too: never `y0 s01`.
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
            let other = thread::spawn({
                let cells = cells.clone();
                move || {
                    cells[0].get();
                }
            });
            let both = thread::spawn({
                let cells = cells.clone();
                move || format!("{}{}", cells[0].get(), cells[1].get())
            });
            atomically(|tx| {
                tx.set(&cells[0], 1)?;
                tx.set(&cells[1], 1)
            });
            other.join().unwrap();
            both.join().unwrap()
        });
}

/// The same of who finds the commit by its status.
#[test]
fn who_finds_the_status_comes_after_the_commit() {
    Model::new("a transaction of two cells, and a reader of both")
        .rules("[X2]")
        .preemptions(Some(3))
        .outcomes(&["00", "01", "11"])
        .check(|| {
            let cells: Cells = Arc::new([0, 0].map(VersionedCell::new));
            let both = thread::spawn({
                let cells = cells.clone();
                move || format!("{}{}", cells[0].get(), cells[1].get())
            });
            atomically(|tx| {
                tx.set(&cells[0], 1)?;
                tx.set(&cells[1], 1)
            });
            both.join().unwrap()
        });
}
