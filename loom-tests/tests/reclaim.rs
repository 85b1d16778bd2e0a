//! Real crossbeam-epoch: what is freed inside the model is not touched afterwards. Two threads
//! each, because three cannot be searched.

mod common;

use common::task::{alarm, poll};
use common::{A, B, FOLDS, World, finish, spawn};
use latchwork_loom_tests::Model;

#[test]
fn release_against_try_of_the_same_key() {
    Model::new("a monitor dies while the key is tried")
        .rules("[S5] [M2]")
        .preemptions(Some(1))
        .outcomes(&["n w0", "y w0"])
        .check(|| {
            let world = World::reclaiming();
            world.hold_shared(A, 4);
            let other = spawn(&world, |w| w.give_back(A, 4));
            world.note(world.try_exclusive(A));
            finish(world, [other])
        });
}

#[test]
fn release_against_try_of_another_key() {
    Model::new("a monitor dies while another key of its slot comes")
        .rules("[S5] [M2]")
        .preemptions(Some(1))
        .outcomes(&["y w0"])
        .check(|| {
            let world = World::reclaiming();
            world.hold_shared(A, 4);
            let other = spawn(&world, |w| w.give_back(A, 4));
            world.note(world.try_exclusive(B));
            finish(world, [other])
        });
}

#[test]
fn release_against_a_waiter() {
    Model::new("a holder leaves the mutex as its successor dies")
        .rules("[M2]")
        .preemptions(Some(1))
        .outcomes(&["w0", "w1"])
        .check(|| {
            let world = World::reclaiming();
            let guard = world.lock(A);
            let other = spawn(&world, |w| w.exclusive(A));
            drop(guard);
            finish(world, [other])
        });
}

/// The one that gives up runs first, so that one preemption is enough for the other to free the
/// monitor under it.
#[test]
fn release_against_one_that_gives_up() {
    Model::new("a waiter leaves the mutex as the monitor dies")
        .rules("[M2]")
        .preemptions(Some(1))
        .outcomes(&["n w1", "y w0", "y w1"])
        .check(|| {
            let world = World::reclaiming();
            world.hold_shared(A, 1);
            let other = spawn(&world, |w| w.give_back(A, 1));
            world.note(world.exclusive_or_cancel(A));
            finish(world, [other])
        });
}

#[test]
fn fold_against_try() {
    Model::new("a child is freed while a key of it is tried")
        .rules("[S5] [F1]")
        .preemptions(Some(1))
        .outcomes(&["n w0", "y w0"])
        .check(|| {
            let world = World::reclaiming();
            world.hold_shared(A | FOLDS, 1);
            world.hold_shared(B | FOLDS, 1);
            let other = spawn(&world, |w| {
                w.give_back(A | FOLDS, 1);
                w.give_back(B | FOLDS, 1);
            });
            world.note(world.try_exclusive(B | FOLDS));
            finish(world, [other])
        });
}

/// A task goes to a monitor in the root by the short way, and nobody but its pin keeps the monitor.
#[test]
fn release_against_a_task() {
    Model::new("a monitor dies as a task comes to queue in it")
        .rules("[S5] [M2]")
        .preemptions(Some(1))
        .outcomes(&["n w1", "y w0"])
        .check(|| {
            let world = World::reclaiming();
            // One too many for the slot's word, and then no more than one: the next to leave is the
            // last.
            world.hold_shared(A, 4);
            world.give_back(A, 3);
            let other = spawn(&world, |w| w.give_back(A, 1));
            let (_deaf, waker) = alarm();
            let mut future = world.table.lock_async(&A);
            let got = poll(&mut future, &waker).is_ready();
            drop(future);
            world.note(if got { 'y' } else { 'n' });
            finish(world, [other])
        });
}
