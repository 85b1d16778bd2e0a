//! A B+tree from `u64` to `u64` that any number of threads use at once: optimistic lock coupling,
//! on the public API alone.
//!
//! Readers and writers walk down by versions and hold nothing; a writer latches the leaf that it
//! changes, and its parent too where a node is split or taken out. Whoever finds that what it
//! stands on has changed begins again at the root, and after a few times in vain walks with
//! latches, hand over hand.
//!
//! Nodes are split on the way down, when they are full, so that a parent always has room. A leaf
//! that becomes empty is taken out of its parent, and a root with one child gives way to it; nodes
//! that are only half empty stay, as in most databases. So does the last leaf below a parent, empty
//! or not, and with it the parent: keys that only ever rise leave one pair behind for each parent.
//!
//! To make or to drop a node may run destructors of values that are due, whosever they are, and one
//! of them may come by this very tree: so nodes are made and dropped between walks, when no latch
//! is held ([`Yard`]).

mod nodes;

use std::ops::RangeInclusive;
use std::ptr;
use std::sync::atomic::Ordering::Relaxed;

use latchwork::cell::ReadPin;
use latchwork::latch::{Coupled, Coupling, ExclusiveGuard, OptimisticLatch, Restart, traverse};

use nodes::{Inner, Leaf, Node, NodeLatch, ROOM, Yard};

/// An ordered map for many threads.
///
/// Each operation on one key is atomic. A range is read leaf by leaf: what is in one leaf is of one
/// moment.
pub(crate) struct BTree {
    /// An inner node without separators: its one child is the root. So the root is a child like any
    /// other.
    head: NodeLatch,
}

impl Default for BTree {
    fn default() -> Self {
        let head = Inner::default();
        head.children[0].swap(Some(Node::Leaf(Leaf::default()).loose()));
        BTree {
            head: OptimisticLatch::new(Node::Inner(head)),
        }
    }
}

impl BTree {
    /// Returns the value of a key.
    pub(crate) fn get(&self, key: u64) -> Option<u64> {
        let pin = latchwork::pin();
        traverse(Coupling::Shared, |coupling| {
            let mut at = Coupled::begin(&self.head, coupling)?;
            while at.step(|node| node.child(key, &pin))? {}
            at.read(|node| match node {
                Node::Leaf(leaf) => leaf.get(key),
                Node::Inner(_) => None,
            })
        })
    }

    /// Gives a key a value, and returns the one that it had.
    pub(crate) fn insert(&self, key: u64, value: u64) -> Option<u64> {
        // Dropped after all guards.
        let mut yard = Yard::default();
        let pin = latchwork::pin();
        traverse(Coupling::Exclusive, |coupling| {
            yard.tidy();
            let must_split = |node: &Node| node.is_full();
            let (_parent, leaf) = self.descend(key, coupling, &pin, &mut yard, must_split)?;
            let leaf = leaf.into_exclusive()?;
            let Node::Leaf(leaf) = &*leaf else {
                return Err(Restart::Changed);
            };
            Ok(leaf.insert(key, value))
        })
    }

    /// Takes a key out, and returns the value that it had.
    pub(crate) fn remove(&self, key: u64) -> Option<u64> {
        // Dropped after all guards.
        let mut yard = Yard::default();
        let pin = latchwork::pin();
        traverse(Coupling::Exclusive, |coupling| {
            yard.tidy();
            let (parent, leaf) = self.descend(key, coupling, &pin, &mut yard, |_| false)?;
            let (is_last, has_siblings) = (
                leaf.read(|leaf| leaf.len() == 1)?,
                parent.read(|parent| parent.len() > 0)?,
            );
            if !(is_last && has_siblings) {
                let leaf = leaf.into_exclusive()?;
                let Node::Leaf(leaf) = &*leaf else {
                    return Err(Restart::Changed);
                };
                return Ok(leaf.remove(key));
            }
            let (parent, guard) = (parent.into_exclusive()?, leaf.into_exclusive()?);
            let (Node::Inner(above), Node::Leaf(leaf)) = (&*parent, &*guard) else {
                return Err(Restart::Changed);
            };
            let removed = leaf.remove(key);
            if removed.is_some() {
                // It goes with its last key, and whoever is on its way there begins again.
                yard.gone.extend(above.remove(key));
                ExclusiveGuard::mark_obsolete(guard);
            }
            Ok(removed)
        })
    }

    /// Returns the entries of a range, by their keys.
    pub(crate) fn range(&self, keys: RangeInclusive<u64>) -> Vec<(u64, u64)> {
        let (mut found, mut from) = (Vec::new(), *keys.start());
        loop {
            let pin = latchwork::pin();
            let (entries, next) = traverse(Coupling::Shared, |coupling| {
                let mut at = Coupled::begin(&self.head, coupling)?;
                // The first key that is no longer below the leaf that is walked to.
                let mut next = None;
                while at.step(|node| {
                    if let Node::Inner(inner) = node {
                        let (place, len) = (inner.place(from), inner.len.load(Relaxed).min(ROOM));
                        if place < len {
                            next = Some(inner.separators[place].load(Relaxed));
                        }
                    }
                    node.child(from, &pin)
                })? {}
                let entries = at.read(|node| match node {
                    Node::Leaf(leaf) => leaf.entries(&(from..=*keys.end())),
                    Node::Inner(_) => Vec::new(),
                })?;
                Ok((entries, next))
            });
            found.extend(entries);
            match next.filter(|next| next <= keys.end()) {
                Some(next) => from = next,
                None => return found,
            }
        }
    }

    /// Walks to the leaf of `key`; returns its parent and it. Splits what `must_split`, and takes a
    /// root with one child out, on the way.
    fn descend<'p>(
        &'p self,
        key: u64,
        coupling: Coupling,
        pin: &'p ReadPin,
        yard: &mut Yard,
        must_split: impl Fn(&Node) -> bool,
    ) -> Result<(Coupled<'p, Node>, Coupled<'p, Node>), Restart> {
        let child = |node: &'p Node| node.child(key, pin);
        let mut parent = Coupled::begin(&self.head, coupling)?;
        let mut at = parent.ahead(child)?.ok_or(Restart::Changed)?;
        loop {
            if at.read(&must_split)? {
                self.split(parent, at, yard)?;
                // The tree is another now.
                return Err(Restart::Changed);
            }
            if self.is_head(&parent)
                && at.read(|root| matches!(root, Node::Inner(_)) && root.len() == 0)?
            {
                Self::lower(parent, at, yard)?;
                return Err(Restart::Changed);
            }
            match at.ahead(child)? {
                Some(next) => parent = std::mem::replace(&mut at, next),
                None => return Ok((parent, at)),
            }
        }
    }

    fn is_head(&self, place: &Coupled<'_, Node>) -> bool {
        ptr::eq(place.latch(), &self.head)
    }

    /// Splits a node that is full; its parent is not.
    fn split(
        &self,
        parent: Coupled<'_, Node>,
        at: Coupled<'_, Node>,
        yard: &mut Yard,
    ) -> Result<(), Restart> {
        let (is_root, is_leaf) = (self.is_head(&parent), at.read(Node::is_leaf)?);
        yard.want(is_leaf.into(), usize::from(!is_leaf) + usize::from(is_root))?;
        let (parent, node) = (parent.into_exclusive()?, at.into_exclusive()?);
        let Node::Inner(above) = &*parent else {
            return Err(Restart::Changed);
        };
        let nodes = if is_leaf {
            &mut yard.leaves
        } else {
            &mut yard.inners
        };
        let upper = nodes.pop().expect("it is there");
        let separator = node.split(upper.peek());
        if !is_root {
            above.insert(separator, upper);
            return Ok(());
        }
        // The tree grows by a root with the two halves.
        let root = yard.inners.pop().expect("it is there");
        if let Node::Inner(root) = root.peek() {
            root.children[0].swap(above.children[0].swap(None));
            root.insert(separator, upper);
        }
        above.children[0].swap(Some(root));
        Ok(())
    }

    /// Puts the one child of the root in its place.
    fn lower(
        head: Coupled<'_, Node>,
        root: Coupled<'_, Node>,
        yard: &mut Yard,
    ) -> Result<(), Restart> {
        let (head, guard) = (head.into_exclusive()?, root.into_exclusive()?);
        let (Node::Inner(head), Node::Inner(root)) = (&*head, &*guard) else {
            return Err(Restart::Changed);
        };
        yard.gone
            .extend(head.children[0].swap(root.children[0].swap(None)));
        ExclusiveGuard::mark_obsolete(guard);
        Ok(())
    }
}
