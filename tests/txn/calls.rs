//! Transactions, call by call, and that one that keeps losing wins.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{watchdog, write_elsewhere};
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
        let n = *tx.read(&a)?;
        write_elsewhere(&a, n + 1);
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
        "`retry` would block indefinitely: the closure has read no cell that another thread can write"
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
                        write_elsewhere(lost_at, 0);
                        tx.set(lost_at, 1)
                    }
                    None => {
                        act(&cell);
                        Ok(())
                    }
                }
            });
        }));
        let panic = panics.expect_err("it owns the cell");
        let message = match panic.downcast::<String>() {
            Ok(message) => *message,
            Err(panic) => (*panic.downcast::<&str>().unwrap()).to_owned(),
        };
        assert!(
            message.contains("owned by a running transaction of this thread")
                || message.contains("owned by an outer transaction of this thread")
                || cfg!(debug_assertions) && message.contains("direct access to a `VersionedCell<"),
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
                let mut rng = crate::common::Rng::new(seed);
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

#[test]
fn a_transaction_waits_on_any_runtime() {
    let _dog = watchdog("a_transaction_waits_on_any_runtime");
    let (ping, pong) = (
        Arc::new(VersionedCell::new(0)),
        Arc::new(VersionedCell::new(0)),
    );
    const ROUNDS: u32 = 500;
    /// Waits for each number in one cell and answers it in the other.
    async fn answer(from: Arc<VersionedCell<u32>>, to: Arc<VersionedCell<u32>>) {
        for round in 1..=ROUNDS {
            let answered = Transaction::builder().run_async(|tx| {
                if *tx.read(&*from)? < round {
                    return tx.retry();
                }
                tx.set(&*to, round)
            });
            assert_eq!(answered.await, Ok(()));
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    let answers = runtime.spawn(answer(ping.clone(), pong.clone()));
    smol::block_on(async {
        for round in 1..=ROUNDS {
            ping.set(round);
            let mut seen = pong.version();
            while pong.get() < round {
                seen = pong.changed(seen).await;
            }
        }
    });
    runtime.block_on(answers).unwrap();
    // One that is dropped while it waits leaves nothing that a write would stumble over.
    let mut waiting = Box::pin(Transaction::builder().run_async(|tx| {
        tx.read(&*ping)?;
        tx.retry::<()>()
    }));
    assert!(pollster::block_on(async { poll_once(waiting.as_mut()).await }).is_none());
    drop(waiting);
    assert_eq!(ping.set(0).get(), u64::from(ROUNDS) + 1);
}

/// Polls a future once.
async fn poll_once<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
    std::future::poll_fn(|context| {
        Poll::Ready(match Pin::new(&mut future).poll(context) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    })
    .await
}

#[test]
fn deadlines_end_transactions() {
    let _dog = watchdog("deadlines_end_transactions");
    let cell = VersionedCell::new(0);
    let past = Transaction::builder().deadline(Instant::now() - Duration::from_secs(1));
    // The first attempt is made, and may succeed.
    assert_eq!(past.run(|tx| tx.update(&cell, |n| n + 1)), Ok(()));
    let lost = past.run(|tx| {
        let n = *tx.read(&cell)?;
        write_elsewhere(&cell, n + 1);
        tx.set(&cell, 100)
    });
    assert_eq!(lost, Err(TxError::TimedOut));
    let soon = Transaction::builder().timeout(Duration::from_millis(2));
    let slept = soon.run(|tx| {
        tx.read(&cell)?;
        tx.retry::<()>()
    });
    assert_eq!((slept, cell.get()), (Err(TxError::TimedOut), 2));
    assert!(catch_unwind(|| Transaction::builder().max_attempts(0)).is_err());
}

#[test]
fn labels_count_what_became_of_their_transactions() {
    let cell = VersionedCell::new(0);
    let add = Transaction::builder().label("labels_count");
    let mut attempts = 0;
    for _ in 0..3 {
        add.run(|tx| {
            tx.read(&cell)?;
            attempts += 1;
            if attempts == 1 {
                write_elsewhere(&cell, 7);
            }
            tx.update(&cell, |n| n + 1)
        })
        .unwrap();
    }
    let stats = latchwork::stats();
    let label = stats
        .labels
        .iter()
        .find(|l| l.label == "labels_count")
        .unwrap();
    assert_eq!(
        (label.commits, label.aborts.total(), cell.get()),
        (3, 1, 10)
    );
    assert!(stats.aborts.total() >= 1);
}

/// A cell that is part of what the transaction has read is good for as long as the attempt.
#[test]
fn cells_in_cells() {
    let outer = VersionedCell::new(vec![
        Arc::new(VersionedCell::new(1)),
        Arc::new(VersionedCell::new(2)),
    ]);
    let stop = AtomicBool::new(false);
    thread::scope(|s| {
        s.spawn(|| {
            while !stop.load(Relaxed) {
                // Not one after the other: a transaction may commit in between.
                atomically(|tx| {
                    let mut copies = Vec::new();
                    for cell in tx.read(&outer)? {
                        copies.push(Arc::new(VersionedCell::new(*tx.read(&**cell)?)));
                    }
                    tx.set(&outer, copies)
                });
            }
        });
        for _ in 0..2_000 {
            let sum = atomically(|tx| {
                let cells = tx.read(&outer)?;
                let (a, b) = (*tx.read(&*cells[0])?, *tx.read(&*cells[1])?);
                tx.set(&*cells[0], b)?;
                tx.set(&*cells[1], a)?;
                Ok(a + b)
            });
            assert_eq!(sum, 3);
        }
        stop.store(true, Relaxed);
    });
}

#[test]
fn what_there_is_of_a_transaction_says_what_it_is() {
    let cells = [1, 2].map(VersionedCell::new);
    atomically(|tx| {
        tx.read(&cells[0])?;
        tx.set(&cells[1], 0)?;
        assert_eq!(format!("{tx:?}"), "Tx { cells: 2, .. }");
        Ok(())
    });
    assert_eq!(snapshot(|s| format!("{s:?}")), "View { .. }");
    let transaction = Transaction::builder().label("named");
    let mut future = transaction.run_async(|tx| {
        tx.read(&cells[0])?;
        tx.retry::<()>()
    });
    assert!(format!("{future:?}").contains("is_waiting: false"));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut future).poll(&mut cx).is_pending());
    let text = format!("{future:?}");
    assert!(text.contains("named") && text.contains("is_waiting: true"));
}
