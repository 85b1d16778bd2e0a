//! Which lock was taken while which other was held, and where. Plain data: no locks, no threads.

use core::fmt;
use core::panic::Location;
use std::collections::{BTreeMap, BTreeSet};

/// Where something happened in the source.
pub(super) type Place = &'static Location<'static>;

/// A lock, by a number that is not used again.
pub(super) type Id = u64;

/// Pairs that are remembered. Not found by measurement: a hundred megabytes.
const MAX_EDGES: usize = 1 << 20;

#[derive(Clone, Copy, Debug)]
struct Edge {
    held_at: Place,
    taken_at: Place,
}

#[derive(Debug)]
struct Node {
    made_at: Place,
    /// Locks that were taken while this one was held.
    after: BTreeMap<Id, Edge>,
    /// Locks that were held when this one was taken: where `after` has this one.
    before: BTreeSet<Id>,
}

/// One step of a ring: a lock was held when the next was taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    held: Place,
    held_at: Place,
    taken: Place,
    taken_at: Place,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Step {
            held,
            held_at,
            taken,
            taken_at,
        } = self;
        write!(
            f,
            "{taken_at} takes the lock made at {taken}, holding since {held_at} the one made at {held}"
        )
    }
}

/// A ring of locks, each taken while the one before was held: the step that closes it first.
#[derive(Clone, Debug)]
pub(super) struct Ring(Vec<Step>);

impl fmt::Display for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (closes, learned) = self.0.split_first().expect("a ring has a step");
        write!(
            f,
            "locks are taken in a ring, in which threads can wait for each other for ever:\n  now     {closes}"
        )?;
        learned
            .iter()
            .try_for_each(|step| write!(f, "\n  before  {step}"))
    }
}

/// A lock that a thread holds, and since where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) lock: Id,
    pub(super) at: Place,
}

#[derive(Debug)]
pub(super) struct Graph {
    nodes: BTreeMap<Id, Node>,
    last: Id,
    edges: usize,
}

impl Graph {
    pub(super) const fn new() -> Self {
        Graph {
            nodes: BTreeMap::new(),
            last: 0,
            edges: 0,
        }
    }

    /// Enters a lock that nobody has taken yet.
    pub(super) fn enter(&mut self, made_at: Place) -> Id {
        self.last += 1;
        let node = Node {
            made_at,
            after: BTreeMap::new(),
            before: BTreeSet::new(),
        };
        self.nodes.insert(self.last, node);
        self.last
    }

    /// Forgets a lock that is dropped.
    pub(super) fn forget(&mut self, lock: Id) {
        let Some(node) = self.nodes.remove(&lock) else {
            return;
        };
        self.edges -= node.after.len() + node.before.len();
        for after in node.after.keys() {
            self.nodes.get_mut(after).map(|n| n.before.remove(&lock));
        }
        for before in &node.before {
            self.nodes.get_mut(before).map(|n| n.after.remove(&lock));
        }
    }

    pub(super) fn knows(&self, lock: Id) -> bool {
        self.nodes.contains_key(&lock)
    }

    /// Learns that `wanted` comes after `held`, unless it was learned that it comes before.
    pub(super) fn learn(&mut self, held: Held, wanted: Held) -> Result<(), Ring> {
        let edge = Edge {
            held_at: held.at,
            taken_at: wanted.at,
        };
        match self.nodes.get(&held.lock) {
            // The guard was forgotten, and the lock dropped.
            None => return Ok(()),
            Some(node) if node.after.contains_key(&wanted.lock) => return Ok(()),
            Some(_) => {}
        }
        if let Some(path) = self.path(wanted.lock, held.lock) {
            let mut steps = vec![self.step(held.lock, wanted.lock, edge)];
            steps.extend(path);
            return Err(Ring(steps));
        }
        if self.edges < MAX_EDGES {
            self.edges += 1;
            let node = self.nodes.get_mut(&held.lock).expect("looked up above");
            node.after.insert(wanted.lock, edge);
            let node = self.nodes.get_mut(&wanted.lock).expect("entered");
            node.before.insert(held.lock);
        }
        Ok(())
    }

    fn step(&self, held: Id, taken: Id, edge: Edge) -> Step {
        Step {
            held: self.nodes[&held].made_at,
            held_at: edge.held_at,
            taken: self.nodes[&taken].made_at,
            taken_at: edge.taken_at,
        }
    }

    /// Steps that lead from one lock to another, the fewest, if any do.
    fn path(&self, from: Id, to: Id) -> Option<Vec<Step>> {
        let mut came_from = BTreeMap::new();
        let mut next = std::collections::VecDeque::from([from]);
        while let Some(at) = next.pop_front() {
            if at == to {
                let mut steps = Vec::new();
                let mut there = to;
                while there != from {
                    let before = came_from[&there];
                    let edge = self.nodes[&before].after[&there];
                    steps.push(self.step(before, there, edge));
                    there = before;
                }
                steps.reverse();
                return Some(steps);
            }
            for after in self.nodes.get(&at).into_iter().flat_map(|n| n.after.keys()) {
                if *after != from && !came_from.contains_key(after) {
                    came_from.insert(*after, at);
                    next.push_back(*after);
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here() -> Place {
        Location::caller()
    }

    fn held(lock: Id) -> Held {
        Held { lock, at: here() }
    }

    fn graph(locks: usize) -> (Graph, Vec<Id>) {
        let mut graph = Graph::new();
        let ids = (0..locks).map(|_| graph.enter(here())).collect();
        (graph, ids)
    }

    #[test]
    fn a_ring_of_any_length_is_found_when_it_closes() {
        for length in 2..12 {
            let (mut graph, ids) = graph(length);
            for two in ids.windows(2) {
                for _ in 0..2 {
                    graph.learn(held(two[0]), held(two[1])).expect("one order");
                }
            }
            let (first, last) = (ids[0], ids[length - 1]);
            let ring = graph.learn(held(last), held(first)).unwrap_err();
            assert_eq!(ring.0.len(), length);
            graph
                .learn(held(first), held(last))
                .expect("it was not learned");
            assert_eq!(graph.edges, length - usize::from(length == 2));
        }
    }

    #[test]
    fn the_shortest_ring_is_told() {
        let (mut graph, ids) = graph(6);
        for two in ids.windows(2) {
            graph.learn(held(two[0]), held(two[1])).expect("one order");
        }
        graph.learn(held(ids[1]), held(ids[5])).expect("one order");
        let ring = graph.learn(held(ids[5]), held(ids[0])).unwrap_err();
        assert_eq!(ring.0.len(), 3, "{ring}");
    }

    #[test]
    fn what_is_dropped_is_forgotten_on_both_sides() {
        let (mut graph, ids) = graph(3);
        graph.learn(held(ids[0]), held(ids[1])).expect("one order");
        graph.learn(held(ids[1]), held(ids[2])).expect("one order");
        graph.forget(ids[1]);
        graph.forget(ids[1]);
        assert_eq!(graph.edges, 0);
        graph
            .learn(held(ids[2]), held(ids[0]))
            .expect("nothing is left");
        graph.learn(held(ids[1]), held(ids[0])).expect("it is gone");
        assert_eq!((graph.edges, graph.nodes.len()), (1, 2));
        assert!(!graph.knows(ids[1]) && graph.knows(ids[2]));
    }

    /// Against a search that tries everything.
    #[test]
    fn an_order_is_refused_when_it_closes_a_ring_and_not_otherwise() {
        fn leads(edges: &[(Id, Id)], from: Id, to: Id, steps: usize) -> bool {
            from == to
                || steps > 0
                    && edges
                        .iter()
                        .any(|(a, b)| *a == from && leads(edges, *b, to, steps - 1))
        }
        let mut state = 7_u64;
        let mut random = |n: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % n
        };
        for _ in 0..200 {
            let (mut graph, ids) = graph(6);
            let mut edges = Vec::new();
            for _ in 0..12 {
                let (a, b) = (ids[random(6) as usize], ids[random(6) as usize]);
                if a == b {
                    continue;
                }
                let closes = leads(&edges, b, a, 6);
                assert_eq!(graph.learn(held(a), held(b)).is_err(), closes);
                if !closes {
                    edges.push((a, b));
                }
            }
        }
    }
}
