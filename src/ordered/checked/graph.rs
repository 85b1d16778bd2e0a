//! The pairs of locks of which one was acquired while the other was held, with places. Plain data:
//! no locks, no threads.
//!
//! The graph has no cycle, so its locks have a topological order, and each node keeps its position
//! in one. A pair of locks that agrees with the positions closes no cycle, and is recorded without
//! a search. A pair that contradicts them moves locks: a lock without predecessors moves before all
//! others, a lock without successors moves behind them. Only where neither applies, a search
//! follows the edges between the two positions. It either reaches the other lock, which is a cycle,
//! or reassigns the positions of the locks that it has visited.
//!
//! *Source.* Pearce and Kelly, "A Dynamic Topological Sort Algorithm for Directed Acyclic Graphs"
//! (JEA 11, 2006). The two cases that need no search are tried first.
//!
//! # Implied pairs
//! A thread that holds *k* locks and acquires another has executed *k* pairs. If the graph leads
//! from each of the *k* locks to the newest of them, one edge implies all of the pairs. That edge
//! leads from the newest lock to the requested lock. It keeps the list of the *k* locks (a
//! [`Stack`], whose tails edges share). When the lock in the middle is dropped, its edges end. The
//! lists contain the pairs that they implied. Those pairs become edges, and so are forgotten only
//! with their own locks.

use core::fmt;
use core::panic::Location;
use std::sync::Arc;

use super::held::{Held, Stack};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A place in the source.
pub(super) type Place = &'static Location<'static>;

/// A lock, by a number that is not used again.
pub(super) type Id = u64;

/// The greatest number of recorded pairs. Not found by measurement: a hundred megabytes.
const MAX_EDGES: usize = 1 << 20;

/// The lock at the end of the edge, over the locks that were held: the one at its start, and those
/// below it.
type Edge = Arc<Stack>;

#[derive(Debug)]
struct Node {
    made_at: Place,
    /// The position in the topological order: less than those of all locks in `after`.
    position: i64,
    /// The most recent stack of this lock alone.
    alone: Option<Arc<Stack>>,
    /// Locks that were acquired while this one was held, without those that other edges imply.
    after: BTreeMap<Id, Edge>,
    /// Locks that were held when this one was acquired: those whose `after` contains this one.
    before: BTreeSet<Id>,
}

/// One step of a cycle: a lock was held when the next one was acquired.
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
            "{taken_at} acquires the lock created at {taken} while it holds, since {held_at}, the one created at {held}"
        )
    }
}

/// A cycle of locks, each of which was acquired while the one before was held. The step that closes
/// it is the first.
#[derive(Clone, Debug)]
pub(super) struct Ring(Vec<Step>);

impl fmt::Display for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (closes, learned) = self.0.split_first().expect("a cycle has a step");
        write!(
            f,
            "lock order violation: threads that acquire these locks in a cycle can deadlock, \
             so all must use one order:\n  now     {closes}"
        )?;
        learned
            .iter()
            .try_for_each(|step| write!(f, "\n  before  {step}"))
    }
}

/// An order that contradicts the recorded ones.
#[derive(Clone, Copy, Debug)]
pub(super) struct OutOfOrder;

#[derive(Debug)]
pub(super) struct Graph {
    nodes: BTreeMap<Id, Node>,
    last: Id,
    /// The least and the greatest position that was ever assigned.
    first_position: i64,
    last_position: i64,
    edges: usize,
    /// Edges that searches have followed, and locks that they have read in lists of held ones: the
    /// tests bound it.
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

    /// Enters a lock that no thread has acquired yet.
    pub(super) fn enter(&mut self, made_at: Place) -> Id {
        self.last += 1;
        self.last_position += 1;
        let node = Node {
            made_at,
            position: self.last_position,
            alone: None,
            after: BTreeMap::new(),
            before: BTreeSet::new(),
        };
        self.nodes.insert(self.last, node);
        self.last
    }

    /// Forgets a dropped lock, and records the pairs that its edges have implied.
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
        for edge in node.after.values() {
            let held = edge.below().filter(|held| held.follows);
            if let Some(below) = held.and_then(|held| self.below(&held)) {
                // They are in order already: they precede the lock, and it precedes the other.
                let _ = self.learn(&below, edge.top);
            }
        }
    }

    /// The stack below, without the locks that are dropped.
    fn below(&self, stack: &Stack) -> Option<Arc<Stack>> {
        stack.alive_below(|lock| !self.knows(lock))
    }

    pub(super) fn knows(&self, lock: Id) -> bool {
        self.nodes.contains_key(&lock)
    }

    /// The stack of `held` over `below`: the one that the graph keeps, if it does.
    pub(super) fn stack_of(
        &mut self,
        held: Held,
        follows: bool,
        below: Option<Arc<Stack>>,
    ) -> Arc<Stack> {
        let under = below.as_ref().map_or(held.lock, |below| below.top.lock);
        let kept = self.nodes.get(&under).and_then(|node| match below {
            None => node.alone.as_ref(),
            Some(_) => node.after.get(&held.lock),
        });
        let kept = kept.filter(|stack| {
            stack.stands_on(below.as_ref())
                && stack.follows == follows
                && core::ptr::eq(stack.top.at, held.at)
        });
        if let Some(kept) = kept {
            return Arc::clone(kept);
        }
        let is_alone = below.is_none();
        let made = Stack::new(held, follows, below);
        let node = self.nodes.get_mut(&held.lock);
        if let Some(node) = node.filter(|_| is_alone) {
            node.alone = Some(Arc::clone(&made));
        }
        made
    }

    /// Records that `wanted` follows all locks of `held`, and returns the stack of `wanted` over
    /// them. Records nothing if that contradicts the recorded orders.
    pub(super) fn learn(
        &mut self,
        held: &Arc<Stack>,
        wanted: Held,
    ) -> Result<Arc<Stack>, OutOfOrder> {
        let mut learned = Vec::new();
        let mut rest = Some(Arc::clone(held));
        while let Some(stack) = rest {
            rest = self.below(&stack);
            self.steps += 1;
            let lock = stack.top.lock;
            // Where it is missing, the guard was forgotten, and the lock dropped.
            let Some(node) = self.nodes.get(&lock) else {
                continue;
            };
            if let Some(edge) = node.after.get(&wanted.lock) {
                let below = edge.below().expect("an edge comes from a lock");
                if stack.follows && below.lists_same_locks(&stack) {
                    break;
                }
                // The pair is known, and those below it may not be.
                continue;
            }
            if !self.put_in_order(lock, wanted.lock) {
                for lock in learned {
                    self.disconnect(lock, wanted.lock);
                }
                return Err(OutOfOrder);
            }
            if self.edges < MAX_EDGES {
                self.connect(&stack, wanted);
                learned.push(lock);
            }
            if stack.follows {
                break;
            }
        }
        Ok(self.stack_of(wanted, true, Some(Arc::clone(held))))
    }

    fn connect(&mut self, held: &Arc<Stack>, wanted: Held) {
        let edge = Stack::new(wanted, true, Some(Arc::clone(held)));
        let lock = held.top.lock;
        let node = self.nodes.get_mut(&lock).expect("the lock was looked up");
        node.after.insert(wanted.lock, edge);
        let node = self.nodes.get_mut(&wanted.lock).expect("it is not dropped");
        node.before.insert(lock);
        self.edges += 1;
    }

    fn disconnect(&mut self, held: Id, wanted: Id) {
        self.nodes.get_mut(&held).map(|n| n.after.remove(&wanted));
        self.nodes.get_mut(&wanted).map(|n| n.before.remove(&held));
        self.edges -= 1;
    }

    /// The shortest cycle that `wanted` closes over one of `held`, after [`learn`](Self::learn)
    /// returned `OutOfOrder`.
    pub(super) fn ring(&self, held: impl Iterator<Item = Held>, wanted: Held) -> Ring {
        let held: BTreeMap<Id, Place> = held.map(|held| (held.lock, held.at)).collect();
        let (closes, path) = self.path(wanted.lock, |lock| held.contains_key(&lock));
        let mut steps = vec![Step {
            held: self.nodes[&closes].made_at,
            held_at: held[&closes],
            taken: self.nodes[&wanted.lock].made_at,
            taken_at: wanted.at,
        }];
        steps.extend(path);
        Ring(steps)
    }

    /// Makes the position of `earlier` less than that of `later`, and keeps the order of all edges.
    /// Returns `false`, and changes nothing, if edges lead from `later` to `earlier`, or both are
    /// one lock.
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
        // A path from `later` to `earlier` rises at each step, so that it stays between the two
        // positions.
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
        // The predecessors of `earlier` get the least of the positions of both sets, in their
        // previous order; the successors of `later` get the others. No lock of the one set moves
        // up, and none of the other moves down.
        let mut order = self.by_position(ahead);
        order.extend(self.by_position(behind));
        let mut positions: Vec<i64> = order.iter().map(|lock| self.nodes[lock].position).collect();
        positions.sort_unstable();
        for (lock, position) in order.into_iter().zip(positions) {
            self.set_position(lock, position);
        }
        true
    }

    /// The locks that are reachable by `next` from `start`, within the positions that are `inside`;
    /// with `start`.
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

    /// The nearest lock that is a goal, and the steps of a shortest path to it. There is one.
    fn path(&self, from: Id, is_goal: impl Fn(Id) -> bool) -> (Id, Vec<Step>) {
        let mut came_from = BTreeMap::new();
        let mut next = VecDeque::from([from]);
        let goal = loop {
            let at = next.pop_front().expect("a search has found a path");
            if is_goal(at) {
                break at;
            }
            for after in self.nodes[&at].after.keys() {
                if *after != from && !came_from.contains_key(after) {
                    came_from.insert(*after, at);
                    next.push_back(*after);
                }
            }
        };
        let mut steps = Vec::new();
        let mut there = goal;
        while there != from {
            let before = came_from[&there];
            steps.push(self.step(before, there));
            there = before;
        }
        steps.reverse();
        (goal, steps)
    }

    fn step(&self, held: Id, taken: Id) -> Step {
        let edge = &self.nodes[&held].after[&taken];
        let below = edge.below().expect("an edge comes from a lock");
        Step {
            held: self.nodes[&held].made_at,
            held_at: below.top.at,
            taken: self.nodes[&taken].made_at,
            taken_at: edge.top.at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::held::HeldLocks;
    use super::*;

    fn here() -> Place {
        Location::caller()
    }

    fn held(lock: Id) -> Held {
        Held { lock, at: here() }
    }

    /// Acquires one lock while another one alone is held.
    fn learn(graph: &mut Graph, holds: Held, wanted: Held) -> Result<(), Ring> {
        if holds.lock == wanted.lock {
            return Ok(());
        }
        let stack = graph.stack_of(holds, true, None);
        match graph.learn(&stack, wanted) {
            Ok(_) => Ok(()),
            Err(OutOfOrder) => Err(graph.ring([holds].into_iter(), wanted)),
        }
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
                    learn(&mut graph, held(two[0]), held(two[1])).expect("one order");
                }
            }
            let (first, last) = (ids[0], ids[length - 1]);
            let ring = learn(&mut graph, held(last), held(first)).unwrap_err();
            assert_eq!(ring.0.len(), length);
            learn(&mut graph, held(first), held(last)).expect("it was not learned");
            assert_eq!(graph.edges, length - usize::from(length == 2));
        }
    }

    #[test]
    fn the_shortest_ring_is_told() {
        let (mut graph, ids) = graph(6);
        for two in ids.windows(2) {
            learn(&mut graph, held(two[0]), held(two[1])).expect("one order");
        }
        learn(&mut graph, held(ids[1]), held(ids[5])).expect("one order");
        let ring = learn(&mut graph, held(ids[5]), held(ids[0])).unwrap_err();
        assert_eq!(ring.0.len(), 3, "{ring}");
    }

    #[test]
    fn what_is_dropped_is_forgotten_on_both_sides() {
        let (mut graph, ids) = graph(3);
        learn(&mut graph, held(ids[0]), held(ids[1])).expect("one order");
        learn(&mut graph, held(ids[1]), held(ids[2])).expect("one order");
        graph.forget(ids[1]);
        graph.forget(ids[1]);
        assert_eq!(graph.edges, 0);
        learn(&mut graph, held(ids[2]), held(ids[0])).expect("nothing is left");
        learn(&mut graph, held(ids[1]), held(ids[0])).expect("it is gone");
        assert_eq!((graph.edges, graph.nodes.len()), (1, 2));
        assert!(!graph.knows(ids[1]) && graph.knows(ids[2]));
    }

    /// A thread that acquires locks and releases them.
    struct Thread(HeldLocks);

    impl Thread {
        fn acquire(&mut self, graph: &mut Graph, lock: Id) -> Result<(), Ring> {
            let wanted = held(lock);
            let stack = match self.0.stack(graph) {
                None => None,
                Some(stack) => match graph.learn(&stack, wanted) {
                    Ok(stack) => Some(stack),
                    Err(OutOfOrder) => return Err(graph.ring(self.0.iter(), wanted)),
                },
            };
            self.0.push(wanted, stack);
            Ok(())
        }
    }

    /// The graph of `locks` locks that a thread has locked together, in order, and one coarse lock.
    fn locked_together(locks: usize) -> (Graph, Vec<Id>, Id) {
        let (mut graph, ids) = graph(locks);
        let mut thread = Thread(HeldLocks::new());
        for lock in &ids {
            thread.acquire(&mut graph, *lock).expect("one order");
        }
        let coarse = graph.enter(here());
        (graph, ids, coarse)
    }

    #[test]
    fn locks_that_are_held_together_take_a_step_each() {
        for locks in [100, 200, 400, 800] {
            let (mut graph, ids, coarse) = locked_together(locks);
            assert_eq!(graph.edges, locks - 1);
            // Once more in the same order, by a thread that has acquired the coarse lock first.
            let mut again = Thread(HeldLocks::new());
            again.acquire(&mut graph, coarse).expect("it holds nothing");
            for lock in &ids {
                again.acquire(&mut graph, *lock).expect("one order");
            }
            assert!(graph.edges <= 2 * locks, "{} edges", graph.edges);
            let steps = graph.steps;
            assert!(steps <= 10 * locks as u64, "{locks} locks: {steps} steps");
        }
    }

    #[test]
    fn a_sweep_under_a_coarse_lock_follows_few_edges() {
        for locks in [50, 100, 200, 400] {
            let (mut graph, ids, coarse) = locked_together(locks);
            let before = graph.steps;
            for _ in 0..2 {
                for wanted in &ids {
                    learn(&mut graph, held(coarse), held(*wanted)).expect("one order");
                }
            }
            // The coarse lock has no predecessor, so that it moves to the front without a search.
            let steps = graph.steps - before;
            assert!(steps <= 4 * locks as u64, "{locks} locks: {steps} steps");
        }
    }

    #[test]
    fn a_sweep_under_two_coarse_locks_follows_each_edge_at_most_once() {
        for locks in [50, 100, 200, 400] {
            let (mut graph, ids, coarse) = locked_together(locks);
            let inner = graph.enter(here());
            learn(&mut graph, held(coarse), held(inner)).expect("one order");
            for wanted in &ids {
                for holds in [coarse, inner] {
                    learn(&mut graph, held(holds), held(*wanted)).expect("one order");
                }
            }
            assert!(
                graph.steps <= 10 * locks as u64,
                "{locks} locks: {} steps",
                graph.steps
            );
        }
    }

    #[test]
    fn a_lock_that_is_wanted_last_follows_no_edges() {
        let (mut graph, ids) = graph(200);
        // Each lock is held with the one that was made before it, so that each pair contradicts the
        // positions.
        for two in ids.windows(2) {
            learn(&mut graph, held(two[1]), held(two[0])).expect("one order");
        }
        assert!(graph.steps < 200, "each pair is looked at once");
        assert_eq!(
            learn(&mut graph, held(ids[0]), held(ids[199]))
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
                assert_eq!(learn(&mut graph, held(a), held(b)).is_err(), closes);
                if !closes && !edges.contains(&(a, b)) {
                    edges.push((a, b));
                }
                assert_in_order(&graph);
            }
        }
    }

    /// Against a set of all pairs, each of them learned by itself.
    #[test]
    fn what_pairs_imply_is_what_each_pair_would_say() {
        type Pairs = BTreeSet<(Id, Id)>;
        fn leads(pairs: &Pairs, from: Id, seen: &mut BTreeSet<Id>) {
            if seen.insert(from) {
                for (_, to) in pairs.range((from, 0)..=(from, Id::MAX)) {
                    leads(pairs, *to, seen);
                }
            }
        }
        fn reached(pairs: &Pairs, from: Id) -> BTreeSet<Id> {
            let mut seen = BTreeSet::new();
            leads(pairs, from, &mut seen);
            seen
        }
        let mut state = 11_u64;
        let mut random = |n: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) as usize % n
        };
        let mut refused = 0;
        for _ in 0..400 {
            let (mut graph, mut ids) = graph(7);
            let mut threads = [(); 2].map(|()| (Thread(HeldLocks::new()), Vec::new()));
            let mut pairs = Pairs::new();
            for _ in 0..60 {
                let (thread, holds) = &mut threads[random(2)];
                let place = random(ids.len());
                let lock = ids[place];
                match random(10) {
                    0..=4 if !holds.contains(&lock) => {
                        let closes = holds.iter().any(|h| reached(&pairs, lock).contains(h));
                        let ring = thread.acquire(&mut graph, lock);
                        assert_eq!(ring.is_err(), closes);
                        if closes {
                            refused += 1;
                            continue;
                        }
                        pairs.extend(holds.iter().map(|h| (*h, lock)));
                        holds.push(lock);
                    }
                    5 if !holds.contains(&lock) => {
                        // A try, which records nothing.
                        thread.0.push(held(lock), None);
                        holds.push(lock);
                    }
                    6 | 7 if !holds.is_empty() => {
                        let released = holds.remove(random(holds.len()));
                        thread.0.remove(released);
                    }
                    8 => {
                        // Dropped, and if it is held, by a guard that was forgotten.
                        graph.forget(lock);
                        pairs.retain(|(from, to)| *from != lock && *to != lock);
                        for (_, holds) in &mut threads {
                            holds.retain(|h| *h != lock);
                        }
                        ids[place] = graph.enter(here());
                    }
                    _ => {}
                }
                assert_in_order(&graph);
                let edges: Pairs = (graph.nodes.iter())
                    .flat_map(|(from, node)| node.after.keys().map(|to| (*from, *to)))
                    .collect();
                assert_eq!(edges.len(), graph.edges);
                assert!(
                    edges.is_subset(&pairs),
                    "an edge that no thread went through"
                );
                for id in &ids {
                    assert_eq!(reached(&edges, *id), reached(&pairs, *id));
                }
            }
        }
        assert!(refused > 100, "{refused} orders were refused");
    }
}
