//! Updates of a few cells without a log, in every interleaving within a bound.

mod common;

use common::cells::World;
use latchwork::{atomically, cell::Version, model, snapshot, update_all};
use latchwork_loom_tests::{Model, spawn};

/// Adds one to both cells.
fn add(world: &World) {
    update_all((&world.x, &world.y), |(x, y)| {
        // Also in attempts that do not commit.
        assert_eq!(x, y, "a state that never was");
        (x + 1, y + 1)
    });
}

#[test]
fn an_update_sees_one_instant() {
    Model::new("an update of two cells beside a transaction that writes both")
        .rules("[X11] [X2]")
        .preemptions(Some(2))
        .outcomes(&["220", "110"])
        .check(|| {
            let world = World::new();
            let writer = spawn(&world, |w| w.set_both(1));
            add(&world);
            world.outcome([writer])
        });
}

/// The owner installs its nodes in the order of addresses: one of the two models reads against it.
#[test]
fn an_update_sees_one_instant_backwards() {
    Model::new("the same update, of the two cells in the other order")
        .rules("[X11] [X2]")
        .preemptions(Some(2))
        .outcomes(&["220", "110"])
        .check(|| {
            let world = World::new();
            let writer = spawn(&world, |w| w.set_both(1));
            update_all((&world.y, &world.x), |(y, x)| {
                assert_eq!(x, y, "a state that never was");
                (y + 1, x + 1)
            });
            world.outcome([writer])
        });
}

/// The transaction relies on a cell that the update writes, and writes the other one.
#[test]
fn an_update_beside_a_transaction_that_reads_its_cell() {
    Model::new("an update of two cells beside a transaction that copies one of them")
        .rules("[X11] [X3]")
        .preemptions(Some(2))
        .outcomes(&["c0 11010", "c1 11111"])
        .check(|| {
            let world = World::new();
            let copier = spawn(&world, |w| {
                let seen = w.copy();
                w.note(format!("c{seen}"));
            });
            update_all((&world.x, &world.y), |(x, y)| (x + 1, *y.max(&1)));
            world.outcome([copier])
        });
}

#[test]
fn updates_in_opposite_orders_both_commit() {
    Model::new("two updates of two cells, in opposite orders")
        .rules("[X11] [X6]")
        .preemptions(Some(2))
        .outcomes(&["220"])
        .check(|| {
            let world = World::new();
            let other = spawn(&world, |w| {
                update_all([&w.y, &w.x], |[y, x]| [y + 1, x + 1]);
            });
            add(&world);
            world.outcome([other])
        });
}

#[test]
fn an_update_against_a_write() {
    Model::new("an update of two cells and a write of one of them")
        .rules("[X11] [X2] [X7]")
        .preemptions(Some(3))
        .outcomes(&["v2 1110"])
        .check(|| {
            let world = World::new();
            let writer = spawn(&world, |w| {
                w.y.update(|y| y + 10);
            });
            update_all((&world.x, &world.y), |(x, y)| (x + 1, y + 1));
            writer.join().unwrap();
            world.note(format!("v{}", world.y.version()));
            world.outcome([])
        });
}

#[test]
fn a_snapshot_beside_an_update() {
    for (name, backwards) in [
        ("a snapshot and an update of two cells", false),
        ("the same, backwards", true),
    ] {
        Model::new(name)
            .rules("[X11] [X5]")
            .preemptions(Some(3))
            .outcomes(&["s0,0 110", "s1,1 110"])
            .check(move || {
                let world = World::new();
                let writer = spawn(&world, add_once);
                world.note(world.snapshot_of_two(backwards));
                world.outcome([writer])
            });
    }
}

fn add_once(world: &World) {
    add(world);
}

/// A snapshot that has read a cell before postpones the update, or commits it at a later timestamp.
#[test]
fn a_snapshot_decides_an_update_that_closes() {
    Model::new("a snapshot meets an update that closes")
        .rules("[X11] [X9]")
        .preemptions(Some(3))
        .outcomes(&["s0,0 110", "s1,1 110"])
        .check(|| {
            model::set_max_pushes(0);
            let world = World::new();
            let writer = spawn(&world, add_once);
            world.note(world.snapshot_of_two(true));
            world.outcome([writer])
        });
}

#[test]
fn an_update_wakes_a_waiter() {
    Model::new("a thread waits for a change of a cell that an update writes")
        .rules("[X11] [C5]")
        .preemptions(Some(3))
        .outcomes(&["1 110"])
        .check(|| {
            model::make_fences_steps();
            let world = World::new();
            let waiter = spawn(&world, |w| w.note(w.y.wait_changed(Version::FIRST)));
            add(&world);
            world.outcome([waiter])
        });
}

/// A closure that retries is woken by an update, as by a transaction.
#[test]
fn an_update_wakes_a_transaction_that_retries() {
    Model::new("a transaction retries until an update has written what it has read")
        .rules("[X11] [X8]")
        .preemptions(Some(3))
        .outcomes(&["1 110"])
        .check(|| {
            let world = World::new();
            let waiter = spawn(&world, |w| {
                let seen = atomically(|tx| match *tx.read(&w.x)? {
                    0 => tx.retry(),
                    x => Ok(x),
                });
                w.note(seen);
            });
            add(&world);
            world.outcome([waiter])
        });
}

#[test]
fn the_owner_of_an_update_is_alive_for_its_readers() {
    Model::new("a reader resolves an update that ends")
        .rules("[X11] [X1]")
        .preemptions(Some(1))
        .outcomes(&["00", "01", "11"])
        .check(|| {
            model::reclaim_in_model();
            let world = World::new();
            let writer = spawn(&world, |w| {
                add(w);
                latchwork::flush();
            });
            let (x, y) = (world.x.get(), world.y.get());
            writer.join().unwrap();
            format!("{x}{y}")
        });
}

/// An update that has lost leaves a node in no cell, and its owner to no reader.
#[test]
fn the_owner_of_an_update_that_loses_is_alive_for_its_readers() {
    Model::new("a reader resolves an update that loses to a write")
        .rules("[X11] [X1] [X7]")
        .preemptions(Some(1))
        .outcomes(&["0 111", "1 111"])
        .check(|| {
            model::reclaim_in_model();
            let world = World::new();
            let writer = spawn(&world, |w| {
                add_to_first(w);
                latchwork::flush();
            });
            let reader = spawn(&world, |w| w.note(snapshot(|s| *s.read(&w.x))));
            world.z.set(1);
            writer.join().unwrap();
            reader.join().unwrap();
            world.outcome([])
        });
}

fn add_to_first(world: &World) {
    update_all((&world.x, &world.y, &world.z), |(x, y, z)| {
        (x + 1, y + 1, *z)
    });
}
