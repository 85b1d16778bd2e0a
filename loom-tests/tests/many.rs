//! Several keys at once.

mod common;

use common::{A, B, World, finish, spawn};
use latchwork::Mode::{Exclusive, Shared};
use latchwork_loom_tests::Model;

#[test]
fn sets_in_opposite_orders() {
    Model::new("two sets of the same keys, given in opposite orders")
        .rules("[L1]")
        .outcomes(&["w0", "w1"])
        .check(|| {
            let world = World::new();
            let other = spawn(&world, |w| {
                let set = w.table.lock_all([(&A, Exclusive), (&B, Exclusive)]);
                w.write(A);
                w.write(B);
                drop(set);
            });
            // No key repeats: a set with repeats is put in order another way.
            // No key repeats: a set with repeats is put in order another way.
            let set = world.table.lock_all([(&B, Exclusive), (&A, Exclusive)]);
            world.write(A);
            world.write(B);
            drop(set);
            finish(world, [other])
        });
}

#[test]
fn all_or_nothing() {
    Model::new("try all against a holder of one")
        .rules("[L2]")
        .outcomes(&["all w0", "all w1", "nothing w0"])
        .check(|| {
            let world = World::new();
            let other = spawn(&world, |w| w.exclusive(B));
            match world.table.try_lock_all([(&A, Exclusive), (&B, Exclusive)]) {
                Some(set) => {
                    world.write(A);
                    world.write(B);
                    drop(set);
                    world.note("all");
                }
                None => world.note("nothing"),
            }
            assert_eq!(world.try_exclusive(A), 'y', "given back");
            finish(world, [other])
        });
}

#[test]
fn sets_with_repeats_in_opposite_orders() {
    Model::new("two sets of the same keys, one with a repeat")
        .rules("[L1]")
        .outcomes(&["w0", "w1"])
        .check(|| {
            let world = World::new();
            let other = spawn(&world, |w| {
                let set = w.table.lock_all([(&A, Exclusive), (&B, Exclusive)]);
                w.write(A);
                w.write(B);
                drop(set);
            });
            let keys = [(&B, Exclusive), (&A, Shared), (&A, Exclusive)];
            let set = world.table.lock_all(keys);
            assert_eq!(set.len(), 2);
            world.write(A);
            world.write(B);
            drop(set);
            finish(world, [other])
        });
}
