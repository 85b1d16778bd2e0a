//! The memory of a search for a cycle.

use std::collections::VecDeque;

use super::numbers::{KEPT, Numbers};

/// One side of a search: its open keys, and its cost so far.
#[derive(Debug, Default)]
pub(super) struct Side {
    pub(super) open: VecDeque<u64>,
    pub(super) steps: usize,
}

/// The memory of a search, kept for the next one: to allocate it costs as much as a short search.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// For each key that was reached, the previous key and the holder of that key, which waits for
    /// this one.
    pub(super) ahead: Numbers<Option<(u64, u64)>>,
    /// The keys from which the start can be reached.
    pub(super) behind: Numbers<()>,
    pub(super) forward: Side,
    pub(super) backward: Side,
}

impl Scratch {
    /// Prepares it for the next search, and frees memory that few searches need: to clear that
    /// takes time also.
    pub(super) fn clear(&mut self) {
        if self.ahead.capacity().max(self.behind.capacity()) > KEPT {
            *self = Scratch::default();
        }
        self.ahead.clear();
        self.behind.clear();
        for side in [&mut self.forward, &mut self.backward] {
            side.open.clear();
            side.steps = 0;
        }
    }
}
