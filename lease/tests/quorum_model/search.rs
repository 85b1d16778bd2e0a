//! A breadth-first search that stores every state exactly once.

use std::fmt::Debug;

/// A system whose states are searched.
pub(crate) trait System {
    /// A state. Equal states have equal futures.
    type State: Copy + Eq;
    /// The transition into a state, for a counterexample.
    type Step: Copy + Debug;

    /// Returns the initial states.
    fn initial(&self) -> Vec<Self::State>;

    /// Calls `found` for each successor, or returns the property that a transition violates.
    fn successors(
        &self,
        state: &Self::State,
        found: &mut dyn FnMut(Self::Step, Self::State),
    ) -> Result<(), Violation<Self::Step>>;

    /// Returns the number of the kind of a step, less than 64.
    fn kind(step: Self::Step) -> u32;

    /// Returns a number that depends on all of the state.
    fn hash(state: &Self::State) -> u64;
}

/// A transition violates a property.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Violation<S> {
    pub(crate) property: &'static str,
    pub(crate) step: S,
}

/// The result of a search.
#[derive(Debug)]
pub(crate) struct Found<S> {
    pub(crate) states: usize,
    /// A bit for each kind of steps that was made.
    pub(crate) kinds: u64,
    /// Whether all reachable states were searched.
    pub(crate) is_exhaustive: bool,
    /// The property that is violated, and the steps that lead to the violation.
    pub(crate) violation: Option<(&'static str, Vec<S>)>,
}

const EMPTY: u32 = u32::MAX;

/// The states that were found, in the order of their distance, and a hash table of their indices.
struct Visited<Y: System> {
    states: Vec<(Y::State, u32, Option<Y::Step>)>,
    slots: Vec<u32>,
}

impl<Y: System> Visited<Y> {
    fn insert(&mut self, state: Y::State, parent: u32, step: Option<Y::Step>) {
        if (self.states.len() + 1) * 2 > self.slots.len() {
            self.grow();
        }
        let slot = self.slot_of(&state);
        if self.slots[slot] == EMPTY {
            self.slots[slot] = self.states.len() as u32;
            self.states.push((state, parent, step));
        }
    }

    /// Returns the slot of the state, or the empty one where it belongs.
    fn slot_of(&self, state: &Y::State) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = Y::hash(state) as usize & mask;
        loop {
            let index = self.slots[slot];
            if index == EMPTY || self.states[index as usize].0 == *state {
                return slot;
            }
            slot = (slot + 1) & mask;
        }
    }

    fn grow(&mut self) {
        self.slots = vec![EMPTY; self.slots.len() * 4];
        for index in 0..self.states.len() {
            let slot = self.slot_of(&self.states[index].0);
            self.slots[slot] = index as u32;
        }
    }

    fn path_to(&self, mut index: usize) -> Vec<Y::Step> {
        let mut steps = Vec::new();
        while let (_, parent, Some(step)) = self.states[index] {
            steps.push(step);
            index = parent as usize;
        }
        steps.reverse();
        steps
    }
}

/// Searches all states, or the nearest `limit`, until a property is violated.
pub(crate) fn search<Y: System>(system: &Y, limit: usize) -> Found<Y::Step> {
    let mut visited = Visited::<Y> {
        states: Vec::new(),
        slots: vec![EMPTY; 1 << 12],
    };
    for state in system.initial() {
        visited.insert(state, 0, None);
    }
    let (mut next, mut kinds) = (0, 0);
    while next < visited.states.len() {
        if visited.states.len() >= limit {
            break;
        }
        let state = visited.states[next].0;
        let mut found = |step, state| {
            kinds |= 1 << Y::kind(step);
            visited.insert(state, next as u32, Some(step));
        };
        if let Err(violation) = system.successors(&state, &mut found) {
            let mut steps = visited.path_to(next);
            steps.push(violation.step);
            return Found {
                states: visited.states.len(),
                kinds,
                is_exhaustive: false,
                violation: Some((violation.property, steps)),
            };
        }
        next += 1;
    }
    Found {
        states: visited.states.len(),
        kinds,
        is_exhaustive: next == visited.states.len(),
        violation: None,
    }
}
