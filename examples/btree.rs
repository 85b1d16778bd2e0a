//! A B+tree by optimistic lock coupling, beside locks around a `BTreeMap` and a skip list.
//!
//! What it teaches: `OptimisticLatch` with `Coupled` and `Link` is enough for a concurrent search
//! tree in safe code. The tree is in `structures/btree.rs`. Readers write nothing that others read,
//! so they do not slow each other down, and hardly the writers.
//!
//! Run it with `cargo run --release --example btree`, and with the milliseconds of a round behind
//! `--` if you like.

use std::collections::BTreeMap;
use std::sync::{Mutex, RwLock};

use crossbeam_skiplist::SkipMap;

#[path = "structures/btree.rs"]
mod btree;
#[path = "structures/measure.rs"]
mod measure;

use btree::BTree;
use measure::{Load, Map, Random, print, span};

impl Map for BTree {
    fn get(&self, key: u64) -> Option<u64> {
        BTree::get(self, key)
    }

    fn insert(&self, key: u64, value: u64) {
        BTree::insert(self, key, value);
    }

    fn remove(&self, key: u64) {
        BTree::remove(self, key);
    }
}

/// Does the same with ours and with `BTreeMap`, and compares what they say.
fn check(steps: u64) {
    let (tree, mut map, mut random) = (BTree::default(), BTreeMap::new(), Random::new(3));
    for step in 0..steps {
        let key = random.below(steps / 4);
        match random.below(8) {
            0..4 => assert_eq!(tree.insert(key, step), map.insert(key, step)),
            4..7 => assert_eq!(tree.remove(key), map.remove(&key)),
            _ => {
                let end = key + random.below(200);
                let expected: Vec<_> = map.range(key..=end).map(|(k, v)| (*k, *v)).collect();
                assert_eq!(tree.range(key..=end), expected);
            }
        }
    }
    let all: Vec<_> = map.into_iter().collect();
    assert_eq!(tree.range(0..=u64::MAX), all);
    println!("{steps} steps as in a BTreeMap, {} entries left", all.len());
}

fn main() {
    check(40_000);
    let span = span();
    for percent_reads in [95, 50] {
        let load = Load {
            threads: 2,
            keys: 200_000,
            percent_reads,
            span,
        };
        let locked = BTreeMap::new;
        print(
            &[
                ("BTree", &BTree::default()),
                ("Mutex<BTreeMap>", &Mutex::new(locked())),
                ("RwLock<BTreeMap>", &RwLock::new(locked())),
                ("crossbeam-skiplist", &SkipMap::new()),
            ],
            load,
            5,
        );
    }
}
