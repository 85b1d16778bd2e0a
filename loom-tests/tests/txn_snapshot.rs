//! Snapshots beside transactions and writes, in every interleaving within a bound.

mod common;

use common::cells::World;
use latchwork::{cell::Version, model, snapshot};
use latchwork_loom_tests::{Model, spawn};

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

/// Who has written, and then reads what is beneath a commit that has read its clock already: the
/// commit is later for snapshots too.
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

/// Another snapshot begins an unused timestamp, at which this one advances nothing. A write that it
/// does not find must not get an earlier timestamp.
#[test]
fn a_snapshot_at_an_unused_timestamp_sees_a_cell_once() {
    Model::new("a snapshot reads a cell twice beside a writer and another snapshot")
        .rules("[C4]")
        .preemptions(Some(2))
        .outcomes(&["x0 100", "x1 100"])
        .check(|| {
            let world = World::new();
            let writer = spawn(&world, |w| {
                w.x.set(1);
            });
            let other = spawn(&world, |_| snapshot(|_| {}));
            let (first, second) = snapshot(|s| (*s.read(&world.x), *s.read(&world.x)));
            assert_eq!(first, second, "one moment, two values");
            world.note(format!("x{first}"));
            world.outcome([writer, other])
        });
}

/// A thread that has found a commit takes a snapshot: the timestamp of the commit is marked by
/// then, by its own thread or by a thread that has committed for it.
#[test]
fn a_snapshot_sees_the_commit_that_its_thread_has_read() {
    for (name, copies) in [
        ("a read and then a snapshot, beside a transaction", false),
        ("the same, and the transaction relies on a read", true),
    ] {
        Model::new(name)
            .rules("[X5]")
            .preemptions(Some(3))
            .outcomes(if copies {
                &["r0 s0 01010", "r0 s10 01010", "r10 s10 01010"]
            } else {
                &["r0 s0 110", "r0 s1 110", "r1 s1 110"]
            })
            .check(move || {
                let world = World::new();
                snapshot(|_| {});
                let writer = spawn(&world, move |w| {
                    if copies {
                        w.copy();
                    } else {
                        w.set_both(1);
                    }
                });
                let read = world.y.get();
                let seen = snapshot(|s| *s.read(&world.y));
                world.note(format!("r{read} s{seen}"));
                world.outcome([writer])
            });
    }
}

/// The first snapshot commits for the owner, at a timestamp that began unused. The next snapshot of
/// its thread must not read before it.
#[test]
fn a_snapshot_sees_what_its_thread_has_committed_for_another() {
    Model::new("a snapshot that commits for another, a read, and a snapshot")
        .rules("[X9] [X5]")
        .preemptions(Some(3))
        .outcomes(&[
            "s0 r0 s0 110",
            "s0 r0 s1 110",
            "s0 r1 s1 110",
            "s1 r1 s1 110",
        ])
        .check(|| {
            model::set_max_pushes(0);
            let world = World::new();
            let writer = spawn(&world, |w| w.set_both(1));
            let first = snapshot(|s| *s.read(&world.x));
            let read = world.x.get();
            let second = snapshot(|s| *s.read(&world.x));
            world.note(format!("s{first} r{read} s{second}"));
            world.outcome([writer])
        });
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

/// One that has only read a cell does not close: whoever decided it would not look at that cell.
#[test]
fn a_commit_that_relies_on_a_read_does_not_close() {
    Model::new("a copy beside a writer, and a snapshot that meets it")
        .rules("[X9] [X3]")
        .preemptions(Some(2))
        .outcomes(&["y0 11111", "y10 11010", "y11 11111"])
        .check(|| {
            model::set_max_pushes(0);
            let world = World::new();
            let writer = spawn(&world, |w| {
                w.x.set(1);
                let copied = *w.y.read();
                w.note(format!("y{copied}"));
            });
            let looker = spawn(&world, |w| {
                snapshot(|s| *s.read(&w.y));
            });
            world.copy();
            world.outcome([writer, looker])
        });
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

/// Whoever of the two comes later must not see half of what the other has decided. The owner is the
/// thread that loom need not interrupt to begin another, which leaves the bound for those who meet
/// it.
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

#[test]
fn a_snapshot_reads_what_is_replaced() {
    for (name, quiet) in [
        (
            "a snapshot reads what a writer replaces and reclaims",
            false,
        ),
        ("the same, at an unused timestamp", true),
    ] {
        Model::new(name)
            .rules("[X5]")
            .preemptions(Some(1))
            .outcomes(&["00", "11"])
            .check(move || {
                model::reclaim_in_model();
                let world = World::new();
                if quiet {
                    snapshot(|_| {});
                }
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
}
