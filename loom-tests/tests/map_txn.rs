//! Maps in transactions and snapshots, and their memory, in every interleaving within a bound.

mod common;

use common::arena::Ascending;
use common::maps::{KEY, OTHER, World};
use latchwork::{atomically, model, snapshot};
use latchwork_loom_tests::{Model, spawn};

#[global_allocator]
static ALLOCATOR: Ascending = Ascending;

fn show(value: Option<&u64>) -> String {
    value.map_or("-".to_owned(), u64::to_string)
}

/// Reads a key, and inserts another one with the value that was found, plus ten.
fn copy(world: &World, from: u64, to: u64) {
    let seen = atomically(|tx| {
        let seen = tx.get(&world.map, &from)?.copied();
        tx.insert(&world.map, to, 10 + seen.unwrap_or(0))?;
        Ok(seen)
    });
    world.note(format!("c{}", show(seen.as_ref())));
}

/// The transaction has read the tombstone, or finds the dead node when it commits.
#[test]
fn a_burial_against_a_transaction() {
    Model::new("a burial beside a transaction that inserts the key")
        .rules("[V4]")
        .preemptions(Some(3))
        .outcomes(&["c- 10 e1", "c- 10 e2"])
        .check(|| {
            let world = World::with_a_removed_key();
            let other = spawn(&world, |world| world.bury());
            copy(&world, OTHER, KEY);
            world.outcome([other])
        });
}

/// The first transaction relies on the absence of a key whose tombstone is buried concurrently, and
/// the second one inserts the key anew: at least one finds the other.
#[test]
fn absence_by_a_tombstone_against_a_burial_and_an_insert() {
    Model::new("write skew over a key that is buried")
        .rules("[V4] [X3]")
        .preemptions(Some(2))
        .outcomes(&["c- c10 10 e1 x20", "c- c10 20 e1 x10"])
        .check(|| {
            model::make_fences_steps();
            let world = World::with_a_removed_key();
            let other = spawn(&world, |world| {
                world.bury();
                let x = atomically(|tx| {
                    let x = *tx.read(&world.x)?;
                    tx.insert(&world.map, KEY, 10 + x)?;
                    Ok(x)
                });
                world.note(format!("c{}", show((x > 0).then_some(&x))));
            });
            let seen = atomically(|tx| {
                let seen = tx.get(&world.map, &KEY)?.copied();
                tx.set(&world.x, 10 + seen.unwrap_or(0))?;
                Ok(seen)
            });
            world.note(format!("c{}", show(seen.as_ref())));
            let outcome = world.outcome([other]);
            format!("{outcome} x{}", world.x.get())
        });
}

/// Both keys are absent, and were never there.
#[test]
fn write_skew_over_absent_keys() {
    Model::new("write skew over absent keys")
        .rules("[V1] [X3]")
        .preemptions(Some(2))
        .outcomes(&["c- c10 10 e2 o20", "c- c10 20 e2 o10"])
        .check(|| {
            let world = World::new();
            let other = spawn(&world, |world| copy(world, OTHER, KEY));
            copy(&world, KEY, OTHER);
            let outcome = world.outcome([other]);
            format!("{outcome} o{}", world.get(OTHER))
        });
}

#[test]
fn a_snapshot_beside_an_insert() {
    Model::new("a snapshot of two keys beside inserts")
        .rules("[V7]")
        .preemptions(Some(3))
        .outcomes(&["s-- 1 e2", "s1- 1 e2", "s12 1 e2"])
        .check(|| {
            model::make_fences_steps();
            let world = World::new();
            let other = spawn(&world, |world| {
                world.map.insert(KEY, 1);
                world.map.insert(OTHER, 2);
            });
            let seen = snapshot(|view| {
                // The earlier insert first: the later one may happen between the two calls.
                let first = show(view.get(&world.map, &KEY));
                format!("s{first}{}", show(view.get(&world.map, &OTHER)))
            });
            assert_ne!(seen, "s-2", "the later insert alone");
            world.note(seen);
            world.outcome([other])
        });
}

/// A scan walks the tables while the map grows; the key that was there before is there once.
#[test]
fn a_scan_beside_an_insert_and_a_copy() {
    Model::new("a scan beside an insert and a copy")
        .rules("[V9]")
        .preemptions(Some(2))
        .outcomes(&["s1 1 e2", "s12 1 e2"])
        .check(|| {
            let world = World::new();
            world.map.insert(KEY, 1);
            world.map.grow_in_model(2);
            let copier = spawn(&world, World::copy);
            let other = spawn(&world, |world| drop(world.map.insert(OTHER, 2)));
            let mut seen: Vec<_> = snapshot(|view| {
                let all = view.iter(&world.map).map(|(_, value)| value.to_string());
                all.collect()
            });
            seen.sort();
            assert_eq!(seen.iter().filter(|value| *value == "1").count(), 1);
            world.note(format!("s{}", seen.concat()));
            world.outcome([copier, other])
        });
}

/// The window of the key in the next table is full, so its copy is in the table after that. The
/// walk may begin before the root is replaced, or after it.
#[test]
fn a_scan_finds_a_copy_beyond_a_full_window() {
    /// Their home lines in a table of four lines are that of `KEY`.
    const BESIDE: [u64; 2] = [2, 10];
    Model::new("a scan beside a copy past a full window")
        .rules("[V9]")
        .preemptions(Some(3))
        .outcomes(&["s1234 1 e4"])
        .check(|| {
            let world = World::new();
            world.map.insert(KEY, 1);
            world.map.insert(OTHER, 2);
            world.map.grow_in_model(2);
            for (key, value) in BESIDE.into_iter().zip(3..) {
                world.map.insert(key, value);
            }
            let copier = spawn(&world, World::copy);
            let mut seen: Vec<_> = snapshot(|view| {
                let all = view.iter(&world.map).map(|(_, value)| value.to_string());
                all.collect()
            });
            seen.sort();
            world.note(format!("s{}", seen.concat()));
            let outcome = world.outcome([copier]);
            let (linked, capacity) = (world.map.linked_in_model(), world.map.stats().capacity);
            assert_eq!(
                (linked, capacity),
                (4, 8),
                "no copy has passed a full window"
            );
            outcome
        });
}

/// The snapshot may begin before the removal, after it, or after the burial.
#[test]
fn a_snapshot_keeps_the_entries_that_it_shows() {
    Model::new("a snapshot beside a removal, a burial and an insert")
        .rules("[V5] [V3]")
        .preemptions(Some(2))
        .outcomes(&["s- 2 e1", "s1 2 e1", "s2 2 e1"])
        .check(|| {
            model::reclaim_in_model();
            let world = World::new();
            world.map.insert(KEY, 1);
            let other = spawn(&world, |world| {
                world.x.set(1);
                world.map.remove(&KEY);
                world.map.end_grace_in_model();
                world.bury();
                latchwork::flush();
                world.map.insert(KEY, 2);
            });
            let seen = snapshot(|view| {
                let by_key = show(view.get(&world.map, &KEY));
                let all = view.iter(&world.map).map(|(_, value)| value.to_string());
                let all: String = all.collect();
                let all = if all.is_empty() { "-".to_owned() } else { all };
                assert_eq!(by_key, all, "two instants");
                let was_removed = by_key != "1";
                assert!(
                    !was_removed || *view.read(&world.x) == 1,
                    "the later removal alone"
                );
                by_key
            });
            world.note(format!("s{seen}"));
            world.outcome([other])
        });
}

/// The grace period of the first removal is over, and that of the second one begins.
#[test]
fn a_record_does_not_bury_a_later_tombstone() {
    Model::new("a snapshot beside a second removal")
        .rules("[V5] [V11]")
        .preemptions(Some(2))
        .outcomes(&["s- - e1", "s3 - e1"])
        .check(|| {
            model::reclaim_in_model();
            let world = World::with_a_removed_key();
            world.map.end_grace_in_model();
            world.map.insert(KEY, 3);
            let other = spawn(&world, |world| {
                world.x.set(1);
                world.map.remove(&KEY);
                world.map.bury_in_model(1);
            });
            let seen = snapshot(|view| {
                let seen = show(view.get(&world.map, &KEY));
                let x = *view.read(&world.x);
                assert!(seen != "-" || x == 1, "the later removal alone");
                seen
            });
            world.note(format!("s{seen}"));
            world.outcome([other])
        });
}

#[test]
fn a_reader_keeps_the_entry_that_it_reads() {
    Model::new("a reader beside a removal, a burial and a flush")
        .rules("[V3] [R1]")
        .preemptions(Some(2))
        .outcomes(&["g- - e0", "g- - e1", "g51 - e0", "g51 - e1"])
        .check(|| {
            model::reclaim_in_model();
            let world = World::new();
            world.map.insert(KEY, 1);
            let other = spawn(&world, |world| {
                world.map.remove(&KEY);
                world.map.end_grace_in_model();
                world.bury();
                latchwork::flush();
                latchwork::flush();
            });
            {
                let pin = latchwork::pin();
                let found = world.map.get_key_value_in(&pin, &KEY);
                world.note(
                    found.map_or("g-".to_owned(), |(key, value)| format!("g{key}{}", *value)),
                );
            }
            world.outcome([other])
        });
}

#[test]
fn a_retry_waits_for_an_absent_key() {
    Model::new("a transaction waits for an absent key beside a burial and an insert")
        .rules("[V10] [X8]")
        .preemptions(Some(2))
        .outcomes(&["r2 2 e1"])
        .check(|| {
            let world = World::with_a_removed_key();
            let other = spawn(&world, |world| {
                world.bury();
                world.map.insert(KEY, 2);
            });
            let seen = atomically(|tx| match tx.get(&world.map, &KEY)? {
                None => tx.retry(),
                Some(value) => Ok(*value),
            });
            world.note(format!("r{seen}"));
            world.outcome([other])
        });
}
