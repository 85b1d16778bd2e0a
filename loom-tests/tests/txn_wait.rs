//! Tasks that wait for the end of a transaction that owns a cell, in every interleaving within a
//! bound.
//!
//! Under loom a transaction has an age after one loss, and then owns the cell that it lost at. A
//! task does not spin for such an owner: it registers at once.

mod common;

use std::sync::Arc;
use std::task::Poll;

use common::cells::World;
use common::task::{alarm, block_on, poll};
use latchwork::{Transaction, TxError, atomically, cell::Version, txn::TxAbort};
use latchwork_loom_tests::{Model, spawn};
use loom::sync::Notify;
use loom::thread::JoinHandle;

/// Starts a thread that owns `x` in its second attempt, in which it adds 1 or ends with an error.
/// Returns as soon as that attempt begins: after a loss a thread yields, and loom would run
/// everything else first.
fn spawn_owner(world: &Arc<World>, commits: bool) -> JoinHandle<()> {
    let begins = Arc::new(Notify::new());
    let begun = begins.clone();
    let owner = spawn(world, move |world| {
        let mut attempts = 0;
        let ended = Transaction::builder().try_run(|tx| {
            attempts += 1;
            if attempts == 2 {
                begins.notify();
            }
            let x = *tx.read(&world.x)?;
            if attempts == 1 {
                // Whatever it is by now: a wait of the other thread may end early.
                world.x.update(|x| *x);
                // The attempt is lost here.
                tx.read(&world.z)?;
            }
            tx.set(&world.x, x + 1)?;
            match commits {
                true => Ok(()),
                false => Err(TxAbort::Transaction(())),
            }
        });
        assert_eq!(ended.is_ok(), commits);
    });
    begun.wait();
    owner
}

#[test]
fn the_end_of_an_owner_wakes_a_task_that_writes() {
    for (commits, outcome) in [(true, "1100"), (false, "1000")] {
        Model::new("a task updates a cell that a transaction with an age owns")
            .rules("[X10]")
            .preemptions(Some(3))
            .outcomes(&[outcome])
            .check(move || {
                let world = World::new();
                let owner = spawn_owner(&world, commits);
                block_on(world.x.update_async(|x| x + 10));
                owner.join().unwrap();
                world.outcome([])
            });
    }
}

#[test]
fn the_end_of_an_owner_wakes_a_transaction_of_a_task() {
    for (commits, outcome) in [(true, "1100"), (false, "1000")] {
        Model::new("a task commits where a transaction with an age owns the cell")
            .rules("[X10]")
            .preemptions(Some(3))
            .outcomes(&[outcome])
            .check(move || {
                let world = World::new();
                let owner = spawn_owner(&world, commits);
                let added = block_on(
                    Transaction::builder().run_async(|tx| tx.update(&world.x, |x| x + 10)),
                );
                assert_eq!(added, Ok(()));
                owner.join().unwrap();
                world.outcome([])
            });
    }
}

/// One that is dropped leaves the queue, or was woken.
#[test]
fn a_task_that_waits_for_an_owner_is_dropped() {
    Model::new("a task gives up a write as the owner of the cell ends")
        .rules("[X10]")
        .preemptions(Some(3))
        .outcomes(&["n 100", "y 500", "y 600"])
        .check(|| {
            let world = World::new();
            let owner = spawn_owner(&world, true);
            {
                let (_, waker) = alarm();
                let mut future = world.x.set_async(5);
                let is_ready = poll(&mut future, &waker).is_ready();
                world.note(if is_ready { 'y' } else { 'n' });
            }
            world.outcome([owner])
        });
}

/// An attempt that may not wait is lost.
#[test]
fn an_owner_costs_a_limited_transaction_its_attempt() {
    Model::new("a transaction of one attempt where another owns the cell")
        .rules("[X6] [X10]")
        .preemptions(Some(3))
        .outcomes(&["lost 100", "ok 1100"])
        .check(|| {
            let world = World::new();
            let owner = spawn_owner(&world, true);
            let ended = Transaction::builder()
                .max_attempts(1)
                .run(|tx| tx.update(&world.x, |x| x + 10));
            match ended {
                Ok(()) => world.note("ok"),
                Err(TxError::Contended { attempts: 1, .. }) => world.note("lost"),
                Err(error) => panic!("{error}"),
            }
            world.outcome([owner])
        });
}

/// The inner cell is dropped with the draft: without a mark that it is gone the model would
/// deadlock.
#[test]
fn a_retry_for_a_draft_is_an_error() {
    Model::new("a transaction waits for a cell inside its own draft")
        .rules("[X8]")
        .outcomes(&["error"])
        .check(|| {
            let outer = latchwork::VersionedCell::new(latchwork::VersionedCell::new(0));
            let writer = Arc::new(latchwork::VersionedCell::new(0));
            let other = loom::thread::spawn({
                let writer = writer.clone();
                move || atomically(|tx| tx.update(&writer, |n| n + 1))
            });
            let ended = Transaction::builder().run(|tx| {
                tx.set(&outer, latchwork::VersionedCell::new(1))?;
                let draft = tx.read(&outer)?;
                tx.read(draft)?;
                tx.retry::<()>()
            });
            other.join().unwrap();
            match ended {
                Err(TxError::RetryWithoutReads) => "error".to_owned(),
                ended => format!("{ended:?}"),
            }
        });
}

/// The claim of a blind write is no read. If it were one, the model would deadlock after the write
/// of the other thread.
#[test]
fn a_retry_after_a_claim_for_a_write_is_an_error() {
    Model::new("a transaction with an age retries after a blind write")
        .rules("[X8]")
        .preemptions(Some(3))
        .outcomes(&["error 100"])
        .check(|| {
            let world = World::new();
            let other = spawn(&world, |world| {
                world.x.update(|x| x + 1);
            });
            let mut attempts = 0;
            let ended = Transaction::builder().run(|tx| {
                attempts += 1;
                if attempts == 1 {
                    tx.read(&world.x)?;
                    world.x.update(|x| *x);
                    // The attempt is lost here, at `x`.
                    tx.read(&world.z)?;
                }
                tx.set(&world.x, 5)?;
                tx.retry::<()>()
            });
            match ended {
                Err(TxError::RetryWithoutReads) => world.note("error"),
                ended => panic!("{ended:?}"),
            }
            world.outcome([other])
        });
}

/// An alternative that has claimed a cell is undone. The commit of the other alternative releases
/// the claim.
#[test]
fn a_commit_releases_a_claim_that_it_does_not_use() {
    Model::new("a transaction with an age commits after an undone blind write")
        .rules("[X1] [X8]")
        .preemptions(Some(3))
        .outcomes(&["110"])
        .check(|| {
            let world = World::new();
            let other = spawn(&world, |world| {
                world.x.update(|x| x + 1);
            });
            let mut attempts = 0;
            atomically(|tx| {
                attempts += 1;
                if attempts == 1 {
                    tx.read(&world.x)?;
                    world.x.update(|x| *x);
                    // The attempt is lost here, at `x`.
                    tx.read(&world.z)?;
                }
                tx.or_else(
                    |tx| tx.set(&world.x, 5).and_then(|()| tx.retry()),
                    |tx| tx.set(&world.y, 1),
                )
            });
            world.outcome([other])
        });
}

/// A task is polled by one waker and then by another, beside a write: the second one is used.
#[test]
fn a_write_wakes_the_last_waker_of_a_task() {
    Model::new("a task waits for a write by two wakers, one writes")
        .rules("[W4] [W7]")
        .preemptions(None)
        .outcomes(&["1 500"])
        .check(|| {
            let world = World::new();
            let waiter = spawn(&world, |world| {
                let mut changed = world.x.changed(Version::FIRST);
                let (_, first) = alarm();
                let version = match poll(&mut changed, &first) {
                    Poll::Ready(version) => version,
                    Poll::Pending => block_on(changed),
                };
                world.note(version);
            });
            world.x.set(5);
            world.outcome([waiter])
        });
}
