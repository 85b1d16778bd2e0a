//! Keys that meet in one slot: children that grow, move words, and fold again.

mod common;

use common::{A, B, C, FOLDS, World, finish, spawn};
use latchwork_loom_tests::Model;

#[test]
fn two_keys_in_one_slot() {
    Model::new("a key that comes back against another of its slot")
        .rules("[S1] [S2] [F3]")
        .preemptions(Some(3))
        .outcomes(&["w0"])
        .check(|| {
            let world = World::new();
            let other = spawn(&world, |w| {
                w.exclusive(A);
                w.exclusive(A);
            });
            world.exclusive(B);
            finish(world, [other])
        });
}

#[test]
fn two_keys_in_one_slot_and_a_rival() {
    Model::new("two holders of one key, one of another")
        .rules("[S1] [S2] [F3]")
        .preemptions(Some(3))
        .outcomes(&["w0", "w1"])
        .check(|| {
            let world = World::new();
            let others = [
                spawn(&world, |w| w.exclusive(A)),
                spawn(&world, |w| w.exclusive(B)),
            ];
            world.exclusive(A);
            finish(world, others)
        });
}

#[test]
fn two_keys_that_part_deep() {
    Model::new("two keys that part on the second level")
        .rules("[S1] [S4] [F3]")
        .outcomes(&["w0", "w1"])
        .check(|| {
            let world = World::new();
            let others = [
                spawn(&world, |w| w.exclusive(A)),
                spawn(&world, |w| w.exclusive(C)),
            ];
            world.exclusive(A);
            finish(world, others)
        });
}

#[test]
fn try_while_words_move() {
    Model::new("try while the word moves down and up")
        .rules("[S1] [F1]")
        .outcomes(&["n w0", "y w0", "y w1"])
        .check(|| {
            let world = World::new();
            let others = [
                spawn(&world, |w| {
                    w.exclusive(A | FOLDS);
                    w.exclusive(A | FOLDS);
                }),
                spawn(&world, |w| w.exclusive(B)),
            ];
            world.note(world.try_exclusive(A | FOLDS));
            finish(world, others)
        });
}

#[test]
fn shared_words_move() {
    Model::new("a shared word moves while it is joined")
        .rules("[S1] [S2]")
        .outcomes(&["n w0", "y w0", "y w1"])
        .check(|| {
            let world = World::new();
            let others = [
                spawn(&world, |w| {
                    w.shared(A);
                }),
                spawn(&world, |w| w.exclusive(B)),
            ];
            world.shared(A);
            world.note(world.try_exclusive(A));
            finish(world, others)
        });
}

#[test]
fn expand_after_an_equal_word() {
    Model::new("expand after an equal word")
        .rules("[S3]")
        .preemptions(Some(3))
        .outcomes(&["w0", "w1"])
        .check(|| {
            let world = World::new();
            let guard = world.lock(A);
            let other = spawn(&world, |w| w.exclusive(B));
            drop(guard);
            world.exclusive(B);
            let guard = world.lock(A);
            world.table.flush();
            other.join().unwrap();
            drop(guard);
            world.outcome()
        });
}

/// What a reader did before its word moved must reach a writer that comes after.
#[test]
fn expansion_carries_history() {
    Model::new("a reader leaves above, the word moves, another leaves below")
        .rules("[S2]")
        .preemptions(Some(3))
        .outcomes(&["y w0"])
        .check(|| {
            let world = World::new();
            world.hold_shared(A, 1);
            let others = [
                spawn(&world, |w| {
                    w.shared(A);
                }),
                spawn(&world, |w| w.note(w.try_exclusive(B))),
            ];
            world.read(A);
            world.give_back(A, 1);
            finish(world, others)
        });
}

#[test]
fn expansion_carries_history_to_a_stranger() {
    Model::new("a chain of two keys over three threads")
        .rules("[S2]")
        .preemptions(Some(3))
        .outcomes(&["n w0", "n w1", "w0", "y w0", "y w1", "y w2"])
        .check(|| {
            let world = World::new();
            let others = [
                spawn(&world, |w| w.exclusive(A)),
                spawn(&world, |w| {
                    if w.try_exclusive(B) == 'y' {
                        w.note(w.try_exclusive(A));
                    }
                }),
            ];
            world.exclusive(B);
            finish(world, others)
        });
}

#[test]
fn fold_against_a_claim() {
    Model::new("a child folds while a key comes into it")
        .rules("[F1] [F2]")
        .preemptions(Some(4))
        .outcomes(&["w0"])
        .check(|| {
            let world = World::new();
            let guard = world.lock(A | FOLDS);
            world.exclusive(B | FOLDS);
            let other = spawn(&world, |w| w.exclusive(B | FOLDS));
            drop(guard);
            finish(world, [other])
        });
}

#[test]
fn fold_under_both_keys() {
    Model::new("two keys leave a child, a rival comes")
        .rules("[F1] [F2]")
        .outcomes(&["w0", "w1"])
        .check(|| {
            let world = World::new();
            let (a, b) = (world.lock(A | FOLDS), world.lock(B | FOLDS));
            let other = spawn(&world, |w| w.exclusive(A | FOLDS));
            world.write(A);
            world.write(B);
            drop(a);
            drop(b);
            finish(world, [other])
        });
}

#[test]
fn fold_under_both_keys_with_two_rivals() {
    Model::new("two keys leave a child, two rivals come")
        .rules("[F1] [F2]")
        .outcomes(&["n w0", "n w1", "y w0", "y w1"])
        .check(|| {
            let world = World::new();
            let (a, b) = (world.lock(A | FOLDS), world.lock(B | FOLDS));
            let others = [
                spawn(&world, |w| w.exclusive(A | FOLDS)),
                spawn(&world, |w| w.note(w.try_exclusive(B | FOLDS))),
            ];
            world.write(A);
            world.write(B);
            drop(a);
            drop(b);
            finish(world, others)
        });
}

/// Between `freeze`'s load and its compare-and-swap a key comes and goes.
#[test]
fn freeze_after_an_equal_word() {
    Model::new("freeze after an equal word")
        .rules("[F2]")
        .preemptions(Some(2))
        .outcomes(&["n w0", "y w0", "y w1"])
        .check(|| {
            let world = World::new();
            let (a, b) = (world.lock(A | FOLDS), world.lock(B | FOLDS));
            let other = spawn(&world, |w| w.note(w.try_exclusive(B | FOLDS)));
            drop(b);
            world.exclusive(B | FOLDS);
            drop(a);
            finish(world, [other])
        });
}

/// Each of two threads empties its slot of one child and then looks at the other's.
#[test]
fn the_last_of_two_folds() {
    Model::new("two keys leave a child at once")
        .rules("[F3]")
        .preemptions(Some(3))
        .outcomes(&["w0"])
        .check(|| {
            let world = World::new();
            std::mem::forget((world.table.lock_shared(&A), world.table.lock_shared(&B)));
            let other = spawn(&world, |w| w.give_back(A, 1));
            world.give_back(B, 1);
            finish(world, [other])
        });
}

/// The same for a child of a child, whose emptiness has to be noticed a level up.
#[test]
fn the_last_of_two_folds_two_levels() {
    Model::new("two keys leave a child of a child at once")
        .rules("[F3]")
        .preemptions(Some(3))
        .outcomes(&["w0"])
        .check(|| {
            let world = World::new();
            std::mem::forget((world.table.lock_shared(&A), world.table.lock_shared(&C)));
            let other = spawn(&world, |w| w.give_back(A, 1));
            world.give_back(C, 1);
            finish(world, [other])
        });
}

#[test]
fn a_dead_monitor_empties_a_child() {
    Model::new("a monitor in a child dies beside a key that leaves")
        .rules("[F3] [M2]")
        .outcomes(&["n w1", "y w0", "y w1"])
        .check(|| {
            let world = World::new();
            world.hold_shared(A, 1);
            world.hold_shared(B, 1);
            let other = spawn(&world, |w| w.note(w.exclusive_or_cancel(A)));
            world.give_back(B, 1);
            world.give_back(A, 1);
            finish(world, [other])
        });
}

/// Somebody looks at the whole table while it grows and shrinks.
#[test]
fn looking_at_a_table_that_grows() {
    Model::new("count what is held while a child and a monitor come and go")
        .rules("[S2] [S5]")
        .outcomes(&["1 w0", "1 w1", "2 w0", "2 w1"])
        .check(|| {
            let world = World::new();
            let guard = world.lock(A);
            let others = [
                spawn(&world, |w| w.exclusive(B)),
                spawn(&world, |w| {
                    w.exclusive_or_cancel(A);
                }),
            ];
            world.note(world.table.locked_count());
            drop(guard);
            finish(world, others)
        });
}

/// Three keys on two levels, all left at once.
#[test]
fn the_last_of_three_folds() {
    Model::new("three keys leave two levels at once")
        .rules("[F3]")
        .outcomes(&["w0"])
        .check(|| {
            let world = World::new();
            for key in [A | FOLDS, B | FOLDS, C | FOLDS] {
                world.hold_shared(key, 1);
            }
            let others = [
                spawn(&world, |w| w.give_back(A | FOLDS, 1)),
                spawn(&world, |w| w.give_back(B | FOLDS, 1)),
            ];
            world.give_back(C | FOLDS, 1);
            finish(world, others)
        });
}
