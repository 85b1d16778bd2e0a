//! The protocol of the engine `quorum:`, without time: nodes, clients and faults.
//!
//! # The protocol
//! - Each node has one lock per name and one fence counter. No node is aware of another.
//! - Acquire: a node whose lock is free, or is held by the same nonce, grants it. It increments its
//!   counter if the lock was free, and stores the value beside the nonce.
//! - T is the greatest value that a node granted. A majority must have granted.
//! - Raise: a node sets its counter to at least T, if its lock still has this nonce and this value.
//! - The lease is granted if a majority has T: it granted T, or confirmed the raise.
//! - Renewal: a node whose lock is free is acquired again, with its counter at least T. A lock of
//!   another nonce is not touched. T never changes. The renewal needs a majority.
//! - Configuration: a node stores the hash of one list of nodes, and refuses requests with another
//!   hash. A client makes requests after it has read its hash on each node of its list, or on one
//!   node that is marked as complete. Its requests set this mark.
//!
//! # Faults
//! Clocks are arbitrary: any node may expire any holder at any moment. A release has the effect of
//! an expiry, and is not modelled apart. A request that is in flight when its client leaves may
//! arrive at any later time, or never. [`Faults`] adds further faults.
//!
//! # Properties
//! - [`ORDER`]: a token is greater than each token that was granted before its acquisition started.
//! - [`DISTINCT`]: no two acquisitions have the same token.
//! - [`EXCLUSIVE`]: of the holders with a majority of locks that have not expired, there is one.
//! - [`FENCE`]: a fence accepts no two acquisitions under one number. If a node loses its data,
//!   this replaces `ORDER` and `DISTINCT`.
//!
//! # Reduction
//! Nodes differ in nothing but their state, so states that differ in the order of nodes are one.

use crate::search::{System, Violation};

pub(crate) const ORDER: &str = "a token is not greater than one that was granted before";
pub(crate) const DISTINCT: &str = "two acquisitions have the same token";
pub(crate) const EXCLUSIVE: &str = "two holders have majorities that have not expired";
pub(crate) const FENCE: &str = "the fence accepts two acquisitions under one number";

/// A fault in the protocol, which the search must detect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// A raise ignores the lock.
    UnconditionalWriteBack,
    /// A raise compares the nonce, and not the value that was granted with it.
    RaiseComparesNonceOnly,
    /// The lease is granted without a raise.
    NoWriteBack,
    /// A majority is n/2 nodes.
    HalfIsMajority,
    /// A renewal replaces the lock of another nonce.
    RenewalByUpsert,
    /// Nodes store no configuration.
    NoConfiguration,
    /// A client makes requests after a majority has its configuration.
    ConfigurationOfMajority,
    /// The fence compares the token only.
    FenceWithoutNonce,
}

/// Faults that occur besides expiry and late requests.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// Holders renew.
    pub(crate) renewals: bool,
    /// Clients crash in each state and start again with another nonce; nodes crash and restart
    /// with their data, so requests are lost.
    pub(crate) crashes: bool,
    /// Answers are lost, so a client leaves without knowledge of the effect.
    pub(crate) lost_answers: bool,
    /// One client makes its requests again, once, with the same nonce.
    pub(crate) repeats: bool,
    /// The last client has another list of nodes, without the first and with one more.
    pub(crate) two_configurations: bool,
    /// The number of times that a node loses its data.
    pub(crate) losses: u8,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Model<const N: usize, const C: usize> {
    /// The initial counters.
    pub(crate) counters: [u8; N],
    pub(crate) faults: Faults,
    /// The acquisitions of each client.
    pub(crate) attempts: u8,
    pub(crate) mutant: Option<Mutant>,
    /// Whether the order of tokens is checked.
    pub(crate) checks_order: bool,
}

/// The state of a request. An ask that was granted has the value in place of it.
const IN_FLIGHT: u8 = 0;
/// A raise was confirmed, or the configuration was read.
const DONE: u8 = 1;
/// There is no request, or its answer does not help the client.
const NONE: u8 = 15;

/// The greatest value of a counter that a state can store.
const GREATEST: u8 = 13;

#[derive(Clone, Copy, Debug)]
struct Node<const C: usize> {
    /// The nonce that has the lock, or zero.
    lock: u8,
    /// The value that was granted with the lock.
    value: u8,
    counter: u8,
    /// Zero, or twice the number of a configuration, plus one if it is complete.
    configuration: u8,
    /// A bit for each configuration that contains the node.
    lists: u8,
    requests: [Requests; C],
}

impl<const C: usize> Node<C> {
    fn new(counter: u8, lists: u8) -> Self {
        Node {
            lock: 0,
            value: 0,
            counter,
            configuration: 0,
            lists,
            requests: [Requests::default(); C],
        }
    }
}

/// The requests of a client to one node.
#[derive(Clone, Copy, Debug)]
struct Requests {
    ask: u8,
    /// The raise, or before the first acquisition the check of the configuration.
    raise: u8,
    /// The lock is the client's, and has not expired since the node granted it.
    intact: bool,
    /// Requests that may still arrive, though the client does not wait for them.
    late_ask: bool,
    /// The value that was granted with the lock that the raise concerns, or zero.
    late_raise: u8,
}

impl Default for Requests {
    fn default() -> Self {
        Requests {
            ask: NONE,
            raise: NONE,
            intact: false,
            late_ask: false,
            late_raise: 0,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Idle,
    Configuring,
    Asking,
    Raising,
    Held,
}

#[derive(Clone, Copy, Debug, Default)]
struct Client {
    phase: Phase,
    is_configured: bool,
    /// The number of acquisitions that were started.
    attempt: u8,
    /// The greatest token that was granted before the acquisition started.
    floor: u8,
    token: u8,
    late_attempt: u8,
    late_token: u8,
    /// Whether late renewals may arrive.
    has_renewed: bool,
}

impl Client {
    fn pack(self) -> u32 {
        let mut bits = Bits(0);
        bits.push(self.phase as u8, 3);
        bits.push(u8::from(self.is_configured), 1);
        bits.push(self.attempt, 2);
        bits.push(self.floor, 4);
        bits.push(self.token, 4);
        bits.push(self.late_attempt, 2);
        bits.push(self.late_token, 4);
        bits.push(u8::from(self.has_renewed), 1);
        bits.0 as u32
    }
}

#[derive(Clone, Copy, Debug)]
struct World<const N: usize, const C: usize> {
    nodes: [Node<C>; N],
    clients: [Client; C],
    /// A bit for each token that was granted.
    granted: u16,
    losses: u8,
    may_repeat: bool,
    fence: (u8, u8),
}

/// A transition, with the client and the node in the order of the previous state.
#[derive(Clone, Copy, Debug)]
#[allow(dead_code, reason = "the fields are read by a counterexample")]
pub(crate) enum Step {
    Expire { node: u8 },
    LoseData { node: u8 },
    Start { client: u8 },
    Configure { client: u8, node: u8 },
    Ask { client: u8, node: u8 },
    Raise { client: u8, node: u8 },
    Renew { client: u8, node: u8 },
    LateAsk { client: u8, node: u8 },
    LateRaise { client: u8, node: u8 },
    LateRenew { client: u8, node: u8 },
    AnswerLost { client: u8, node: u8 },
    RequestLost { client: u8, node: u8 },
    Decide { client: u8 },
    Grant { client: u8 },
    Repeat { client: u8 },
    Leave { client: u8 },
    Write { client: u8 },
}

impl Step {
    /// The number of the kind of this step.
    pub(crate) fn kind(self) -> u32 {
        match self {
            Step::Expire { .. } => 0,
            Step::LoseData { .. } => 1,
            Step::Start { .. } => 2,
            Step::Configure { .. } => 3,
            Step::Ask { .. } => 4,
            Step::Raise { .. } => 5,
            Step::Renew { .. } => 6,
            Step::LateAsk { .. } => 7,
            Step::LateRaise { .. } => 8,
            Step::LateRenew { .. } => 9,
            Step::AnswerLost { .. } => 10,
            Step::RequestLost { .. } => 11,
            Step::Decide { .. } => 12,
            Step::Grant { .. } => 13,
            Step::Repeat { .. } => 14,
            Step::Leave { .. } => 15,
            Step::Write { .. } => 16,
        }
    }
}

/// A state in few bytes, with the nodes in ascending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packed<const N: usize, const C: usize> {
    nodes: [u64; N],
    clients: [u32; C],
    rest: u32,
}

/// Appends and removes fields of some bits.
struct Bits(u64);

impl Bits {
    fn push(&mut self, value: u8, width: u32) {
        debug_assert!(u32::from(value) < 1 << width, "a field is too narrow");
        self.0 = self.0 << width | u64::from(value);
    }

    fn pop(&mut self, width: u32) -> u8 {
        let value = self.0 & ((1 << width) - 1);
        self.0 >>= width;
        value as u8
    }
}

impl<const N: usize, const C: usize> World<N, C> {
    fn pack(&self) -> Packed<N, C> {
        let mut nodes = self.nodes.map(|node| {
            let mut bits = Bits(0);
            for requests in node.requests {
                bits.push(requests.ask, 4);
                bits.push(requests.raise, 4);
                bits.push(u8::from(requests.intact), 1);
                bits.push(u8::from(requests.late_ask), 1);
                bits.push(requests.late_raise, 4);
            }
            bits.push(node.lock, 4);
            bits.push(node.value, 4);
            bits.push(node.counter, 4);
            bits.push(node.configuration, 3);
            bits.push(node.lists, 2);
            bits.0
        });
        nodes.sort_unstable();
        let clients = self.clients.map(|client| client.pack());
        let rest = u32::from(self.granted)
            | u32::from(self.losses) << 16
            | u32::from(self.fence.0) << 20
            | u32::from(self.fence.1) << 24
            | u32::from(self.may_repeat) << 28;
        Packed {
            nodes,
            clients,
            rest,
        }
    }

    fn unpack(packed: &Packed<N, C>) -> Self {
        let nodes = packed.nodes.map(|bits| {
            let (mut bits, mut node) = (Bits(bits), Node::<C>::new(0, 0));
            node.lists = bits.pop(2);
            node.configuration = bits.pop(3);
            node.counter = bits.pop(4);
            node.value = bits.pop(4);
            node.lock = bits.pop(4);
            for requests in node.requests.iter_mut().rev() {
                requests.late_raise = bits.pop(4);
                requests.late_ask = bits.pop(1) != 0;
                requests.intact = bits.pop(1) != 0;
                requests.raise = bits.pop(4);
                requests.ask = bits.pop(4);
            }
            node
        });
        let clients = packed.clients.map(|bits| {
            let mut bits = Bits(u64::from(bits));
            Client {
                has_renewed: bits.pop(1) != 0,
                late_token: bits.pop(4),
                late_attempt: bits.pop(2),
                token: bits.pop(4),
                floor: bits.pop(4),
                attempt: bits.pop(2),
                is_configured: bits.pop(1) != 0,
                phase: match bits.pop(3) {
                    0 => Phase::Idle,
                    1 => Phase::Configuring,
                    2 => Phase::Asking,
                    3 => Phase::Raising,
                    _ => Phase::Held,
                },
            }
        });
        World {
            nodes,
            clients,
            granted: packed.rest as u16,
            may_repeat: packed.rest >> 28 != 0,
            losses: (packed.rest >> 16 & 15) as u8,
            fence: (
                (packed.rest >> 20 & 15) as u8,
                (packed.rest >> 24 & 15) as u8,
            ),
        }
    }

    /// The requests of the client to the nodes of its list that satisfy `is`.
    fn count(&self, client: usize, is: impl Fn(&Requests) -> bool) -> usize {
        let requests = self.nodes.iter().map(|node| &node.requests[client]);
        requests.filter(|requests| is(requests)).count()
    }

    /// Exchanges two neighbouring clients and their nonces.
    fn swap(&mut self, first: usize) {
        self.clients.swap(first, first + 1);
        let exchanged = |holder: u8| match owner(holder) {
            Some((client, attempt)) if client == first => nonce(first + 1, attempt),
            Some((client, attempt)) if client == first + 1 => nonce(first, attempt),
            _ => holder,
        };
        for node in &mut self.nodes {
            node.requests.swap(first, first + 1);
            node.lock = exchanged(node.lock);
        }
        self.fence.1 = exchanged(self.fence.1);
    }

    /// Removes the lock of a node.
    fn unlock(&mut self, node: usize) {
        self.nodes[node].lock = 0;
        self.nodes[node].value = 0;
        for requests in &mut self.nodes[node].requests {
            requests.intact = false;
        }
    }
}

fn nonce(client: usize, attempt: u8) -> u8 {
    3 * client as u8 + attempt
}

/// Returns the client and the attempt of a nonce.
fn owner(nonce: u8) -> Option<(usize, u8)> {
    let nonce = nonce.checked_sub(1)?;
    Some((usize::from(nonce / 3), nonce % 3 + 1))
}

fn is_granted(ask: u8) -> bool {
    (1..=GREATEST).contains(&ask)
}

impl<const N: usize, const C: usize> Model<N, C> {
    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// The list of nodes of a client.
    fn list(&self, client: usize) -> u8 {
        1 + u8::from(self.faults.two_configurations && client == C - 1)
    }

    fn contains(&self, client: usize, node: &Node<C>) -> bool {
        node.lists & self.list(client) != 0
    }

    /// The number of nodes in a list.
    fn length(&self) -> usize {
        N - usize::from(self.faults.two_configurations)
    }

    fn majority(&self) -> usize {
        match self.is(Mutant::HalfIsMajority) {
            true => self.length() / 2,
            false => self.length() / 2 + 1,
        }
    }

    /// Whether a node refuses requests of the client because of its configuration.
    fn is_foreign(&self, client: usize, node: &Node<C>) -> bool {
        self.faults.two_configurations
            && !self.is(Mutant::NoConfiguration)
            && node.configuration / 2 != self.list(client)
    }

    // The nodes

    /// Acquires the lock, and returns the value that is granted.
    fn ask(&self, world: &mut World<N, C>, node: usize, client: usize, attempt: u8) -> u8 {
        let is_current = world.clients[client].attempt == attempt;
        let node = &mut world.nodes[node];
        if self.is_foreign(client, node) {
            return NONE;
        }
        if self.faults.two_configurations {
            node.configuration |= 1;
        }
        if node.lock == nonce(client, attempt) {
            return node.value;
        }
        if node.lock != 0 {
            return NONE;
        }
        node.counter += 1;
        assert!(node.counter <= GREATEST, "the counters are too narrow");
        node.lock = nonce(client, attempt);
        node.value = node.counter;
        node.requests[client].intact = is_current;
        node.value
    }

    /// Raises the counter, and returns whether the lock was still that of the grant.
    fn raise(&self, node: &mut Node<C>, nonce: u8, value: u8, token: u8) -> bool {
        let is_mine = node.lock == nonce
            && (node.value == value || self.is(Mutant::RaiseComparesNonceOnly))
            || self.is(Mutant::UnconditionalWriteBack);
        if is_mine {
            node.counter = node.counter.max(token);
        }
        is_mine
    }

    /// Renews the lock, or acquires it again.
    fn renew(
        &self,
        world: &mut World<N, C>,
        node: usize,
        client: usize,
        attempt: u8,
        token: u8,
    ) -> bool {
        let is_current = world.clients[client].attempt == attempt;
        let node = &mut world.nodes[node];
        if self.is_foreign(client, node) {
            return false;
        }
        if node.lock != nonce(client, attempt) {
            if node.lock != 0 && !self.is(Mutant::RenewalByUpsert) {
                return false;
            }
            node.lock = nonce(client, attempt);
            // No raise concerns this lock.
            node.value = 0;
            node.counter = node.counter.max(token);
            node.requests[client].intact = is_current;
        }
        true
    }

    // The clients

    /// The client does not wait for its requests any more. They may still arrive.
    fn part(&self, world: &mut World<N, C>, client: usize) {
        let me = &mut world.clients[client];
        // Requests of an earlier nonce arrive before this, or never.
        let replaces = me.late_attempt != me.attempt;
        for node in &mut world.nodes {
            let requests = &mut node.requests[client];
            if replaces {
                requests.late_ask = false;
                requests.late_raise = 0;
            }
            if me.phase != Phase::Configuring {
                requests.late_ask |= requests.ask == IN_FLIGHT;
                if requests.raise == IN_FLIGHT {
                    requests.late_raise = requests.ask;
                }
            }
            requests.ask = NONE;
            requests.raise = NONE;
        }
        me.late_attempt = me.attempt;
        if me.token != 0 {
            me.late_token = me.token;
        }
    }

    /// The client acts no more for this acquisition.
    fn leave(&self, world: &mut World<N, C>, client: usize) {
        self.part(world, client);
        for node in &mut world.nodes {
            node.requests[client].intact = false;
        }
        let client = &mut world.clients[client];
        client.has_renewed = self.faults.renewals && client.phase == Phase::Held;
        client.phase = Phase::Idle;
        client.token = 0;
        client.floor = 0;
    }

    /// Makes the first requests of an acquisition, under a fresh nonce.
    fn start(&self, world: &mut World<N, C>, client: usize) {
        let is_configured = world.clients[client].is_configured;
        for node in &mut world.nodes {
            if self.contains(client, node) {
                let requests = &mut node.requests[client];
                match is_configured {
                    true => requests.ask = IN_FLIGHT,
                    false => requests.raise = IN_FLIGHT,
                }
            }
        }
        let client = &mut world.clients[client];
        if !is_configured {
            client.phase = Phase::Configuring;
            return;
        }
        client.phase = Phase::Asking;
        client.attempt += 1;
        client.floor = world.granted.checked_ilog2().unwrap_or(0) as u8;
    }

    /// The caller receives the lease.
    fn grant(&self, world: &mut World<N, C>, client: usize) -> Result<(), &'static str> {
        let holder = &mut world.clients[client];
        holder.phase = Phase::Held;
        if self.checks_order {
            if holder.token <= holder.floor {
                return Err(ORDER);
            }
            if world.granted & 1 << holder.token != 0 {
                return Err(DISTINCT);
            }
            world.granted |= 1 << holder.token;
        }
        holder.floor = 0;
        self.part(world, client);
        self.check_exclusive(world)
    }

    /// Removes facts that no transition reads, and orders clients that differ in nothing else.
    fn normalise(&self, world: &mut World<N, C>) {
        // Each grant of a node has a value of its own, so a raise for another value is refused.
        let raises_are_bound = !self.is(Mutant::UnconditionalWriteBack)
            && !self.is(Mutant::RaiseComparesNonceOnly)
            && self.faults.losses == 0;
        for (c, client) in world.clients.iter_mut().enumerate() {
            let (mut has_late, mut has_late_raise) = (false, false);
            for node in &mut world.nodes {
                let requests = &mut node.requests[c];
                let bound = (nonce(c, client.late_attempt), requests.late_raise);
                if raises_are_bound && (node.lock, node.value) != bound {
                    requests.late_raise = 0;
                }
                has_late |= requests.late_ask || requests.late_raise != 0;
                has_late_raise |= requests.late_raise != 0;
                if client.phase == Phase::Raising && requests.raise != IN_FLIGHT {
                    requests.ask = match requests.ask {
                        IN_FLIGHT => IN_FLIGHT,
                        _ => NONE,
                    };
                }
                let has_value = match client.phase {
                    Phase::Asking => true,
                    Phase::Raising => requests.raise == IN_FLIGHT || world.may_repeat,
                    _ => false,
                };
                if node.lock == nonce(c, client.attempt) && !has_value && requests.late_raise == 0
                    || node.lock == nonce(c, client.late_attempt)
                        && client.late_attempt != client.attempt
                        && requests.late_raise == 0
                {
                    node.value = 0;
                }
            }
            if !has_late_raise && !client.has_renewed {
                client.late_token = 0;
            }
            if !has_late && !client.has_renewed {
                client.late_attempt = 0;
            }
            if client.phase == Phase::Held && !self.faults.renewals && self.faults.losses == 0 {
                client.token = 0;
            }
        }
        if self.faults.two_configurations {
            return;
        }
        for last in (1..C).rev() {
            for first in 0..last {
                if world.clients[first].pack() > world.clients[first + 1].pack() {
                    world.swap(first);
                }
            }
        }
    }

    fn check_exclusive(&self, world: &World<N, C>) -> Result<(), &'static str> {
        let holds = |client: &usize| {
            world.clients[*client].phase == Phase::Held
                && world.count(*client, |requests| requests.intact) >= self.majority()
        };
        match (0..C).filter(holds).count() {
            0 | 1 => Ok(()),
            _ => Err(EXCLUSIVE),
        }
    }
}

/// Receives the successors of one state.
struct Sink<'a, const N: usize, const C: usize> {
    found: &'a mut dyn FnMut(Step, Packed<N, C>),
    normalise: &'a dyn Fn(&mut World<N, C>),
}

type Checked = Result<(), Violation<Step>>;

impl<const N: usize, const C: usize> Sink<'_, N, C> {
    /// Adds the state after `change` to the successors.
    fn add(
        &mut self,
        world: &World<N, C>,
        step: Step,
        change: impl FnOnce(&mut World<N, C>) -> Result<(), &'static str>,
    ) -> Checked {
        let mut next = *world;
        change(&mut next).map_err(|property| Violation { property, step })?;
        (self.normalise)(&mut next);
        (self.found)(step, next.pack());
        Ok(())
    }
}

impl<const N: usize, const C: usize> Model<N, C> {
    fn node_steps(&self, world: &World<N, C>, n: usize, sink: &mut Sink<'_, N, C>) -> Checked {
        let node = n as u8;
        if world.nodes[n].lock != 0 {
            sink.add(world, Step::Expire { node }, |next| {
                next.unlock(n);
                Ok(())
            })?;
        }
        if world.losses > 0 {
            sink.add(world, Step::LoseData { node }, |next| {
                next.unlock(n);
                next.nodes[n].counter = 0;
                next.losses -= 1;
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Requests of earlier rounds arrive.
    fn late_steps(
        &self,
        world: &World<N, C>,
        c: usize,
        n: usize,
        sink: &mut Sink<'_, N, C>,
    ) -> Checked {
        let (client, node) = (c as u8, n as u8);
        let Client {
            late_attempt: attempt,
            late_token: token,
            ..
        } = world.clients[c];
        let requests = world.nodes[n].requests[c];
        if requests.late_ask {
            sink.add(world, Step::LateAsk { client, node }, |next| {
                next.nodes[n].requests[c].late_ask = false;
                self.ask(next, n, c, attempt);
                Ok(())
            })?;
        }
        if requests.late_raise != 0 {
            sink.add(world, Step::LateRaise { client, node }, |next| {
                next.nodes[n].requests[c].late_raise = 0;
                let value = requests.late_raise;
                self.raise(&mut next.nodes[n], nonce(c, attempt), value, token);
                Ok(())
            })?;
        }
        if world.clients[c].has_renewed && self.contains(c, &world.nodes[n]) {
            sink.add(world, Step::LateRenew { client, node }, |next| {
                self.renew(next, n, c, attempt, token);
                self.check_exclusive(next)
            })?;
        }
        Ok(())
    }

    /// Requests of the present round arrive, are lost, or their answers are.
    fn request_steps(
        &self,
        world: &World<N, C>,
        c: usize,
        n: usize,
        sink: &mut Sink<'_, N, C>,
    ) -> Checked {
        let (client, node) = (c as u8, n as u8);
        let Client {
            phase,
            attempt,
            token,
            ..
        } = world.clients[c];
        let requests = world.nodes[n].requests[c];
        let Faults {
            lost_answers,
            crashes,
            ..
        } = self.faults;
        if phase == Phase::Configuring && requests.raise == IN_FLIGHT {
            sink.add(world, Step::Configure { client, node }, |next| {
                let mine = self.list(c);
                let node = &mut next.nodes[n];
                if node.configuration == 0 {
                    node.configuration = 2 * mine;
                }
                if node.configuration / 2 != mine && !self.is(Mutant::NoConfiguration) {
                    // One clear error: the client makes no request.
                    let client = &mut next.clients[c];
                    client.attempt = self.attempts;
                    self.leave(next, c);
                    return Ok(());
                }
                let is_complete = node.configuration == 2 * mine + 1;
                node.requests[c].raise = DONE;
                let read = next.count(c, |requests| requests.raise == DONE);
                let needed = match self.mutant {
                    Some(Mutant::ConfigurationOfMajority) => self.majority(),
                    Some(Mutant::NoConfiguration) => 0,
                    _ => self.length(),
                };
                if is_complete || read >= needed {
                    next.clients[c].is_configured = true;
                    for node in &mut next.nodes {
                        node.requests[c].raise = NONE;
                    }
                    self.start(next, c);
                }
                Ok(())
            })?;
        }
        if matches!(phase, Phase::Asking | Phase::Raising) && requests.ask == IN_FLIGHT {
            sink.add(world, Step::Ask { client, node }, |next| {
                let granted = self.ask(next, n, c, attempt);
                // An answer that arrives after the decision is not used.
                let is_used = phase == Phase::Asking;
                next.nodes[n].requests[c].ask = if is_used { granted } else { NONE };
                Ok(())
            })?;
            if lost_answers && phase == Phase::Asking {
                sink.add(world, Step::AnswerLost { client, node }, |next| {
                    self.ask(next, n, c, attempt);
                    next.nodes[n].requests[c].ask = NONE;
                    Ok(())
                })?;
            }
            if crashes {
                sink.add(world, Step::RequestLost { client, node }, |next| {
                    next.nodes[n].requests[c].ask = NONE;
                    Ok(())
                })?;
            }
        }
        if phase == Phase::Raising && requests.raise == IN_FLIGHT {
            sink.add(world, Step::Raise { client, node }, |next| {
                let node = &mut next.nodes[n];
                let is_done = self.raise(node, nonce(c, attempt), requests.ask, token);
                node.requests[c].raise = if is_done { DONE } else { NONE };
                Ok(())
            })?;
            if lost_answers {
                sink.add(world, Step::AnswerLost { client, node }, |next| {
                    let node = &mut next.nodes[n];
                    self.raise(node, nonce(c, attempt), requests.ask, token);
                    node.requests[c].raise = NONE;
                    Ok(())
                })?;
            }
            if crashes {
                sink.add(world, Step::RequestLost { client, node }, |next| {
                    next.nodes[n].requests[c].raise = NONE;
                    Ok(())
                })?;
            }
        }
        if phase == Phase::Held && self.faults.renewals && self.contains(c, &world.nodes[n]) {
            sink.add(world, Step::Renew { client, node }, |next| {
                self.renew(next, n, c, attempt, token);
                self.check_exclusive(next)
            })?;
        }
        Ok(())
    }

    /// The client draws a conclusion.
    fn client_steps(&self, world: &World<N, C>, c: usize, sink: &mut Sink<'_, N, C>) -> Checked {
        let client = c as u8;
        let me = world.clients[c];
        let majority = self.majority();
        let may_fail = self.faults.crashes || self.faults.lost_answers;
        let leave = |next: &mut World<N, C>| {
            self.leave(next, c);
            Ok(())
        };
        match me.phase {
            Phase::Idle => {
                if me.attempt < self.attempts {
                    sink.add(world, Step::Start { client }, |next| {
                        self.start(next, c);
                        Ok(())
                    })?;
                }
            }
            Phase::Configuring => {}
            Phase::Asking => {
                let granted = world.count(c, |requests| is_granted(requests.ask));
                let open = world.count(c, |requests| requests.ask == IN_FLIGHT);
                if granted >= majority {
                    self.decide(world, c, sink)?;
                }
                if granted + open < majority || may_fail {
                    sink.add(world, Step::Leave { client }, leave)?;
                }
                self.repeat(world, c, sink)?;
            }
            Phase::Raising => {
                let done = world.count(c, |requests| requests.raise == DONE);
                let open = world.count(c, |requests| requests.raise == IN_FLIGHT);
                if done >= majority {
                    sink.add(world, Step::Grant { client }, |next| self.grant(next, c))?;
                }
                if done + open < majority || may_fail {
                    sink.add(world, Step::Leave { client }, leave)?;
                }
                self.repeat(world, c, sink)?;
            }
            Phase::Held => {
                // The release, or the end of the lease by the clock of the holder.
                sink.add(world, Step::Leave { client }, leave)?;
            }
        }
        if self.faults.losses > 0 && me.phase == Phase::Held {
            let (token, mine) = (me.token, nonce(c, me.attempt));
            let (last, holder) = world.fence;
            let is_same = holder == mine || self.is(Mutant::FenceWithoutNonce);
            if token > last || token == last && is_same {
                sink.add(world, Step::Write { client }, |next| {
                    next.fence = (token, mine);
                    match token == last && holder != mine {
                        true => Err(FENCE),
                        false => Ok(()),
                    }
                })?;
            }
        }
        Ok(())
    }

    /// T is chosen, and is granted if a majority has it.
    fn decide(&self, world: &World<N, C>, c: usize, sink: &mut Sink<'_, N, C>) -> Checked {
        let client = c as u8;
        let asks = world.nodes.iter().map(|node| node.requests[c].ask);
        let token = asks.filter(|ask| is_granted(*ask)).max().unwrap_or(0);
        let have = world.count(c, |requests| requests.ask == token);
        let is_over = have >= self.majority() || self.is(Mutant::NoWriteBack);
        let step = match is_over {
            true => Step::Grant { client },
            false => Step::Decide { client },
        };
        sink.add(world, step, |next| {
            next.clients[c].token = token;
            if is_over {
                return self.grant(next, c);
            }
            next.clients[c].phase = Phase::Raising;
            for node in &mut next.nodes {
                let requests = &mut node.requests[c];
                if requests.ask == token {
                    requests.raise = DONE;
                } else if is_granted(requests.ask) {
                    requests.raise = IN_FLIGHT;
                }
            }
            Ok(())
        })
    }

    /// The outcome is unknown, and the requests are made again with the same nonce.
    fn repeat(&self, world: &World<N, C>, c: usize, sink: &mut Sink<'_, N, C>) -> Checked {
        if !world.may_repeat {
            return Ok(());
        }
        let client = c as u8;
        sink.add(world, Step::Repeat { client }, |next| {
            self.part(next, c);
            for node in &mut next.nodes {
                if self.contains(c, node) {
                    node.requests[c].ask = IN_FLIGHT;
                }
            }
            let client = &mut next.clients[c];
            client.phase = Phase::Asking;
            client.token = 0;
            next.may_repeat = false;
            Ok(())
        })
    }
}

impl<const N: usize, const C: usize> System for Model<N, C> {
    type State = Packed<N, C>;
    type Step = Step;

    fn initial(&self) -> Vec<Self::State> {
        let mut world = World {
            nodes: self.counters.map(|counter| Node::new(counter, 3)),
            clients: [Client::default(); C],
            granted: 0,
            losses: self.faults.losses,
            may_repeat: self.faults.repeats,
            fence: (0, 0),
        };
        if self.faults.two_configurations {
            world.nodes[0].lists = 1;
            world.nodes[N - 1].lists = 2;
        }
        for client in &mut world.clients {
            client.is_configured = !self.faults.two_configurations;
        }
        vec![world.pack()]
    }

    fn successors(
        &self,
        state: &Self::State,
        found: &mut dyn FnMut(Step, Self::State),
    ) -> Result<(), Violation<Step>> {
        let world = World::unpack(state);
        let normalise = |world: &mut World<N, C>| self.normalise(world);
        let mut sink = Sink {
            found,
            normalise: &normalise,
        };
        for node in 0..N {
            self.node_steps(&world, node, &mut sink)?;
            for client in 0..C {
                self.late_steps(&world, client, node, &mut sink)?;
                self.request_steps(&world, client, node, &mut sink)?;
            }
        }
        for client in 0..C {
            self.client_steps(&world, client, &mut sink)?;
        }
        Ok(())
    }

    fn kind(step: Step) -> u32 {
        step.kind()
    }

    fn hash(state: &Self::State) -> u64 {
        let mut hash = u64::from(state.rest);
        let mut add = |part: u64| {
            // The multiplier of FxHash, with a rotation that spreads the high bits.
            hash = (hash ^ part)
                .wrapping_mul(0x517c_c1b7_2722_0a95)
                .rotate_left(29);
        };
        for node in state.nodes {
            add(node);
        }
        for client in state.clients {
            add(u64::from(client));
        }
        hash ^ hash >> 32
    }
}
