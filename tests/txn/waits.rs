//! What a transaction does that waits, or that runs inside another one.
#![cfg(not(any(latchwork_loom, latchwork_shuttle)))]

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use latchwork::cell::UpdateError;
use latchwork::txn::TxError;
use latchwork::{Abort, RetryPolicy, Transaction, VersionedCell, atomically, snapshot};

use crate::common::{watchdog, write_elsewhere};

#[test]
fn a_nested_transaction_stays_committed_if_the_outer_one_aborts() {
    let (outer, inner) = (VersionedCell::new(0), VersionedCell::new(0));
    let result = Transaction::builder().try_run(|tx| {
        tx.set(&outer, 1)?;
        atomically(|tx| tx.update(&inner, |n| n + 1));
        tx.abort::<(), _>("no")
    });
    assert!(matches!(result, Err(TxError::Aborted("no"))), "{result:?}");
    assert_eq!((outer.get(), inner.get()), (0, 1));
    // An attempt that retries has committed it also, once for each run.
    let waits = Transaction::builder().timeout(std::time::Duration::ZERO);
    let result = waits.run(|tx| {
        tx.read(&outer)?;
        atomically(|tx| tx.update(&inner, |n| n + 1));
        tx.retry::<()>()
    });
    assert!(matches!(result, Err(TxError::TimedOut)), "{result:?}");
    assert_eq!(inner.get(), 2);
}

/// Other code may unpark a thread that waits. The closure runs again, and the wait continues.
#[test]
fn a_retry_runs_again_after_any_unpark_and_waits_on() {
    let _watchdog = watchdog("a_retry_runs_again_after_any_unpark_and_waits_on");
    let (cell, runs, ends) = (
        VersionedCell::new(0),
        AtomicU32::new(0),
        AtomicBool::new(false),
    );
    thread::scope(|s| {
        let waiter = s.spawn(|| {
            let value = atomically(|tx| {
                runs.fetch_add(1, Relaxed);
                let value = *tx.read(&cell)?;
                tx.require(value > 0)?;
                Ok::<_, Abort>(value)
            });
            ends.store(true, Relaxed);
            value
        });
        for run in 1..10 {
            while runs.load(Relaxed) < run {
                waiter.thread().unpark();
                thread::yield_now();
            }
        }
        assert!(!ends.load(Relaxed), "no write has ended the wait");
        cell.set(7);
        assert_eq!(waiter.join().unwrap(), 7);
    });
}

/// A closure waits for threads that work for it, in a scope and in rayon. What the chapter on `Tx`
/// promises of them: they may read what the transaction owns, and a write of it must be bounded,
/// because it would wait for the closure. The closure does not wait for the bound of another write.
#[test]
fn other_threads_inside_an_escalated_closure_read_and_do_not_write_its_cells() {
    const LOSSES: u32 = 3;
    let _watchdog =
        watchdog("other_threads_inside_an_escalated_closure_read_and_do_not_write_its_cells");
    let (owned, free) = (VersionedCell::new(1), VersionedCell::new(1));
    let bound = RetryPolicy::attempts(1).or_timeout(Duration::from_millis(50));
    // The two halves of a join may meet at `free`.
    let patient = RetryPolicy::timeout(Duration::from_secs(10));
    let write = |cell: &VersionedCell<u32>, policy| cell.try_update(policy, |n| Ok::<_, ()>(n + 1));
    let transfer = Transaction::builder().timeout(Duration::from_millis(50));
    let mut losses = 0;
    let seen = atomically(|tx| {
        let before = *tx.read(&owned)?;
        if losses < LOSSES {
            losses += 1;
            write_elsewhere(&owned, before);
            // The attempt is lost here.
            tx.read(&free)?;
        }
        tx.set(&owned, before + 10)?;
        let work = || {
            assert_eq!(owned.get(), before);
            assert_eq!(snapshot(|s| *s.read(&owned)), before);
            let error = write(&owned, &bound).unwrap_err();
            assert!(matches!(
                error,
                UpdateError::Contended | UpdateError::TimedOut
            ));
            let nested = transfer.run(|tx| tx.update(&owned, |n| n + 1));
            assert_eq!(nested, Err(TxError::TimedOut));
            write(&free, &patient).is_ok()
        };
        let scoped = thread::scope(|s| s.spawn(work).join().unwrap());
        let (one, other) = rayon::join(work, work);
        Ok([scoped, one, other])
    });
    assert_eq!((seen, losses), ([true; 3], LOSSES));
    // The transaction has written what it owned, once, and the threads what it did not.
    assert_eq!((owned.get(), free.get()), (11, 4));
}
