//! The change of the list of nodes, and the raise of a floor, without time.
//!
//! # The change
//! Nodes 0 to 2 are the old list, and nodes 1 to 3 the new one. A coordinator closes at least two
//! nodes of the old list, waits until each of these had no lock, closes the new list on all of its
//! nodes, copies the greatest counter of the closed nodes to all new ones, and opens the new list.
//! It may also open the old list again while it waits. Each of its requests arrives at one node at
//! a time.
//!
//! A node grants a lock only to clients with its list, and to none while it is closed. A client of
//! the new list starts as soon as one node has opened it.
//!
//! # The floor
//! Without a change, the floor 5 arrives at one node after another. It is raised once a majority
//! has it, and each acquisition that starts later has a greater token.
//!
//! # Faults
//! Any node may expire any lock at any moment, and an ask may arrive after its client has left.
//! A raise that arrives late is the subject of `model.rs`, and is not repeated here.
//!
//! # Reduction
//! Nodes 1 and 2 are in both lists, so states in which they are exchanged are one.

use std::hash::{Hash, Hasher};

use crate::model::{DISTINCT, EXCLUSIVE, ORDER};
use crate::search::{System, Violation};

const NODES: usize = 4;

/// The floor that is raised.
const FLOOR: u8 = 5;

/// A fault of the procedure, which the search must detect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// The old list is not closed first.
    NoClosing,
    /// Only one old node is closed.
    ClosingOfOne,
    /// The coordinator does not wait until the leases have ended.
    NoWait,
    /// Only one old node must have no lock.
    WaitForOne,
    /// Any two old nodes must have no lock, whether they were closed or not.
    WaitForOthers,
    /// No counter is copied.
    NoCopy,
    /// The counter of one old node is copied.
    CopyOfOne,
    /// The counter is copied to one new node.
    CopyToOne,
    /// The new list is opened while counters are copied.
    OpenedEarly,
    /// The floor is raised once one of three nodes has it.
    FloorOfOne,
}

/// What happens beside acquisitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Change,
    Floor,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    pub(crate) event: Event,
    /// The initial counters of the old nodes.
    pub(crate) counters: [u8; 3],
    pub(crate) flaw: Option<Flaw>,
}

/// In the order of the change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum List {
    None,
    Old,
    OldClosed,
    NewClosed,
    New,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Node {
    list: List,
    /// One plus the acquisition that has the lock, or zero.
    lock: u8,
    value: u8,
    counter: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Ask {
    None,
    InFlight,
    /// The value that the node granted.
    Granted(u8),
    /// The token is on its way to a node that granted another value.
    Raise(u8),
    /// The node has the token.
    Has,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Ready,
    Asking,
    Raising,
    Held,
    Over,
}

/// One acquisition, of a client of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Acquisition {
    phase: Phase,
    is_new: bool,
    /// The token must be greater.
    floor: u8,
    token: u8,
    asks: [Ask; NODES],
    /// The asks that may arrive although the client has left, a bit for each node.
    late: u8,
    /// The locks that have not expired since they were granted.
    intact: u8,
}

/// One acquisition of the old list and one of the new, or two of the old.
const ACQUISITIONS: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    nodes: [Node; NODES],
    all: [Acquisition; ACQUISITIONS],
    /// A bit for each token that was granted.
    granted: u32,
    stage: Stage,
    /// The nodes at which the stage has ended.
    done: u8,
    /// The old nodes that the coordinator has closed.
    closed: u8,
    /// The greatest counter that the coordinator has read.
    seen: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Stage {
    Start,
    Closing,
    Waiting,
    /// The wait was too long: the old list is opened again.
    Reopening,
    Claiming,
    Reading,
    Copying,
    Opening,
    /// The floor arrives.
    Raising,
    /// A majority has the floor.
    Raised,
}

/// A transition.
#[derive(Clone, Copy, Debug)]
#[allow(dead_code, reason = "the fields are read by a counterexample")]
pub(crate) enum Step {
    Begin,
    Close { node: u8 },
    FindFree { node: u8 },
    Reopen { node: u8 },
    Claim { node: u8 },
    Read { node: u8 },
    Copy { node: u8 },
    Open { node: u8 },
    Floor { node: u8 },
    Expire { node: u8 },
    Start { acquisition: u8 },
    Ask { acquisition: u8, node: u8 },
    LateAsk { acquisition: u8, node: u8 },
    Decide { acquisition: u8 },
    Raise { acquisition: u8, node: u8 },
    Grant { acquisition: u8 },
    Leave { acquisition: u8 },
}

impl Step {
    pub(crate) fn kind(self) -> u32 {
        match self {
            Step::Begin => 0,
            Step::Close { .. } => 1,
            Step::FindFree { .. } => 2,
            Step::Reopen { .. } => 3,
            Step::Claim { .. } => 4,
            Step::Read { .. } => 5,
            Step::Copy { .. } => 6,
            Step::Open { .. } => 7,
            Step::Floor { .. } => 8,
            Step::Expire { .. } => 9,
            Step::Start { .. } => 10,
            Step::Ask { .. } => 11,
            Step::LateAsk { .. } => 12,
            Step::Decide { .. } => 13,
            Step::Raise { .. } => 14,
            Step::Grant { .. } => 15,
            Step::Leave { .. } => 16,
        }
    }
}

const OLD: std::ops::Range<usize> = 0..3;
const NEW: std::ops::Range<usize> = 1..4;
const MAJORITY: usize = 2;

fn list_of(acquisition: &Acquisition) -> std::ops::Range<usize> {
    match acquisition.is_new {
        true => NEW,
        false => OLD,
    }
}

fn bit(node: usize) -> u8 {
    1 << node
}

impl State {
    /// Removes facts that no transition reads, and orders the nodes that differ in nothing else.
    fn normalise(&mut self) {
        if self.stage >= Stage::Opening {
            (self.seen, self.closed) = (0, 0);
        }
        for one in &mut self.all {
            if one.phase == Phase::Held {
                one.floor = 0;
            }
        }
        let order = |state: &State, at: usize| {
            let has = |bits: u8| bits >> at & 1;
            let asks = state
                .all
                .map(|one| (one.asks[at], has(one.late), has(one.intact)));
            (state.nodes[at], asks, has(state.done), has(state.closed))
        };
        if order(self, 1) <= order(self, 2) {
            return;
        }
        let exchange = |bits: u8| bits & !6 | bits >> 1 & 2 | bits << 1 & 4;
        self.nodes.swap(1, 2);
        (self.done, self.closed) = (exchange(self.done), exchange(self.closed));
        for one in &mut self.all {
            one.asks.swap(1, 2);
            (one.late, one.intact) = (exchange(one.late), exchange(one.intact));
        }
    }
}

type Checked = Result<(), Violation<Step>>;

impl Change {
    fn is(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    /// The node grants the lock, and returns the value.
    fn ask(&self, state: &mut State, who: usize, at: usize, is_awaited: bool) -> Option<u8> {
        let wanted = match state.all[who].is_new {
            true => List::New,
            false => List::Old,
        };
        let (node, me) = (&mut state.nodes[at], who as u8 + 1);
        if node.list != wanted {
            return None;
        }
        if node.lock == me {
            return Some(node.value);
        }
        if node.lock != 0 {
            return None;
        }
        node.counter += 1;
        (node.lock, node.value) = (me, node.counter);
        if is_awaited {
            state.all[who].intact |= bit(at);
        }
        Some(node.value)
    }

    fn check_exclusive(state: &State) -> Result<(), &'static str> {
        let holds = |one: &&Acquisition| {
            one.phase == Phase::Held && one.intact.count_ones() as usize >= MAJORITY
        };
        match state.all.iter().filter(holds).count() {
            0 | 1 => Ok(()),
            _ => Err(EXCLUSIVE),
        }
    }

    fn grant(state: &mut State, who: usize) -> Result<(), &'static str> {
        let one = &mut state.all[who];
        one.phase = Phase::Held;
        if one.token <= one.floor {
            return Err(ORDER);
        }
        if state.granted & 1 << one.token != 0 {
            return Err(DISTINCT);
        }
        state.granted |= 1 << one.token;
        Self::part(one);
        Self::check_exclusive(state)
    }

    /// The client does not wait for its asks any more.
    fn part(one: &mut Acquisition) {
        for (at, ask) in one.asks.iter_mut().enumerate() {
            if *ask == Ask::InFlight {
                one.late |= bit(at);
            }
            *ask = Ask::None;
        }
    }

    fn leave(one: &mut Acquisition) {
        Self::part(one);
        one.phase = Phase::Over;
        (one.intact, one.token, one.floor) = (0, 0, 0);
    }

    /// Moves to the next stage if enough nodes have ended this one.
    fn proceed(&self, state: &mut State) {
        let done = state.done.count_ones() as usize;
        let least = |flaw, number| if self.is(flaw) { 1 } else { number };
        let read = |flaw| {
            state.done == state.closed
                || done >= least(flaw, 3)
                || self.is(Flaw::WaitForOthers) && done >= MAJORITY
        };
        let next = match state.stage {
            Stage::Closing if done >= least(Flaw::ClosingOfOne, MAJORITY) => {
                match self.is(Flaw::NoWait) {
                    true => Stage::Claiming,
                    false => Stage::Waiting,
                }
            }
            Stage::Waiting if read(Flaw::WaitForOne) => Stage::Claiming,
            Stage::Claiming if done == NEW.len() => match self.is(Flaw::NoCopy) {
                true => Stage::Opening,
                false => Stage::Reading,
            },
            Stage::Reading if read(Flaw::CopyOfOne) => Stage::Copying,
            Stage::Copying if done >= least(Flaw::CopyToOne, NEW.len()) => Stage::Opening,
            Stage::Raising if done >= least(Flaw::FloorOfOne, MAJORITY) => Stage::Raised,
            _ => return,
        };
        if state.stage == Stage::Closing {
            state.closed = match self.is(Flaw::WaitForOthers) {
                true => 7,
                false => state.done,
            };
        }
        state.stage = next;
        if next != Stage::Raised {
            state.done = 0;
        }
    }

    /// The coordinator's steps at one node.
    fn coordinate(&self, state: &State, at: usize) -> Option<(Step, State)> {
        let (mut next, node) = (*state, at as u8);
        let list = &mut next.nodes[at].list;
        let counter = &mut next.nodes[at].counter;
        let (is_old, is_new) = (OLD.contains(&at), NEW.contains(&at));
        let is_done = state.done & bit(at) != 0;
        let is_closed = state.closed & bit(at) != 0;
        let step = match state.stage {
            Stage::Closing if is_old && !is_done => {
                if *list == List::Old {
                    *list = List::OldClosed;
                }
                Step::Close { node }
            }
            Stage::Waiting if is_closed && !is_done && state.nodes[at].lock == 0 => {
                Step::FindFree { node }
            }
            Stage::Reopening if *list == List::OldClosed => {
                *list = List::Old;
                return Some((Step::Reopen { node }, next));
            }
            Stage::Claiming if is_new && !is_done => {
                let may_replace = matches!(*list, List::OldClosed | List::None)
                    || *list == List::Old && self.is(Flaw::NoClosing);
                if may_replace {
                    *list = match self.is(Flaw::OpenedEarly) {
                        true => List::New,
                        false => List::NewClosed,
                    };
                }
                Step::Claim { node }
            }
            Stage::Reading if is_closed && !is_done => {
                next.seen = next.seen.max(*counter);
                Step::Read { node }
            }
            // A node that was not closed refuses the counter, and the change ends.
            Stage::Copying if is_new && !is_done && *list >= List::NewClosed => {
                *counter = (*counter).max(state.seen);
                Step::Copy { node }
            }
            Stage::Opening if is_new && *list == List::NewClosed => {
                *list = List::New;
                Step::Open { node }
            }
            Stage::Raising | Stage::Raised if is_old && !is_done => {
                *counter = (*counter).max(FLOOR);
                Step::Floor { node }
            }
            // The request to close a node arrives when others have been closed.
            stage if stage > Stage::Closing && stage < Stage::Raising => {
                if *list != List::Old || !is_old || self.is(Flaw::NoClosing) {
                    return None;
                }
                *list = List::OldClosed;
                return Some((Step::Close { node }, next));
            }
            _ => return None,
        };
        next.done |= bit(at);
        self.proceed(&mut next);
        Some((step, next))
    }
}

impl System for Change {
    type State = State;
    type Step = Step;

    fn initial(&self) -> Vec<State> {
        let node = |at: usize| Node {
            list: if at < 3 { List::Old } else { List::None },
            lock: 0,
            value: 0,
            counter: self.counters.get(at).copied().unwrap_or(0),
        };
        let acquisition = |who: usize| Acquisition {
            phase: Phase::Ready,
            is_new: self.event == Event::Change && who == ACQUISITIONS - 1,
            floor: 0,
            token: 0,
            asks: [Ask::None; NODES],
            late: 0,
            intact: 0,
        };
        vec![State {
            nodes: std::array::from_fn(node),
            all: std::array::from_fn(acquisition),
            granted: 0,
            stage: Stage::Start,
            done: 0,
            closed: 0,
            seen: 0,
        }]
    }

    fn successors(&self, state: &State, found: &mut dyn FnMut(Step, State)) -> Checked {
        let found = &mut |step, mut next: State| {
            next.normalise();
            found(step, next);
        };
        if state.stage == Stage::Start {
            let mut next = *state;
            next.stage = match self.event {
                Event::Floor => Stage::Raising,
                Event::Change if self.is(Flaw::NoClosing) => {
                    next.closed = 7;
                    Stage::Waiting
                }
                Event::Change => Stage::Closing,
            };
            found(Step::Begin, next);
        }
        if state.stage == Stage::Waiting {
            let mut next = *state;
            (next.stage, next.done) = (Stage::Reopening, 0);
            found(Step::Begin, next);
        }
        for at in 0..NODES {
            if let Some((step, next)) = self.coordinate(state, at) {
                found(step, next);
            }
            if state.nodes[at].lock != 0 {
                let mut next = *state;
                (next.nodes[at].lock, next.nodes[at].value) = (0, 0);
                for one in &mut next.all {
                    one.intact &= !bit(at);
                }
                found(Step::Expire { node: at as u8 }, next);
            }
        }
        for who in 0..ACQUISITIONS {
            self.acquire(state, who, found)?;
        }
        Ok(())
    }

    fn kind(step: Step) -> u32 {
        step.kind()
    }

    fn hash(state: &State) -> u64 {
        let mut hasher = Fold(0);
        Hash::hash(state, &mut hasher);
        hasher.finish()
    }
}

impl Change {
    fn acquire(&self, state: &State, who: usize, found: &mut dyn FnMut(Step, State)) -> Checked {
        let (one, acquisition) = (&state.all[who], who as u8);
        for at in 0..NODES {
            let node = at as u8;
            if one.late & bit(at) != 0 {
                let mut next = *state;
                next.all[who].late &= !bit(at);
                self.ask(&mut next, who, at, false);
                found(Step::LateAsk { acquisition, node }, next);
            }
            match one.asks[at] {
                Ask::InFlight if matches!(one.phase, Phase::Asking | Phase::Raising) => {
                    let mut next = *state;
                    let value = self.ask(&mut next, who, at, true);
                    next.all[who].asks[at] = match value {
                        Some(value) if one.phase == Phase::Asking => Ask::Granted(value),
                        _ => Ask::None,
                    };
                    found(Step::Ask { acquisition, node }, next);
                }
                Ask::Raise(value) => {
                    let mut next = *state;
                    let stored = &mut next.nodes[at];
                    let is_mine = (stored.lock, stored.value) == (who as u8 + 1, value);
                    if is_mine {
                        stored.counter = stored.counter.max(one.token);
                    }
                    next.all[who].asks[at] = if is_mine { Ask::Has } else { Ask::None };
                    found(Step::Raise { acquisition, node }, next);
                }
                _ => {}
            }
        }
        match one.phase {
            Phase::Ready => {
                // A client of the new list has read it on one node.
                let is_open = state.nodes[1..].iter().any(|node| node.list == List::New);
                if one.is_new && !is_open {
                    return Ok(());
                }
                let mut next = *state;
                let raised = match state.stage {
                    Stage::Raised => FLOOR,
                    _ => 0,
                };
                let me = &mut next.all[who];
                me.phase = Phase::Asking;
                me.floor = raised.max(state.granted.checked_ilog2().unwrap_or(0) as u8);
                for at in list_of(one) {
                    me.asks[at] = Ask::InFlight;
                }
                found(Step::Start { acquisition }, next);
            }
            Phase::Asking => {
                let values = one.asks.iter().filter_map(|ask| match ask {
                    Ask::Granted(value) => Some(*value),
                    _ => None,
                });
                if values.clone().count() >= MAJORITY {
                    let mut next = *state;
                    let me = &mut next.all[who];
                    me.phase = Phase::Raising;
                    me.token = values.max().unwrap_or(0);
                    for ask in &mut me.asks {
                        *ask = match *ask {
                            Ask::Granted(value) if value == me.token => Ask::Has,
                            Ask::Granted(value) => Ask::Raise(value),
                            other => other,
                        };
                    }
                    found(Step::Decide { acquisition }, next);
                }
            }
            Phase::Raising => {
                let have = one.asks.iter().filter(|ask| **ask == Ask::Has).count();
                if have >= MAJORITY {
                    let (mut next, step) = (*state, Step::Grant { acquisition });
                    Self::grant(&mut next, who).map_err(|property| Violation { property, step })?;
                    found(step, next);
                }
            }
            Phase::Held | Phase::Over => {}
        }
        if matches!(one.phase, Phase::Asking | Phase::Raising | Phase::Held) {
            let mut next = *state;
            Self::leave(&mut next.all[who]);
            found(Step::Leave { acquisition }, next);
        }
        Ok(())
    }
}

/// A hasher with the multiplier of FxHash.
struct Fold(u64);

impl Hasher for Fold {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte))
                .wrapping_mul(0x517c_c1b7_2722_0a95)
                .rotate_left(29);
        }
    }
}
