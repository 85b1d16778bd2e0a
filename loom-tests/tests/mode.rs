//! Holders that change what they hold, and take tokens.

mod common;

use common::task::{alarm, block_on, poll};
use common::{A, World, finish, spawn};
use latchwork_loom_tests::Model;

#[test]
fn downgrade_lets_the_reader_in() {
    Model::new("downgrade against a queued reader")
        .rules("[M10]")
        .preemptions(Some(3))
        .outcomes(&["1 w0", "1 w1"])
        .check(|| {
            let world = World::new();
            let guard = world.lock(A);
            let other = spawn(&world, |w| w.note(w.shared(A)));
            world.write(A);
            let guard = guard.downgrade();
            world.read(A);
            // Nothing but the downgrade may let the reader in.
            other.join().unwrap();
            drop(guard);
            world.outcome()
        });
}

#[test]
fn downgrade_before_a_writer() {
    Model::new("downgrade against a queued writer and a reader")
        .rules("[M10] [M8]")
        .outcomes(&["1 w0", "1 w1", "1 w2", "2 w0", "2 w1", "2 w2"])
        .check(|| {
            let world = World::new();
            let guard = world.lock(A);
            let others = [
                spawn(&world, |w| w.exclusive(A)),
                spawn(&world, |w| w.note(w.shared(A))),
            ];
            world.write(A);
            let guard = guard.downgrade();
            world.read(A);
            drop(guard);
            finish(world, others)
        });
}

/// A reader that joins a monitor without having waited learns of the writes by the state alone.
#[test]
fn downgrade_in_a_monitor_without_waiters() {
    Model::new("downgrade in a monitor that a waiter has left, then a reader")
        .rules("[M10] [M3]")
        .preemptions(Some(3))
        .outcomes(&["n w1", "y w1"])
        .check(|| {
            let world = World::new();
            let guard = world.lock(A);
            let other = spawn(&world, |w| {
                w.exclusive_or_cancel(A);
                w.note(w.try_shared(A));
            });
            world.write(A);
            let guard = guard.downgrade();
            world.read(A);
            // Nothing but the downgrade may tell the reader.
            other.join().unwrap();
            drop(guard);
            world.outcome()
        });
}

/// A reader that comes while another is let in learns of the writes by the state alone.
#[test]
fn downgrade_beside_a_newcomer() {
    Model::new("downgrade with a reader queued as another comes")
        .rules("[M10] [M3]")
        .preemptions(Some(3))
        .outcomes(&["n w1", "y w1"])
        .check(|| {
            let world = World::new();
            let guard = world.lock(A);
            let (_deaf, waker) = alarm();
            let mut queued = world.table.lock_shared_async(&A);
            assert!(poll(&mut queued, &waker).is_pending());
            let other = spawn(&world, |w| w.note(w.try_shared(A)));
            world.write(A);
            let guard = guard.downgrade();
            // Nothing but the downgrade may tell the newcomer.
            other.join().unwrap();
            drop(block_on(queued));
            drop(guard);
            world.outcome()
        });
}

#[test]
fn one_of_two_upgrades() {
    Model::new("two readers that upgrade")
        .rules("[M11]")
        .preemptions(Some(3))
        .outcomes(&["no no w0", "no up w0", "up up w0", "up up w1"])
        .check(|| {
            let world = World::new();
            let upgrade = |w: &World| match w.table.lock_shared(&A).try_upgrade() {
                Ok(guard) => {
                    w.write(A);
                    drop(guard);
                    w.note("up");
                }
                Err(guard) => {
                    w.read(A);
                    drop(guard);
                    w.note("no");
                }
            };
            let other = spawn(&world, upgrade);
            upgrade(&world);
            finish(world, [other])
        });
}

#[test]
fn upgrade_before_a_queued_writer() {
    Model::new("a reader upgrades before a queued writer")
        .rules("[M11]")
        .preemptions(Some(3))
        .outcomes(&[
            "n up w0", "n up w1", "no y w0", "no y w1", "up y w0", "up y w1",
        ])
        .check(|| {
            let world = World::new();
            let guard = world.table.lock_shared(&A);
            let others = [
                spawn(&world, |w| w.exclusive(A)),
                spawn(&world, |w| w.note(w.try_shared(A))),
            ];
            match guard.try_upgrade() {
                Ok(guard) => {
                    world.write(A);
                    drop(guard);
                    world.note("up");
                }
                Err(guard) => {
                    drop(guard);
                    world.note("no");
                }
            }
            finish(world, others)
        });
}

#[test]
fn tokens_grow() {
    Model::new("tokens of two holders")
        .rules("[T1]")
        .preemptions(Some(3))
        .outcomes(&["true true w0", "true true w1"])
        .check(|| {
            let world = World::new();
            let take = |w: &World| {
                let guard = w.lock(A);
                let n = w.write(A);
                // The n-th holder takes the n-th token.
                w.note(guard.token().get() == n);
                drop(guard);
            };
            let other = spawn(&world, take);
            take(&world);
            finish(world, [other])
        });
}

/// The other reader leaves a monitor, and what it read comes before what the upgraded holder
/// writes.
#[test]
fn upgrade_in_a_monitor() {
    Model::new("upgrade in a monitor as the other reader leaves")
        .rules("[M11] [S3]")
        .preemptions(Some(3))
        .outcomes(&["no w0", "up w0"])
        .check(|| {
            let world = World::new();
            world.hold_shared(A, 4);
            world.give_back(A, 3);
            let guard = world.table.lock_shared(&A);
            let other = spawn(&world, |w| {
                w.read(A);
                w.give_back(A, 1);
            });
            match guard.try_upgrade() {
                Ok(guard) => {
                    world.write(A);
                    drop(guard);
                    world.note("up");
                }
                Err(guard) => {
                    drop(guard);
                    world.note("no");
                }
            }
            finish(world, [other])
        });
}
