//! A B+tree from `u64` to `u64` that any number of threads use at once: optimistic lock coupling, on the public API alone.
//!
//! Readers and writers walk down by versions and hold nothing; a writer latches the leaf that it changes, and its parent too where a
//! node is split or taken out. Whoever finds that what it stands on has changed begins again at the root, and after a
//! few times in vain walks with latches, hand over hand.
//!
//! Nodes are split on the way down, when they are full, so that a parent always has room. A leaf that becomes empty is taken out
//! of its parent, and a root with one child gives way to it; nodes that are only half empty stay, as in most databases. So does the
//! last leaf below a parent, empty or not, and with it the parent: keys that only ever rise leave one pair behind for each parent.

use std::ops::RangeInclusive;
use std::ptr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use latchwork::ReadPin;
use latchwork::latch::{
    Coupled, Coupling, ExclusiveGuard, Link, OptimisticLatch, Restart, Unlinked, traverse,
};

/// Separators of an inner node, and entries of a leaf.
const ROOM: usize = 64;

type NodeLatch = OptimisticLatch<Node>;

/// What it says may be half of one moment and half of another, until its latch has been asked: no method panics over that.
enum Node {
    Inner(Inner),
    Leaf(Leaf),
}

/// Child `i` has the keys from separator `i - 1` on and below separator `i`.
struct Inner {
    len: AtomicUsize,
    separators: [AtomicU64; ROOM],
    children: [Link<NodeLatch>; ROOM + 1],
}

struct Leaf {
    len: AtomicUsize,
    keys: [AtomicU64; ROOM],
    values: [AtomicU64; ROOM],
}

/// How many of the first `len` keys are below `bound`, or equal to it where `or_equal` says so.
fn rank(keys: &[AtomicU64; ROOM], len: &AtomicUsize, is_before: impl Fn(u64) -> bool) -> usize {
    let len = len.load(Relaxed).min(ROOM);
    keys[..len].partition_point(|key| is_before(key.load(Relaxed)))
}

/// Moves what is from `at` on by one place, up to place `len`.
fn make_room(array: &[AtomicU64; ROOM], at: usize, len: usize) {
    for place in (at..len).rev() {
        array[place + 1].store(array[place].load(Relaxed), Relaxed);
    }
}

/// Moves what is behind `at` there.
fn close_gap(array: &[AtomicU64; ROOM], at: usize, len: usize) {
    for place in at + 1..len {
        array[place - 1].store(array[place].load(Relaxed), Relaxed);
    }
}

/// Copies what is from `at` on to the beginning of another.
fn copy_upper(from: &[AtomicU64; ROOM], to: &[AtomicU64; ROOM], at: usize) {
    for (from, to) in from[at..].iter().zip(to) {
        to.store(from.load(Relaxed), Relaxed);
    }
}

impl Node {
    fn len(&self) -> usize {
        match self {
            Node::Inner(Inner { len, .. }) | Node::Leaf(Leaf { len, .. }) => len.load(Relaxed),
        }
    }

    fn is_full(&self) -> bool {
        self.len() >= ROOM
    }

    /// Where to go on for `key`; `None` in a leaf.
    fn child<'p>(&'p self, key: u64, pin: &'p ReadPin) -> Option<&'p NodeLatch> {
        match self {
            Node::Inner(inner) => inner.children[inner.place(key)].get(pin),
            Node::Leaf(_) => None,
        }
    }

    /// The upper half as a node of its own, and the first key of it. Alone with the latch.
    fn split(&self) -> (u64, Unlinked<NodeLatch>) {
        let middle = ROOM / 2;
        match self {
            Node::Leaf(leaf) => {
                let upper = Leaf::default();
                copy_upper(&leaf.keys, &upper.keys, middle);
                copy_upper(&leaf.values, &upper.values, middle);
                upper.len.store(ROOM - middle, Relaxed);
                leaf.len.store(middle, Relaxed);
                (
                    upper.keys[0].load(Relaxed),
                    Unlinked::new(OptimisticLatch::new(Node::Leaf(upper))),
                )
            }
            Node::Inner(inner) => {
                let upper = Inner::default();
                copy_upper(&inner.separators, &upper.separators, middle + 1);
                for (from, to) in inner.children[middle + 1..].iter().zip(&upper.children) {
                    to.swap(from.swap(None));
                }
                upper.len.store(ROOM - middle - 1, Relaxed);
                inner.len.store(middle, Relaxed);
                (
                    inner.separators[middle].load(Relaxed),
                    Unlinked::new(OptimisticLatch::new(Node::Inner(upper))),
                )
            }
        }
    }
}

impl Default for Inner {
    fn default() -> Self {
        Inner {
            len: AtomicUsize::new(0),
            separators: [const { AtomicU64::new(0) }; ROOM],
            children: [const { Link::empty() }; ROOM + 1],
        }
    }
}

impl Inner {
    fn place(&self, key: u64) -> usize {
        rank(&self.separators, &self.len, |separator| separator <= key)
    }

    /// Adds a child with the keys from `separator` on. Alone with the latch, and not full.
    fn insert(&self, separator: u64, child: Unlinked<NodeLatch>) {
        let (len, place) = (self.len.load(Relaxed), self.place(separator));
        make_room(&self.separators, place, len);
        self.separators[place].store(separator, Relaxed);
        let mut carried = Some(child);
        for link in &self.children[place + 1..=len + 1] {
            carried = link.swap(carried);
        }
        self.len.store(len + 1, Relaxed);
    }

    /// Takes the child for `key` out, which is not the only one. Alone with the latch.
    fn remove(&self, key: u64) -> Option<Unlinked<NodeLatch>> {
        let (len, place) = (self.len.load(Relaxed), self.place(key));
        close_gap(&self.separators, place.saturating_sub(1), len);
        let mut carried = None;
        for link in self.children[place..=len].iter().rev() {
            carried = link.swap(carried);
        }
        self.len.store(len - 1, Relaxed);
        carried
    }
}

impl Default for Leaf {
    fn default() -> Self {
        Leaf {
            len: AtomicUsize::new(0),
            keys: [const { AtomicU64::new(0) }; ROOM],
            values: [const { AtomicU64::new(0) }; ROOM],
        }
    }
}

impl Leaf {
    /// Where `key` is, or would be.
    fn place(&self, key: u64) -> Result<usize, usize> {
        let place = rank(&self.keys, &self.len, |other| other < key);
        let is_there = place < self.len.load(Relaxed).min(ROOM);
        if is_there && self.keys[place].load(Relaxed) == key {
            Ok(place)
        } else {
            Err(place)
        }
    }

    fn get(&self, key: u64) -> Option<u64> {
        let place = self.place(key).ok()?;
        Some(self.values[place].load(Relaxed))
    }

    /// Alone with the latch, and not full.
    fn insert(&self, key: u64, value: u64) -> Option<u64> {
        let place = match self.place(key) {
            Ok(place) => {
                let old = self.values[place].load(Relaxed);
                self.values[place].store(value, Relaxed);
                return Some(old);
            }
            Err(place) => place,
        };
        let len = self.len.load(Relaxed);
        make_room(&self.keys, place, len);
        make_room(&self.values, place, len);
        self.keys[place].store(key, Relaxed);
        self.values[place].store(value, Relaxed);
        self.len.store(len + 1, Relaxed);
        None
    }

    /// Alone with the latch.
    fn remove(&self, key: u64) -> Option<u64> {
        let place = self.place(key).ok()?;
        let (old, len) = (self.values[place].load(Relaxed), self.len.load(Relaxed));
        close_gap(&self.keys, place, len);
        close_gap(&self.values, place, len);
        self.len.store(len - 1, Relaxed);
        Some(old)
    }

    fn entries(&self, keys: &RangeInclusive<u64>) -> Vec<(u64, u64)> {
        let end = self.len.load(Relaxed).min(ROOM);
        let entries = self.keys[..end].iter().zip(&self.values);
        entries
            .map(|(key, value)| (key.load(Relaxed), value.load(Relaxed)))
            .filter(|(key, _)| keys.contains(key))
            .collect()
    }
}

/// An ordered map for many threads.
///
/// Each operation on one key is atomic. A range is read leaf by leaf: what is in one leaf is of one moment.
pub(crate) struct BTree {
    /// An inner node without separators: its one child is the root. So the root is a child like any other.
    head: NodeLatch,
}

impl Default for BTree {
    fn default() -> Self {
        let head = Inner::default();
        head.children[0].swap(Some(Unlinked::new(OptimisticLatch::new(Node::Leaf(
            Leaf::default(),
        )))));
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
        let pin = latchwork::pin();
        traverse(Coupling::Exclusive, |coupling| {
            let (_parent, leaf) = self.descend(key, coupling, &pin, |node| node.is_full())?;
            let leaf = leaf.into_exclusive()?;
            let Node::Leaf(leaf) = &*leaf else {
                return Err(Restart::Changed);
            };
            Ok(leaf.insert(key, value))
        })
    }

    /// Takes a key out, and returns the value that it had.
    pub(crate) fn remove(&self, key: u64) -> Option<u64> {
        let pin = latchwork::pin();
        traverse(Coupling::Exclusive, |coupling| {
            let (parent, leaf) = self.descend(key, coupling, &pin, |_| false)?;
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
            // It goes with its last key, and whoever is on its way there begins again.
            let emptied = removed.and_then(|_| above.remove(key));
            if emptied.is_some() {
                ExclusiveGuard::obsolete(guard);
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

    /// Walks to the leaf of `key`; returns its parent and it. Splits what `must_split`, and takes a root with one child out, on the way.
    fn descend<'p>(
        &'p self,
        key: u64,
        coupling: Coupling,
        pin: &'p ReadPin,
        must_split: impl Fn(&Node) -> bool,
    ) -> Result<(Coupled<'p, Node>, Coupled<'p, Node>), Restart> {
        let child = |node: &'p Node| node.child(key, pin);
        let mut parent = Coupled::begin(&self.head, coupling)?;
        let mut at = parent.ahead(child)?.ok_or(Restart::Changed)?;
        loop {
            if at.read(&must_split)? {
                self.split(parent, at)?;
                // The tree is another now.
                return Err(Restart::Changed);
            }
            if self.is_head(&parent)
                && at.read(|root| matches!(root, Node::Inner(_)) && root.len() == 0)?
            {
                Self::lower(parent, at)?;
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
    fn split(&self, parent: Coupled<'_, Node>, at: Coupled<'_, Node>) -> Result<(), Restart> {
        let is_root = self.is_head(&parent);
        let (parent, node) = (parent.into_exclusive()?, at.into_exclusive()?);
        let Node::Inner(above) = &*parent else {
            return Err(Restart::Changed);
        };
        let (separator, upper) = node.split();
        if !is_root {
            above.insert(separator, upper);
            return Ok(());
        }
        // The tree grows by a root with the two halves.
        let root = Inner::default();
        root.children[0].swap(above.children[0].swap(None));
        root.insert(separator, upper);
        above.children[0].swap(Some(Unlinked::new(OptimisticLatch::new(Node::Inner(root)))));
        Ok(())
    }

    /// Puts the one child of the root in its place.
    fn lower(head: Coupled<'_, Node>, root: Coupled<'_, Node>) -> Result<(), Restart> {
        let (head, guard) = (head.into_exclusive()?, root.into_exclusive()?);
        let (Node::Inner(head), Node::Inner(root)) = (&*head, &*guard) else {
            return Err(Restart::Changed);
        };
        let old = head.children[0].swap(root.children[0].swap(None));
        ExclusiveGuard::obsolete(guard);
        drop(old);
        Ok(())
    }
}
