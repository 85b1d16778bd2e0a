//! A lock table of hashes: [`RawTable`].

use std::sync::OnceLock;

use super::observe::Statistics;
use super::trie::{Content, Leaf, Trie};
use crate::lock_table::fairness::Fairness;
use crate::reclaim::Domain;
use crate::sync::{AtomicU64, Ordering};
use crate::word::{Mode, State};

/// A handle by which a guard or a wait keeps its table: a reference, or shared ownership.
pub(crate) trait TableRef {
    fn raw(&self) -> &RawTable;
}

impl TableRef for &RawTable {
    #[inline(always)]
    fn raw(&self) -> &RawTable {
        self
    }
}

/// A lock table of hashes.
pub(crate) struct RawTable {
    pub(super) trie: Trie,
    pub(super) fairness: Fairness,
    pub(super) statistics: Statistics,
    /// One counter for each slot of the first root, allocated with the first token.
    tokens: OnceLock<Box<[AtomicU64]>>,
}

impl RawTable {
    /// Makes a table. The root has two slots for each of the `expected_locks`.
    pub(crate) fn new(expected_locks: usize, fairness: Fairness, domain: Domain) -> Self {
        RawTable {
            trie: Trie::new(expected_locks, domain),
            fairness,
            statistics: Statistics::default(),
            tokens: OnceLock::new(),
        }
    }

    /// Returns the next token of all keys of this key's slot of the first root.
    pub(crate) fn token(&self, hash: u64) -> u64 {
        let first = self.trie.first();
        // Accesses no atomic: under shuttle another task could run then, and wait for this one.
        let counters = || (0..first.len()).map(|_| AtomicU64::new(0)).collect();
        let tokens = self.tokens.get_or_init(counters);
        // Relaxed: holders of one key follow one another, and later values of one atomic are
        // greater; the lock itself orders the holders [S2].
        tokens[first.index(hash)].fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Returns the size of the token counters in bytes, or zero without counters.
    pub(crate) fn token_bytes(&self) -> usize {
        self.tokens.get().map_or(0, |tokens| size_of_val(&**tokens))
    }

    /// Returns the size in bytes of the roots that may have words.
    pub(crate) fn root_bytes(&self) -> usize {
        self.trie.root_bytes()
    }

    /// Returns the numbers of moves to larger and to smaller roots that have begun.
    pub(crate) fn moves(&self) -> (u64, u64) {
        self.trie.roots().moves()
    }

    /// Begins to move keys to the next root, for a model.
    #[cfg(latchwork_loom)]
    pub(crate) fn move_to(&self, direction: crate::word::Move) -> bool {
        self.trie.roots().begin(direction, &self.trie.pin())
    }

    /// Declares the last move settled, for a model in which no other thread runs.
    #[cfg(latchwork_loom)]
    pub(crate) fn settle_move(&self) {
        self.trie.roots().settle();
    }

    pub(crate) fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// Calls `f` with the content of each slot in use. It calls `f` exactly once for each key that
    /// is held until it returns [G7].
    pub(crate) fn visit(&self, f: impl FnMut(Content<'_>)) {
        self.trie.visit(f);
    }

    /// Returns the mode in which the key is held, or `None`. It may be out of date at once.
    pub(crate) fn mode(&self, hash: u64) -> Option<Mode> {
        let mut walk = self.trie.walk(hash);
        match walk.leaf() {
            Leaf::Empty | Leaf::Other(_) => None,
            Leaf::Own(word) => Some(word.mode()),
            Leaf::Monitor(word) => {
                let monitor = walk.monitor(word);
                (monitor.hash() == hash)
                    .then(|| monitor.peek())
                    .and_then(State::mode)
            }
        }
    }

    /// Collects this thread's retired values three times, so that they are freed inside the model.
    #[cfg(latchwork_loom)]
    pub(crate) fn flush(&self) {
        for _ in 0..3 {
            self.trie.pin().flush();
        }
    }
}
