//! The simulation: clients, their machines, messages, failures and the resource that they write.
//!
//! Each client is a process with one acquisition at a time. Its state machine is that of the crate,
//! and this file is the driver: it delivers events and performs actions, as the threads of the
//! crate do. Engines, links, clocks and failures are simulated.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt;
use std::time::Duration;

use fastrand::Rng;
use latchwork_lease::sim::{Input, Machine, Output};

use crate::links::{Cuts, Region, SECOND, Time, one_way, seconds};
use crate::outcome::{Outcome, micros, record};
use crate::server::{Answer, Name, Nonce, Request, Server};
use crate::setup::{Engine, Setup};

use calls::{Kind, Operation};

mod calls;

/// The nodes of a quorum that serve one name.
const NODES_OF_A_NAME: usize = 5;

/// Clocks differ in rate by at most this part.
const CLOCK_RATES: f64 = 100e-6;

/// The longest pause of a waiter after a hint, if several nodes grant the name. It avoids split
/// votes.
const BACK_OFF: f64 = 0.02;

/// A server that has more work than this discards requests.
const BACKLOG: Time = SECOND;

/// The shortest and the longest election of a group, in seconds.
const ELECTION: (f64, f64) = (1.0, 1.5);

type ClientId = u32;
type ServerId = u16;

/// An event.
#[derive(Clone, Copy, Debug)]
enum What {
    /// The client acquires a name.
    Begin(ClientId, u32),
    /// The time of the machine's next tick.
    Tick(ClientId, Nonce),
    /// The name may be free.
    Hint(ClientId, Nonce),
    /// The holder releases.
    End(ClientId, Nonce),
    /// The holder writes.
    Write(ClientId, Nonce),
    /// A request arrives at a server, or its turn has come.
    Arrive(Message),
    Serve(Message, u32),
    Reply(ClientId, u32, u8, Answer),
    /// A write arrives at the resource.
    Store(Name, Nonce, u64, u64),
    Crash(ClientId),
    Restart(ClientId),
    Pause(ClientId),
    Resume(ClientId),
    CutClient(ClientId),
    HealClient(ClientId),
    Stop(ServerId, u8),
    Start(ServerId, u8),
    CutRegions,
    HealRegions(u8, u8),
}

/// A request on its way.
#[derive(Clone, Copy, Debug)]
struct Message {
    server: ServerId,
    /// The place of the server in the list of the request.
    place: u8,
    client: ClientId,
    operation: u32,
    nonce: Nonce,
    name: Name,
    request: Request,
}

struct Event {
    at: Time,
    number: u64,
    what: What,
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Event {}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Event {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Acquiring,
    Held,
    Releasing,
    Crashed,
}

struct Client {
    region: Region,
    /// The time by its clock is the time of the simulation, multiplied by it.
    clock_rate: f64,
    /// The delay of its messages, beside that of the regions.
    distance: Time,
    phase: Phase,
    machine: Option<Machine>,
    /// The number of its acquisition.
    acquisition: u32,
    name: Name,
    began: Time,
    /// The greatest token of the name when the acquisition began.
    floor: u64,
    token: u64,
    /// The order of its grant among those of the name.
    grant: u64,
    granted_at: Time,
    tick_at: Time,
    operations: Vec<Operation>,
    next_operation: u32,
    paused_until: Time,
    is_cut: bool,
}

#[derive(Default)]
struct NameState {
    believers: Vec<ClientId>,
    waiting: u32,
    grants: u64,
    greatest_token: u64,
    crashed_at: Option<Time>,
    /// The greatest fence that was accepted, and the latest grant whose write was.
    fence: (u64, Nonce),
    latest: u64,
}

/// A simulation that has not run.
pub struct World {
    setup: Setup,
    now: Time,
    numbers: u64,
    events: BinaryHeap<Reverse<Event>>,
    rng: Rng,
    clients: Vec<Client>,
    servers: Vec<Server>,
    names: Vec<NameState>,
    places: Vec<Vec<ServerId>>,
    cuts: Cuts,
    measure_from: Time,
    last_grant: Time,
    outcome: Outcome,
    outputs: Vec<Output>,
    notified: Vec<Nonce>,
}

impl World {
    /// Prepares a simulation.
    ///
    /// # Errors
    /// Returns an error if the setup is refused.
    pub fn new(setup: Setup) -> Result<Self, String> {
        setup.check()?;
        let mut rng = Rng::with_seed(setup.seed);
        let conduct = setup.conduct();
        let regions = setup.regions;
        let servers: Vec<Server> = match setup.engine {
            Engine::Central => (0..setup.groups)
                .map(|group| Server::new(conduct, [group % regions]))
                .collect(),
            Engine::Consensus => (0..setup.groups)
                .map(|group| {
                    let members = (0..setup.nodes).map(|node| (group + node) % regions);
                    Server::new(conduct, members)
                })
                .collect(),
            Engine::Quorum => (0..setup.nodes)
                .map(|node| Server::new(conduct, [node % regions]))
                .collect(),
        };
        let names = setup.names.unwrap_or(setup.clients);
        let places = (0..names).map(|name| places_of(&setup, name)).collect();
        let clients = (0..setup.clients)
            .map(|number| Client {
                region: number % regions,
                clock_rate: 1.0 + CLOCK_RATES * (2.0 * rng.f64() - 1.0),
                distance: seconds(rng.f64() * 100e-6),
                phase: Phase::Idle,
                machine: None,
                acquisition: 0,
                name: 0,
                began: 0,
                floor: 0,
                token: 0,
                grant: 0,
                granted_at: 0,
                tick_at: Time::MAX,
                operations: Vec::new(),
                next_operation: 0,
                paused_until: 0,
                is_cut: false,
            })
            .collect();
        let measure_from = seconds(setup.warm_up);
        let mut world = World {
            setup,
            now: 0,
            numbers: 0,
            events: BinaryHeap::new(),
            rng,
            clients,
            servers,
            names: (0..names).map(|_| NameState::default()).collect(),
            places,
            cuts: Cuts::default(),
            measure_from,
            last_grant: measure_from,
            outcome: Outcome::new(setup.length),
            outputs: Vec::new(),
            notified: Vec::new(),
        };
        world.plan();
        Ok(world)
    }

    /// Schedules the first events.
    fn plan(&mut self) {
        let failures = self.setup.failures;
        for client in 0..self.clients.len() as ClientId {
            // The clock of a machine does not begin at zero, which means never.
            let at = SECOND + seconds(self.rng.f64() * self.setup.think);
            self.at(at, What::Begin(client, 0));
            self.fail(failures.client_crashes, What::Crash(client));
            self.fail(failures.pauses, What::Pause(client));
            self.fail(failures.client_cuts, What::CutClient(client));
        }
        for server in 0..self.servers.len() {
            for member in 0..self.servers[server].members() {
                let stop = What::Stop(server as ServerId, member as u8);
                self.fail(failures.server_crashes, stop);
            }
        }
        if self.setup.regions > 1 {
            self.fail(failures.region_cuts, What::CutRegions);
        }
    }

    /// Schedules the next failure of a kind that occurs so often in an hour.
    fn fail(&mut self, rate: f64, what: What) {
        if rate > 0.0 {
            let after = self.exponential(3600.0 / rate);
            self.after(after, what);
        }
    }

    fn exponential(&mut self, mean: f64) -> Time {
        seconds(-mean * (1.0 - self.rng.f64()).ln())
    }

    fn at(&mut self, at: Time, what: What) {
        self.numbers += 1;
        let number = self.numbers;
        self.events.push(Reverse(Event { at, number, what }));
    }

    fn after(&mut self, after: Time, what: What) {
        self.at(self.now + after, what);
    }

    fn measures(&self) -> bool {
        self.now >= self.measure_from
    }

    /// Runs the simulation. `progress` is called from time to time with the part that is done.
    pub fn run(mut self, mut progress: impl FnMut(f64)) -> Outcome {
        let end = self.measure_from + seconds(self.setup.length);
        while let Some(Reverse(event)) = self.events.pop() {
            if event.at > end {
                break;
            }
            self.now = event.at;
            self.outcome.events += 1;
            if self.outcome.events % (1 << 16) == 0 {
                progress(self.now as f64 / end as f64);
            }
            self.perform(event.what);
        }
        self.now = end;
        self.count_gap();
        for client in 0..self.clients.len() {
            let Client { phase, began, .. } = self.clients[client];
            if phase == Phase::Held {
                self.count_held(client as ClientId);
            } else if phase == Phase::Acquiring {
                let waited = (end - began) as f64 / 1e9;
                self.outcome.waiting = self.outcome.waiting.max(waited);
            }
        }
        progress(1.0);
        self.outcome
    }

    fn perform(&mut self, what: What) {
        if let Some(client) = owner(&what) {
            // A process that is stopped handles its events later, in their order.
            let until = self.client(client).paused_until;
            if until > self.now {
                self.at(until, what);
                return;
            }
        }
        match what {
            What::Begin(client, acquisition) => self.begin(client, acquisition),
            What::Tick(client, nonce) => {
                if self.is_current(client, nonce) && self.client(client).tick_at <= self.now {
                    self.client(client).tick_at = Time::MAX;
                    self.deliver(client, Input::Tick);
                }
            }
            What::Hint(client, nonce) => {
                if self.is_current(client, nonce) && machine_waits(self.client(client)) {
                    self.deliver(client, Input::Hint);
                }
            }
            What::End(client, nonce) => {
                if self.is_current(client, nonce) && self.client(client).phase == Phase::Held {
                    self.deliver(client, Input::Abandon);
                }
            }
            What::Write(client, nonce) => {
                if self.is_current(client, nonce) && self.client(client).phase == Phase::Held {
                    self.write(client);
                    self.plan_write(client);
                }
            }
            What::Arrive(message) => {
                let server = &mut self.servers[usize::from(message.server)];
                let is_full = server.busy_until() > self.now + BACKLOG;
                if server.is_available(self.now) && !is_full {
                    let (at, epoch) = (server.enqueue(self.now), server.epoch);
                    self.at(at, What::Serve(message, epoch));
                }
            }
            What::Serve(message, epoch) => self.serve(message, epoch),
            What::Reply(client, operation, place, answer) => {
                self.reply(client, operation, place, answer);
            }
            What::Store(name, nonce, token, grant) => self.store(name, nonce, token, grant),
            What::Crash(client) => self.crash(client),
            What::Restart(client) => {
                let client_state = self.client(client);
                client_state.phase = Phase::Idle;
                let acquisition = client_state.acquisition;
                self.at(self.now, What::Begin(client, acquisition));
            }
            What::Pause(client) => {
                let length = self.exponential(self.setup.failures.pause);
                let until = self.now + length;
                let state = self.client(client);
                if state.phase != Phase::Crashed {
                    state.paused_until = state.paused_until.max(until);
                }
                let until = self.client(client).paused_until.max(until);
                self.at(until, What::Resume(client));
                self.fail(self.setup.failures.pauses, What::Pause(client));
            }
            What::Resume(client) => {
                // The process had checked its lease, and was about to write.
                if self.client(client).phase == Phase::Held {
                    self.write(client);
                }
            }
            What::CutClient(client) => {
                self.client(client).is_cut = true;
                let length = self.exponential(self.setup.failures.cut);
                self.after(length, What::HealClient(client));
                self.fail(self.setup.failures.client_cuts, What::CutClient(client));
            }
            What::HealClient(client) => self.client(client).is_cut = false,
            What::Stop(server, member) => {
                self.servers[usize::from(server)].set_up(usize::from(member), false);
                self.elect();
                let length = self.exponential(self.setup.failures.repair);
                self.after(length, What::Start(server, member));
            }
            What::Start(server, member) => {
                self.servers[usize::from(server)].set_up(usize::from(member), true);
                self.elect();
                let stop = What::Stop(server, member);
                self.fail(self.setup.failures.server_crashes, stop);
            }
            What::CutRegions => {
                let a = self.rng.usize(..self.setup.regions);
                let b = (a + 1 + self.rng.usize(..self.setup.regions - 1)) % self.setup.regions;
                self.cuts.add(a, b);
                self.elect();
                let length = self.exponential(self.setup.failures.cut);
                self.after(length, What::HealRegions(a as u8, b as u8));
                self.fail(self.setup.failures.region_cuts, What::CutRegions);
            }
            What::HealRegions(a, b) => {
                self.cuts.remove(usize::from(a), usize::from(b));
                self.elect();
            }
        }
    }

    fn client(&mut self, client: ClientId) -> &mut Client {
        &mut self.clients[client as usize]
    }

    fn is_current(&mut self, client: ClientId, nonce: Nonce) -> bool {
        let state = self.client(client);
        state.machine.is_some() && nonce_of(client, state.acquisition) == nonce
    }

    fn elect(&mut self) {
        let (shortest, longest) = ELECTION;
        for server in &mut self.servers {
            let election = match server.members() {
                1 => 0,
                _ => seconds(shortest + (longest - shortest) * self.rng.f64()),
            };
            server.elect(self.now, &self.cuts, election);
        }
    }

    // Clients

    fn begin(&mut self, client: ClientId, acquisition: u32) {
        let (now, ttl) = (self.now, Duration::from_secs_f64(self.setup.ttl));
        let name = match self.setup.names {
            None => client,
            Some(names) => self.rng.usize(..names) as Name,
        };
        let state = &mut self.clients[client as usize];
        if state.phase != Phase::Idle || state.acquisition != acquisition {
            return;
        }
        let name_state = &mut self.names[name as usize];
        name_state.waiting += 1;
        state.phase = Phase::Acquiring;
        state.acquisition += 1;
        state.name = name;
        state.began = now;
        state.floor = name_state.greatest_token;
        state.machine = Some(Machine::new(ttl, self.setup.engine == Engine::Consensus));
        state.tick_at = Time::MAX;
        self.deliver(client, Input::Hint);
    }

    /// Delivers an event to the machine of a client, and performs its actions.
    fn deliver(&mut self, client: ClientId, input: Input) {
        let now = self.now;
        let state = &mut self.clients[client as usize];
        let Some(machine) = &mut state.machine else {
            return;
        };
        let mut outputs = std::mem::take(&mut self.outputs);
        machine.on(local(now, state.clock_rate), input, &mut outputs);
        for output in outputs.drain(..) {
            self.act(client, output);
        }
        self.outputs = outputs;
        let state = &mut self.clients[client as usize];
        let Some(machine) = &state.machine else {
            return;
        };
        let wake_at = global(machine.wake_at(), state.clock_rate).max(now);
        if wake_at < state.tick_at {
            state.tick_at = wake_at;
            let nonce = nonce_of(client, state.acquisition);
            self.at(wake_at, What::Tick(client, nonce));
        }
    }

    fn act(&mut self, client: ClientId, output: Output) {
        match output {
            Output::Ask(id, deadline) => {
                self.call(client, Kind::Ask(id), deadline, Request::Ask);
            }
            Output::Renew(id, deadline, token) => {
                let request = Request::Renew { token: token.get() };
                self.call(client, Kind::Renew(id), deadline, request);
            }
            Output::Release(id, deadline) => {
                self.call(client, Kind::Release(id), deadline, Request::Release);
            }
            Output::Granted(token) => self.granted(client, token.get()),
            Output::Ended => {
                self.outcome.failed += u64::from(self.measures());
                let state = self.client(client);
                state.phase = Phase::Releasing;
                let name = state.name;
                self.names[name as usize].waiting -= 1;
            }
            Output::Lost(reason) => {
                if !matches!(reason, latchwork_lease::LossReason::Released) {
                    self.outcome.lost += u64::from(self.measures());
                }
                self.count_held(client);
                self.client(client).phase = Phase::Releasing;
                self.disbelieve(client);
            }
            Output::Confirmed => {}
            Output::Over => {
                let state = self.client(client);
                state.machine = None;
                state.phase = Phase::Idle;
                state.operations.clear();
                let acquisition = state.acquisition;
                let think = self.exponential(self.setup.think);
                self.after(think, What::Begin(client, acquisition));
            }
        }
    }

    fn granted(&mut self, client: ClientId, token: u64) {
        let (now, measures) = (self.now, self.measures());
        let state = &mut self.clients[client as usize];
        let name = &mut self.names[state.name as usize];
        name.waiting -= 1;
        name.grants += 1;
        state.phase = Phase::Held;
        state.token = token;
        state.grant = name.grants;
        state.granted_at = now;
        let (began, floor) = (state.began, state.floor);
        name.greatest_token = name.greatest_token.max(token);
        let crashed_at = name.crashed_at.take();
        let others = name.believers.clone();
        name.believers.push(client);
        let nonce = nonce_of(client, state.acquisition);
        if measures {
            self.count_gap();
            let outcome = &mut self.outcome;
            outcome.granted += 1;
            outcome.regressions += u64::from(token <= floor);
            record(&mut outcome.acquire, micros(now - began));
            if let Some(crashed_at) = crashed_at {
                let millis = micros(now - crashed_at) / 1000;
                record(&mut outcome.takeover, millis);
            }
            for other in others {
                match self.clients[other as usize].paused_until > now {
                    true => self.outcome.overlaps_paused += 1,
                    false => self.outcome.overlaps += 1,
                }
            }
        }
        let hold = self.exponential(self.setup.hold);
        self.after(hold, What::End(client, nonce));
        self.plan_write(client);
    }

    fn count_gap(&mut self) {
        let gap = (self.now - self.last_grant) as f64 / 1e9;
        self.outcome.gap = self.outcome.gap.max(gap);
        self.last_grant = self.now;
    }

    fn count_held(&mut self, client: ClientId) {
        let (now, from) = (self.now, self.measure_from);
        let since = self.client(client).granted_at.max(from);
        self.outcome.held += now.saturating_sub(since) as f64 / 1e9;
    }

    fn disbelieve(&mut self, client: ClientId) {
        let name = self.client(client).name;
        let believers = &mut self.names[name as usize].believers;
        believers.retain(|other| *other != client);
    }

    fn crash(&mut self, client: ClientId) {
        let now = self.now;
        let restart = self.exponential(self.setup.failures.restart);
        self.fail(self.setup.failures.client_crashes, What::Crash(client));
        let state = self.client(client);
        if state.phase == Phase::Crashed {
            return;
        }
        let (phase, name) = (state.phase, state.name as usize);
        state.phase = Phase::Crashed;
        state.machine = None;
        state.operations.clear();
        match phase {
            Phase::Held => {
                self.count_held(client);
                self.disbelieve(client);
                if self.names[name].waiting > 0 {
                    self.names[name].crashed_at = Some(now);
                }
            }
            Phase::Acquiring => self.names[name].waiting -= 1,
            _ => {}
        }
        self.after(restart, What::Restart(client));
    }

    // The resource

    fn plan_write(&mut self, client: ClientId) {
        let after = self.exponential(self.setup.write_every);
        let acquisition = self.client(client).acquisition;
        self.after(after, What::Write(client, nonce_of(client, acquisition)));
    }

    fn write(&mut self, client: ClientId) {
        let state = &self.clients[client as usize];
        let nonce = nonce_of(client, state.acquisition);
        let store = What::Store(state.name, nonce, state.token, state.grant);
        let delay = one_way(state.region, 0) + state.distance;
        self.after(delay, store);
    }

    fn store(&mut self, name: Name, nonce: Nonce, token: u64, grant: u64) {
        let (measures, has_fence) = (self.measures(), self.setup.has_fence);
        let state = &mut self.names[name as usize];
        let (last, holder) = state.fence;
        let passes = token > last || token == last && nonce == holder;
        if has_fence && !passes {
            self.outcome.refused += u64::from(measures);
            return;
        }
        state.fence = (token, nonce);
        let is_stale = grant < state.latest;
        state.latest = state.latest.max(grant);
        self.outcome.writes += u64::from(measures);
        self.outcome.stale += u64::from(measures && is_stale);
    }
}

/// The servers of a name.
fn places_of(setup: &Setup, name: usize) -> Vec<ServerId> {
    let score = |server: usize| {
        let mut hash = (name as u64) << 16 ^ server as u64;
        for _ in 0..3 {
            hash = (hash ^ hash >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        hash
    };
    if setup.engine != Engine::Quorum {
        return vec![(score(0) % setup.groups as u64) as ServerId];
    }
    let mut scores: BTreeMap<u64, ServerId> = BTreeMap::new();
    for server in 0..setup.nodes {
        scores.insert(score(server), server as ServerId);
    }
    scores.into_values().take(NODES_OF_A_NAME).collect()
}

fn nonce_of(client: ClientId, acquisition: u32) -> Nonce {
    Nonce::from(client) << 32 | Nonce::from(acquisition)
}

fn machine_waits(client: &Client) -> bool {
    client.machine.as_ref().is_some_and(Machine::waits)
}

/// The time by the clock of a client.
fn local(at: Time, rate: f64) -> Duration {
    Duration::from_nanos((at as f64 * rate) as u64)
}

/// The first time at which a clock of this rate shows `local`.
fn global(local: Duration, rate: f64) -> Time {
    let nanos = local.as_nanos().min(1 << 62) as f64;
    (nanos / rate) as Time + 2
}

/// The process that handles an event.
fn owner(what: &What) -> Option<ClientId> {
    match *what {
        What::Begin(client, _)
        | What::Tick(client, _)
        | What::Hint(client, _)
        | What::End(client, _)
        | What::Write(client, _)
        | What::Reply(client, ..)
        | What::Resume(client) => Some(client),
        _ => None,
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("setup", &self.setup)
            .finish_non_exhaustive()
    }
}
