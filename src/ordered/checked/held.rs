//! The locks that one thread holds, and the places where it acquired them. Plain data, as the
//! graph.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;

use super::graph::{Graph, Id, Place};
use crate::table::IntegerHasher;

/// A lock, and where it was acquired.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) lock: Id,
    pub(super) at: Place,
}

/// Locks that were held together, the newest first: a list whose tails are shared.
#[derive(Debug)]
pub(super) struct Stack {
    pub(super) top: Held,
    /// Whether the graph leads from each lock below to the top. It does not if the top was acquired
    /// without a check.
    pub(super) follows: bool,
    /// The fingerprint of the list when it was made. Two lists that differ have one fingerprint in
    /// one of 2⁶⁴ cases. A pair of locks is not recorded then.
    fingerprint: u64,
    below: Mutex<Option<Arc<Stack>>>,
}

impl Stack {
    pub(super) fn new(top: Held, follows: bool, below: Option<Arc<Stack>>) -> Arc<Self> {
        let tail = below.as_ref().map_or(0, |below| below.fingerprint);
        let head = IntegerHasher::mix(2 * top.lock + u64::from(follows));
        Arc::new(Stack {
            top,
            follows,
            fingerprint: IntegerHasher::mix(tail.rotate_left(1) ^ head),
            below: Mutex::new(below),
        })
    }

    /// Whether both were made of the same locks, whatever the places.
    pub(super) fn lists_same_locks(&self, other: &Stack) -> bool {
        self.fingerprint == other.fingerprint
    }

    pub(super) fn below(&self) -> Option<Arc<Stack>> {
        self.below.lock().clone()
    }

    /// The nearest stack below whose top is not dropped. Dropped ones are unlinked, so that each is
    /// visited once.
    pub(super) fn alive_below(&self, is_dropped: impl Fn(Id) -> bool) -> Option<Arc<Stack>> {
        let mut below = self.below.lock();
        while let Some(dropped) = below.take_if(|stack| is_dropped(stack.top.lock)) {
            *below = dropped.below();
        }
        below.clone()
    }

    /// Whether it stands on `other`, in the same place in memory.
    pub(super) fn stands_on(&self, other: Option<&Arc<Stack>>) -> bool {
        match (&*self.below.lock(), other) {
            (None, None) => true,
            (Some(below), Some(other)) => Arc::ptr_eq(below, other),
            _ => false,
        }
    }
}

impl Drop for Stack {
    /// Drops them in a loop: the recursive drop of a list of thousands would overflow the stack of
    /// the thread.
    fn drop(&mut self) {
        let mut below = self.below.get_mut().take();
        while let Some(stack) = below {
            below = Arc::into_inner(stack).and_then(|mut stack| stack.below.get_mut().take());
        }
    }
}

#[derive(Debug)]
struct Holding {
    held: Held,
    follows: bool,
    /// The stack of this lock and those before it. Made when it is needed: only the last ones are
    /// missing.
    stack: Option<Arc<Stack>>,
}

/// The locks that a thread holds.
#[derive(Debug)]
pub(super) struct HeldLocks {
    /// By the order in which they were acquired.
    locks: BTreeMap<u64, Holding>,
    /// The same, by lock: a lock that is acquired by `try_read` may be there twice.
    places: BTreeSet<(Id, u64)>,
    next: u64,
    /// At this number, locks that were dropped while a forgotten guard held them are removed.
    purge_at: usize,
}

impl HeldLocks {
    pub(super) const fn new() -> Self {
        HeldLocks {
            locks: BTreeMap::new(),
            places: BTreeSet::new(),
            next: 0,
            purge_at: 64,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.locks.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Held> {
        self.locks.values().map(|holding| holding.held)
    }

    /// The newest entry of a lock.
    fn place(&self, lock: Id) -> Option<u64> {
        let mut places = self.places.range((lock, 0)..=(lock, u64::MAX));
        places.next_back().map(|(_, place)| *place)
    }

    pub(super) fn find(&self, lock: Id) -> Option<Held> {
        self.place(lock).map(|place| self.locks[&place].held)
    }

    /// Adds a lock, with the stack that [`Graph::learn`] returned for it, or without one if no
    /// order was recorded.
    pub(super) fn push(&mut self, held: Held, stack: Option<Arc<Stack>>) {
        let holding = Holding {
            held,
            follows: stack.is_some() || self.locks.is_empty(),
            stack,
        };
        self.places.insert((held.lock, self.next));
        self.locks.insert(self.next, holding);
        self.next += 1;
    }

    /// Removes the newest entry of a lock.
    pub(super) fn remove(&mut self, lock: Id) {
        if let Some(place) = self.place(lock) {
            self.places.remove(&(lock, place));
            self.locks.remove(&place);
            self.forget_stacks(place);
        }
    }

    /// The stacks from here on list a lock that is not held any more.
    fn forget_stacks(&mut self, from: u64) {
        for holding in self.locks.range_mut(from..).map(|(_, holding)| holding) {
            if holding.stack.take().is_none() {
                break;
            }
        }
    }

    /// Returns the stack of all locks, or `None` if there are none.
    pub(super) fn stack(&mut self, graph: &mut Graph) -> Option<Arc<Stack>> {
        if self.locks.len() >= self.purge_at {
            self.purge(graph);
        }
        let made = |(_, holding): &(&u64, &Holding)| holding.stack.is_some();
        let last_made = self.locks.iter().rev().find(made);
        let (missing, mut below) = match last_made {
            Some((place, holding)) => (place + 1, holding.stack.clone()),
            None => (0, None),
        };
        for holding in self.locks.range_mut(missing..).map(|(_, holding)| holding) {
            below = Some(graph.stack_of(holding.held, holding.follows, below));
            holding.stack.clone_from(&below);
        }
        below
    }

    fn purge(&mut self, graph: &Graph) {
        self.locks
            .retain(|_, holding| graph.knows(holding.held.lock));
        self.places.retain(|(lock, _)| graph.knows(*lock));
        self.purge_at = 2 * self.locks.len().max(32);
        self.forget_stacks(0);
    }
}
