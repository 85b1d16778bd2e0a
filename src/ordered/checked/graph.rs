//! Which lock was acquired while which other was held, and where. Plain data: no locks, no threads.
//!
//! The graph has no cycle, so its locks have a topological order, and each node keeps its position in one. A pair of locks that
//! agrees with the positions closes no cycle, and is learned without a search. A pair that contradicts them moves locks: a lock
//! without predecessors moves before all others, a lock without successors moves behind them. Only where neither applies, a
//! search follows the edges between the two positions; it either meets the other lock, which is a cycle, or reassigns the
//! positions of the locks that it has visited.
//!
//! *Source.* Pearce and Kelly, "A Dynamic Topological Sort Algorithm for Directed Acyclic Graphs" (JEA 11, 2006), with the two
//! cases that need no search put first. Pairs that other pairs imply are learned too: the locks between them may be dropped.

use core::fmt;
use core::panic::Location;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

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
    /// The position in the topological order: less than those of all locks in `after`.
    position: i64,
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
    /// The least and the greatest position that was ever assigned.
    first_position: i64,
    last_position: i64,
    edges: usize,
    /// Edges that searches have followed: what the tests bound.
    steps: u64,
}

impl Graph {
    pub(super) const fn new() -> Self {
        Graph {
            nodes: BTreeMap::new(),
            last: 0,
            first_position: 0,
            last_position: 0,
            edges: 0,
            steps: 0,
        }
    }

    /// Enters a lock that nobody has taken yet.
    pub(super) fn enter(&mut self, made_at: Place) -> Id {
        self.last += 1;
        self.last_position += 1;
        let node = Node {
            made_at,
            position: self.last_position,
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
        if !self.put_in_order(held.lock, wanted.lock) {
            let mut steps = vec![self.step(held.lock, wanted.lock, edge)];
            steps.extend(self.path(wanted.lock, held.lock));
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

    /// Makes the position of `earlier` less than that of `later`, and keeps it so for all edges. Returns `false`, and changes
    /// nothing, if edges lead from `later` to `earlier`, or both are one lock.
    fn put_in_order(&mut self, earlier: Id, later: Id) -> bool {
        if earlier == later {
            return false;
        }
        let (from, to) = (&self.nodes[&later], &self.nodes[&earlier]);
        let (lower, upper) = (from.position, to.position);
        if upper < lower {
            return true;
        }
        // No edge leads to `earlier`: it may precede everything.
        if to.before.is_empty() {
            self.first_position -= 1;
            self.set_position(earlier, self.first_position);
            return true;
        }
        // No edge leads on from `later`: it may follow everything.
        if from.after.is_empty() {
            self.last_position += 1;
            self.set_position(later, self.last_position);
            return true;
        }
        // A path from `later` to `earlier` rises all the way, so that it stays between the two positions.
        let behind = self.reach(
            later,
            |node| node.after.keys().copied().collect(),
            |p| p <= upper,
        );
        if behind.contains(&earlier) {
            return false;
        }
        let ahead = self.reach(
            earlier,
            |node| node.before.iter().copied().collect(),
            |p| p >= lower,
        );
        // What precedes `earlier` takes the least of the positions of both sets, in the order that it had; what follows
        // `later` takes the others. No lock of the one set moves up, and none of the other moves down.
        let mut order = self.by_position(ahead);
        order.extend(self.by_position(behind));
        let mut positions: Vec<i64> = order.iter().map(|lock| self.nodes[lock].position).collect();
        positions.sort_unstable();
        for (lock, position) in order.into_iter().zip(positions) {
            self.set_position(lock, position);
        }
        true
    }

    /// The locks that `next` leads to from `start`, without leaving the positions that are `inside`; with `start`.
    fn reach(
        &mut self,
        start: Id,
        next: impl Fn(&Node) -> Vec<Id>,
        inside: impl Fn(i64) -> bool,
    ) -> BTreeSet<Id> {
        let mut reached = BTreeSet::from([start]);
        let mut to_visit = vec![start];
        while let Some(at) = to_visit.pop() {
            for lock in next(&self.nodes[&at]) {
                self.steps += 1;
                if inside(self.nodes[&lock].position) && reached.insert(lock) {
                    to_visit.push(lock);
                }
            }
        }
        reached
    }

    fn by_position(&self, locks: BTreeSet<Id>) -> Vec<Id> {
        let mut locks: Vec<Id> = locks.into_iter().collect();
        locks.sort_unstable_by_key(|lock| self.nodes[lock].position);
        locks
    }

    fn set_position(&mut self, lock: Id, position: i64) {
        let node = self.nodes.get_mut(&lock).expect("the lock was looked up");
        node.position = position;
    }

    /// The steps of a shortest path from one lock to another, which exists.
    fn path(&self, from: Id, to: Id) -> Vec<Step> {
        let mut came_from = BTreeMap::new();
        let mut next = VecDeque::from([from]);
        while let Some(at) = next.pop_front() {
            if at == to {
                break;
            }
            for after in self.nodes[&at].after.keys() {
                if *after != from && !came_from.contains_key(after) {
                    came_from.insert(*after, at);
                    next.push_back(*after);
                }
            }
        }
        let mut steps = Vec::new();
        let mut there = to;
        while there != from {
            let before = came_from[&there];
            let edge = self.nodes[&before].after[&there];
            steps.push(self.step(before, there, edge));
            there = before;
        }
        steps.reverse();
        steps
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

    /// The graph of `locks` locks that a thread has locked together, in order, and one coarse lock.
    fn locked_together(locks: usize) -> (Graph, Vec<Id>, Id) {
        let (mut graph, ids) = graph(locks);
        for (n, wanted) in ids.iter().enumerate() {
            for holds in &ids[..n] {
                graph.learn(held(*holds), held(*wanted)).expect("one order");
            }
        }
        let coarse = graph.enter(here());
        (graph, ids, coarse)
    }

    #[test]
    fn a_sweep_under_a_coarse_lock_follows_few_edges() {
        for locks in [50, 100, 200, 400] {
            let (mut graph, ids, coarse) = locked_together(locks);
            for _ in 0..2 {
                for wanted in &ids {
                    graph.learn(held(coarse), held(*wanted)).expect("one order");
                }
            }
            // The coarse lock has no predecessor, so that it moves to the front without a search.
            assert_eq!(graph.steps, 0, "{locks} locks");
        }
    }

    #[test]
    fn a_sweep_under_two_coarse_locks_follows_each_edge_at_most_once() {
        for locks in [50, 100, 200, 400] {
            let (mut graph, ids, coarse) = locked_together(locks);
            let inner = graph.enter(here());
            graph.learn(held(coarse), held(inner)).expect("one order");
            for wanted in &ids {
                for holds in [coarse, inner] {
                    graph.learn(held(holds), held(*wanted)).expect("one order");
                }
            }
            assert!(
                graph.steps as usize <= graph.edges,
                "{locks} locks: {} steps",
                graph.steps
            );
        }
    }

    #[test]
    fn a_lock_that_is_wanted_last_follows_no_edges() {
        let (mut graph, ids) = graph(200);
        // Each lock is held with the one that was made before it, so that each pair contradicts the positions.
        for two in ids.windows(2) {
            graph.learn(held(two[1]), held(two[0])).expect("one order");
        }
        assert_eq!(graph.steps, 0);
        assert_eq!(
            graph
                .learn(held(ids[0]), held(ids[199]))
                .unwrap_err()
                .0
                .len(),
            200
        );
    }

    /// Every edge agrees with the positions, and no two locks have one position.
    fn assert_in_order(graph: &Graph) {
        let positions: BTreeSet<i64> = graph.nodes.values().map(|node| node.position).collect();
        assert_eq!(positions.len(), graph.nodes.len());
        for node in graph.nodes.values() {
            for after in node.after.keys() {
                assert!(node.position < graph.nodes[after].position);
            }
        }
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
            let (mut graph, mut ids) = graph(6);
            let mut edges = Vec::new();
            for _ in 0..24 {
                let (a, b) = (random(6) as usize, random(6) as usize);
                if a == b {
                    // Dropped, and another made in its place.
                    let gone = std::mem::replace(&mut ids[a], graph.enter(here()));
                    graph.forget(gone);
                    edges.retain(|(from, to)| *from != gone && *to != gone);
                    continue;
                }
                let (a, b) = (ids[a], ids[b]);
                let closes = leads(&edges, b, a, 6);
                assert_eq!(graph.learn(held(a), held(b)).is_err(), closes);
                if !closes && !edges.contains(&(a, b)) {
                    edges.push((a, b));
                }
                assert_in_order(&graph);
            }
        }
    }
}
