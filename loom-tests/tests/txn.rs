//! Transactions and snapshots, in every interleaving within a bound.
//!
//! Under loom a transaction has an age after one loss and owns all that it meets after two, and looks
//! at moments of the clock from the third cell on.

use std::fmt::Display;
use std::sync::Arc;

use latchwork::{Version, VersionedCell, atomically, model, snapshot};
use latchwork_loom_tests::{Model, Notes, spawn};
use loom::thread::JoinHandle;

struct World {
    x: VersionedCell<u32>,
    y: VersionedCell<u32>,
    z: VersionedCell<u32>,
    notes: Notes,
}

impl World {
    fn new() -> Arc<Self> {
        Arc::new(World {
            x: VersionedCell::new(0),
            y: VersionedCell::new(0),
            z: VersionedCell::new(0),
            notes: Notes::default(),
        })
    }

    fn note(&self, note: impl Display) {
        self.notes.note(note);
    }

    fn outcome(&self, threads: impl IntoIterator<Item = JoinHandle<()>>) -> String {
        let mut notes = self.notes.after(threads);
        notes.push(format!("{}{}{}", self.x.get(), self.y.get(), self.z.get()));
        notes.join(" ")
    }

    /// Sets two cells at once.
    fn set_both(&self, value: u32) {
        atomically(|tx| {
            tx.set(&self.x, value)?;
            tx.set(&self.y, value)
        });
    }

    /// Sets `y` and `z` to what it has read in `x`, and ten.
    fn copy(&self) -> u32 {
        atomically(|tx| {
            let seen = *tx.read(&self.x)?;
            tx.set(&self.y, 10 + seen)?;
            tx.set(&self.z, 10 + seen)?;
            Ok(seen)
        })
    }

    fn snapshot(&self) -> String {
        let (x, y, z) = snapshot(|s| (*s.read(&self.x), *s.read(&self.y), *s.read(&self.z)));
        format!("s{x},{y},{z}")
    }

    fn snapshot_of_two(&self, backwards: bool) -> String {
        let (x, y) = snapshot(|s| {
            if backwards {
                let y = *s.read(&self.y);
                (*s.read(&self.x), y)
            } else {
                (*s.read(&self.x), *s.read(&self.y))
            }
        });
        format!("s{x},{y}")
    }
}

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

/// The third read is the first at a moment of the clock.
#[test]
fn three_cells_change_at_once() {
    Model::new("a transaction reads at a moment what another writes")
        .rules("[X4]")
        .preemptions(Some(2))
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
        .preemptions(Some(2))
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
        .preemptions(Some(3))
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

/// A reader who has seen a write, and not the transaction that read what was there before, must not see that
/// transaction later.
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
        .preemptions(Some(1))
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
        .preemptions(Some(3))
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
            world.set_both(1);
            world.outcome([waiter])
        });
}

#[test]
fn a_write_wakes_who_retries() {
    Model::new("one retries for either of two cells, one of which is written")
        .rules("[X8]")
        .preemptions(Some(3))
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

#[test]
fn a_snapshot_beside_a_transaction() {
    Model::new("a snapshot and a transaction of two cells")
        .rules("[X5]")
        .preemptions(Some(3))
        .outcomes(&["s0,0,0 110", "s1,1,0 110"])
        .check(|| {
            let world = World::new();
            let writer = spawn(&world, |w| w.set_both(1));
            world.note(world.snapshot());
            world.outcome([writer])
        });
}

/// A snapshot that sees what was written after a transaction had read it sees the transaction too.
#[test]
fn a_snapshot_beside_a_transaction_and_a_writer() {
    for (name, yx) in [
        ("a snapshot, a transaction that reads, and a writer", false),
        ("the same, read backwards", true),
    ] {
        Model::new(name)
            .rules("[X5]")
            .preemptions(Some(2))
            .outcomes(&[
                "c0 s0,0,0 11010",
                "c0 s0,10,10 11010",
                "c0 s1,10,10 11010",
                "c1 s0,0,0 11111",
                "c1 s1,0,0 11111",
                "c1 s1,11,11 11111",
            ])
            .check(move || {
                let world = World::new();
                let copier = spawn(&world, |w| {
                    let seen = w.copy();
                    w.note(format!("c{seen}"));
                });
                let writer = spawn(&world, |w| {
                    w.x.set(1);
                });
                let (x, y, z) = snapshot(|s| {
                    if yx {
                        let (y, x) = (*s.read(&world.y), *s.read(&world.x));
                        (x, y, *s.read(&world.z))
                    } else {
                        (*s.read(&world.x), *s.read(&world.y), *s.read(&world.z))
                    }
                });
                world.note(format!("s{x},{y},{z}"));
                world.outcome([copier, writer])
            });
    }
}

#[test]
fn two_snapshots_beside_a_transaction() {
    Model::new("two snapshots and a transaction")
        .rules("[X5]")
        .preemptions(Some(2))
        .outcomes(&[
            "s0,0,0 s0,0,0 110",
            "s0,0,0 s1,1,0 110",
            "s1,1,0 s1,1,0 110",
        ])
        .check(|| {
            let world = World::new();
            let writer = spawn(&world, |w| w.set_both(1));
            let other = spawn(&world, |w| w.note(w.snapshot()));
            world.note(world.snapshot());
            world.outcome([writer, other])
        });
}

/// Who has written, and then reads what is beneath a commit that has read its clock already: the commit is later for snapshots too.
#[test]
fn a_snapshot_agrees_with_who_reads_beneath_a_commit() {
    for (name, pushes) in [
        ("a write and a read beneath a commit, and a snapshot", 1),
        ("the same, and the commit closes", 0),
    ] {
        Model::new(name)
            .rules("[X5] [C4]")
            .preemptions(Some(2))
            .outcomes(&[
                "r0 s00 111",
                "r0 s01 111",
                "r0 s11 111",
                "r1 s00 111",
                "r1 s01 111",
                "r1 s10 111",
                "r1 s11 111",
            ])
            .check(move || {
                model::set_max_pushes(pushes);
                let world = World::new();
                let other = spawn(&world, |w| {
                    w.z.set(1);
                    w.note(format!("r{}", w.x.get()));
                });
                let snapshot = spawn(&world, |w| {
                    let (x, z) = snapshot(|s| (*s.read(&w.x), *s.read(&w.z)));
                    w.note(format!("s{x}{z}"));
                });
                world.set_both(1);
                world.outcome([other, snapshot])
            });
    }
}

/// One that has read a cell before the commit was there decides it: after itself.
#[test]
fn a_snapshot_decides_a_commit_that_closes() {
    for (name, yx) in [
        ("a snapshot meets a commit that closes", false),
        ("the same, backwards", true),
    ] {
        Model::new(name)
            .rules("[X9]")
            .preemptions(Some(3))
            .outcomes(&["s0,0 110", "s1,1 110"])
            .check(move || {
                model::set_max_pushes(0);
                let world = World::new();
                let writer = spawn(&world, |w| w.set_both(1));
                world.note(world.snapshot_of_two(yx));
                world.outcome([writer])
            });
    }
}

/// Who has committed for an owner that has not fenced yet must not see half of it later.
#[test]
fn snapshots_of_one_thread_meet_a_commit_that_closes() {
    Model::new("two snapshots of one thread meet a commit that closes")
        .rules("[X9]")
        .preemptions(Some(2))
        .outcomes(&["0 s0,0 110", "0 s1,1 110", "1 s1,1 110"])
        .check(|| {
            model::make_fences_steps();
            model::set_max_pushes(0);
            let world = World::new();
            let other = spawn(&world, |w| {
                w.note(snapshot(|s| s.read(&w.x).to_string()));
                w.note(w.snapshot_of_two(true));
            });
            world.set_both(1);
            world.outcome([other])
        });
}

/// Whoever of the two comes later must not see half of what the other has decided. The owner is the thread that loom need not interrupt to begin
/// another, which leaves the bound for those who meet it.
#[test]
fn two_snapshots_meet_a_commit_that_closes() {
    Model::new("two snapshots meet a commit that closes")
        .rules("[X9] [X5]")
        .preemptions(Some(2))
        .outcomes(&["0 s0,0 110", "0 s1,1 110", "1 s0,0 110", "1 s1,1 110"])
        .check(|| {
            model::make_fences_steps();
            model::set_max_pushes(0);
            let world = World::new();
            let first = spawn(&world, |w| w.note(snapshot(|s| s.read(&w.x).to_string())));
            let second = spawn(&world, |w| w.note(w.snapshot_of_two(true)));
            world.set_both(1);
            world.outcome([first, second])
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

#[test]
fn a_snapshot_reads_what_is_replaced() {
    Model::new("a snapshot reads what a writer replaces and reclaims")
        .rules("[X5]")
        .preemptions(Some(1))
        .outcomes(&["00", "11"])
        .check(|| {
            model::reclaim_in_model();
            let world = World::new();
            let writer = spawn(&world, |w| {
                w.x.set(1);
                w.y.set(1);
                latchwork::flush();
            });
            let (x, y) = snapshot(|s| {
                let y = *s.read(&world.y);
                (*s.read(&world.x), y)
            });
            writer.join().unwrap();
            assert!(world.x.version() == Version::new(1));
            format!("{x}{y}")
        });
}
