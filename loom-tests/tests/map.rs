//! Maps: one entry for each key, growth and burial, in every interleaving within a bound.

mod common;

use std::hash::BuildHasherDefault;

use common::Itself;
use common::maps::{KEY, OTHER, World};
use common::watched::{self, Watched};
use latchwork::{VersionedMap, model};
use latchwork_loom_tests::{Model, spawn};

#[global_allocator]
static ALLOCATOR: Watched = Watched;

#[test]
fn two_inserts_make_one_entry() {
    Model::new("two inserts of one key")
        .rules("[V1]")
        .preemptions(None)
        .outcomes(&["i- i1 1 e1", "i- i1 2 e1"])
        .check(|| {
            let world = World::new();
            let other = spawn(&world, |world| world.insert_if_absent(KEY, 1));
            world.insert_if_absent(KEY, 2);
            world.outcome([other])
        });
}

/// They contend for one slot, and both get one.
#[test]
fn inserts_of_two_keys_in_one_line() {
    Model::new("inserts of two keys in one line")
        .rules("[V1]")
        .preemptions(None)
        .outcomes(&["i1 i1 1 e2"])
        .check(|| {
            let world = World::new();
            let other = spawn(&world, |world| world.insert_if_absent(KEY, 1));
            world.insert_if_absent(OTHER, 2);
            assert_eq!(world.get(OTHER), "2");
            world.outcome([other])
        });
}

#[test]
fn a_get_beside_an_insert_sees_it_whole() {
    Model::new("a get beside an insert")
        .rules("[V2]")
        .preemptions(None)
        .outcomes(&["g- i1 1 e1", "g1 i1 1 e1"])
        .check(|| {
            let world = World::new();
            let other = spawn(&world, |world| world.insert_if_absent(KEY, 1));
            world.note(format!("g{}", world.get(KEY)));
            world.outcome([other])
        });
}

#[test]
fn a_get_beside_a_removal_and_an_insert() {
    Model::new("a get beside a removal, a burial and an insert")
        .rules("[V2] [V4]")
        .preemptions(Some(3))
        .outcomes(&["g- i3 2 e1", "g1 i3 2 e1", "g2 i3 2 e1"])
        .check(|| {
            let world = World::new();
            world.map.insert(KEY, 1);
            let other = spawn(&world, |world| {
                world.map.remove(&KEY);
                world.bury();
                world.insert_if_absent(KEY, 2);
            });
            world.note(format!("g{}", world.get(KEY)));
            world.outcome([other])
        });
}

#[test]
fn a_burial_against_an_insert() {
    Model::new("a burial beside an insert of the same key")
        .rules("[V4] [V6]")
        .preemptions(None)
        .outcomes(&["i3 new 2 e1", "i3 same 2 e1"])
        .check(|| {
            let world = World::new();
            world.map.insert(KEY, 1);
            let before = world.entry();
            world.map.remove(&KEY);
            let other = spawn(&world, |world| world.bury());
            world.insert_if_absent(KEY, 2);
            let is_same = world.entry() == before;
            world.note(if is_same { "same" } else { "new" });
            world.outcome([other])
        });
}

/// Both inserts pass the dead entry, or one of them writes over the tombstone.
#[test]
fn an_insert_passes_a_dead_entry() {
    Model::new("two inserts beside a burial")
        .rules("[V1] [V4]")
        .preemptions(Some(3))
        .outcomes(&["i- i3 1 e1", "i- i3 2 e1"])
        .check(|| {
            let world = World::with_a_removed_key();
            let bury = spawn(&world, |world| world.bury());
            let other = spawn(&world, |world| world.insert_if_absent(KEY, 1));
            world.insert_if_absent(KEY, 2);
            world.outcome([bury, other])
        });
}

/// The record of the first removal must not bury the tombstone of the second one early, nor twice.
#[test]
fn a_burial_against_insert_and_remove() {
    Model::new("a burial beside an insert and a removal")
        .rules("[V4] [V11]")
        .preemptions(Some(3))
        .outcomes(&["i3 - e0", "i3 - e1"])
        .check(|| {
            let world = World::with_a_removed_key();
            let other = spawn(&world, |world| {
                world.insert_if_absent(KEY, 2);
                world.map.remove(&KEY);
            });
            world.bury();
            let outcome = world.outcome([other]);
            world.bury();
            world.bury();
            let left = world.map.stats();
            assert_eq!(
                (left.entries, left.removed),
                (0, 0),
                "an entry is forgotten"
            );
            outcome
        });
}

#[test]
fn versions_grow_over_a_burial() {
    Model::new("versions of a key beside its burial")
        .rules("[V6]")
        .preemptions(Some(3))
        .outcomes(&["i1 2 e2", "i3 2 e2"])
        .check(|| {
            let world = World::with_a_removed_key();
            // Both have one floor.
            let bury = spawn(&world, |world| world.bury());
            let other = spawn(&world, |world| {
                world.insert_if_absent(OTHER, 1);
            });
            let (version, _) = world.map.insert(KEY, 2);
            assert!(version.get() > 2, "a version that was used");
            world.outcome([bury, other])
        });
}

#[test]
fn two_inserts_beside_a_copy_make_one_entry() {
    Model::new("two inserts of one key beside a copy")
        .rules("[V1] [V8]")
        .preemptions(Some(2))
        .outcomes(&["i- i1 1 e1", "i- i1 2 e1"])
        .check(|| {
            let world = World::new();
            world.map.grow_in_model(2);
            let copier = spawn(&world, World::copy);
            let other = spawn(&world, |world| world.insert_if_absent(KEY, 1));
            world.insert_if_absent(KEY, 2);
            world.outcome([copier, other])
        });
}

/// The copier has frozen the first slot: the inserts use the next table, and do not wait.
#[test]
fn two_inserts_beside_a_copy_that_is_stopped() {
    Model::new("two inserts of one key in a map that was copied in part")
        .rules("[V1] [V8]")
        .preemptions(Some(3))
        .outcomes(&["i- i1 1 e1", "i- i1 2 e1"])
        .check(|| {
            let world = World::new();
            world.map.grow_in_model(2);
            assert!(world.map.copy_in_model());
            let other = spawn(&world, |world| world.insert_if_absent(KEY, 1));
            world.insert_if_absent(KEY, 2);
            assert_ne!(world.get(KEY), "-");
            world.outcome([other])
        });
}

#[test]
fn an_insert_beside_a_copy_and_a_get() {
    Model::new("an insert and a get beside a copy")
        .rules("[V1] [V8]")
        .preemptions(Some(2))
        .outcomes(&["g- i1 1 e2", "g1 i1 1 e2"])
        .check(|| {
            let world = World::new();
            world.map.insert(OTHER, 7);
            world.map.grow_in_model(2);
            let copier = spawn(&world, World::copy);
            let other = spawn(&world, |world| world.insert_if_absent(KEY, 1));
            world.note(format!("g{}", world.get(KEY)));
            // Never absent.
            assert_eq!(world.get(OTHER), "7");
            world.outcome([copier, other])
        });
}

/// The slots of the entry are unlinked in both tables, or it is in none.
#[test]
fn a_copy_beside_a_burial() {
    Model::new("a copy beside a removal and a burial")
        .rules("[V3] [V8]")
        .preemptions(Some(2))
        .outcomes(&["g- - e1", "g- - e2"])
        .check(|| {
            let world = World::with_a_removed_key();
            world.map.insert(OTHER, 7);
            world.map.grow_in_model(2);
            let copier = spawn(&world, World::copy);
            let bury = spawn(&world, |world| world.bury());
            world.note(format!("g{}", world.get(KEY)));
            assert_eq!(world.get(OTHER), "7");
            let outcome = world.outcome([copier, bury]);
            world.bury();
            // The key that stays is in one table, or in both.
            world.copy();
            world.copy();
            assert_eq!(world.map.stats().entries, 1);
            assert_eq!(world.map.linked_in_model(), 1, "a dead entry is linked");
            outcome
        });
}

/// The waiter keeps its entry, or finds the dead one and searches again. Each vacant entry that it
/// makes has a version of its own.
#[test]
fn an_insert_wakes_a_waiter_for_an_absent_key() {
    Model::new("a waiter for an absent key beside a burial and an insert")
        .rules("[V10]")
        .preemptions(Some(3))
        .outcomes(&["w3 2 e1", "w4 2 e1", "w5 2 e1"])
        .check(|| {
            let world = World::with_a_removed_key();
            let other = spawn(&world, |world| {
                world.bury();
                world.map.insert(KEY, 2);
            });
            let seen = world.map.wait_changed(&KEY, None);
            world.note(format!("w{}", seen.unwrap()));
            world.outcome([other])
        });
}

/// The reader may be in the table that was replaced, which still has the entry.
#[test]
fn a_reader_in_a_table_that_was_replaced() {
    Model::new("a reader beside a copy, a removal, a burial and a flush")
        .rules("[V3] [V8]")
        .preemptions(Some(2))
        .outcomes(&["g- - e0", "g- - e1", "g1 - e0", "g1 - e1"])
        .check(|| {
            model::reclaim_in_model();
            let world = World::new();
            world.map.insert(KEY, 1);
            world.map.grow_in_model(2);
            let other = spawn(&world, |world| {
                world.copy();
                world.map.remove(&KEY);
                world.map.end_grace_in_model();
                world.bury();
                latchwork::flush();
            });
            world.note(format!("g{}", world.get(KEY)));
            world.outcome([other])
        });
}

/// The room of the entry is free once the first node was released, which waits for the reader. The
/// thread that releases the node is not the one that uses the room again.
#[test]
fn a_room_is_used_again_after_its_readers() {
    Model::new("a reader beside a flush, and an update in the room")
        .rules("[V16]")
        .preemptions(Some(2))
        .outcomes(&["g1 3 e1", "g2 3 e1", "g3 3 e1"])
        .check(|| {
            model::reclaim_in_model();
            let world = World::new();
            world.map.insert(KEY, 1);
            let flush = spawn(&world, |world| {
                world.map.update(&KEY, |n| n + 1);
                latchwork::flush();
            });
            let get = spawn(&world, |world| world.note(format!("g{}", world.get(KEY))));
            flush.join().unwrap();
            world.map.update(&KEY, |n| n + 1);
            world.outcome([get])
        });
}

/// One of them enters the room, and the other has memory of its own.
#[test]
fn two_updates_enter_one_room() {
    Model::new("two updates of an entry whose room is free")
        .rules("[V16]")
        .preemptions(Some(3))
        .outcomes(&["4 e1"])
        .check(|| {
            model::reclaim_in_model();
            let world = World::new();
            world.map.insert(KEY, 1);
            world.map.update(&KEY, |n| n + 1);
            latchwork::flush();
            let other = spawn(&world, |world| {
                world.map.update(&KEY, |n| n + 1);
            });
            world.map.update(&KEY, |n| n + 1);
            world.outcome([other])
        });
}

/// The value that is shared leaves the room before the entry, or after it.
#[test]
fn a_shared_value_and_its_entry_free_one_memory() {
    Model::new("a shared value in the room of an entry that is freed")
        .rules("[V16]")
        .preemptions(Some(2))
        .outcomes(&["- e0"])
        .check(|| {
            model::reclaim_in_model();
            let world = World::new();
            world.map.insert(KEY, 1);
            let shared = world.map.get_owned(&KEY).expect("it was inserted");
            let other = loom::thread::spawn(move || {
                assert_eq!(*shared, 1);
                drop(shared);
            });
            world.map.remove(&KEY);
            world.map.end_grace_in_model();
            world.bury();
            latchwork::flush();
            world.outcome([other])
        });
}

/// The update finds the room used, or enters it after the last use by the thread that releases its
/// node.
#[test]
fn an_update_enters_a_room_beside_its_release() {
    Model::new("an update beside the flush that frees the room")
        .rules("[V16]")
        .preemptions(Some(2))
        .outcomes(&["own 3 e1", "room 3 e1"])
        .check(|| {
            model::reclaim_in_model();
            let world = World::new();
            world.map.insert(KEY, 1);
            let room = world.value();
            world.map.update(&KEY, |n| n + 1);
            let flush = spawn(&world, |_| latchwork::flush());
            world.map.update(&KEY, |n| n + 1);
            let is_in_room = world.value() == room;
            world.note(if is_in_room { "room" } else { "own" });
            world.outcome([flush])
        });
}

/// The map ends while another thread releases a node that was replaced. The memory of its entry is
/// freed once: with the map, or by a later flush.
#[test]
fn a_map_ends_beside_the_release_of_a_room() {
    /// The memory of its entry is too large to be kept by a thread.
    type Large = [u64; 40];
    Model::new("the end of a map beside the flush that frees a room")
        .rules("[V16]")
        .preemptions(Some(3))
        .outcomes(&["0 0 1", "0 1 1", "1 0 1", "1 1 1"])
        .check(|| {
            model::reclaim_in_model();
            let map = VersionedMap::<u64, Large, BuildHasherDefault<Itself>>::default();
            map.insert(KEY, [1; 40]);
            let pin = latchwork::pin();
            let (key, _) = map.get_key_value_in(&pin, &KEY).expect("it was inserted");
            let memory = std::ptr::from_ref(key).addr();
            drop(pin);
            map.update(&KEY, |_| [2; 40]);
            watched::watch(memory);
            let flush = loom::thread::spawn(|| {
                latchwork::flush();
                watched::frees()
            });
            drop(map);
            let freed = watched::frees();
            let other = flush.join().unwrap();
            latchwork::flush();
            format!("{freed} {other} {}", watched::frees())
        });
}

/// One thread has the last share of a value that was replaced, and leaves the room while another
/// thread releases the entry, unless the other one is pinned. The memory is freed once.
#[test]
fn an_entry_and_its_node_leave_at_once() {
    /// The memory of its entry is too large to be kept by a thread.
    type Large = [u64; 40];
    Model::new("the last share of a node beside the release of its entry")
        .rules("[V16]")
        .preemptions(Some(3))
        .outcomes(&["0 1", "1 1"])
        .check(|| {
            model::reclaim_in_model();
            let map = VersionedMap::<u64, Large, BuildHasherDefault<Itself>>::default();
            map.insert(KEY, [1; 40]);
            let pin = latchwork::pin();
            let (key, _) = map.get_key_value_in(&pin, &KEY).expect("it was inserted");
            let memory = std::ptr::from_ref(key).addr();
            drop(pin);
            let shared = map.get_owned(&KEY).expect("it was inserted");
            map.remove(&KEY);
            // Afterwards the share is the only one.
            latchwork::flush();
            map.end_grace_in_model();
            map.bury_in_model(2);
            watched::watch(memory);
            let node = loom::thread::spawn(move || {
                drop(shared);
                watched::frees()
            });
            latchwork::flush();
            let frees = node.join().unwrap();
            latchwork::flush();
            format!("{frees} {}", watched::frees())
        });
}

/// One thread has the last share of a value that was replaced, and leaves the room while another
/// thread buries the entry and releases it.
#[test]
fn a_node_leaves_beside_the_burial_of_its_entry() {
    /// The memory of its entry is too large to be kept by a thread.
    type Large = [u64; 40];
    Model::new("the last share of a node beside the burial of its entry")
        .rules("[V16]")
        .preemptions(Some(2))
        .outcomes(&["0 1", "1 1"])
        .check(|| {
            model::reclaim_in_model();
            let map = VersionedMap::<u64, Large, BuildHasherDefault<Itself>>::default();
            map.insert(KEY, [1; 40]);
            let pin = latchwork::pin();
            let (key, _) = map.get_key_value_in(&pin, &KEY).expect("it was inserted");
            let memory = std::ptr::from_ref(key).addr();
            drop(pin);
            let shared = map.get_owned(&KEY).expect("it was inserted");
            map.remove(&KEY);
            // Afterwards the share is the only one.
            latchwork::flush();
            watched::watch(memory);
            let node = loom::thread::spawn(move || {
                drop(shared);
                watched::frees()
            });
            map.end_grace_in_model();
            map.bury_in_model(2);
            latchwork::flush();
            let frees = node.join().unwrap();
            map.end_grace_in_model();
            map.bury_in_model(2);
            latchwork::flush();
            format!("{frees} {}", watched::frees())
        });
}
