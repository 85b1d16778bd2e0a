//! The structures of the examples against `BTreeMap` and `BTreeSet`: programs of one thread, and
//! threads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;

use latchwork::VersionedCell;
use proptest::prelude::*;

use crate::btree::BTree;
use crate::common::watchdog;
use crate::list::{SortedList, Walk};

#[derive(Clone, Debug)]
enum Step {
    Insert(u64, u64),
    Remove(u64),
    Get(u64),
    Range(u64, u64),
    /// As many keys from here on, one after the other: enough to split, and to empty, nodes.
    Fill(u64, u64),
    Clear(u64, u64),
}

fn step(keys: u64) -> impl Strategy<Value = Step> {
    let key = prop_oneof![9 => 0..keys, 1 => any::<u64>()];
    prop_oneof![
        4 => (key.clone(), any::<u64>()).prop_map(|(k, v)| Step::Insert(k, v)),
        3 => key.clone().prop_map(Step::Remove),
        3 => key.clone().prop_map(Step::Get),
        2 => (key.clone(), 0..keys).prop_map(|(k, n)| Step::Range(k, n)),
        1 => (0..keys, 0..200_u64).prop_map(|(k, n)| Step::Fill(k, n)),
        1 => (0..keys, 0..200_u64).prop_map(|(k, n)| Step::Clear(k, n)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_tree_does_what_a_btree_map_does(steps in prop::collection::vec(step(600), 1..120)) {
        let (tree, mut map) = (BTree::default(), BTreeMap::new());
        for step in steps {
            match step {
                Step::Insert(k, v) => prop_assert_eq!(tree.insert(k, v), map.insert(k, v)),
                Step::Remove(k) => prop_assert_eq!(tree.remove(k), map.remove(&k)),
                Step::Get(k) => prop_assert_eq!(tree.get(k), map.get(&k).copied()),
                Step::Range(k, n) => {
                    let keys = k..=k.saturating_add(n);
                    let expected: Vec<_> = map.range(keys.clone()).map(|(k, v)| (*k, *v)).collect();
                    prop_assert_eq!(tree.range(keys), expected);
                }
                Step::Fill(k, n) => for k in k..k + n {
                    prop_assert_eq!(tree.insert(k, n), map.insert(k, n));
                },
                Step::Clear(k, n) => for k in k..k + n {
                    prop_assert_eq!(tree.remove(k), map.remove(&k));
                },
            }
        }
        prop_assert_eq!(tree.range(0..=u64::MAX), map.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn a_list_does_what_a_btree_set_does(steps in prop::collection::vec((0..3_u8, 0..24_u64), 1..100)) {
        for walk in [Walk::Optimistic, Walk::HandOverHand] {
            let (list, mut set) = (SortedList::new(walk), BTreeSet::new());
            for (step, number) in &steps {
                match step {
                    0 => prop_assert_eq!(list.insert(*number), set.insert(*number)),
                    1 => prop_assert_eq!(list.remove(*number), set.remove(number)),
                    _ => prop_assert_eq!(list.contains(*number), set.contains(number)),
                }
            }
            prop_assert_eq!(list.numbers(), set.into_iter().collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_tree_grows_and_shrinks_by_levels() {
    let tree = BTree::default();
    for _ in 0..3 {
        (0..40_000).for_each(|k| assert_eq!(tree.insert(k * 7 % 40_000, k), None));
        assert_eq!(tree.range(0..=u64::MAX).len(), 40_000);
        (0..40_000)
            .rev()
            .for_each(|k| assert!(tree.remove(k).is_some()));
        assert_eq!(tree.range(0..=u64::MAX), []);
        assert_eq!((tree.get(7), tree.remove(7)), (None, None));
    }
    // Keys at both ends of what there is.
    assert_eq!((tree.insert(u64::MAX, 1), tree.insert(0, 2)), (None, None));
    assert_eq!(tree.range(0..=u64::MAX), [(0, 2), (u64::MAX, 1)]);
    let (from, to) = (7, 3);
    assert_eq!(tree.range(from..=to), []);
}

/// Each thread has keys of its own among everybody's, and knows what is in them; readers find only
/// what somebody has written.
#[test]
fn threads_find_what_they_have_written_in_a_tree() {
    const STEPS: u64 = if cfg!(debug_assertions) {
        6_000
    } else {
        60_000
    };
    let (tree, stop) = (BTree::default(), AtomicBool::new(false));
    let all = thread::scope(|s| {
        let reader = s.spawn(|| {
            let mut longest = 0;
            while !stop.load(Relaxed) {
                let entries = tree.range(100..=900);
                assert!(
                    entries.is_sorted_by(|a, b| a.0 < b.0),
                    "out of order or twice"
                );
                assert!(
                    entries
                        .iter()
                        .all(|(k, v)| k == v && (100..=900).contains(k))
                );
                for key in 0..400 {
                    assert!(tree.get(key).is_none_or(|value| value == key));
                }
                longest = longest.max(entries.len());
            }
            longest
        });
        let writers: Vec<_> = (0..4_u64)
            .map(|n| {
                let tree = &tree;
                s.spawn(move || {
                    let (mut mine, mut random) = (BTreeMap::new(), n + 1);
                    for _ in 0..STEPS {
                        random = random
                            .wrapping_mul(6_364_136_223_846_793_005)
                            .wrapping_add(n);
                        // Of late more of one end, so that leaves empty.
                        let key = (random >> 33) % 1_000 / 4 * 4 + n;
                        match (random >> 20) % 3 {
                            0 => assert_eq!(tree.insert(key, key), mine.insert(key, key)),
                            1 => assert_eq!(tree.remove(key), mine.remove(&key)),
                            _ => assert_eq!(tree.get(key), mine.get(&key).copied()),
                        }
                        if random >> 40 & 0xfff == 0 {
                            for key in (n..1_000).step_by(4) {
                                assert_eq!(tree.remove(key), mine.remove(&key));
                            }
                        }
                    }
                    mine
                })
            })
            .collect();
        let mut all = BTreeMap::new();
        for writer in writers {
            all.extend(writer.join().expect("it agrees with what it has written"));
        }
        stop.store(true, Relaxed);
        reader.join().expect("nothing out of thin air");
        all
    });
    assert_eq!(
        tree.range(0..=u64::MAX),
        all.into_iter().collect::<Vec<_>>()
    );
}

/// One key after the other is put in and taken out at the other end, so that leaves come and go
/// under readers.
#[test]
fn a_queue_in_a_tree() {
    const STEPS: u64 = if cfg!(debug_assertions) {
        10_000
    } else {
        100_000
    };
    let tree = BTree::default();
    thread::scope(|s| {
        s.spawn(|| {
            for key in 0..STEPS {
                assert_eq!(tree.insert(key, key), None);
            }
        });
        s.spawn(|| {
            for key in 0..STEPS {
                while tree.remove(key).is_none() {
                    thread::yield_now();
                }
            }
        });
        s.spawn(|| {
            // What is put in first goes first: the least key that is found never falls.
            let mut least = 0;
            for _ in 0..STEPS / 10 {
                let some = tree.range(0..=u64::MAX);
                assert!(some.is_sorted_by(|a, b| a.0 < b.0));
                if let Some((first, _)) = some.first() {
                    assert!(*first >= least, "{first} is back");
                    least = *first;
                }
            }
        });
    });
    assert_eq!(tree.range(0..=u64::MAX), []);
}

#[test]
fn threads_find_what_they_have_written_in_a_list() {
    const STEPS: u64 = if cfg!(debug_assertions) {
        3_000
    } else {
        20_000
    };
    for walk in [Walk::Optimistic, Walk::HandOverHand] {
        let list = SortedList::new(walk);
        let all = thread::scope(|s| {
            let threads: Vec<_> = (0..4_u64)
                .map(|n| {
                    let list = &list;
                    s.spawn(move || {
                        let (mut mine, mut random) = (BTreeSet::new(), n + 1);
                        for _ in 0..STEPS {
                            random = random
                                .wrapping_mul(6_364_136_223_846_793_005)
                                .wrapping_add(n);
                            let number = (random >> 33) % 12 * 4 + n;
                            match (random >> 20) % 3 {
                                0 => assert_eq!(list.insert(number), mine.insert(number)),
                                1 => assert_eq!(list.remove(number), mine.remove(&number)),
                                _ => assert_eq!(list.contains(number), mine.contains(&number)),
                            }
                        }
                        mine
                    })
                })
                .collect();
            let mut all = BTreeSet::new();
            for thread in threads {
                all.extend(thread.join().expect("it agrees with what it has written"));
            }
            all
        });
        assert_eq!(list.numbers(), all.into_iter().collect::<Vec<_>>());
    }
}

/// A list as long as no stack is deep.
#[test]
fn a_long_list_is_dropped() {
    let list = SortedList::new(Walk::Optimistic);
    const LENGTH: u64 = 20_000;
    // From the far end, so that each insertion is at the head.
    (0..LENGTH).rev().for_each(|n| assert!(list.insert(n)));
    drop(list);
    latchwork::flush();
}

/// A value of somebody else, whose destructor reads a structure.
struct Reads(Arc<dyn Fn() + Send + Sync>);

impl Drop for Reads {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Drops values that read `structure`, at moments of its own choosing, as it is filled and emptied:
/// where a node is made or dropped, what is due of others goes too.
fn destructors_come_by<T: Send + Sync + 'static>(
    structure: T,
    keys: u64,
    get: impl Fn(&T, u64) -> bool + Send + Sync + 'static,
    steps: [fn(&T, u64); 2],
) {
    let (structure, came_by) = (Arc::new(structure), Arc::new(AtomicU64::new(0)));
    let reads: Arc<dyn Fn() + Send + Sync> = {
        let (structure, came_by) = (structure.clone(), came_by.clone());
        Arc::new(move || {
            let read = (0..keys).step_by(31).filter(|key| get(&structure, *key));
            came_by.fetch_add(read.count() as u64 + 1, Relaxed);
        })
    };
    let cell = VersionedCell::new(Reads(reads.clone()));
    let mut inside = [0; 2];
    for round in 0.. {
        assert!(round < 500, "no destructor ran in there: {inside:?}");
        if inside.iter().all(|n| *n > 3) {
            break;
        }
        for (step, inside) in steps.iter().zip(&mut inside) {
            for key in 0..keys {
                // So that other steps each time are those at which something is due.
                for _ in 0..(key + round) % 3 {
                    cell.set(Reads(reads.clone()));
                }
                let before = came_by.load(Relaxed);
                step(&structure, key * 5 % keys);
                *inside += u64::from(came_by.load(Relaxed) > before);
            }
        }
    }
    assert!(
        inside.iter().all(|n| *n > 0),
        "no destructor ran in there: {inside:?}"
    );
}

#[test]
fn a_destructor_reads_a_tree_that_makes_or_drops_a_node() {
    let _watchdog = watchdog("a_destructor_reads_a_tree_that_makes_or_drops_a_node");
    destructors_come_by(
        BTree::default(),
        601,
        |tree, key| tree.get(key).is_some(),
        [
            |tree, key| assert_eq!(tree.insert(key, key), None),
            |tree, key| assert_eq!(tree.remove(key), Some(key)),
        ],
    );
}

#[test]
fn a_destructor_reads_a_list_that_makes_or_drops_a_node() {
    let _watchdog = watchdog("a_destructor_reads_a_list_that_makes_or_drops_a_node");
    for walk in [Walk::Optimistic, Walk::HandOverHand] {
        destructors_come_by(
            SortedList::new(walk),
            301,
            |list, number| list.contains(number),
            [
                |list, number| assert!(list.insert(number)),
                |list, number| assert!(list.remove(number)),
            ],
        );
    }
}
