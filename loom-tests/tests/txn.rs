//! Transactions, in every interleaving within a bound.
//!
//! Under loom a transaction has an age after one loss and owns all that it meets after two, and
//! looks at moments of the clock from the third cell on.

mod common;

use common::cells::World;
use latchwork::{VersionedCell, atomically, model, snapshot};
use latchwork_loom_tests::{Model, spawn};

#[test]
fn two_cells_change_at_once() {
    Model::new("a transaction reads what another writes")
        .rules("[X2] [X4]")
        .preemptions(Some(3))
        .outcomes(&["0 110", "1 110"])
        .check(|| {
            let world = World::new();
            let writer = spawn(&world, |w| w.set_both(1));
            let seen = atomically(|tx| {
                let x = *tx.read(&world.x)?;
                let y = *tx.read(&world.y)?;
                // Also in attempts that do not commit.
                assert_eq!(x, y, "a state that never was");
                Ok(x)
            });
            world.note(seen);
            world.outcome([writer])
        });
}

/// From the third read on it reads at a moment of the clock: what is there since counts, and what
/// was put there and not committed is put off.
#[test]
fn what_is_read_at_a_moment_changes_at_once() {
    for (name, quiet) in [
        (
            "a transaction reads two cells at a moment that another writes",
            false,
        ),
        ("the same, at an unused timestamp", true),
    ] {
        Model::new(name)
            .rules("[X4]")
            .preemptions(Some(3))
            .outcomes(&["0 101", "1 101"])
            .check(move || {
                let world = World::new();
                if quiet {
                    snapshot(|_| {});
                }
                let cells = [0, 0].map(VersionedCell::new);
                let writer = spawn(&world, |w| {
                    atomically(|tx| {
                        tx.set(&w.x, 1)?;
                        tx.set(&w.z, 1)
                    });
                });
                let seen = atomically(|tx| {
                    for cell in &cells {
                        tx.read(cell)?;
                    }
                    let x = *tx.read(&world.x)?;
                    let z = *tx.read(&world.z)?;
                    assert_eq!(x, z, "a state that never was");
                    Ok(x)
                });
                world.note(seen);
                world.outcome([writer])
            });
    }
}

/// The third read is the first at a moment of the clock.
#[test]
fn three_cells_change_at_once() {
    Model::new("a transaction reads at a moment what another writes")
        .rules("[X4]")
        .preemptions(Some(3))
        .outcomes(&["0 101", "1 101"])
        .check(|| {
            let world = World::new();
            let writer = spawn(&world, |w| {
                atomically(|tx| {
                    tx.set(&w.z, 1)?;
                    tx.set(&w.x, 1)
                });
            });
            let seen = atomically(|tx| {
                let x = *tx.read(&world.x)?;
                tx.read(&world.y)?;
                let z = *tx.read(&world.z)?;
                assert_eq!(x, z, "a state that never was");
                Ok(x)
            });
            world.note(seen);
            world.outcome([writer])
        });
}

#[test]
fn write_skew_does_not_commit() {
    Model::new("each of two writes what the other has read")
        .rules("[X3]")
        .preemptions(Some(3))
        .outcomes(&["010", "100"])
        .check(|| {
            let world = World::new();
            let other = spawn(&world, |w| {
                atomically(|tx| match *tx.read(&w.x)? {
                    0 => tx.set(&w.y, 1),
                    _ => Ok(()),
                });
            });
            atomically(|tx| match *tx.read(&world.y)? {
                0 => tx.set(&world.x, 1),
                _ => Ok(()),
            });
            world.outcome([other])
        });
}

#[test]
fn a_read_and_two_writes() {
    Model::new("a transaction copies a cell that another thread writes")
        .rules("[X3]")
        .preemptions(Some(4))
        .outcomes(&["y0 11111", "y10 11010", "y11 11111"])
        .check(|| {
            let world = World::new();
            let writer = spawn(&world, |w| {
                w.x.set(1);
                // What was written before is seen by whoever has seen this.
                let copied = *w.y.read();
                w.note(format!("y{copied}"));
            });
            world.copy();
            world.outcome([writer])
        });
}

/// A reader who has seen a write, and not the transaction that read what was there before, must not
/// see that transaction later.
#[test]
fn a_reader_between_validation_and_commit() {
    Model::new("a transaction, a writer of what it reads, and a reader of both")
        .rules("[X3]")
        .preemptions(Some(2))
        .outcomes(&[
            "x0 y0 11010",
            "x0 y0 11111",
            "x0 y10 11010",
            "x1 y0 11111",
            "x1 y10 11010",
            "x1 y11 11111",
        ])
        .check(|| {
            let world = World::new();
            let copier = spawn(&world, |w| {
                w.copy();
            });
            let reader = spawn(&world, |w| {
                let (x, y) = atomically(|tx| Ok((*tx.read(&w.x)?, *tx.read(&w.y)?)));
                w.note(format!("x{x} y{y}"));
            });
            world.x.set(1);
            world.outcome([copier, reader])
        });
}

#[test]
fn a_transfer_against_a_write() {
    Model::new("a transaction and a write of one of its cells")
        .rules("[X2]")
        .preemptions(Some(3))
        .outcomes(&["1 1110", "2 1110"])
        .check(|| {
            let world = World::new();
            let writer = spawn(&world, |w| {
                w.x.update(|x| x + 10);
            });
            atomically(|tx| {
                tx.update(&world.x, |x| x + 1)?;
                tx.update(&world.y, |y| y + 1)
            });
            world.note(world.x.version());
            world.outcome([writer])
        });
}

#[test]
fn opposite_orders_both_commit() {
    Model::new("two transactions of two cells, in opposite orders")
        .rules("[X6]")
        .preemptions(Some(2))
        .outcomes(&["220"])
        .check(|| {
            let world = World::new();
            let other = spawn(&world, |w| {
                atomically(|tx| {
                    tx.update(&w.y, |y| y + 1)?;
                    tx.update(&w.x, |x| x + 1)
                });
            });
            atomically(|tx| {
                tx.update(&world.x, |x| x + 1)?;
                tx.update(&world.y, |y| y + 1)
            });
            world.outcome([other])
        });
}

/// Both lose their first attempts to writes that they make themselves, and so meet with an age.
#[test]
fn two_climb_the_ladder() {
    Model::new("two transactions with ages, in opposite orders")
        .rules("[X6]")
        .preemptions(Some(2))
        .outcomes(&["2 2"])
        .check(|| {
            let world = World::new();
            fn climb(first: &VersionedCell<u32>, second: &VersionedCell<u32>) {
                let lost_at = [VersionedCell::new(0), VersionedCell::new(0)];
                let mut attempts = 0;
                atomically(|tx| {
                    if let Some(lost_at) = lost_at.get(attempts) {
                        attempts += 1;
                        tx.read(lost_at)?;
                        lost_at.set(1);
                    }
                    tx.update(first, |n| n + 1)?;
                    tx.update(second, |n| n + 1)
                });
            }
            let other = spawn(&world, |w| climb(&w.y, &w.x));
            climb(&world.x, &world.y);
            other.join().unwrap();
            format!("{} {}", world.x.get(), world.y.get())
        });
}

#[test]
fn a_write_replaces_what_an_aborted_one_left() {
    Model::new("a write and a transaction that writes the cell and another blindly")
        .rules("[X7]")
        .preemptions(Some(4))
        .outcomes(&["110", "1110"])
        .check(|| {
            let world = World::new();
            let writer = spawn(&world, |w| {
                w.x.update(|x| x + 10);
            });
            world.set_both(1);
            world.outcome([writer])
        });
}

#[test]
fn a_commit_wakes_who_retries() {
    Model::new("one retries, a transaction writes what it has read")
        .rules("[X8]")
        .preemptions(Some(4))
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
            world.set_both(1);
            world.outcome([waiter])
        });
}

#[test]
fn a_write_wakes_who_retries() {
    Model::new("one retries for either of two cells, one of which is written")
        .rules("[X8]")
        .preemptions(Some(4))
        .outcomes(&["100"])
        .check(|| {
            let world = World::new();
            let waiter = spawn(&world, |w| {
                atomically(|tx| {
                    tx.or_else(
                        |tx| match *tx.read(&w.x)? {
                            0 => tx.retry(),
                            _ => Ok(()),
                        },
                        |tx| match *tx.read(&w.y)? {
                            0 => tx.retry(),
                            _ => Ok(()),
                        },
                    )
                });
            });
            world.x.set(1);
            world.outcome([waiter])
        });
}

/// Real crossbeam-epoch: whoever finds an owner in a node finds it alive.
#[test]
fn an_owner_is_alive_for_whoever_finds_it() {
    Model::new("a reader resolves a transaction that ends")
        .rules("[X1]")
        .preemptions(Some(1))
        .outcomes(&["00", "01", "11"])
        .check(|| {
            model::reclaim_in_model();
            let world = World::new();
            let writer = spawn(&world, |w| {
                w.set_both(1);
                latchwork::flush();
            });
            let (x, y) = (world.x.get(), world.y.get());
            writer.join().unwrap();
            format!("{x}{y}")
        });
}

/// A flush absorbs the owner of a commit that still runs, and advances the epoch once. A thread
/// that pins itself then does not hold the owner back, so no node of the owner may be left for it.
#[test]
fn an_owner_is_alive_for_whoever_pins_during_the_commit() {
    Model::new("a flush and a read beside a transaction that ends")
        .rules("[X1]")
        .preemptions(Some(2))
        .outcomes(&["0", "1"])
        .check(|| {
            model::reclaim_in_model();
            let world = World::new();
            let reader = spawn(&world, |w| {
                latchwork::flush();
                w.note(w.x.get());
            });
            world.set_both(1);
            latchwork::flush();
            let seen = world.outcome([reader]);
            seen.strip_suffix(" 110")
                .expect("both are written")
                .to_owned()
        });
}

/// The closure writes a cell and undoes that, when it already owns all that it meets. The claim of
/// the cell ends with the commit, because the owner does.
#[test]
fn a_claim_that_the_closure_does_not_use_ends_with_the_commit() {
    Model::new("a commit with a claim of a cell that it does not write")
        .rules("[X1]")
        .preemptions(Some(2))
        .outcomes(&["0 011"])
        .check(|| {
            model::reclaim_in_model();
            let world = World::new();
            let other = spawn(&world, |w| {
                latchwork::flush();
                w.note(w.x.get());
            });
            let lost_at = [VersionedCell::new(0), VersionedCell::new(0)];
            let mut attempts = 0;
            atomically(|tx| {
                if let Some(lost_at) = lost_at.get(attempts) {
                    attempts += 1;
                    tx.read(lost_at)?;
                    lost_at.set(1);
                }
                tx.or_else(
                    |tx| {
                        tx.set(&world.x, 7)?;
                        tx.retry()
                    },
                    |tx| tx.set(&world.y, 1),
                )?;
                tx.set(&world.z, 1)
            });
            latchwork::flush();
            world.outcome([other])
        });
}
