//! What a transaction does that waits, or that runs inside another one.
#![cfg(not(any(latchwork_loom, latchwork_shuttle)))]

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::thread;

use crate::common::watchdog;
use latchwork::txn::TxError;
use latchwork::{Abort, Transaction, VersionedCell, atomically};

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
