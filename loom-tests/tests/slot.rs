//! One key in one slot: the inline lock, and what its history carries.

mod common;

use common::{A, World, finish, spawn};
use latchwork_loom_tests::Model;

#[test]
fn exclusive_excludes() {
    Model::new("two exclusive holders")
        .rules("[S1] [S2]")
        .preemptions(Some(4))
        .outcomes(&["w0", "w1"])
        .check(|| {
            let world = World::new();
            let other = spawn(&world, |w| w.exclusive(A));
            world.exclusive(A);
            finish(world, [other])
        });
}

#[test]
fn exclusive_excludes_again() {
    Model::new("one holder against one that comes back")
        .rules("[S1] [S2]")
        .preemptions(Some(3))
        .outcomes(&["w0", "w1"])
        .check(|| {
            let world = World::new();
            let other = spawn(&world, |w| {
                w.exclusive(A);
                w.exclusive(A);
            });
            world.exclusive(A);
            finish(world, [other])
        });
}

#[test]
fn three_exclude() {
    Model::new("three exclusive holders")
        .rules("[S1] [M5]")
        .preemptions(Some(3))
        .outcomes(&["w0", "w1", "w2"])
        .check(|| {
            let world = World::new();
            let others = [
                spawn(&world, |w| w.exclusive(A)),
                spawn(&world, |w| w.exclusive(A)),
            ];
            world.exclusive(A);
            finish(world, others)
        });
}

#[test]
fn readers_and_a_writer() {
    Model::new("two readings against a writer")
        .rules("[S1] [S2]")
        .preemptions(Some(3))
        .outcomes(&[
            "0 0 w0", "0 0 w1", "0 1 w0", "0 1 w1", "0 1 w2", "1 1 w0", "1 1 w1",
        ])
        .check(|| {
            let world = World::new();
            let other = spawn(&world, |w| {
                w.note(w.shared(A));
                w.note(w.shared(A));
            });
            world.exclusive(A);
            finish(world, [other])
        });
}

#[test]
fn readers_share() {
    Model::new("two readers and a writer")
        .rules("[S1] [S2]")
        .preemptions(Some(3))
        .outcomes(&[
            "0 0 w0", "0 0 w1", "0 1 w0", "0 1 w1", "0 1 w2", "1 1 w0", "1 1 w1", "1 1 w2",
        ])
        .check(|| {
            let world = World::new();
            let others = [
                spawn(&world, |w| w.note(w.shared(A))),
                spawn(&world, |w| w.exclusive(A)),
            ];
            world.note(world.shared(A));
            finish(world, others)
        });
}

/// An equal word is not an equal history: between a reader's load of "one reader" and its
/// compare-and-swap, a writer comes and goes and another reader leaves the same word behind.
#[test]
fn join_after_an_equal_word() {
    Model::new("join after an equal word")
        .rules("[S3]")
        .preemptions(Some(3))
        .outcomes(&["0 w0", "0 w1", "1 w0", "1 w1"])
        .check(|| {
            let world = World::new();
            world.hold_shared(A, 1);
            let other = spawn(&world, |w| w.note(w.shared(A)));
            world.give_back(A, 1);
            world.exclusive(A);
            world.hold_shared(A, 1);
            world.table.flush();
            other.join().unwrap();
            world.give_back(A, 1);
            world.outcome()
        });
}

#[test]
fn try_never_fails_on_a_free_key() {
    Model::new("try against a holder")
        .rules("[S1]")
        .preemptions(Some(4))
        .outcomes(&["n w0", "y w0", "y w1"])
        .check(|| {
            let world = World::new();
            let other = spawn(&world, |w| w.exclusive(A));
            world.note(world.try_exclusive(A));
            finish(world, [other])
        });
}

/// Readers above what the word counts: the last one takes a monitor along.
#[test]
fn count_overflows_into_a_monitor() {
    Model::new("a fourth reader where three are counted, and a writer")
        .rules("[S1] [M1]")
        .outcomes(&["0 w0", "0 w1", "1 w0", "1 w1", "1 w2"])
        .check(|| {
            let world = World::new();
            world.hold_shared(A, 3);
            let others = [
                spawn(&world, |w| w.note(w.shared(A))),
                spawn(&world, |w| w.exclusive(A)),
            ];
            world.read(A);
            world.give_back(A, 3);
            finish(world, others)
        });
}

#[test]
fn overflow_after_an_equal_word() {
    Model::new("overflow after an equal word")
        .rules("[S3]")
        .preemptions(Some(3))
        .outcomes(&["0 w0", "0 w1", "1 w0", "1 w1"])
        .check(|| {
            let world = World::new();
            world.hold_shared(A, 3);
            let other = spawn(&world, |w| w.note(w.shared(A)));
            world.give_back(A, 3);
            world.exclusive(A);
            world.hold_shared(A, 3);
            world.table.flush();
            other.join().unwrap();
            world.give_back(A, 3);
            world.outcome()
        });
}
