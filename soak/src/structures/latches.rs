//! The tree of the examples, whose nodes come and go under readers, and a latch that everybody
//! wants.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::{self, yield_now};

use latchwork::latch::OptimisticLatch;

use super::{Structure, Total, equal};
use crate::crew::Worker;

#[path = "../../../examples/structures/btree.rs"]
mod btree;

use btree::BTree;

/// Enough for three levels, and few enough that leaves empty.
const KEYS: u64 = 6_000;

pub(super) struct Latches {
    tree: BTree,
    put_in: Total,
    taken_out: Total,
    /// Two halves that are written one after the other.
    latch: OptimisticLatch<[AtomicU64; 2]>,
    writes: Total,
    operations: Total,
}

impl Latches {
    pub(super) fn new() -> Self {
        Latches {
            tree: BTree::default(),
            put_in: Total::default(),
            taken_out: Total::default(),
            latch: OptimisticLatch::default(),
            writes: Total::default(),
            operations: Total::default(),
        }
    }

    fn put(&self, key: u64) {
        match self.tree.insert(key, !key) {
            Some(old) => assert_eq!(old, !key, "another's value"),
            None => self.put_in.add(),
        }
    }

    fn take(&self, key: u64) {
        if let Some(old) = self.tree.remove(key) {
            assert_eq!(old, !key, "another's value");
            self.taken_out.add();
        }
    }

    fn all(&self) -> Vec<u64> {
        let all = self.tree.range(0..=u64::MAX);
        all.into_iter().map(|(key, _)| key).collect()
    }

    /// To be called by who is alone with the latch.
    fn write(&self, worker: &mut Worker, halves: &[AtomicU64; 2]) {
        let next = halves[0].load(Relaxed) + 1;
        halves[0].store(next, Relaxed);
        if worker.rng.one_in(8) {
            yield_now();
        }
        let old = halves[1].swap(next, Relaxed);
        assert_eq!(old + 1, next, "another writer was here");
        self.writes.add();
    }

    fn halves(halves: &[AtomicU64; 2]) -> [u64; 2] {
        let first = halves[0].load(Relaxed);
        [first, halves[1].load(Relaxed)]
    }
}

impl Structure for Latches {
    fn name(&self) -> &'static str {
        "latches"
    }

    fn operations(&self) -> &Total {
        &self.operations
    }

    fn act(&self, worker: &mut Worker) {
        let among = if worker.rng.one_in(2) { 100 } else { KEYS };
        let key = worker.rng.below(among);
        match worker.rng.below(16) {
            0..=2 => self.put(key),
            3 | 4 => self.take(key),
            5..=7 => assert!(self.tree.get(key).is_none_or(|value| value == !key)),
            8 => {
                let found = self.tree.range(key..=key + 100);
                let is_right = |(key, value): &(u64, u64)| *value == !*key;
                assert!(found.iter().all(is_right), "another's value");
                assert!(
                    found.is_sorted_by(|a, b| a.0 < b.0),
                    "out of order, or twice"
                );
            }
            9 if worker.rng.one_in(32) => (key..key + 200).for_each(|key| self.take(key)),
            10 if worker.rng.one_in(32) => (key..key + 200).for_each(|key| self.put(key)),
            11 => {
                let halves = self.latch.exclusive().expect("nobody retires it");
                self.write(worker, &halves);
                if worker.rng.one_in(64) {
                    worker.panic();
                }
            }
            12 => {
                let version = self.latch.version().expect("nobody retires it");
                if let Ok(halves) = self.latch.upgrade(version) {
                    self.write(worker, &halves);
                }
            }
            13 => {
                let halves = self.latch.shared().expect("nobody retires it");
                let [first, second] = Self::halves(&halves);
                assert_eq!(first, second, "beside a writer");
            }
            _ => {
                let halves = self.latch.optimistic_read(Self::halves);
                let [first, second] = halves.expect("nobody retires it");
                assert_eq!(first, second, "torn");
            }
        }
    }

    /// Empties the tree, so that memory says whether anything is left.
    fn check(&self) -> Result<(), String> {
        let left = self.all();
        let should = self.put_in.get() - self.taken_out.get();
        equal("keys in the tree", left.len() as u64, should)?;
        // By a thread that takes along what it keeps of the nodes' memory, which they give back
        // some epochs later.
        let emptied = thread::scope(|s| {
            let all = s.spawn(|| {
                left.into_iter().for_each(|key| self.take(key));
                (0..64).for_each(|_| latchwork::flush());
            });
            all.join()
        });
        emptied.map_err(|_| "the tree cannot be emptied".to_owned())?;
        equal("keys in an empty tree", self.all(), vec![])?;
        let halves = Self::halves(self.latch.peek());
        equal("writes under the latch", halves, [self.writes.get(); 2])
    }
}
