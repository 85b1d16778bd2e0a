//! A sorted list of numbers, each node with a latch: hand-over-hand, on the public API alone.
//!
//! It is walked from node to node, and a node is changed by who has it and its predecessor.
//! `optimistic` walks by versions and holds nothing on the way; `hand_over_hand` has a latch at
//! each step.

use std::ptr;

use latchwork::cell::ReadPin;
use latchwork::latch::{
    Coupled, Coupling, ExclusiveGuard, Link, OptimisticLatch, Restart, Unlinked, traverse,
};

type NodeLatch = OptimisticLatch<Node>;

struct Node {
    /// Never changes.
    number: u64,
    next: Link<NodeLatch>,
}

impl Node {
    fn next<'p>(&'p self, pin: &'p ReadPin) -> Option<&'p NodeLatch> {
        self.next.get(pin)
    }
}

/// How a list is walked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Walk {
    Optimistic,
    HandOverHand,
}

/// A set of numbers, in order.
pub(crate) struct SortedList {
    head: NodeLatch,
    walk: Walk,
}

impl SortedList {
    pub(crate) fn new(walk: Walk) -> Self {
        let head = Node {
            number: 0,
            next: Link::empty(),
        };
        SortedList {
            head: OptimisticLatch::new(head),
            walk,
        }
    }

    /// Runs `f` until it succeeds.
    fn run<R>(&self, latched: Coupling, mut f: impl FnMut(Coupling) -> Result<R, Restart>) -> R {
        match self.walk {
            Walk::Optimistic => traverse(latched, f),
            Walk::HandOverHand => loop {
                if let Ok(result) = f(latched) {
                    return result;
                }
            },
        }
    }

    /// Walks to the last node whose number is below `bound`, or to the head.
    fn last_below<'p>(
        &'p self,
        bound: u64,
        coupling: Coupling,
        pin: &'p ReadPin,
    ) -> Result<Coupled<'p, Node>, Restart> {
        let mut at = Coupled::begin(&self.head, coupling)?;
        while at.step(|node| node.next(pin).filter(|next| next.peek().number < bound))? {}
        Ok(at)
    }

    pub(crate) fn contains(&self, number: u64) -> bool {
        let pin = latchwork::pin();
        self.run(Coupling::Shared, |coupling| {
            let before = self.last_below(number, coupling, &pin)?;
            before.read(|node| {
                node.next(&pin)
                    .is_some_and(|next| next.peek().number == number)
            })
        })
    }

    /// `false`: it was there already.
    pub(crate) fn insert(&self, number: u64) -> bool {
        // Before any latch, and dropped after all, if it is not needed: either may run destructors
        // that are due, and one may read this list.
        let mut new = Some(Unlinked::new(OptimisticLatch::new(Node {
            number,
            next: Link::empty(),
        })));
        let pin = latchwork::pin();
        self.run(Coupling::Exclusive, |coupling| {
            let before = self.last_below(number, coupling, &pin)?;
            if before.read(|node| {
                node.next(&pin)
                    .is_some_and(|next| next.peek().number == number)
            })? {
                return Ok(false);
            }
            let before = before.into_exclusive()?;
            if let Some(new) = &new {
                new.peek().next.swap(before.next.swap(None));
            }
            before.next.swap(new.take());
            Ok(true)
        })
    }

    /// `false`: it was not there.
    pub(crate) fn remove(&self, number: u64) -> bool {
        let pin = latchwork::pin();
        self.run(Coupling::Exclusive, |coupling| {
            let before = self.last_below(number, coupling, &pin)?;
            let found =
                before.ahead(|node| node.next(&pin).filter(|next| next.peek().number == number))?;
            let Some(found) = found else {
                return Ok(false);
            };
            let (before, found) = (before.into_exclusive()?, found.into_exclusive()?);
            let gone = before.next.swap(found.next.swap(None));
            debug_assert!(
                gone.as_deref()
                    .is_some_and(|gone| ptr::eq(gone.peek(), &*found))
            );
            ExclusiveGuard::mark_obsolete(found);
            drop(before);
            drop(gone);
            Ok(true)
        })
    }

    /// All numbers; those that are put in or taken out meanwhile may be among them.
    #[allow(dead_code, reason = "for tests")]
    pub(crate) fn numbers(&self) -> Vec<u64> {
        let pin = latchwork::pin();
        self.run(Coupling::Shared, |coupling| {
            let mut numbers = Vec::new();
            let mut at = Coupled::begin(&self.head, coupling)?;
            while at.step(|node| node.next(&pin))? {
                numbers.push(at.latch().peek().number);
            }
            Ok(numbers)
        })
    }
}

impl Drop for SortedList {
    /// In a loop: node by node, each with the next in it, would take one round of reclamation for
    /// each.
    fn drop(&mut self) {
        let mut next = self.head.get_mut().next.swap(None);
        while let Some(node) = next {
            next = node.peek().next.swap(None);
        }
    }
}
