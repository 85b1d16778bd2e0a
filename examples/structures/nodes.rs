//! The nodes of a B+tree, and where they are kept while they hang nowhere.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use latchwork::cell::ReadPin;
use latchwork::latch::{Link, OptimisticLatch, Restart, Unlinked};

/// Separators of an inner node, and entries of a leaf.
pub(super) const ROOM: usize = 64;

pub(super) type NodeLatch = OptimisticLatch<Node>;
pub(super) type Loose = Unlinked<NodeLatch>;

/// What it says may be half of one moment and half of another, until its latch has been asked: no
/// method panics over that.
pub(super) enum Node {
    Inner(Inner),
    Leaf(Leaf),
}

/// Child `i` has the keys from separator `i - 1` on and below separator `i`.
pub(super) struct Inner {
    pub(super) len: AtomicUsize,
    pub(super) separators: [AtomicU64; ROOM],
    pub(super) children: [Link<NodeLatch>; ROOM + 1],
}

pub(super) struct Leaf {
    len: AtomicUsize,
    keys: [AtomicU64; ROOM],
    values: [AtomicU64; ROOM],
}

/// How many of the first `len` keys are before a place, as `is_before` says.
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
    pub(super) fn len(&self) -> usize {
        match self {
            Node::Inner(Inner { len, .. }) | Node::Leaf(Leaf { len, .. }) => len.load(Relaxed),
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() >= ROOM
    }

    /// Where to go on for `key`; `None` in a leaf.
    pub(super) fn child<'p>(&'p self, key: u64, pin: &'p ReadPin) -> Option<&'p NodeLatch> {
        match self {
            Node::Inner(inner) => inner.children[inner.place(key)].get(pin),
            Node::Leaf(_) => None,
        }
    }

    pub(super) fn is_leaf(&self) -> bool {
        matches!(self, Node::Leaf(_))
    }

    /// A node that hangs nowhere yet. With no latch held.
    pub(super) fn loose(self) -> Loose {
        Unlinked::new(OptimisticLatch::new(self))
    }

    /// Moves the upper half into a new node of the same kind, and returns the first key of it.
    /// Alone with the latch.
    pub(super) fn split(&self, upper: &Node) -> u64 {
        let middle = ROOM / 2;
        match (self, upper) {
            (Node::Leaf(leaf), Node::Leaf(upper)) => {
                copy_upper(&leaf.keys, &upper.keys, middle);
                copy_upper(&leaf.values, &upper.values, middle);
                upper.len.store(ROOM - middle, Relaxed);
                leaf.len.store(middle, Relaxed);
                upper.keys[0].load(Relaxed)
            }
            (Node::Inner(inner), Node::Inner(upper)) => {
                copy_upper(&inner.separators, &upper.separators, middle + 1);
                for (from, to) in inner.children[middle + 1..].iter().zip(&upper.children) {
                    to.swap(from.swap(None));
                }
                upper.len.store(ROOM - middle - 1, Relaxed);
                inner.len.store(middle, Relaxed);
                inner.separators[middle].load(Relaxed)
            }
            _ => unreachable!("a node stays what it is, and the yard gave out one like it"),
        }
    }
}

/// The nodes of one operation that hang nowhere: made before a walk, or taken out by one.
#[derive(Default)]
pub(super) struct Yard {
    pub(super) leaves: Vec<Loose>,
    pub(super) inners: Vec<Loose>,
    /// How many leaves and inner nodes the last walk would have needed.
    wanted: (usize, usize),
    pub(super) gone: Vec<Loose>,
}

impl Yard {
    /// Drops what the last walk took out, and makes what it lacked. With no latch held.
    pub(super) fn tidy(&mut self) {
        self.gone.clear();
        while self.leaves.len() < self.wanted.0 {
            self.leaves.push(Node::Leaf(Leaf::default()).loose());
        }
        while self.inners.len() < self.wanted.1 {
            self.inners.push(Node::Inner(Inner::default()).loose());
        }
    }

    /// Asks for nodes. They are there, or the walk begins again, and they will be.
    pub(super) fn want(&mut self, leaves: usize, inners: usize) -> Result<(), Restart> {
        self.wanted = (leaves, inners);
        if self.leaves.len() < leaves || self.inners.len() < inners {
            return Err(Restart::Changed);
        }
        self.wanted = (0, 0);
        Ok(())
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
    pub(super) fn place(&self, key: u64) -> usize {
        rank(&self.separators, &self.len, |separator| separator <= key)
    }

    /// Adds a child with the keys from `separator` on. Alone with the latch, and not full.
    pub(super) fn insert(&self, separator: u64, child: Unlinked<NodeLatch>) {
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
    pub(super) fn remove(&self, key: u64) -> Option<Unlinked<NodeLatch>> {
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

    pub(super) fn get(&self, key: u64) -> Option<u64> {
        let place = self.place(key).ok()?;
        Some(self.values[place].load(Relaxed))
    }

    /// Alone with the latch, and not full.
    pub(super) fn insert(&self, key: u64, value: u64) -> Option<u64> {
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
    pub(super) fn remove(&self, key: u64) -> Option<u64> {
        let place = self.place(key).ok()?;
        let (old, len) = (self.values[place].load(Relaxed), self.len.load(Relaxed));
        close_gap(&self.keys, place, len);
        close_gap(&self.values, place, len);
        self.len.store(len - 1, Relaxed);
        Some(old)
    }

    pub(super) fn entries(&self, keys: &RangeInclusive<u64>) -> Vec<(u64, u64)> {
        let end = self.len.load(Relaxed).min(ROOM);
        let entries = self.keys[..end].iter().zip(&self.values);
        entries
            .map(|(key, value)| (key.load(Relaxed), value.load(Relaxed)))
            .filter(|(key, _)| keys.contains(key))
            .collect()
    }
}
