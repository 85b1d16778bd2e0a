//! Tables whose roots grow and shrink: by one thread, whose answers are exact, and under threads.

use std::collections::{HashMap, HashSet};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::common::hashers::Place;
use crate::common::{Rng, assert_as_new, until_waits, watchdog};
use crate::table::Cell;
use latchwork::table::ExclusiveGuard;
use latchwork::{LockTable, Mode};

type Table = LockTable<u64, Place>;

/// The number of random keys that make a root of 1,024 slots grow: a fifth more than needed.
const CROWD: u64 = 3_000;

/// A table with a root of 1,024 slots, whose hashes are the keys, and its bytes.
fn small() -> (Table, usize) {
    let table = LockTable::<u64>::builder().hasher(Place::Identity);
    let table = table.expected_locks(1).build();
    let fresh = table.stats().index_bytes;
    (table, fresh)
}

fn random_keys(seed: u64, n: u64) -> Vec<u64> {
    let mut rng = Rng::new(seed);
    (0..n).map(|_| rng.draw()).collect()
}

fn growths(table: &Table) -> (u64, u64) {
    let stats = table.stats();
    (stats.growths, stats.shrinks)
}

/// Locks and unlocks keys that share slots, so that a root that is larger than the first shrinks.
fn churn_until_as_new(table: &Table, fresh: usize) {
    let mut rng = Rng::new(77);
    for _ in 0..2_000 {
        if table.stats().index_bytes == fresh {
            break;
        }
        let low = rng.below(1 << 14);
        let keys = [low | 1 << 40, low | 1 << 41];
        drop(keys.map(|key| table.lock(&key)));
        for _ in 0..200 {
            drop(table.lock(&rng.draw()));
        }
    }
    assert_as_new(table, fresh);
}

/// One thread holds more and more keys, then fewer and fewer. The table answers exactly all the
/// time, including while a move is in progress.
#[test]
fn a_root_that_grows_forgets_no_key_and_invents_none() {
    let (table, fresh) = small();
    let keys = random_keys(1, 3 * CROWD);
    let mut guards = Vec::new();
    let mut moving = 0;
    let check = |held: &[u64]| {
        assert_eq!(table.locked_count(), held.len());
        let listed: HashSet<u64> = table
            .inspect()
            .iter()
            .map(|lock| lock.key_id.get())
            .collect();
        assert_eq!(listed, held.iter().copied().collect());
    };
    for (n, key) in keys.iter().enumerate() {
        guards.push(table.lock(key));
        let before = &keys[n / 2];
        assert!(table.try_lock(before).is_none() && table.try_lock_shared(key).is_none());
        assert_eq!(table.mode(key), Some(Mode::Exclusive));
        let bytes = table.stats().index_bytes;
        moving += u64::from(growths(&table).0 == 1 && bytes < 8 * fresh && bytes > 16 * fresh);
        if n % 97 == 0 {
            check(&keys[..=n]);
        }
    }
    assert_eq!((moving, growths(&table)), (0, (1, 0)));
    let mut left = keys.len();
    while let Some(guard) = guards.pop() {
        drop(guard);
        left -= 1;
        assert_eq!(table.mode(&keys[left]), None);
        if left % 97 == 0 {
            check(&keys[..left]);
        }
    }
    assert_eq!(growths(&table).1, 1);
    churn_until_as_new(&table, fresh);
}

/// Every operation on a held key works in the middle of a move, and a token stays greater than the
/// last.
#[test]
fn keys_are_released_downgraded_and_upgraded_while_they_move() {
    let (table, fresh) = small();
    let keys = random_keys(2, CROWD);
    let shared = random_keys(3, 64);
    let mut readers: Vec<_> = shared.iter().map(|key| table.lock_shared(key)).collect();
    let mut tokens: Vec<_> = shared.iter().map(|key| key ^ 1 << 63).collect();
    tokens.dedup();
    let first: Vec<_> = tokens.iter().map(|key| table.lock(key).token()).collect();
    let mut guards = Vec::new();
    for key in &keys {
        guards.push(table.lock(key));
        if growths(&table).0 == 1 {
            break;
        }
    }
    assert_eq!(growths(&table).0, 1, "a move is in progress");
    for (reader, key) in readers.drain(..).zip(&shared) {
        let second = table.lock_shared(key);
        let reader = reader.try_upgrade().expect_err("there are two readers");
        drop(second);
        let writer = reader.try_upgrade().expect("the only reader");
        assert!(table.try_lock_shared(key).is_none());
        let reader = writer.downgrade();
        assert_eq!(table.mode(key), Some(Mode::Shared));
        drop(reader);
    }
    for (key, first) in tokens.iter().zip(first) {
        assert!(table.lock(key).token() > first);
    }
    drop(guards);
    churn_until_as_new(&table, fresh);
}

/// A table is dropped in the middle of a move, with keys that are never unlocked and a monitor.
#[test]
fn a_table_is_dropped_in_the_middle_of_a_move() {
    for extra in 0..3 {
        let (table, _) = small();
        (0..200).for_each(|_| core::mem::forget(table.lock_shared(&7)));
        for key in random_keys(4, CROWD) {
            core::mem::forget(table.lock(&key));
            if growths(&table).0 == 1 {
                break;
            }
        }
        assert_eq!(growths(&table), (1, 0));
        random_keys(5, extra)
            .iter()
            .for_each(|key| core::mem::forget(table.lock(key)));
        assert_eq!(table.stats().monitors, 1);
    }
}

/// Threads that wait for a key, in a queue or with a deadline, while the root moves.
#[test]
fn waiters_keep_their_places_while_the_root_moves() {
    let _dog = watchdog("waiters_keep_their_places_while_the_root_moves");
    let (table, fresh) = small();
    let wanted = random_keys(6, 6);
    let first: Vec<_> = wanted.iter().map(|key| table.lock(key)).collect();
    thread::scope(|scope| {
        for key in &wanted {
            let table = &table;
            scope.spawn(move || drop(table.lock(key)));
            scope.spawn(move || drop(table.lock_shared(key)));
            scope.spawn(move || table.try_lock_for(key, Duration::from_millis(1)).is_some());
        }
        until_waits(&table, 18);
        let guards: Vec<_> = random_keys(7, CROWD)
            .iter()
            .map(|key| table.lock(key))
            .collect();
        assert_eq!(growths(&table).0, 1);
        drop(first);
        drop(guards);
    });
    churn_until_as_new(&table, fresh);
}

/// Threads hold crowds of keys of their own, so that the root grows and shrinks again and again,
/// and meet at a few keys, whose exclusion an oracle checks.
#[test]
fn a_root_grows_and_shrinks_under_threads() {
    const THREADS: u64 = 4;
    let rounds = if cfg!(latchwork_noise) { 4 } else { 12 };
    let _dog = watchdog("a_root_grows_and_shrinks_under_threads");
    let (table, fresh) = small();
    let hot = random_keys(8, 8);
    let cells: Vec<Cell> = hot.iter().map(|_| Cell::default()).collect();
    let meet = Barrier::new(THREADS as usize);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (table, hot, cells, meet) = (&table, &hot, &cells, &meet);
            scope.spawn(move || {
                let mut rng = Rng::new(100 + thread);
                for _ in 0..rounds {
                    let mut guards = Vec::new();
                    // In every round all threads together hold more than is needed to grow.
                    for _ in 0..CROWD / 3 {
                        let own = rng.draw() & !7 | thread;
                        guards.push(table.try_lock(&own).expect("a key of this thread"));
                        if rng.one_in(8) {
                            meet_at(table, hot, cells, &mut rng);
                        }
                    }
                    meet.wait();
                    while !guards.is_empty() {
                        let place = rng.below(guards.len() as u64) as usize;
                        drop(guards.swap_remove(place));
                        if rng.one_in(8) {
                            meet_at(table, hot, cells, &mut rng);
                        }
                    }
                    meet.wait();
                }
            });
        }
    });
    let (growths, shrinks) = growths(&table);
    assert!(growths > 1 && shrinks > 0, "{growths} {shrinks}");
    churn_until_as_new(&table, fresh);
}

/// One operation on the keys that all threads use.
fn meet_at(table: &Table, hot: &[u64], cells: &[Cell], rng: &mut Rng) {
    let at = rng.below(hot.len() as u64) as usize;
    let (key, cell) = (&hot[at], &cells[at]);
    match rng.below(8) {
        0 | 1 => {
            let _guard = table.lock(key);
            cell.exclusive(rng);
        }
        2 => {
            let _guard = table.lock_shared(key);
            cell.shared(rng);
        }
        3 => {
            if let Some(_guard) = table.try_lock_for(key, Duration::from_micros(rng.below(50))) {
                cell.exclusive(rng);
            }
        }
        4 => {
            let set = table.lock_all(hot.iter().map(|key| (key, Mode::Shared)));
            cells.iter().for_each(|cell| cell.shared(rng));
            drop(set);
        }
        5 => {
            let mut session = table.session();
            let other = rng.below(hot.len() as u64) as usize;
            // Two sessions in opposite orders are a deadlock, of which one is a victim.
            if session.lock(key).is_ok() && (other == at || session.lock(&hot[other]).is_ok()) {
                cell.exclusive(rng);
                if other != at {
                    cells[other].exclusive(rng);
                }
            }
        }
        6 => {
            let reader = table.lock_shared(key);
            cell.shared(rng);
            match reader.try_upgrade() {
                Ok(_writer) => cell.exclusive(rng),
                Err(_reader) => cell.shared(rng),
            }
        }
        _ => {
            let listed = table.inspect().len();
            assert!(listed <= 16 * CROWD as usize);
        }
    }
}

/// Locks all of `keys`, in order.
fn hold<'t>(table: &'t Table, keys: &[u64]) -> Vec<ExclusiveGuard<'t>> {
    keys.iter().map(|key| table.lock(key)).collect()
}

/// Children of children counted, which no larger root removes: 500,000 such pairs had a root of
/// 512 MiB.
#[test]
fn pairs_that_part_deep_grow_no_root_for_nothing() {
    let (table, fresh) = small();
    let pairs = random_keys(9, 20_000);
    let keys: Vec<u64> = pairs
        .iter()
        .flat_map(|key| [key & !(1 << 63), key | 1 << 63])
        .collect();
    let guards = hold(&table, &keys);
    // In 2^14 slots, the pairs do not use enough slots of the next root.
    assert_eq!(growths(&table), (1, 0));
    drop(guards);
    churn_until_as_new(&table, fresh);
}

/// Only a child of the root examined the root. Once all slots have a child, none is linked: a
/// million consecutive integers had a root of 2^12 slots, and so had a million random keys after a
/// thread that was suspended in the move before.
#[test]
fn a_root_whose_slots_all_have_children_grows() {
    let (table, fresh) = small();
    let keys: Vec<u64> = (0..20_000).collect();
    // Two keys for each slot are too few.
    let guards = hold(&table, &keys[..2_048]);
    assert_eq!(growths(&table), (0, 0));
    let others = hold(&table, &keys[2_048..]);
    assert_eq!(growths(&table), (1, 0));
    drop((guards, others));
    churn_until_as_new(&table, fresh);
}

/// The sample of a root visited its slots in steps of Knuth's multiplier. With a hasher that
/// multiplies by it, a sample was of consecutive keys: where these were held the root grew, and
/// behind them it shrank, again and again.
#[test]
fn consecutive_keys_of_a_multiplying_hasher_move_no_root_to_and_fro() {
    let table: Table = LockTable::builder().hasher(Place::Identity).build();
    let hash = |key: u64| key.wrapping_mul(2_654_435_761);
    let rows = 600;
    let keys = (0..rows).flat_map(|row| (0..4).map(move |part| row + part * 4096));
    let guards = hold(&table, &keys.map(hash).collect::<Vec<_>>());
    for _ in 0..5_000 {
        // Each shares a slot with a key that is held: the last, the first, and another.
        for key in [rows - 1 + 3 * 4096, 0, 7] {
            drop(table.lock(&hash(key | 1 << 40)));
        }
    }
    let (growths, shrinks) = growths(&table);
    assert!(growths + shrinks <= 1, "{growths} {shrinks}");
    drop(guards);
}

#[test]
fn keys_of_one_slot_grow_no_root() {
    let (table, fresh) = small();
    let keys: Vec<u64> = random_keys(10, 20_000)
        .iter()
        .map(|key| key << 32 | 77)
        .collect();
    let guards = hold(&table, &keys);
    assert_eq!(growths(&table), (0, 0));
    let bytes = table.stats().index_bytes - fresh;
    assert!(bytes <= 64 * keys.len(), "{bytes}");
    drop(guards);
    assert_as_new(&table, fresh);
}

/// Of two keys that had shared a slot, one was left. Its child stayed, so that the root seemed to
/// be in use: 60,000 keys of two million kept 36.7 MB.
#[test]
fn keys_left_alone_in_their_children_keep_no_large_root() {
    let (table, fresh) = small();
    let mut guards = hold(&table, &random_keys(11, 100_000));
    assert_eq!(growths(&table), (2, 0));
    let mut rng = Rng::new(12);
    for left in [8_000, 4_000, 2_000] {
        while guards.len() > left {
            let place = rng.below(guards.len() as u64) as usize;
            drop(guards.swap_remove(place));
        }
        let bytes = table.stats().index_bytes;
        assert!(bytes <= fresh + 96 * left, "{bytes} for {left}");
    }
    drop(guards);
    churn_until_as_new(&table, fresh);
}

/// The number of held keys crosses the one at which the root grew, again and again.
#[test]
fn a_root_does_not_move_at_each_crossing_of_a_border() {
    let (table, fresh) = small();
    let mut rng = Rng::new(13);
    let mut guards = Vec::new();
    while growths(&table).0 == 0 {
        guards.push(table.lock(&rng.draw()));
    }
    let border = guards.len();
    for _ in 0..50 {
        while guards.len() > border - border / 8 {
            let place = rng.below(guards.len() as u64) as usize;
            drop(guards.swap_remove(place));
        }
        while guards.len() < border + border / 8 {
            guards.push(table.lock(&rng.draw()));
        }
    }
    assert_eq!(growths(&table), (1, 0));
    drop(guards);
    churn_until_as_new(&table, fresh);
}

/// Words that moved while `inspect` read the slots were missed, or listed twice.
#[test]
fn a_held_key_is_listed_once_while_the_root_moves() {
    let _dog = watchdog("a_held_key_is_listed_once_while_the_root_moves");
    let rounds = if cfg!(latchwork_noise) { 2 } else { 8 };
    let (table, fresh) = small();
    let held = random_keys(14, 300);
    // Of pairs that share a slot of each root, one is left.
    let pairs: Vec<u64> = held.iter().map(|key| key ^ 1 << 50).collect();
    let guards = hold(&table, &held);
    drop(hold(&table, &pairs));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for seed in 0..2 {
            let (table, done) = (&table, &done);
            scope.spawn(move || {
                for round in 0..rounds {
                    drop(hold(table, &random_keys(100 * seed + round + 20, CROWD)));
                }
                done.store(true, Ordering::Relaxed);
            });
        }
        while !done.load(Ordering::Relaxed) {
            let mut times: HashMap<u64, usize> = HashMap::new();
            for lock in table.inspect() {
                *times.entry(lock.key_id.get()).or_default() += 1;
            }
            assert!(held.iter().all(|key| times.get(key) == Some(&1)));
            assert!(table.locked_count() >= held.len());
        }
    });
    assert!(growths(&table).0 > 0);
    drop(guards);
    churn_until_as_new(&table, fresh);
}
