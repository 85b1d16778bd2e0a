//! What a transaction makes of unusual requests.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{watchdog, write_elsewhere};
use latchwork::{Transaction, TxError, VersionedCell, atomically, cell::Version, snapshot};

#[test]
fn a_cell_by_two_names_is_one_cell() {
    let cell = VersionedCell::new(1);
    let (a, b) = (&cell, &cell);
    let seen = atomically(|tx| {
        tx.update(a, |n| n + 1)?;
        let seen = *tx.read(b)?;
        tx.update(b, |n| n * 10)?;
        Ok((
            seen,
            *tx.read(a)?,
            tx.version(b)?,
            tx.check(a, Version::FIRST)?,
        ))
    });
    assert_eq!(seen, (2, 20, Version::new(1), true));
    assert_eq!((cell.get(), cell.version()), (20, Version::new(1)));
}

#[test]
fn a_hundred_thousand_cells_change_at_once() {
    let _dog = watchdog("a_hundred_thousand_cells_change_at_once");
    let cells: Vec<_> = (0..100_000_u64).map(VersionedCell::new).collect();
    let stop = AtomicBool::new(false);
    thread::scope(|s| {
        s.spawn(|| {
            // Sees all of them before or after.
            while !stop.load(Relaxed) {
                let (first, last) = snapshot(|s| (*s.read(&cells[0]), *s.read(&cells[99_999])));
                assert!((first, last) == (0, 99_999) || (first, last) == (1, 100_000));
            }
        });
        atomically(|tx| {
            for cell in &cells {
                tx.update(cell, |n| n + 1)?;
            }
            Ok(())
        });
        stop.store(true, Relaxed);
    });
    assert!(
        cells
            .iter()
            .zip(1..)
            .all(|(cell, n)| cell.get() == n && cell.version().get() == 1)
    );
}

#[test]
fn or_else_of_two_retries_waits_for_either() {
    let _dog = watchdog("or_else_of_two_retries_waits_for_either");
    let (a, b) = (VersionedCell::new(0), VersionedCell::new(0));
    for (round, cell) in [&a, &b, &b, &a].into_iter().enumerate() {
        thread::scope(|s| {
            let taken = s.spawn(|| {
                atomically(|tx| {
                    tx.or_else(
                        |tx| match *tx.read(&a)? {
                            0 => tx.retry(),
                            n => tx.set(&a, 0).map(|()| n),
                        },
                        |tx| match *tx.read(&b)? {
                            0 => tx.retry(),
                            n => tx.set(&b, 0).map(|()| n),
                        },
                    )
                })
            });
            cell.set(round + 1);
            assert_eq!(taken.join().unwrap(), round + 1);
        });
    }
}

/// A closure that runs for long holds up nobody, and commits if nobody has written what it read.
#[test]
fn a_long_closure_holds_up_nobody() {
    let _dog = watchdog("a_long_closure_holds_up_nobody");
    let (slow, fast) = (VersionedCell::new(0), VersionedCell::new(0));
    let done = AtomicBool::new(false);
    let writes = thread::scope(|s| {
        let (done, slow, fast) = (&done, &slow, &fast);
        let writer = s.spawn(move || {
            let mut writes = 0_u64;
            while !done.load(Relaxed) {
                fast.update(|n| n + 1);
                atomically(|tx| tx.update(fast, |n| n + 1));
                assert!(*slow.read() <= 1);
                writes += 2;
            }
            writes
        });
        let start = Instant::now();
        atomically(|tx| {
            tx.update(slow, |n| n + 1)?;
            while start.elapsed() < Duration::from_millis(200) {
                tx.read(slow)?;
            }
            Ok(())
        });
        done.store(true, Relaxed);
        writer.join().unwrap()
    });
    assert!(writes > 0);
    assert_eq!((slow.get(), fast.get()), (1, writes));
}

#[test]
fn limits_are_kept() {
    let cell = VersionedCell::new(0);
    let mut attempts = 0;
    let result = Transaction::builder().max_attempts(20).run(|tx| {
        attempts += 1;
        let other = VersionedCell::new(0);
        drop(other);
        let n = *tx.read(&cell)?;
        if attempts <= 3 {
            write_elsewhere(&cell, n + 1);
        }
        tx.set(&cell, -1)
    });
    // With an age it owns what it lost at, and the closure no longer gets in its own way.
    assert_eq!((result, attempts, cell.get()), (Ok(()), 4, -1));
    let once = Transaction::builder().max_attempts(1).run(|tx| {
        tx.read(&cell)?;
        write_elsewhere(&cell, 0);
        tx.set(&cell, 1)
    });
    assert!(
        matches!(once, Err(TxError::Contended { attempts: 1, .. })),
        "{once:?}"
    );
}
