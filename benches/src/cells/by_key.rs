//! A value beside a lock table, protected by the lock of one key.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;
use latchwork::LockTable;

use super::{Pair, Read, Update, Value};

/// Two words that nothing but the lock of one key protects.
#[derive(Debug)]
pub struct ByKey {
    locks: LockTable<u64>,
    // Atomic so that no `unsafe` is needed.
    words: CachePadded<[AtomicU64; 2]>,
}

const KEY: u64 = 1;

impl Default for ByKey {
    fn default() -> Self {
        Self {
            locks: LockTable::new(),
            words: CachePadded::new(Pair::FIRST.map(AtomicU64::new)),
        }
    }
}

impl ByKey {
    fn get(&self) -> Pair {
        // Relaxed: the lock orders it.
        self.words
            .each_ref()
            .map(|word| word.load(Ordering::Relaxed))
    }
}

impl Read<Pair> for &ByKey {
    #[inline]
    fn read(&mut self) -> Pair {
        let _guard = self.locks.lock_shared(&KEY);
        self.get()
    }
}

impl Update for ByKey {
    #[inline]
    fn update(&self) {
        let _guard = self.locks.lock(&KEY);
        for (word, value) in self.words.iter().zip(self.get().next()) {
            // Relaxed: as in `get`.
            word.store(value, Ordering::Relaxed);
        }
    }
}
