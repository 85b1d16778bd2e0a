//! A sorted list that is walked hand over hand, with latches and by versions.
//!
//! What it teaches: `Coupled` takes the next node's latch before it gives up the last one's, so
//! nobody overtakes on the way; and what it costs to take a latch at each step, beside reading its
//! version. The list is in `structures/list.rs`. A list is the wrong structure for many numbers, as
//! the others show.
//!
//! Run it with `cargo run --release --example sorted_list`, and with the milliseconds of a round
//! behind `--` if you like.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, RwLock};

use crossbeam_skiplist::SkipMap;

#[path = "structures/list.rs"]
mod list;
#[path = "structures/measure.rs"]
mod measure;

use list::{SortedList, Walk};
use measure::{Load, Map, Random, print, span};

impl Map for SortedList {
    fn get(&self, key: u64) -> Option<u64> {
        self.contains(key).then_some(key)
    }

    fn insert(&self, key: u64, _: u64) {
        SortedList::insert(self, key);
    }

    fn remove(&self, key: u64) {
        SortedList::remove(self, key);
    }
}

/// Does the same with ours and with `BTreeSet`, and compares what they say.
fn check(walk: Walk, steps: u64) {
    let (list, mut set, mut random) = (SortedList::new(walk), BTreeSet::new(), Random::new(3));
    for _ in 0..steps {
        let number = random.below(100);
        match random.below(3) {
            0 => assert_eq!(list.insert(number), set.insert(number)),
            1 => assert_eq!(list.remove(number), set.remove(&number)),
            _ => assert_eq!(list.contains(number), set.contains(&number)),
        }
    }
    println!(
        "{steps} steps {walk:?} as in a BTreeSet, {} numbers left",
        set.len()
    );
}

fn main() {
    check(Walk::HandOverHand, 10_000);
    check(Walk::Optimistic, 10_000);
    let load = Load {
        threads: 2,
        keys: 256,
        percent_reads: 95,
        span: span(),
    };
    let locked = BTreeMap::new;
    print(
        &[
            ("list, optimistic", &SortedList::new(Walk::Optimistic)),
            ("list, hand over hand", &SortedList::new(Walk::HandOverHand)),
            ("Mutex<BTreeMap>", &Mutex::new(locked())),
            ("RwLock<BTreeMap>", &RwLock::new(locked())),
            ("crossbeam-skiplist", &SkipMap::new()),
        ],
        load,
        5,
    );
}
