//! Keys that move to a larger root, and back. A table has one root slot, so its keys are one group,
//! and the larger root has two.

mod common;

use std::sync::Arc;

use common::{A, B, C, FOLDS, World, finish, spawn};
use latchwork_loom_tests::Model;
use loom::thread::JoinHandle;

/// Waits for all, moves the group if no thread has, and returns the outcome.
fn moved(world: Arc<World>, threads: impl IntoIterator<Item = JoinHandle<()>>) -> String {
    for thread in threads {
        thread.join().unwrap();
    }
    drop(world.lock(A));
    finish(world, [])
}

/// A table with a root of two slots, to which all keys have moved.
fn grown() -> Arc<World> {
    let world = World::new();
    world.grow();
    drop(world.lock(A));
    world
}

#[test]
fn growth_against_a_claim() {
    Model::new("two threads lock a key of an empty group that must move")
        .rules("[G1] [G2] [G3]")
        .preemptions(Some(3))
        .outcomes(&["w0", "w1"])
        .check(|| {
            let world = World::new();
            world.grow();
            let other = spawn(&world, |w| w.exclusive(A));
            world.exclusive(A);
            moved(world, [other])
        });
}

/// One thread began before the move, and claims in the smaller root.
#[test]
fn growth_begins_beside_a_claim() {
    Model::new("a move begins while a thread locks")
        .rules("[G1] [G4]")
        .preemptions(Some(3))
        .outcomes(&["w0", "w1"])
        .check(|| {
            let world = World::new();
            let other = spawn(&world, |w| w.exclusive(A));
            world.grow();
            world.exclusive(A);
            moved(world, [other])
        });
}

#[test]
fn growth_under_a_holder() {
    Model::new("a held key moves while it is released and tried")
        .rules("[G1] [G2]")
        .preemptions(Some(3))
        .outcomes(&["n w0", "y w0"])
        .check(|| {
            let world = World::new();
            let guard = world.lock(A);
            world.grow();
            let other = spawn(&world, |w| w.note(w.try_exclusive(A)));
            world.write(A);
            drop(guard);
            moved(world, [other])
        });
}

/// A mover that is late finds the slots in use, and the key held again.
#[test]
fn a_late_mover_installs_nothing() {
    Model::new("a thread moves a group that another has moved and used")
        .rules("[G3]")
        .preemptions(Some(3))
        .outcomes(&["n w0", "y w0", "y w1"])
        .check(|| {
            let world = World::new();
            let guard = world.lock(A);
            world.grow();
            let other = spawn(&world, |w| w.note(w.try_exclusive(B)));
            drop(guard);
            world.exclusive(A);
            world.exclusive(B);
            moved(world, [other])
        });
}

#[test]
fn growth_under_readers() {
    Model::new("a shared key moves while readers join and leave")
        .rules("[G1] [G2]")
        .outcomes(&["n w0", "y w0"])
        .check(|| {
            let world = World::new();
            world.hold_shared(A, 1);
            world.grow();
            let other = spawn(&world, |w| {
                w.shared(A);
                w.note(w.try_exclusive(A));
            });
            world.read(A);
            world.give_back(A, 1);
            moved(world, [other])
        });
}

/// Between the load of a freeze and its compare-and-swap another key comes and goes, whose history
/// its new slot must have.
#[test]
fn raise_after_an_equal_word() {
    Model::new("freeze a root slot after an equal word")
        .rules("[G2] [S3]")
        .outcomes(&["n w0", "y w0", "y w1"])
        .check(|| {
            let world = World::new();
            let guard = world.lock(A);
            let other = spawn(&world, |w| {
                w.grow();
                w.note(w.try_exclusive(B));
            });
            drop(guard);
            world.exclusive(B);
            drop(world.lock(A));
            moved(world, [other])
        });
}

/// A child that moves is freed while another thread is in it.
#[test]
fn growth_frees_a_child() {
    Model::new("a child that moved is freed under a thread in it")
        .rules("[S5] [G3]")
        .preemptions(Some(1))
        .outcomes(&["w0"])
        .check(|| {
            let world = World::reclaiming();
            for key in [A, B] {
                world.hold_shared(key, 1);
            }
            let shared = world.clone();
            let other = loom::thread::spawn(move || shared.give_back(B, 1));
            world.grow();
            world.give_back(A, 1);
            world.table.flush();
            other.join().unwrap();
            world.outcome()
        });
}

/// The move back begins once no thread is left in the first move.
#[test]
fn a_move_begins_after_the_last_one() {
    Model::new("a thread that moves is late, and the next move begins")
        .rules("[G5]")
        .preemptions(Some(1))
        .outcomes(&["n w0", "y w0"])
        .check(|| {
            let world = World::reclaiming();
            world.grow();
            let shared = world.clone();
            let other = loom::thread::spawn(move || shared.exclusive(A));
            world.exclusive(B);
            world.table.flush();
            let shrinks = world.try_shrink();
            world.note(if shrinks { 'y' } else { 'n' });
            drop(world.lock(B));
            moved(world, [other])
        });
}

#[test]
fn growth_moves_a_child() {
    Model::new("a child becomes two slots while its keys are left")
        .rules("[G2] [G3] [F3]")
        .outcomes(&["n w0", "y w0"])
        .check(|| {
            let world = World::new();
            let (a, b) = (world.lock(A), world.lock(B));
            world.grow();
            let other = spawn(&world, |w| w.note(w.try_exclusive(B)));
            world.write(A);
            drop(a);
            world.write(B);
            drop(b);
            moved(world, [other])
        });
}

#[test]
fn growth_against_a_fold() {
    Model::new("a child folds while its root moves")
        .rules("[G2] [F1] [F3]")
        .outcomes(&["w0"])
        .check(|| {
            let world = World::new();
            for key in [A | FOLDS, B | FOLDS] {
                world.hold_shared(key, 1);
            }
            let other = spawn(&world, |w| w.give_back(A | FOLDS, 1));
            world.grow();
            world.give_back(B | FOLDS, 1);
            moved(world, [other])
        });
}

/// The child of the child keeps its place, and folds there.
#[test]
fn growth_above_a_fold() {
    Model::new("a child of a child folds while its root moves")
        .rules("[G3] [F3]")
        .outcomes(&["w0"])
        .check(|| {
            let world = World::new();
            for key in [A | FOLDS, C | FOLDS] {
                world.hold_shared(key, 1);
            }
            let other = spawn(&world, |w| w.give_back(A | FOLDS, 1));
            world.grow();
            world.give_back(C | FOLDS, 1);
            moved(world, [other])
        });
}

#[test]
fn growth_under_a_waiter() {
    Model::new("a key moves while a waiter queues and gives up")
        .rules("[G2] [M1] [M2]")
        .outcomes(&["n w1", "y w0", "y w1"])
        .check(|| {
            let world = World::new();
            let guard = world.lock(A);
            world.grow();
            let other = spawn(&world, |w| w.note(w.exclusive_or_cancel(A)));
            world.write(A);
            drop(guard);
            moved(world, [other])
        });
}

#[test]
fn a_monitor_dies_behind_a_root_that_moves() {
    Model::new("a monitor moves while its last holder leaves")
        .rules("[G2] [M2]")
        .outcomes(&["w0"])
        .check(|| {
            let world = World::new();
            world.hold_shared(A, 4);
            world.give_back(A, 3);
            world.grow();
            let other = spawn(&world, |w| w.exclusive(B));
            world.give_back(A, 1);
            moved(world, [other])
        });
}

#[test]
fn shrinking_under_both_keys() {
    Model::new("two slots become one while their keys are left")
        .rules("[G1] [G2] [G3] [F3]")
        .outcomes(&["n w0", "y w0"])
        .check(|| {
            let world = grown();
            let (a, b) = (world.lock(A), world.lock(B));
            world.shrink();
            let other = spawn(&world, |w| w.note(w.try_exclusive(B)));
            world.write(A);
            drop(a);
            world.write(B);
            drop(b);
            moved(world, [other])
        });
}

/// The child of one of two slots must not move up, because its keys are searched by other bits.
#[test]
fn shrinking_above_a_child() {
    Model::new("a child becomes a child of a child while its keys are left")
        .rules("[G3] [F3]")
        .outcomes(&["n w0", "y w0"])
        .check(|| {
            let world = grown();
            let a = world.lock(A);
            world.hold_shared(C, 1);
            world.shrink();
            let other = spawn(&world, |w| w.note(w.try_exclusive(A)));
            world.give_back(C, 1);
            drop(a);
            moved(world, [other])
        });
}

/// The one key that is left in a child moves without it, while another key is locked in the child.
/// The child is found in the larger root, or frozen in the smaller one, or not at all.
#[test]
fn shrinking_lifts_a_lone_key() {
    Model::new("the lone key of a child moves up while another is locked beside it")
        .rules("[G2] [G3] [F1] [F3]")
        .outcomes(&["y w0"])
        .check(|| {
            let world = grown();
            let a = world.lock(A);
            world.hold_shared(C, 1);
            world.give_back(C, 1);
            world.shrink();
            let other = spawn(&world, |w| w.note(w.try_exclusive(C)));
            world.write(A);
            drop(a);
            moved(world, [other])
        });
}

/// A key is locked in a child by a thread that has found the child before the move began. The
/// mover, which lifts the one key that is left, misses no key that it has not frozen out.
#[test]
fn shrinking_begins_beside_a_claim_in_a_child() {
    Model::new("another key is locked in a child whose lone key begins to move up")
        .rules("[G3] [F1]")
        .preemptions(Some(2))
        .outcomes(&["w0"])
        .check(|| {
            let world = grown();
            world.hold_shared(A, 1);
            world.hold_shared(C, 1);
            world.give_back(C, 1);
            let mover = spawn(&world, |w| {
                w.shrink();
                w.give_back(A, 1);
            });
            world.hold_shared(C, 1);
            mover.join().unwrap();
            world.give_back(C, 1);
            moved(world, [])
        });
}

/// Both threads move the group. One finds a lone key in the child, the other finds two.
#[test]
fn shrinking_lifts_a_key_that_is_left() {
    Model::new("a child has one key for one mover, and two for another")
        .rules("[G2] [G3] [F3]")
        .outcomes(&["w0"])
        .check(|| {
            let world = grown();
            world.hold_shared(A, 1);
            world.hold_shared(C, 1);
            world.shrink();
            let other = spawn(&world, |w| w.give_back(A, 1));
            world.exclusive(B);
            world.give_back(C, 1);
            moved(world, [other])
        });
}

/// A child whose key has moved up is freed while another thread is in it.
#[test]
fn shrinking_frees_a_child() {
    Model::new("a child whose lone key moved up is freed under a thread in it")
        .rules("[S5] [G3]")
        .preemptions(Some(1))
        .outcomes(&["w0"])
        .check(|| {
            let world = World::reclaiming();
            world.grow();
            world.hold_shared(A, 2);
            world.hold_shared(C, 1);
            world.give_back(C, 1);
            world.shrink();
            let shared = world.clone();
            let other = loom::thread::spawn(move || shared.give_back(A, 1));
            world.give_back(A, 1);
            world.table.flush();
            other.join().unwrap();
            drop(world.lock(A));
            world.outcome()
        });
}

/// Counts how often a key is listed.
fn listed(world: &World, key: u64) -> usize {
    let all = world.table.inspect();
    all.iter().filter(|lock| lock.key_id.get() == key).count()
}

#[test]
fn growth_under_a_visit() {
    Model::new("a held key is listed once while its root begins to grow")
        .rules("[G7]")
        .preemptions(Some(3))
        .outcomes(&["1 w0"])
        .check(|| {
            let world = World::new();
            world.hold_shared(A, 1);
            world.hold_shared(C, 1);
            let other = spawn(&world, |w| {
                w.grow();
                w.exclusive(B);
            });
            let seen = listed(&world, A);
            assert_eq!(seen, listed(&world, C));
            world.note(seen);
            other.join().unwrap();
            for key in [A, C] {
                world.give_back(key, 1);
            }
            moved(world, [])
        });
}

#[test]
fn shrinking_under_a_visit() {
    Model::new("held keys are listed once while their root begins to shrink")
        .rules("[G7]")
        .outcomes(&["1 w0"])
        .check(|| {
            let world = grown();
            world.table.settle();
            for key in [A, B] {
                world.hold_shared(key, 1);
            }
            let other = spawn(&world, |w| {
                assert!(w.try_shrink(), "the first move has settled");
                w.exclusive(C);
            });
            let seen = listed(&world, A);
            assert_eq!(seen, listed(&world, B));
            world.note(seen);
            other.join().unwrap();
            for key in [A, B] {
                world.give_back(key, 1);
            }
            moved(world, [])
        });
}

#[test]
fn shrinking_against_a_claim() {
    Model::new("two threads lock keys of two slots that become one")
        .rules("[G1] [G2] [G3]")
        .outcomes(&["w0"])
        .check(|| {
            let world = grown();
            world.shrink();
            let other = spawn(&world, |w| w.exclusive(B));
            world.exclusive(A);
            moved(world, [other])
        });
}

#[test]
fn shrinking_begins_beside_a_claim() {
    Model::new("a move back begins while a thread locks")
        .rules("[G1] [G4]")
        .outcomes(&["w0", "w1"])
        .check(|| {
            let world = grown();
            let other = spawn(&world, |w| w.exclusive(A));
            world.shrink();
            world.exclusive(A);
            moved(world, [other])
        });
}

#[test]
fn shrinking_under_a_waiter() {
    Model::new("a key moves back while a waiter queues and gives up")
        .rules("[G2] [M1] [M2]")
        .outcomes(&["n w1", "y w0", "y w1"])
        .check(|| {
            let world = grown();
            let guard = world.lock(A);
            world.shrink();
            let other = spawn(&world, |w| w.note(w.exclusive_or_cancel(A)));
            world.write(A);
            drop(guard);
            moved(world, [other])
        });
}
