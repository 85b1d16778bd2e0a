//! Transactions, call by call, and that one that keeps losing wins.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;

use common::watchdog;
use latchwork::{Transaction, TxError, VersionedCell, atomically, snapshot};

/// Ten thousand cells, one of which is written without a pause, by itself and in transactions.
#[test]
fn a_large_transaction_beats_hammers() {
    let _dog = watchdog("a_large_transaction_beats_hammers");
    let cells: Vec<_> = (0..10_000).map(|_| VersionedCell::new(0_u64)).collect();
    let (stop, blows) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|s| {
        for hammer in 0..3 {
            let (cells, stop, blows) = (&cells, &stop, &blows);
            s.spawn(move || {
                while !stop.load(Relaxed) {
                    if hammer == 0 {
                        cells[5_000].update(|n| n + 1);
                    } else {
                        atomically(|tx| tx.update(&cells[5_000], |n| n + 1));
                    }
                    blows.fetch_add(1, Relaxed);
                }
            });
        }
        for _ in 0..5 {
            let before = blows.load(Relaxed);
            atomically(|tx| {
                for cell in &cells {
                    tx.update(cell, |n| n + 1)?;
                }
                Ok(())
            });
            // They were at work, and are not shut out for good.
            while blows.load(Relaxed) < before + 100 {
                thread::yield_now();
            }
        }
        stop.store(true, Relaxed);
    });
    let blows = blows.load(Relaxed);
    for (i, cell) in cells.iter().enumerate() {
        let expected = if i == 5_000 { 5 + blows } else { 5 };
        assert_eq!(cell.get(), expected, "cell {i}");
    }
}

#[test]
fn a_closure_that_panics_leaves_every_cell_as_it_was() {
    let cells = [1, 2, 3].map(VersionedCell::new);
    let panics = catch_unwind(AssertUnwindSafe(|| {
        atomically(|tx| -> Result<(), latchwork::Abort> {
            for cell in &cells {
                tx.update(cell, |n| n * 10)?;
            }
            resume_unwind(Box::new("no"))
        })
    }));
    assert!(panics.is_err());
    assert_eq!(
        cells.each_ref().map(|c| (c.get(), c.version().get())),
        [(1, 0), (2, 0), (3, 0)]
    );
    atomically(|tx| tx.update(&cells[0], |n| n + 1));
    assert_eq!(cells[0].get(), 2);
}

#[test]
fn an_abort_that_is_ignored_does_not_commit() {
    let (a, b) = (VersionedCell::new(0), VersionedCell::new(0));
    let mut attempts = 0;
    let result = Transaction::builder().max_attempts(2).run(|tx| {
        attempts += 1;
        tx.read(&a)?;
        a.update(|n| n + 1);
        // Lost; but the closure goes on as if it were not.
        let _ = tx.read(&b);
        let _ = tx.set(&b, 7);
        Ok(())
    });
    assert!(
        matches!(result, Err(TxError::Contended { attempts: 2, .. })),
        "{result:?}"
    );
    assert_eq!((attempts, a.get(), b.get()), (2, 2, 0));
}

#[test]
fn or_else_forgets_what_the_first_has_written() {
    let (a, b) = (VersionedCell::new(0), VersionedCell::new(0));
    let kept = atomically(|tx| {
        tx.set(&b, 1)?;
        let mut seen = None;
        tx.or_else(
            |tx| {
                tx.set(&a, 5)?;
                tx.set(&b, 5)?;
                seen = Some(tx.read(&a)?);
                tx.retry()
            },
            |tx| Ok(*tx.read(&b)?),
        )
        // What was read of a forgotten write is still there.
        .map(|b| (b, seen.copied()))
    });
    assert_eq!((kept, a.get(), b.get()), ((1, Some(5)), 0, 1));
}

#[test]
fn waiting_for_nothing_is_an_error() {
    let cell = VersionedCell::new(0);
    let result = Transaction::builder().run(|tx| {
        tx.set(&cell, 1)?;
        tx.retry::<()>()
    });
    assert_eq!(result, Err(TxError::RetryWithoutReads));
    let panics = catch_unwind(AssertUnwindSafe(|| atomically(|tx| tx.retry::<()>())));
    assert_eq!(
        *panics.unwrap_err().downcast::<String>().unwrap(),
        "a transaction that has read nothing would wait for a change for ever"
    );
    assert_eq!(cell.get(), 0);
}

/// A transaction that owns what it has lost at does not let its own closure hang.
#[test]
fn a_write_of_what_the_own_transaction_owns_panics() {
    let _dog = watchdog("a_write_of_what_the_own_transaction_owns_panics");
    type Act = fn(&VersionedCell<i32>);
    let acts: [Act; 3] = [
        |cell| {
            cell.set(1);
        },
        |cell| {
            cell.wait_changed(cell.version());
        },
        |cell| atomically(|tx| tx.set(cell, 1)),
    ];
    for act in acts {
        let cell = VersionedCell::new(0);
        // It climbs the ladder by losing at these.
        let lost_at: Vec<_> = (0..8).map(VersionedCell::new).collect();
        let mut attempts = 0;
        let panics = catch_unwind(AssertUnwindSafe(|| {
            atomically(|tx| {
                attempts += 1;
                tx.read(&cell)?;
                match lost_at.get(attempts - 1) {
                    Some(lost_at) => {
                        tx.read(lost_at)?;
                        lost_at.set(0);
                        tx.set(lost_at, 1)
                    }
                    None => {
                        act(&cell);
                        Ok(())
                    }
                }
            });
        }));
        let message = *panics
            .expect_err("it owns the cell")
            .downcast::<&str>()
            .unwrap();
        assert!(
            message.contains("owns is w") || message.contains("outer one owns"),
            "{message}"
        );
        assert_eq!((attempts, cell.get(), cell.version().get()), (9, 0, 0));
    }
}

#[test]
fn a_snapshot_sees_one_instant_beside_transactions() {
    let _dog = watchdog("a_snapshot_sees_one_instant_beside_transactions");
    let accounts: Vec<_> = (0..64).map(|_| VersionedCell::new(100_i64)).collect();
    let stop = AtomicBool::new(false);
    thread::scope(|s| {
        for seed in 0..2 {
            let (accounts, stop) = (&accounts, &stop);
            s.spawn(move || {
                let mut rng = common::Rng::new(seed);
                while !stop.load(Relaxed) {
                    let (from, to) = (rng.below(64) as usize, rng.below(64) as usize);
                    atomically(|tx| {
                        tx.update(&accounts[from], |n| n - 1)?;
                        tx.update(&accounts[to], |n| n + 1)
                    });
                }
            });
        }
        for _ in 0..2_000 {
            let total: i64 = snapshot(|s| accounts.iter().map(|cell| *s.read(cell)).sum());
            assert_eq!(total, 6_400);
        }
        stop.store(true, Relaxed);
    });
}
