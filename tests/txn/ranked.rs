//! A transaction that has lost often enough owns what it comes to: what its cells are then, and
//! after it.
//!
//! A closure that writes a cell past its own transaction makes the attempt lose, as often as the
//! test wants; most tests need but one thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::mpsc::channel;
use std::task::Poll;
use std::thread;

use crate::common::tasks::{Bell, poll_with};
use crate::common::{watchdog, write_elsewhere};
use latchwork::{
    Abort, Transaction, Tx, TxError, VersionedCell, atomically, flush, snapshot, txn::TxAbort,
};

/// After so many losses a transaction owns the cells that it lost at.
const OWNS_BEATEN: usize = 3;
/// After so many it owns each that it comes to.
const OWNS_ALL: usize = 8;

type Cells = [VersionedCell<u64>; 4];

fn cells() -> Cells {
    [10, 20, 30, 40].map(VersionedCell::new)
}

/// Runs `f` in an attempt after so many that were lost at the first cell, each of which has written
/// it once.
fn after_losses<'env, R, E>(
    losses: usize,
    cells: &'env Cells,
    mut f: impl for<'t> FnMut(&mut Tx<'t, 'env>) -> Result<R, TxAbort<E>>,
) -> Result<R, TxError<E>> {
    let mut lost = 0;
    Transaction::builder().try_run(|tx| {
        if lost == losses {
            return f(tx);
        }
        lost += 1;
        let n = *tx.read(&cells[0])?;
        write_elsewhere(&cells[0], n);
        tx.read(&cells[1])?;
        unreachable!("what was read has been written since");
    })
}

/// What anybody can do with a cell that nobody owns.
fn assert_is_free(cell: &VersionedCell<u64>, value: u64, version: u64) {
    flush();
    assert_eq!((cell.get(), cell.version().get()), (value, version));
    assert_eq!(snapshot(|s| *s.read(cell)), value);
    assert_eq!(atomically(|tx| Ok(*tx.read(cell)?)), value);
    cell.update(|n| n + 1);
    atomically(|tx| tx.update(cell, |n| n + 1));
    assert_eq!((cell.get(), cell.version().get()), (value + 2, version + 2));
}

/// Whether the transaction around owns the cell: a write past it would wait for itself. What is not
/// owned is written.
fn is_owned(cell: &VersionedCell<u64>) -> bool {
    let write = || latchwork::outside_of_closures(|| cell.update(|n| *n));
    catch_unwind(AssertUnwindSafe(write)).is_err()
}

#[test]
fn what_is_owned_and_only_read_is_free_after_the_commit() {
    let _dog = watchdog("what_is_owned_and_only_read_is_free_after_the_commit");
    let cells = cells();
    let read = after_losses::<_, ()>(OWNS_BEATEN, &cells, |tx| {
        let n = *tx.read(&cells[0])?;
        assert!(is_owned(&cells[0]));
        // Read twice, it is claimed once.
        assert_eq!(*tx.read(&cells[0])?, n);
        tx.set(&cells[1], n)?;
        Ok(n)
    });
    assert_eq!(read, Ok(10));
    assert_is_free(&cells[0], 10, OWNS_BEATEN as u64);
    assert_is_free(&cells[1], 10, 1);
}

#[test]
fn what_is_owned_is_free_after_a_transaction_that_only_reads() {
    let _dog = watchdog("what_is_owned_is_free_after_a_transaction_that_only_reads");
    let cells = cells();
    let read = after_losses::<_, ()>(OWNS_BEATEN, &cells, |tx| Ok(*tx.read(&cells[0])?));
    assert_eq!(read, Ok(10));
    assert_is_free(&cells[0], 10, OWNS_BEATEN as u64);
}

#[test]
fn what_is_owned_and_written_has_one_write_more() {
    let _dog = watchdog("what_is_owned_and_written_has_one_write_more");
    let cells = cells();
    let done = after_losses::<_, ()>(OWNS_BEATEN, &cells, |tx| {
        tx.update(&cells[0], |n| n + 1)?;
        Ok(tx.update(&cells[1], |n| n + 1)?)
    });
    assert_eq!(done, Ok(()));
    assert_is_free(&cells[0], 11, OWNS_BEATEN as u64 + 1);
    assert_is_free(&cells[1], 21, 1);
}

/// One that is written blind is owned too, and from the call on.
#[test]
fn what_is_written_unread_is_owned() {
    let _dog = watchdog("what_is_written_unread_is_owned");
    let cells = cells();
    let done = after_losses::<_, ()>(OWNS_BEATEN, &cells, |tx| {
        tx.set(&cells[0], 1)?;
        tx.set(&cells[1], 2)?;
        assert!(is_owned(&cells[0]), "it has lost there");
        assert!(!is_owned(&cells[1]), "it has not lost there");
        assert_eq!(*tx.read(&cells[0])?, 1);
        Ok(())
    });
    assert_eq!(done, Ok(()));
    assert_is_free(&cells[0], 1, OWNS_BEATEN as u64 + 1);
    assert_is_free(&cells[1], 2, 2);
}

/// Each loss at another cell, so that it owns none of those at which it is to lose.
#[test]
fn who_goes_on_losing_owns_all_that_it_comes_to() {
    let _dog = watchdog("who_goes_on_losing_owns_all_that_it_comes_to");
    for losses in [OWNS_BEATEN, OWNS_ALL - 1, OWNS_ALL] {
        let fresh = VersionedCell::new(0);
        let lost_at: Vec<_> = (0..OWNS_ALL).map(|_| VersionedCell::new(0)).collect();
        let mut lost = 0;
        atomically(|tx| {
            if lost < losses {
                tx.read(&lost_at[lost])?;
                write_elsewhere(&lost_at[lost], 1);
                lost += 1;
                tx.read(&fresh)?;
            }
            tx.read(&lost_at[losses - 1])?;
            assert!(is_owned(&lost_at[losses - 1]));
            assert!(!is_owned(&lost_at[0]), "it has not come to it");
            tx.read(&fresh)?;
            assert_eq!(is_owned(&fresh), losses >= OWNS_ALL, "after {losses}");
            Ok(())
        });
    }
}

#[test]
fn what_is_owned_is_as_it_was_after_an_error() {
    let _dog = watchdog("what_is_owned_is_as_it_was_after_an_error");
    let cells = cells();
    let result = after_losses(OWNS_BEATEN, &cells, |tx| {
        tx.update(&cells[0], |n| n + 1)?;
        tx.set(&cells[1], 0)?;
        tx.abort::<(), _>("enough")
    });
    assert_eq!(result, Err(TxError::Aborted("enough")));
    assert_is_free(&cells[0], 10, OWNS_BEATEN as u64);
    assert_is_free(&cells[1], 20, 0);
}

#[test]
fn what_is_owned_is_as_it_was_after_a_panic() {
    let _dog = watchdog("what_is_owned_is_as_it_was_after_a_panic");
    let cells = cells();
    let panics = catch_unwind(AssertUnwindSafe(|| {
        after_losses::<(), ()>(OWNS_BEATEN, &cells, |tx| {
            tx.read(&cells[0])?;
            tx.set(&cells[1], 0)?;
            panic!("as planned")
        })
    }));
    assert!(panics.is_err());
    assert_is_free(&cells[0], 10, OWNS_BEATEN as u64);
    assert_is_free(&cells[1], 20, 0);
}

/// An attempt that owns a cell and then waits leaves it to those who are to change it.
#[test]
fn what_is_owned_is_free_while_its_transaction_waits() {
    let _dog = watchdog("what_is_owned_is_free_while_its_transaction_waits");
    let cells = cells();
    let mut lost = 0;
    let mut waits = pin!(Transaction::builder().run_async(|tx| {
        let n = *tx.read(&cells[0])?;
        if lost < OWNS_BEATEN {
            lost += 1;
            write_elsewhere(&cells[0], n);
            tx.read(&cells[1])?;
        }
        if n == 10 { tx.retry() } else { Ok(n) }
    }));
    let (bell, waker) = Bell::new();
    let mut polls = 0;
    // Each loss has it polled again.
    while bell.rings() >= polls {
        assert!(poll_with(&mut waits, &waker).is_pending());
        polls += 1;
    }
    assert_is_free(&cells[0], 10, OWNS_BEATEN as u64);
    assert_eq!(bell.rings(), polls, "woken once more, by the first write");
    assert_eq!(poll_with(&mut waits, &waker), Poll::Ready(Ok(12)));
}

/// What the first alternative has owned stays owned for the second, and goes with the commit.
#[test]
fn what_an_alternative_has_owned_is_free_after_the_other() {
    let _dog = watchdog("what_an_alternative_has_owned_is_free_after_the_other");
    let cells = cells();
    let done = after_losses::<_, ()>(OWNS_BEATEN, &cells, |tx| {
        Ok(tx.or_else::<_, Abort>(
            |tx| {
                tx.update(&cells[0], |n| n + 1)?;
                tx.retry()
            },
            |tx| {
                assert!(is_owned(&cells[0]));
                tx.update(&cells[1], |n| n + 1)
            },
        )?)
    });
    assert_eq!(done, Ok(()));
    assert_is_free(&cells[0], 10, OWNS_BEATEN as u64);
    assert_is_free(&cells[1], 21, 1);
}

/// Who looks at what a transaction owns, from inside of its closure or not, sees what was there
/// before.
#[test]
fn a_snapshot_beneath_an_owner_sees_what_was() {
    let _dog = watchdog("a_snapshot_beneath_an_owner_sees_what_was");
    let cells = cells();
    let done = after_losses::<_, ()>(OWNS_BEATEN, &cells, |tx| {
        tx.update(&cells[0], |n| n + 1)?;
        tx.update(&cells[1], |n| n + 1)?;
        for _ in 0..20 {
            let seen = snapshot(|s| (*s.read(&cells[0]), *s.read(&cells[1])));
            assert_eq!(seen, (10, 20));
            let direct = latchwork::outside_of_closures(|| cells[0].get());
            assert_eq!(direct, 10);
        }
        Ok(())
    });
    assert_eq!(done, Ok(()));
    let seen = snapshot(|s| (*s.read(&cells[0]), *s.read(&cells[1])));
    assert_eq!(seen, (11, 21));
}

/// Also one that owns cells is lost if what it has only read is written before it commits.
#[test]
fn what_is_read_and_not_owned_is_so_at_the_commit() {
    let _dog = watchdog("what_is_read_and_not_owned_is_so_at_the_commit");
    for losses in [0, OWNS_BEATEN] {
        let (cells, mut attempts) = (cells(), 0);
        let seen = after_losses::<_, ()>(losses, &cells, |tx| {
            attempts += 1;
            let seen = *tx.read(&cells[2])?;
            tx.read(&cells[0])?;
            tx.set(&cells[3], seen)?;
            if attempts == 1 {
                // After the last look that the closure has made.
                write_elsewhere(&cells[2], 31);
            }
            Ok(seen)
        });
        assert_eq!((seen, attempts), (Ok(31), 2), "after {losses} losses");
        assert_eq!((cells[3].get(), cells[3].version().get()), (31, 1));
    }
}

/// One that owns a cell, and whose owner an elder has aborted, sees nothing any more: the elder has
/// changed the cell.
#[test]
fn who_was_overtaken_sees_no_state_that_never_was() {
    let _dog = watchdog("who_was_overtaken_sees_no_state_that_never_was");
    let (of_elder, of_younger) = (cells(), cells());
    let [a, b] = [&of_younger[0], &of_younger[2]];
    b.set(10);
    let ((has_age, elder_waits), (owns, younger_waits)) = (channel(), channel());
    let (is_done, done) = channel();
    thread::scope(|s| {
        let of_elder = &of_elder;
        s.spawn(move || {
            let moved = after_losses::<_, ()>(OWNS_BEATEN, of_elder, |tx| {
                has_age.send(()).unwrap();
                younger_waits.recv().unwrap();
                tx.update(a, |n| n + 1)?;
                Ok(tx.update(b, |n| n + 1)?)
            });
            assert_eq!(moved, Ok(()));
            is_done.send(()).unwrap();
        });
        elder_waits.recv().unwrap();
        let mut attempts = 0;
        let seen = after_losses::<_, ()>(OWNS_BEATEN, &of_younger, |tx| {
            attempts += 1;
            let in_a = *tx.read(a)?;
            if attempts == 1 {
                owns.send(()).unwrap();
                done.recv().unwrap();
            }
            let in_b = *tx.read(b)?;
            assert_eq!(in_a, in_b);
            Ok(in_b)
        });
        assert_eq!((seen, attempts), (Ok(11), 2));
    });
}
