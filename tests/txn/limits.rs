//! Bounds of transactions and updates: deadlines, attempts, futures that must not block, and
//! `retry` that must not sleep indefinitely.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use crate::common::tasks::{Bell, poll_with};
use crate::common::{watchdog, write_elsewhere};
use latchwork::{
    Abort, RetryPolicy, Transaction, Tx, TxError, VersionedCell, atomically, cell::UpdateError,
    txn::TxAbort,
};

/// After so many losses a transaction owns each cell that it encounters.
const OWNS_ALL: usize = 8;

type Cell = VersionedCell<u64>;

/// Loses `losses` attempts at cells of its own, then runs `f`.
struct Loser {
    lost_at: Vec<Cell>,
    spoiled: Cell,
}

impl Loser {
    fn new() -> Self {
        let cell = || VersionedCell::new(0);
        let lost_at = (0..OWNS_ALL).map(|_| cell()).collect();
        Loser {
            lost_at,
            spoiled: cell(),
        }
    }

    fn lose<'t>(&'t self, tx: &mut Tx<'t, '_>, attempt: usize) -> Result<(), Abort> {
        if let Some(cell) = self.lost_at.get(attempt) {
            tx.read(cell)?;
            write_elsewhere(cell, 1);
            tx.read(&self.spoiled)?;
        }
        Ok(())
    }
}

/// Runs `f` while the closure of another thread's transaction waits, which owns `cell` and will add
/// 1 to it. `f` may let that transaction commit with the sender.
fn beside_an_owner<R>(cell: &Cell, f: impl FnOnce(&Sender<()>) -> R) -> R {
    let (owns, owned) = channel();
    let (release, released) = channel();
    let owner = move |released: Receiver<()>| {
        let (loser, mut attempt) = (Loser::new(), 0);
        atomically(|tx| {
            attempt += 1;
            loser.lose(tx, attempt - 1)?;
            tx.update(cell, |n| n + 1)?;
            owns.send(()).unwrap();
            // An error: the test is over.
            let _ = released.recv();
            Ok(())
        });
    };
    thread::scope(|s| {
        s.spawn(|| owner(released));
        owned.recv().unwrap();
        let result = f(&release);
        drop(release);
        result
    })
}

const SHORT: Duration = Duration::from_millis(20);

/// What a closure does with one cell.
type Access = for<'t> fn(&mut Tx<'t, '_>, &'t Cell) -> Result<(), Abort>;

/// Each way in which a transaction encounters the owner of a cell. `attempt` counts from 0.
type Encounter = for<'t> fn(&mut Tx<'t, '_>, &'t [Cell; 2]) -> Result<(), Abort>;

fn encounters() -> [(&'static str, Encounter); 3] {
    [
        ("a read that is written", |tx, [cell, _]| {
            tx.update(cell, |n| n + 10)
        }),
        ("a blind write", |tx, [cell, _]| tx.set(cell, 10)),
        ("a read that is validated", |tx, [cell, other]| {
            let n = *tx.read(cell)?;
            tx.set(other, n)
        }),
    ]
}

fn cells() -> [Cell; 2] {
    [0, 0].map(VersionedCell::new)
}

#[test]
fn a_timeout_starts_when_the_transaction_runs() {
    let _dog = watchdog("a_timeout_starts_when_the_transaction_runs");
    let timeout = Duration::from_millis(1000);
    let transaction = Transaction::builder().timeout(timeout);
    let policy = RetryPolicy::timeout(timeout);
    let cell = VersionedCell::new(0);
    let mut lost = 0;
    // Loses once, so that the deadline is checked.
    let mut add = |tx: &mut Tx<'_, '_>, of: &Cell| {
        let _ = tx;
        lost += 1;
        if lost % 2 == 1 {
            atomically(|tx| tx.update(of, |n| n + 1));
        }
        Ok::<(), Abort>(())
    };
    let mut polled = false;
    let mut future = pin!(transaction.run_async(|tx| {
        let n = *tx.read(&cell)?;
        if !polled {
            polled = true;
            write_elsewhere(&cell, n + 1);
        }
        tx.set(&cell, n + 1)
    }));
    thread::sleep(timeout + Duration::from_millis(50));
    assert_eq!(poll_with(&mut future, &Bell::new().1), Poll::Ready(Ok(())));
    let run = transaction.run(|tx| {
        let n = *tx.read(&cell)?;
        add(tx, &cell)?;
        tx.set(&cell, n + 1)
    });
    assert_eq!(run, Ok(()));
    let mut is_lost = false;
    let updated = cell.try_update(&policy, |n| {
        if !std::mem::replace(&mut is_lost, true) {
            cell.set(*n + 1);
        }
        Ok::<_, ()>(n + 1)
    });
    assert!(updated.is_ok());
    assert_eq!(cell.get(), 6);
}

#[test]
fn a_deadline_bounds_the_wait_for_an_owner() {
    let _dog = watchdog("a_deadline_bounds_the_wait_for_an_owner");
    for (name, encounter) in encounters() {
        let cells = cells();
        let ended = beside_an_owner(&cells[0], |_| {
            let short = Transaction::builder().timeout(SHORT);
            short.run(|tx| encounter(tx, &cells))
        });
        assert_eq!(ended, Err(TxError::TimedOut), "{name}");
        assert_eq!((cells[0].get(), cells[1].get()), (1, 0), "{name}");
    }
}

/// It has an age, and waits because the owner is older.
#[test]
fn a_deadline_bounds_the_wait_of_an_escalated_transaction() {
    let _dog = watchdog("a_deadline_bounds_the_wait_of_an_escalated_transaction");
    let mut all = encounters().to_vec();
    all.push(("a read", |tx, [cell, _]| tx.read(cell).map(drop)));
    for (name, encounter) in all {
        let (cells, loser) = (cells(), Loser::new());
        let mut attempts = 0;
        let ended = beside_an_owner(&cells[0], |_| {
            let short = Transaction::builder().timeout(SHORT);
            short.run(|tx| {
                attempts += 1;
                loser.lose(tx, attempts - 1)?;
                encounter(tx, &cells)
            })
        });
        assert_eq!(ended, Err(TxError::TimedOut), "{name}");
        assert_eq!((cells[0].get(), cells[1].get()), (1, 0), "{name}");
    }
}

#[test]
fn an_attempt_that_encounters_an_owner_counts_where_attempts_are_limited() {
    let _dog = watchdog("an_attempt_that_encounters_an_owner_counts_where_attempts_are_limited");
    for (name, encounter) in encounters() {
        for max in [1, 2, 5] {
            let cells = cells();
            let ended = beside_an_owner(&cells[0], |_| {
                let limited = Transaction::builder().max_attempts(max);
                limited.run(|tx| encounter(tx, &cells))
            });
            let Err(TxError::Contended { attempts, reasons }) = ended else {
                panic!("{name}: {ended:?}")
            };
            let counts = (attempts, reasons.total(), reasons.overtaken);
            assert_eq!(counts, (max, u64::from(max), u64::from(max)), "{name}");
        }
    }
}

/// One that is limited in both ways uses its time.
#[test]
fn a_limited_transaction_with_a_deadline_waits_for_an_owner() {
    let _dog = watchdog("a_limited_transaction_with_a_deadline_waits_for_an_owner");
    let cells = cells();
    let added = beside_an_owner(&cells[0], |release| {
        let limited = Transaction::builder().max_attempts(1);
        let mut waits = Some(release);
        limited.timeout(Duration::from_secs(3600)).run(|tx| {
            tx.set(&cells[0], 10)?;
            // From now on the owner may commit, while this one puts its write.
            waits.take().map(|release| release.send(()));
            Ok(())
        })
    });
    assert_eq!((added, cells[0].get()), (Ok(()), 10));
}

#[test]
fn a_task_that_encounters_an_owner_does_not_block_and_is_woken() {
    let _dog = watchdog("a_task_that_encounters_an_owner_does_not_block_and_is_woken");
    for (name, encounter) in encounters() {
        let cells = cells();
        let (bell, waker) = Bell::new();
        let mut future = pin!(Transaction::builder().run_async(|tx| encounter(tx, &cells)));
        beside_an_owner(&cells[0], |_| {
            assert!(poll_with(&mut future, &waker).is_pending(), "{name}");
            // Polled again without a reason: it waits with the new waker.
            assert!(poll_with(&mut future, &waker).is_pending(), "{name}");
            assert_eq!(bell.rings(), 0, "{name}");
        });
        assert_eq!(bell.rings(), 1, "{name}");
        assert_eq!(poll_with(&mut future, &waker), Poll::Ready(Ok(())));
    }
}

/// The waker that was given last is the one that is used, and a future may be polled by another
/// thread each time.
#[test]
fn a_task_that_waits_for_an_owner_may_move() {
    let _dog = watchdog("a_task_that_waits_for_an_owner_may_move");
    let cells = cells();
    let (before, after) = (Bell::new(), Bell::new());
    let mut future = Box::pin(Transaction::builder().run_async(|tx| tx.set(&cells[0], 10)));
    beside_an_owner(&cells[0], |_| {
        assert!(poll_with(&mut future, &before.1).is_pending());
        thread::scope(|s| {
            s.spawn(|| assert!(poll_with(&mut future, &after.1).is_pending()));
        });
    });
    assert_eq!((before.0.rings(), after.0.rings()), (0, 1));
    assert_eq!(poll_with(&mut future, &after.1), Poll::Ready(Ok(())));
}

#[test]
fn a_task_that_waits_for_an_owner_and_is_dropped_is_not_woken() {
    let _dog = watchdog("a_task_that_waits_for_an_owner_and_is_dropped_is_not_woken");
    let cells = cells();
    let (bell, waker) = Bell::new();
    beside_an_owner(&cells[0], |_| {
        let mut future = pin!(Transaction::builder().run_async(|tx| tx.set(&cells[0], 10)));
        assert!(poll_with(&mut future, &waker).is_pending());
    });
    assert_eq!((bell.rings(), cells[0].get()), (0, 1));
    assert_eq!(Arc::strong_count(&bell), 2, "its waker is not kept");
}

#[test]
fn a_task_with_a_deadline_or_a_limit_ends_beside_an_owner() {
    let _dog = watchdog("a_task_with_a_deadline_or_a_limit_ends_beside_an_owner");
    let cells = cells();
    beside_an_owner(&cells[0], |_| {
        let past = Transaction::builder().timeout(Duration::ZERO);
        let mut future = pin!(past.run_async(|tx| tx.set(&cells[0], 10)));
        let ended = poll_with(&mut future, &Bell::new().1);
        assert_eq!(ended, Poll::Ready(Err(TxError::TimedOut)));

        let limited = Transaction::builder().max_attempts(3);
        let mut future = pin!(limited.run_async(|tx| tx.set(&cells[0], 10)));
        let ended = poll_with(&mut future, &Bell::new().1);
        let Poll::Ready(Err(TxError::Contended { attempts: 3, .. })) = ended else {
            panic!("{ended:?}")
        };
    });
}

#[test]
fn an_update_with_a_limit_ends_beside_an_owner() {
    let _dog = watchdog("an_update_with_a_limit_ends_beside_an_owner");
    let cells = cells();
    beside_an_owner(&cells[0], |_| {
        let policies = [
            (RetryPolicy::attempts(3), UpdateError::Contended),
            (RetryPolicy::timeout(SHORT), UpdateError::TimedOut),
        ];
        for (policy, error) in policies {
            let updated = cells[0].try_update(&policy, |n| Ok::<_, ()>(n + 1));
            assert_eq!(updated, Err(error));
        }
    });
}

#[test]
fn a_future_that_was_ready_does_not_run_again() {
    let cell = VersionedCell::new(0);
    let (_, waker) = Bell::new();
    let mut commits = pin!(Transaction::builder().run_async(|tx| tx.update(&cell, |n| n + 1)));
    let mut fails = pin!(Transaction::builder().run_async(|tx| tx.retry::<()>()));
    assert!(poll_with(&mut commits, &waker).is_ready());
    assert!(poll_with(&mut fails, &waker).is_ready());
    for polled_again in [
        catch_unwind(AssertUnwindSafe(|| {
            poll_with(&mut commits, &waker).is_ready()
        })),
        catch_unwind(AssertUnwindSafe(|| {
            poll_with(&mut fails, &waker).is_ready()
        })),
    ] {
        let panic = polled_again.expect_err("it does not run again");
        assert_eq!(
            panic.downcast_ref::<String>().map(String::as_str),
            Some(
                "future of a transaction polled after it was ready, or after a poll that panicked; \
                 create a new future"
            )
        );
    }
    assert_eq!(cell.get(), 1);
}

#[test]
fn a_future_whose_closure_has_panicked_does_not_run_again() {
    let cell = VersionedCell::new(0);
    let (_, waker) = Bell::new();
    let mut runs = 0;
    let mut future = pin!(Transaction::builder().run_async(|tx| {
        runs += 1;
        tx.set(&cell, runs)?;
        assert!(runs > 1, "as planned");
        Ok(())
    }));
    for _ in 0..2 {
        let polled = catch_unwind(AssertUnwindSafe(|| poll_with(&mut future, &waker)));
        assert!(polled.is_err());
    }
    assert_eq!(cell.get(), 0);
}

/// Writes of an alternative that does not succeed.
mod alternatives {
    use super::*;

    #[derive(Debug, PartialEq)]
    enum Error {
        Attempt,
        Own,
    }

    impl From<Abort> for Error {
        fn from(_: Abort) -> Self {
            Error::Attempt
        }
    }

    #[test]
    fn an_alternative_that_ends_with_an_error_leaves_no_writes() {
        let _dog = watchdog("an_alternative_that_ends_with_an_error_leaves_no_writes");
        let cells = [0; 4].map(VersionedCell::new);
        atomically(|tx| {
            tx.set(&cells[0], 1)?;
            // The first alternative fails.
            let failed: Result<(), Error> = tx.or_else(
                |tx| {
                    tx.set(&cells[0], 2)?;
                    tx.set(&cells[1], 2)?;
                    Err(Error::Own)
                },
                |_| unreachable!("an error is not a retry"),
            );
            assert_eq!(failed, Err(Error::Own));
            // The second one does.
            let failed: Result<(), Error> = tx.or_else(
                |tx| Ok(tx.retry()?),
                |tx| {
                    tx.set(&cells[0], 3)?;
                    tx.set(&cells[2], 3)?;
                    Err(Error::Own)
                },
            );
            assert_eq!(failed, Err(Error::Own));
            assert_eq!((*tx.read(&cells[0])?, *tx.read(&cells[1])?), (1, 0));
            tx.update(&cells[3], |n| n + 1)
        });
        assert_eq!(cells.each_ref().map(VersionedCell::get), [1, 0, 0, 1]);
    }

    #[test]
    fn an_alternative_that_panics_leaves_no_writes() {
        let _dog = watchdog("an_alternative_that_panics_leaves_no_writes");
        let cells = [0; 3].map(VersionedCell::new);
        atomically(|tx| {
            tx.set(&cells[0], 1)?;
            for panics_in_second in [false, true] {
                let caught = catch_unwind(AssertUnwindSafe(|| {
                    tx.or_else::<(), Abort>(
                        |tx| {
                            tx.set(&cells[0], 2)?;
                            tx.set(&cells[1], 2)?;
                            assert!(panics_in_second, "as planned");
                            tx.retry()
                        },
                        |tx| {
                            tx.set(&cells[0], 3)?;
                            tx.set(&cells[2], 3)?;
                            panic!("as planned")
                        },
                    )
                }));
                assert!(caught.is_err());
                assert_eq!((*tx.read(&cells[0])?, *tx.read(&cells[1])?), (1, 0));
            }
            // The log counts alternatives: one inside another still undoes what it should.
            tx.or_else(
                |tx| {
                    tx.set(&cells[2], 4)?;
                    tx.retry()
                },
                |tx| tx.set(&cells[0], 5),
            )
        });
        assert_eq!(cells.each_ref().map(VersionedCell::get), [5, 0, 0]);
    }
}

/// `retry` that no write of another thread can end.
mod own_drafts {
    use super::*;

    struct Inner(Box<Cell>);

    fn inner(n: u64) -> Inner {
        Inner(Box::new(VersionedCell::new(n)))
    }

    /// Long enough to be a failure, where an error is expected.
    fn bounded() -> Transaction {
        Transaction::builder().timeout(Duration::from_secs(2))
    }

    #[test]
    fn a_retry_that_has_read_only_its_own_drafts_is_an_error() {
        let _dog = watchdog("a_retry_that_has_read_only_its_own_drafts_is_an_error");
        let outer = VersionedCell::new(inner(0));
        let reads: [Access; 3] = [
            |tx, cell| tx.read(cell).map(drop),
            |tx, cell| tx.version(cell).map(drop),
            |tx, cell| tx.check(cell, latchwork::cell::Version::FIRST).map(drop),
        ];
        for read in reads {
            let ended = bounded().run(|tx| {
                tx.set(&outer, inner(1))?;
                let draft = &*tx.read(&outer)?.0;
                read(tx, draft)?;
                tx.retry::<()>()
            });
            assert_eq!(ended, Err(TxError::RetryWithoutReads));
            let nested = bounded().run(|tx| {
                tx.or_else(
                    |tx| {
                        tx.set(&outer, inner(1))?;
                        let draft = &*tx.read(&outer)?.0;
                        read(tx, draft)?;
                        tx.retry::<()>()
                    },
                    |tx| tx.retry(),
                )
            });
            assert_eq!(nested, Err(TxError::RetryWithoutReads));
            let mut future = pin!(Transaction::builder().run_async(|tx| {
                tx.set(&outer, inner(1))?;
                let draft = &*tx.read(&outer)?.0;
                read(tx, draft)?;
                tx.retry::<()>()
            }));
            let polled = poll_with(&mut future, &Bell::new().1);
            assert_eq!(polled, Poll::Ready(Err(TxError::RetryWithoutReads)));
        }
    }

    /// The cell is dropped at another address than the one where it was read.
    #[test]
    fn a_draft_whose_destructor_moves_its_cell_is_recognised() {
        struct Moves(Option<Cell>);
        impl Drop for Moves {
            fn drop(&mut self) {
                let moved = Box::new(self.0.take());
                drop(moved);
            }
        }
        let _dog = watchdog("a_draft_whose_destructor_moves_its_cell_is_recognised");
        let outer = VersionedCell::new(Moves(None));
        let ended = bounded().run(|tx| {
            tx.set(&outer, Moves(Some(VersionedCell::new(1))))?;
            let draft = tx.read(&outer)?.0.as_ref().expect("it was made with one");
            tx.read(draft)?;
            tx.retry::<()>()
        });
        assert_eq!(ended, Err(TxError::RetryWithoutReads));
    }

    /// A transaction with an age claims a cell when it writes it. The claim is no read: a write of
    /// another thread changes nothing that the closure has based its decision on.
    #[test]
    fn a_retry_after_blind_writes_alone_is_an_error_at_any_age() {
        let _dog = watchdog("a_retry_after_blind_writes_alone_is_an_error_at_any_age");
        for losses in [0, OWNS_ALL] {
            let (loser, cell) = (Loser::new(), VersionedCell::new(0));
            let mut attempt = OWNS_ALL - losses;
            let ended = bounded().run(|tx| {
                attempt += 1;
                loser.lose(tx, attempt - 1)?;
                tx.set(&cell, 1)?;
                tx.read(&cell)?; // its own write
                tx.retry::<()>()
            });
            assert_eq!(ended, Err(TxError::RetryWithoutReads), "{losses}");
            assert_eq!((cell.get(), cell.set(2).get()), (0, 1), "no claim is left");
        }
    }

    /// The cell is read once the blind write is undone, or by a method that compares versions.
    #[test]
    fn a_read_after_a_blind_write_is_waited_for_at_any_age() {
        let _dog = watchdog("a_read_after_a_blind_write_is_waited_for_at_any_age");
        let reads: [Access; 3] = [
            |tx, cell| {
                tx.or_else(
                    |tx| tx.set(cell, 1).and_then(|()| tx.retry()),
                    |tx| tx.read(cell).map(drop),
                )
            },
            |tx, cell| tx.set(cell, 1).and_then(|()| tx.version(cell).map(drop)),
            |tx, cell| {
                tx.set(cell, 1)?;
                tx.check(cell, latchwork::cell::Version::FIRST).map(drop)
            },
        ];
        for losses in [0, OWNS_ALL] {
            for read in reads {
                let (loser, cell) = (Loser::new(), VersionedCell::new(0));
                let (bell, waker) = Bell::new();
                let mut attempt = OWNS_ALL - losses;
                let waits = std::cell::Cell::new(true);
                let mut future = pin!(Transaction::builder().run_async(|tx| {
                    attempt += 1;
                    loser.lose(tx, attempt - 1)?;
                    read(tx, &cell)?;
                    match waits.get() {
                        true => tx.retry(),
                        false => Ok(()),
                    }
                }));
                while bell.rings() == 0 {
                    assert!(poll_with(&mut future, &waker).is_pending());
                    if bell.rings() == 0 {
                        cell.set(5);
                    }
                }
                waits.set(false);
                assert_eq!(poll_with(&mut future, &waker), Poll::Ready(Ok(())));
            }
        }
    }

    /// An alternative that has claimed a cell for a blind write is undone, and the transaction
    /// commits another write.
    #[test]
    fn a_claim_of_an_alternative_that_is_undone_does_not_outlive_the_commit() {
        let _dog = watchdog("a_claim_of_an_alternative_that_is_undone_does_not_outlive_the_commit");
        for losses in [0, OWNS_ALL] {
            let (loser, undone, kept) =
                (Loser::new(), VersionedCell::new(0), VersionedCell::new(0));
            let mut attempt = OWNS_ALL - losses;
            atomically(|tx| {
                attempt += 1;
                loser.lose(tx, attempt - 1)?;
                tx.or_else(
                    |tx| tx.set(&undone, 1).and_then(|()| tx.retry()),
                    |tx| tx.set(&kept, 1),
                )
            });
            assert_eq!((undone.get(), kept.get()), (0, 1));
            assert_eq!(undone.set(2).get(), 1);
        }
    }

    /// One cell that others can write is enough to wait for.
    #[test]
    fn a_retry_that_has_read_a_draft_and_a_cell_waits_for_the_cell() {
        let _dog = watchdog("a_retry_that_has_read_a_draft_and_a_cell_waits_for_the_cell");
        let outer = VersionedCell::new(inner(0));
        let flag = VersionedCell::new(false);
        let (bell, waker) = Bell::new();
        let mut future = pin!(Transaction::builder().run_async(|tx| {
            tx.set(&outer, inner(1))?;
            let draft = &*tx.read(&outer)?.0;
            tx.read(draft)?;
            match *tx.read(&flag)? {
                true => Ok(()),
                false => tx.retry(),
            }
        }));
        assert!(poll_with(&mut future, &waker).is_pending());
        assert_eq!(bell.rings(), 0);
        flag.set(true);
        assert_eq!(bell.rings(), 1);
        assert_eq!(poll_with(&mut future, &waker), Poll::Ready(Ok(())));
    }
}

#[test]
fn errors_of_the_caller_end_a_limited_transaction() {
    let cell = VersionedCell::new(0_u64);
    let result = Transaction::builder().max_attempts(1).try_run(|tx| {
        tx.set(&cell, 1)?;
        Err::<(), _>(TxAbort::Transaction("no"))
    });
    assert_eq!((result, cell.get()), (Err(TxError::Aborted("no")), 0));
}

/// A transaction that is older aborts one whose closure blocks: a task that waits for that one may
/// go on.
#[test]
fn an_owner_that_is_aborted_inside_its_closure_wakes_those_who_wait_for_it() {
    let _dog = watchdog("an_owner_that_is_aborted_inside_its_closure_wakes_those_who_wait_for_it");
    let by_commit: Access = |tx, cell| tx.update(cell, |n| n + 100);
    // A write past the transaction goes by its age too.
    let by_write: Access = |_, cell| {
        cell.update(|n| n + 100);
        Ok(())
    };
    for abort in [by_commit, by_write] {
        let cell = VersionedCell::new(0);
        let loser = Loser::new();
        let (bell, waker) = Bell::new();
        let mut future = pin!(cell.update_async(|n| n + 10));
        let mut attempts = 0;
        atomically(|tx| {
            attempts += 1;
            loser.lose(tx, attempts - 1)?;
            // It has an age by now. The owner has a later one, and its closure goes on until the
            // end of this block.
            beside_an_owner(&cell, |_| {
                // By a thread that has no age.
                thread::scope(|s| {
                    s.spawn(|| assert!(poll_with(&mut future, &waker).is_pending()));
                });
                assert_eq!(bell.rings(), 0);
                atomically(|inner| abort(inner, &cell));
                assert_eq!(bell.rings(), 1, "the owner's closure goes on");
                assert!(poll_with(&mut future, &waker).is_ready());
                assert_eq!(cell.get(), 110);
            });
            Ok(())
        });
        assert_eq!(cell.get(), 111);
    }
}

#[test]
fn writes_of_tasks_wait_for_an_owner_without_a_thread() {
    let _dog = watchdog("writes_of_tasks_wait_for_an_owner_without_a_thread");
    let cells = [0; 3].map(VersionedCell::new);
    let bells = [Bell::new(), Bell::new(), Bell::new()];
    let seen = cells[1].version();
    let mut set = pin!(cells[0].set_async(10));
    let mut conditional = pin!(cells[1].compare_and_set_async(seen, 10));
    let mut update = pin!(cells[2].update_async(|n| n + 10));
    let mut swap = pin!(cells[0].swap_async(20));
    let swap_bell = Bell::new();
    beside_an_owner(&cells[0], |_| {
        beside_an_owner(&cells[1], |_| {
            beside_an_owner(&cells[2], |_| {
                for _ in 0..2 {
                    assert!(poll_with(&mut set, &bells[0].1).is_pending());
                    assert!(poll_with(&mut conditional, &bells[1].1).is_pending());
                    assert!(poll_with(&mut update, &bells[2].1).is_pending());
                    assert!(poll_with(&mut swap, &swap_bell.1).is_pending());
                }
                assert_eq!(bells.each_ref().map(|(bell, _)| bell.rings()), [0; 3]);
            });
        });
    });
    assert_eq!(bells.each_ref().map(|(bell, _)| bell.rings()), [1; 3]);
    assert!(poll_with(&mut set, &bells[0].1).is_ready());
    // The owner has written in between.
    let Poll::Ready(Err(conflict)) = poll_with(&mut conditional, &bells[1].1) else {
        panic!("it was to fail")
    };
    assert_eq!((conflict.expected, conflict.value), (seen, 10));
    assert!(poll_with(&mut update, &bells[2].1).is_ready());
    assert_eq!(cells.each_ref().map(VersionedCell::get), [10, 1, 11]);
    assert_eq!(swap_bell.0.rings(), 1);
    let Poll::Ready(previous) = poll_with(&mut swap, &swap_bell.1) else {
        panic!("the owner has ended")
    };
    assert_eq!((*previous, cells[0].get()), (10, 20));
    let again = catch_unwind(AssertUnwindSafe(|| {
        poll_with(&mut set, &bells[0].1).is_ready()
    }));
    assert!(again.is_err(), "it does not write again");
    assert_eq!(cells[0].get(), 20);
}

#[test]
fn a_write_of_a_task_that_is_dropped_is_not_made() {
    let _dog = watchdog("a_write_of_a_task_that_is_dropped_is_not_made");
    let cell = VersionedCell::new(0);
    let (bell, waker) = Bell::new();
    drop(cell.set_async(5));
    beside_an_owner(&cell, |_| {
        let mut set = pin!(cell.set_async(10));
        assert!(poll_with(&mut set, &waker).is_pending());
    });
    assert_eq!((bell.rings(), cell.get()), (0, 1));
    assert_eq!(Arc::strong_count(&bell), 2, "its waker is not kept");
}

/// What `retry_for` and its siblings do.
mod small_methods {
    use super::*;

    #[test]
    fn a_wait_for_a_limited_time_returns_when_the_time_is_over() {
        let _dog = watchdog("a_wait_for_a_limited_time_returns_when_the_time_is_over");
        let cell = VersionedCell::new(0);
        let mut attempts = 0;
        atomically(|tx| {
            attempts += 1;
            tx.read(&cell)?;
            tx.retry_for(SHORT)?;
            // The same start counts.
            tx.retry_for(SHORT)
        });
        assert!(attempts > 1);
        // A deadline that is earlier ends the transaction instead.
        let ended = Transaction::builder().timeout(SHORT).run(|tx| {
            tx.read(&cell)?;
            tx.retry_for(Duration::from_secs(3600))
        });
        assert_eq!(ended, Err(TxError::TimedOut));
        let without_reads = Transaction::builder().run(|tx| tx.retry_for(SHORT));
        assert_eq!(without_reads, Err(TxError::RetryWithoutReads));
        let mut waits = 0;
        let no_time = Transaction::builder().run(|tx| {
            waits += 1;
            tx.retry_for(Duration::ZERO)
        });
        assert_eq!((no_time, waits), (Ok(()), 1));
    }

    /// The shortest wait of all alternatives counts, and a change ends it as it ends any other.
    #[test]
    fn a_wait_for_a_limited_time_inside_an_alternative_ends() {
        let _dog = watchdog("a_wait_for_a_limited_time_inside_an_alternative_ends");
        let cells = [0, 0].map(VersionedCell::new);
        let ended = atomically(|tx| {
            tx.or_else(
                |tx| {
                    tx.read(&cells[0])?;
                    tx.retry_for(SHORT)?;
                    Ok("over")
                },
                |tx| match *tx.read(&cells[1])? {
                    0 => tx.retry(),
                    _ => Ok("changed"),
                },
            )
        });
        assert_eq!(ended, "over");
        let changed = thread::scope(|s| {
            let (began, begun) = channel();
            let cell = &cells[1];
            s.spawn(move || {
                begun.recv().unwrap();
                cell.set(1);
            });
            atomically(|tx| {
                let _ = began.send(());
                match *tx.read(&cells[1])? {
                    0 => tx.retry_for(Duration::MAX).map(|()| "over"),
                    _ => Ok("changed"),
                }
            })
        });
        assert_eq!(changed, "changed");
    }

    #[test]
    fn a_requirement_waits_until_it_holds() {
        let _dog = watchdog("a_requirement_waits_until_it_holds");
        let cell = VersionedCell::new(0);
        let (bell, waker) = Bell::new();
        let mut future = pin!(Transaction::builder().run_async(|tx| {
            let n = *tx.read(&cell)?;
            tx.require(n > 1)?;
            Ok(n)
        }));
        for n in 1..=2 {
            assert!(poll_with(&mut future, &waker).is_pending());
            cell.set(n);
            assert_eq!(bell.rings(), n);
        }
        assert_eq!(poll_with(&mut future, &waker), Poll::Ready(Ok(2)));
    }

    #[test]
    fn the_first_alternative_that_does_not_retry_counts() {
        let _dog = watchdog("the_first_alternative_that_does_not_retry_counts");
        let cells = [0, 1, 2].map(VersionedCell::new);
        let log = VersionedCell::new(Vec::new());
        let mut tried = Vec::new();
        let found = atomically(|tx| {
            tried.clear();
            tx.first_of(cells.iter().enumerate(), |tx, (i, cell)| {
                tried.push(i);
                tx.update(&log, |log| [&log[..], &[i]].concat())?;
                let n = *tx.read(cell)?;
                tx.require(n > 0)?;
                Ok(n)
            })
        });
        assert_eq!((found, tried), (1, vec![0, 1]));
        assert_eq!(log.get(), [1], "the write of the first one is undone");
        let none = Transaction::builder().run(|tx| {
            let none: [&Cell; 0] = [];
            tx.first_of(none, |tx, cell| tx.read(cell).map(drop))
        });
        assert_eq!(none, Err(TxError::RetryWithoutReads));
        // All of them wait, for any of the cells.
        let (bell, waker) = Bell::new();
        let mut future = pin!(Transaction::builder().run_async(|tx| {
            tx.first_of(&cells, |tx, cell| {
                let n = *tx.read(cell)?;
                tx.require(n > 2)?;
                Ok(n)
            })
        }));
        assert!(poll_with(&mut future, &waker).is_pending());
        cells[2].set(3);
        assert_eq!(bell.rings(), 1);
        assert_eq!(poll_with(&mut future, &waker), Poll::Ready(Ok(3)));
    }

    #[test]
    fn a_swap_returns_what_a_read_would() {
        let cell = VersionedCell::new(1);
        let seen = atomically(|tx| {
            let committed = *tx.swap(&cell, 2)?;
            let own = *tx.swap(&cell, 3)?;
            Ok((committed, own, *tx.read(&cell)?))
        });
        assert_eq!((seen, cell.get(), cell.version().get()), ((1, 2, 3), 3, 1));
    }

    #[test]
    fn a_validation_ends_an_attempt_that_cannot_commit() {
        let cell = VersionedCell::new(0);
        let mut attempts = 0;
        atomically(|tx| {
            attempts += 1;
            let n = *tx.read(&cell)?;
            tx.validate()?;
            if attempts == 1 {
                write_elsewhere(&cell, 1);
                assert!(tx.validate().is_err());
                // It stays so.
                assert!(tx.validate().is_err() && tx.require(true).is_err());
            }
            assert!(attempts == 1 || n == 1);
            tx.set(&cell, n + 1)
        });
        assert_eq!((attempts, cell.get()), (2, 2));
    }

    #[test]
    fn a_future_may_end_with_an_error_of_the_caller() {
        use latchwork::txn::OrAbort;
        let cell = VersionedCell::new(0_u64);
        let mut future = pin!(Transaction::builder().try_run_async(|tx| {
            tx.set(&cell, 1)?;
            Err::<(), _>("no").or_abort()
        }));
        let (_, waker) = Bell::new();
        let ended = poll_with(&mut future, &waker);
        assert_eq!(ended, Poll::Ready(Err(TxError::Aborted("no"))));
        assert_eq!(cell.get(), 0);
    }
}

/// Each ending of a transaction that has a label is counted once.
#[test]
fn every_ending_is_counted_by_label() {
    let _dog = watchdog("every_ending_is_counted_by_label");
    let cell = VersionedCell::new(0);
    let of = |label: &str| {
        let labels = latchwork::stats().labels;
        labels.into_iter().find(|stats| stats.label == label)
    };
    let labelled = |label| Transaction::builder().label(label);
    labelled("commits").run(|tx| tx.set(&cell, 1)).unwrap();
    let contended = labelled("loses").max_attempts(2).run(|tx| {
        let n = *tx.read(&cell)?;
        write_elsewhere(&cell, n);
        tx.set(&cell, n)
    });
    assert!(matches!(contended, Err(TxError::Contended { .. })));
    let late = labelled("times out").timeout(Duration::ZERO).run(|tx| {
        tx.read(&cell)?;
        tx.retry::<()>()
    });
    assert_eq!(late, Err(TxError::TimedOut));
    let aborted = labelled("aborts").try_run(|tx| tx.abort::<(), _>(()));
    assert_eq!(aborted, Err(TxError::Aborted(())));
    let unread = labelled("reads nothing").run(|tx| tx.retry::<()>());
    assert_eq!(unread, Err(TxError::RetryWithoutReads));
    let panics = catch_unwind(AssertUnwindSafe(|| {
        labelled("panics").run(|_| -> Result<(), Abort> { panic!("as planned") })
    }));
    assert!(panics.is_err());
    let (_, waker) = Bell::new();
    {
        let mut future = pin!(labelled("is dropped").run_async(|tx| {
            tx.read(&cell)?;
            tx.retry::<()>()
        }));
        assert!(poll_with(&mut future, &waker).is_pending());
        let _never_polled = labelled("is dropped").run_async(|tx| tx.set(&cell, 1));
        let mut ready = pin!(labelled("is dropped").run_async(|tx| tx.set(&cell, 1)));
        assert!(poll_with(&mut ready, &waker).is_ready());
    }
    let text = |label| of(label).expect("it was counted").to_string();
    let texts = [
        "commits: 1 committed; no attempts lost",
        "loses: 1 contended; 2 attempts lost (0 read conflicts, 2 write conflicts, overtaken 0 times)",
        "times out: 1 timed out; no attempts lost",
        "aborts: 1 aborted by the closure; no attempts lost",
        "reads nothing: 1 retried without reads; no attempts lost",
        "panics: 1 panicked; no attempts lost",
        "is dropped: 1 committed, 1 cancelled; no attempts lost",
    ];
    for expected in texts {
        let label = expected.split(':').next().unwrap();
        assert_eq!(text(label), expected);
        assert!(latchwork::stats().to_string().contains(expected));
    }
    assert_eq!(of("is dropped").map(|stats| stats.ended()), Some(2));
    assert_eq!(of("was never run"), None);
}
