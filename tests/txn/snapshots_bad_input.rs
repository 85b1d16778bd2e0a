//! What a snapshot makes of unusual requests.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::thread;

use crate::common::watchdog;
use latchwork::{VersionedCell, atomically, snapshot};

#[test]
fn a_snapshot_in_a_transaction_shows_what_was_committed() {
    let cells = [VersionedCell::new(1), VersionedCell::new(2)];
    let seen = atomically(|tx| {
        tx.update(&cells[0], |n| n * 10)?;
        let before = snapshot(|s| (*s.read(&cells[0]), *s.read(&cells[1])));
        tx.update(&cells[1], |n| n * 10)?;
        Ok((before, *tx.read(&cells[0])?))
    });
    assert_eq!(seen, ((1, 2), 10));
    assert_eq!((cells[0].get(), cells[1].get()), (10, 20));
}

#[test]
fn a_snapshot_in_a_transaction_that_owns_cells_does_not_hang() {
    let _dog = watchdog("a_snapshot_in_a_transaction_that_owns_cells_does_not_hang");
    let (x, y) = (VersionedCell::new(0_u32), VersionedCell::new(0_u32));
    let mut attempts = 0;
    let (before, seen) = atomically(|tx| {
        attempts += 1;
        let before = *tx.read(&x)?;
        // Lost, until the transaction owns `x` as soon as it reads it.
        if attempts <= 3 {
            thread::scope(|s| s.spawn(|| x.update(|n| n + 1)).join()).expect("it writes");
            tx.read(&y)?;
        }
        let seen = snapshot(|s| (*s.read(&x), *s.read(&y)));
        tx.set(&x, before + 1)?;
        Ok((before, seen))
    });
    assert_eq!((attempts, before, seen), (4, 3, (3, 0)));
    assert_eq!(x.get(), 4);
}

#[test]
fn a_transaction_and_a_write_in_a_snapshot_happen_after_it() {
    let (x, y) = (VersionedCell::new(1), VersionedCell::new(1));
    snapshot(|s| {
        atomically(|tx| {
            tx.set(&x, 2)?;
            tx.set(&y, 2)
        });
        x.set(3);
        assert_eq!((*s.read(&x), *s.read(&y)), (1, 1));
        // One that is taken later, inside the first, sees more.
        assert_eq!(snapshot(|t| (*t.read(&x), *t.read(&y))), (3, 2));
        assert_eq!((*s.read(&x), *s.read(&y)), (1, 1));
    });
    assert_eq!((x.get(), y.get()), (3, 2));
}

#[test]
fn a_snapshot_that_panics_leaves_nothing_behind() {
    let _dog = watchdog("a_snapshot_that_panics_leaves_nothing_behind");
    let value = Arc::new(());
    let cell = VersionedCell::new(Some(value.clone()));
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        snapshot(|s| {
            s.read(&cell);
            cell.set(None);
            panic!("on purpose");
        })
    }));
    assert!(panicked.is_err());
    assert!(snapshot(|s| s.read(&cell).is_none()));
    // What was replaced is not held back by the one that has panicked; other tests hold it back for
    // a while.
    while Arc::strong_count(&value) > 1 {
        latchwork::flush();
        thread::yield_now();
    }
}

#[test]
fn a_snapshot_that_sleeps_holds_up_nobody_and_sees_the_same_afterwards() {
    let _dog = watchdog("a_snapshot_that_sleeps_holds_up_nobody_and_sees_the_same_afterwards");
    let cells: Vec<_> = (0..8).map(VersionedCell::new).collect();
    let (woken, sleeping) = mpsc::channel::<()>();
    let (asleep, falling_asleep) = mpsc::channel::<()>();
    thread::scope(|s| {
        let cells = &cells;
        let sleeper = s.spawn(move || {
            snapshot(|s| {
                let before: Vec<i32> = cells.iter().map(|c| *s.read(c)).collect();
                asleep.send(()).expect("somebody waits for it");
                sleeping.recv().expect("somebody wakes it");
                let after: Vec<i32> = cells.iter().map(|c| *s.read(c)).collect();
                assert_eq!(before, after);
                before
            })
        });
        falling_asleep.recv().expect("it falls asleep");
        for round in 0..10_000 {
            atomically(|tx| cells.iter().try_for_each(|c| tx.update(c, |n| n + 1)));
            cells[round % 8].update(|n| *n);
        }
        woken.send(()).expect("it sleeps");
        let seen = sleeper.join().expect("it sees the same twice");
        assert_eq!(seen, (0..8).collect::<Vec<_>>());
    });
    assert_eq!(cells[0].get(), 10_000);
}

#[test]
fn cells_are_made_and_dropped_beside_a_snapshot() {
    let kept = VersionedCell::new(1);
    // A cell that is made later shows its first value; one that is dropped meanwhile was not to be
    // seen.
    let late = VersionedCell::new(Box::new(1));
    snapshot(|s| {
        assert_eq!(*s.read(&kept), 1);
        for n in 0..1_000 {
            let passing = VersionedCell::new(Box::new(n));
            passing.set(Box::new(n + 1));
        }
        late.set(Box::new(2));
        kept.set(2);
        assert_eq!((*s.read(&kept), **s.read(&late)), (1, 1));
    });
    let made = snapshot(|_| VersionedCell::new(7));
    assert_eq!(snapshot(|s| *s.read(&made)), 7);
}

#[test]
fn a_million_reads_of_one_cell() {
    let cell = VersionedCell::new(1_u64);
    let total = snapshot(|s| {
        cell.set(2);
        (0..1_000_000).map(|_| *s.read(&cell)).sum::<u64>()
    });
    assert_eq!(total, 1_000_000);
}

#[test]
fn a_thousand_snapshots_one_inside_the_other() {
    fn nest(depth: u32, cell: &VersionedCell<u32>) -> u32 {
        snapshot(|s| {
            let seen = *s.read(cell);
            if depth > 0 {
                cell.update(|n| n + 1);
                assert_eq!(nest(depth - 1, cell), seen + depth);
            }
            assert_eq!(*s.read(cell), seen);
            seen + depth
        })
    }
    let cell = VersionedCell::new(0);
    assert_eq!(nest(1_000, &cell), 1_000);
}

#[test]
fn a_snapshot_runs_inside_a_task_and_its_result_crosses_an_await() {
    let cells = [VersionedCell::new(1), VersionedCell::new(2)];
    let future = async {
        let total: i32 = snapshot(|s| cells.iter().map(|c| *s.read(c)).sum());
        std::future::ready(()).await;
        total
    };
    fn sendable<F: Future + Send>(future: F) -> F {
        future
    }
    assert_eq!(pollster::block_on(sendable(future)), 3);
}
