//! A session: the servers of one engine, the workers, and rounds with one fault each.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use latchwork::table::FencingToken;
use latchwork_lease::conformance;
use latchwork_lease::engine::{Attempt, Engine, EngineError, Key, Nonce, Request};
use latchwork_lease::guarantees::Exclusive;
use rustix::process::{Pid, Signal, kill_process};

use crate::clock::{Nanos, nanos, now};
use crate::fault::{Damage, Fault, Target};
use crate::history::{Past, Verdict};
use crate::hub::{Doing, Hub, Thread};
use crate::lock_call;
use crate::message::{Client, Job, LONG, NAMESPACE, PROBE, SHORT};
use crate::network::{HostId, Network};
use crate::pulse::Pulse;
use crate::record::{Control, Round, milliseconds};
use crate::servers::{Kind, Programs, Servers};
use crate::worker::REFUSED;

/// The number of worker processes that compete for names.
const WORKERS: usize = 4;

/// The hosts of a campaign.
#[derive(Clone, Debug)]
pub(crate) struct Hosts {
    pub(crate) servers: Vec<HostId>,
    pub(crate) workers: Vec<HostId>,
    pub(crate) probe: HostId,
}

impl Hosts {
    pub(crate) fn add(network: &mut Network) -> Result<Hosts, String> {
        let mut several = |count: usize| -> Result<Vec<HostId>, String> {
            (0..count).map(|_| network.add()).collect()
        };
        Ok(Hosts {
            servers: several(5)?,
            workers: several(WORKERS)?,
            probe: network.add()?,
        })
    }
}

/// How the workers of a session are started.
#[derive(Clone, Debug)]
pub(crate) struct Crew {
    pub(crate) client: Client,
    /// The bug that is active in their engine.
    pub(crate) plant: Option<&'static str>,
    /// Whether the last two workers use another list of nodes.
    pub(crate) has_two_lists: bool,
}

impl Crew {
    pub(crate) const SOUND: Crew = Crew {
        client: Client::Leases,
        plant: None,
        has_two_lists: false,
    };
}

/// The finding that shows a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ShownBy {
    StaleWrites,
    /// Two holders at one time, or tokens that are not greater.
    TwoHolders,
    Ghosts,
}

/// A control: a bug, and the fault that shows it.
#[derive(Clone, Debug)]
pub(crate) struct Planted {
    pub(crate) kind: Kind,
    pub(crate) name: &'static str,
    pub(crate) crew: Crew,
    pub(crate) shown_by: ShownBy,
    pub(crate) fault: (Target, Damage),
    /// Whether the short form has time for it.
    pub(crate) is_short: bool,
}

struct Worker {
    process: u32,
    child: Child,
    /// Closed when the program ends, which ends the worker.
    stdin: ChildStdin,
    host: HostId,
    url: String,
    probes: bool,
    /// When it was stopped.
    stopped: Option<Nanos>,
}

impl Worker {
    fn signal(&self, signal: Signal) {
        // The process is a child that was not waited for, so the number is still its own.
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    fn command(&mut self, line: &str) {
        // A worker that has ended is detected elsewhere.
        let _ = writeln!(self.stdin, "{line}");
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The processes that a fault affects.
#[derive(Default)]
struct Affected {
    servers: Vec<usize>,
    /// A worker, by the number of its process.
    process: Option<u32>,
}

pub(crate) struct Session<'a> {
    pub(crate) kind: Kind,
    pub(crate) servers: Servers,
    network: &'a Network,
    hosts: &'a Hosts,
    hub: &'a Hub,
    pulse: &'a Pulse,
    socket: PathBuf,
    workers: Vec<Worker>,
    crew: Crew,
    next: &'a mut u32,
    past: Past,
    ttl: Duration,
    /// An engine of this program, which is not affected by cuts between other hosts.
    observer: Option<Arc<dyn Engine>>,
}

/// What bounds are multiplied with, and what is added, before they are a failure. A machine that
/// has other work is late by more than a target.
const GENEROUS: (u32, Duration) = (3, Duration::from_secs(1));

fn generous(bound: Duration) -> Duration {
    bound * GENEROUS.0 + GENEROUS.1
}

impl<'a> Session<'a> {
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn start(
        kind: Kind,
        programs: &Programs,
        network: &'a mut Network,
        hosts: &'a Hosts,
        hub: &'a Hub,
        pulse: &'a Pulse,
        folder: &Path,
        next: &'a mut u32,
        ttl: Duration,
    ) -> Result<Session<'a>, String> {
        let servers = Servers::start(kind, programs, network, &hosts.servers, folder)?;
        hub.state().forget_registers();
        let mut session = Session {
            kind,
            servers,
            network,
            hosts,
            hub,
            pulse,
            socket: folder.join("hub"),
            workers: Vec::new(),
            crew: Crew::SOUND,
            next,
            past: Past::default(),
            ttl,
            observer: None,
        };
        session.observer = Some(session.open()?);
        Ok(session)
    }

    fn open(&self) -> Result<Arc<dyn Engine>, String> {
        let start = Instant::now();
        loop {
            match conformance::open(&self.servers.url(self.network)) {
                Ok(engine) => return Ok(engine),
                Err(error) if start.elapsed() > Duration::from_secs(15) => {
                    return Err(error.to_string());
                }
                Err(_) => thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    /// Repeats a request of this program for some seconds.
    fn ask<T>(
        &self,
        mut request: impl FnMut(&dyn Engine, Instant) -> Result<T, EngineError>,
    ) -> Result<T, String> {
        let engine = self.observer.as_deref().expect("it was opened");
        let start = Instant::now();
        loop {
            match request(engine, Instant::now() + Duration::from_secs(2)) {
                Ok(answer) => return Ok(answer),
                Err(error) if start.elapsed() > Duration::from_secs(20) => {
                    return Err(error.to_string());
                }
                Err(_) => thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// Copies the data of the servers, once they have the tables of the engine.
    pub(crate) fn back_up(&mut self) -> Result<(), String> {
        (0..self.servers.len()).for_each(|at| self.servers.kill(at));
        self.servers.back_up()?;
        self.servers.restart(self.network)?;
        self.servers
            .wait_until_ready(self.network, Duration::from_secs(30))
    }

    /// Replaces all workers.
    pub(crate) fn hire(&mut self, crew: Crew) -> Result<(), String> {
        self.workers.clear();
        self.wait_for_threads(|doing| doing.is_empty(), Duration::from_secs(10));
        let mut state = self.hub.state();
        state.take_history();
        state.is_unfenced = false;
        drop(state);
        self.crew = crew;
        for number in 0..WORKERS {
            let url = match (self.crew.has_two_lists, number < WORKERS / 2) {
                (false, _) => self.servers.url(self.network),
                // The two lists share one node.
                (true, true) => self.servers.url_of(&[0, 1, 2], self.network),
                (true, false) => self.servers.url_of(&[2, 3, 4], self.network),
            };
            let worker = self.start_worker(self.hosts.workers[number], url, false)?;
            self.workers.push(worker);
        }
        if self.crew.client == Client::Leases && self.crew.plant.is_none() {
            let url = self.servers.url(self.network);
            let probe = self.start_worker(self.hosts.probe, url, true)?;
            self.workers.push(probe);
        }
        Ok(())
    }

    fn start_worker(&mut self, host: HostId, url: String, probes: bool) -> Result<Worker, String> {
        *self.next += 1;
        let process = *self.next;
        let program = std::env::current_exe().map_err(text)?;
        let mut command = self.network.command(host, None, "KILL");
        if let Some(plant) = self.crew.plant {
            command.env("LATCHWORK_PLANT", plant);
        }
        let mut child = command
            .arg(program)
            .arg("worker")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .map_err(text)?;
        let mut stdin = child.stdin.take().expect("it is a pipe");
        let job = Job {
            process,
            url: url.clone(),
            client: self.crew.client,
            socket: self.socket.clone(),
            milliseconds: self.ttl.as_millis() as u64,
            probes,
        };
        let job = serde_json::to_string(&job).map_err(text)?;
        writeln!(stdin, "{job}").map_err(text)?;
        Ok(Worker {
            process,
            child,
            stdin,
            host,
            url,
            probes,
            stopped: None,
        })
    }

    /// Waits until a condition of what the threads do is true, and returns whether it was.
    fn wait_for_threads(
        &self,
        condition: impl Fn(&std::collections::BTreeMap<Thread, Doing>) -> bool,
        limit: Duration,
    ) -> bool {
        let start = Instant::now();
        while !condition(&self.hub.state().threads) {
            if start.elapsed() > limit {
                return false;
            }
            thread::sleep(Duration::from_millis(5));
        }
        true
    }

    /// Waits until a name was granted to another process than `not` after a time, and returns when.
    fn wait_for_grant(
        &self,
        name: &str,
        after: Nanos,
        not: Option<u32>,
        limit: Duration,
    ) -> Option<Nanos> {
        let start = Instant::now();
        loop {
            let state = self.hub.state();
            let mut grants = state.grants.iter();
            let grant = grants
                .find(|(other, at, process)| other == name && *at > after && Some(*process) != not);
            if let Some((_, at, _)) = grant {
                return Some(*at);
            }
            drop(state);
            if start.elapsed() > limit {
                return None;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn command_all(&mut self, line: &str) {
        for worker in &mut self.workers {
            worker.command(line);
        }
    }

    /// Lets the workers release their leases, and waits until none of them has or requests one.
    fn pause(&mut self) -> Result<(), String> {
        self.command_all("pause");
        let expected: usize = self
            .workers
            .iter()
            .map(|w| if w.probes { 1 } else { 3 })
            .sum();
        let is_idle = |threads: &std::collections::BTreeMap<Thread, Doing>| {
            threads.len() == expected && threads.values().all(|doing| *doing == Doing::Idle)
        };
        if self.wait_for_threads(is_idle, Duration::from_secs(30)) {
            return Ok(());
        }
        let threads = self.hub.state().threads.clone();
        Err(format!("the workers are not idle: {threads:?}"))
    }

    /// Waits until no name is leased, and returns for how long one was, or the names that are.
    fn wait_until_free(&self, limit: Duration) -> Result<Duration, String> {
        let start = Instant::now();
        loop {
            let held = self.ask(|engine, deadline| engine.list(NAMESPACE, "", deadline))?;
            if held.is_empty() {
                return Ok(start.elapsed());
            }
            if start.elapsed() > limit {
                let held: Vec<String> = held
                    .iter()
                    .map(|(name, holder)| format!("{name} by {}", holder.owner))
                    .collect();
                return Err(held.join(", "));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for a process of which a thread does this, and returns it.
    fn choose(&self, doing: &Doing) -> Option<u32> {
        let start = Instant::now();
        while start.elapsed() < generous(self.ttl) {
            let threads = self.hub.state().threads_that(doing);
            if let Some((process, _)) = threads.first() {
                return Some(*process);
            }
            thread::sleep(Duration::from_millis(2));
        }
        None
    }

    fn worker(&mut self, process: u32) -> Option<&mut Worker> {
        let mut workers = self.workers.iter_mut();
        workers.find(|worker| worker.process == process)
    }

    fn term(&self) -> Option<i64> {
        match self.kind {
            Kind::Etcd => self.servers.term(self.network),
            _ => None,
        }
    }

    /// Chooses what the fault affects.
    fn affected(&self, fault: Fault) -> Result<Affected, String> {
        let count = self.servers.len();
        let first = fastrand::usize(0..count);
        let some = |number: usize| (0..number).map(|at| (first + at) % count).collect();
        let servers = |servers: Vec<usize>| Affected {
            servers,
            process: None,
        };
        let process = |process: Option<u32>| {
            let process = process.ok_or("no worker holds or awaits the name")?;
            Ok(Affected {
                servers: Vec::new(),
                process: Some(process),
            })
        };
        match fault.target {
            Target::Leader => Ok(servers(vec![self.servers.leader(self.network)?])),
            Target::Follower => {
                let leader = self.servers.leader(self.network)?;
                Ok(servers(vec![(leader + 1 + first % (count - 1)) % count]))
            }
            Target::Minority => Ok(servers(some((count - 1) / 2))),
            Target::Majority => Ok(servers(some(count / 2 + 1))),
            Target::AllServers => Ok(servers(some(count))),
            Target::Holder => process(self.choose(&Doing::Holding(LONG.to_owned()))),
            Target::Waiter => process(self.choose(&Doing::Asking(LONG.to_owned()))),
        }
    }

    /// Begins a fault.
    fn inject(&mut self, fault: Fault, affected: &Affected) -> Result<(), String> {
        match fault.damage {
            Damage::Nothing => return Ok(()),
            Damage::RemoveRequest => return self.remove_request(),
            Damage::OtherList => return self.refuse_other_list(),
            Damage::LeaveLease => return self.leave_lease(),
            _ => {}
        }
        for &at in &affected.servers {
            let host = self.servers.host(at);
            match fault.damage {
                Damage::Kill => self.servers.kill(at),
                Damage::Stop => self.servers.signal(at, Signal::STOP),
                Damage::FillDisk => self.servers.fill(at)?,
                Damage::Lock => self.servers.lock()?,
                Damage::ClockAhead => self.servers.move_clock(at, 60)?,
                Damage::ClockBack => self.servers.move_clock(at, -60)?,
                Damage::LoseData => {
                    self.servers.kill(at);
                    self.servers.lose_data(at)?;
                }
                Damage::Rewind => self.servers.kill(at),
                _ => self.cut(fault.damage, host)?,
            }
        }
        match fault.damage {
            Damage::Rewind => self.servers.rewind()?,
            // So that the nodes without data are the majority of each request.
            Damage::LoseData => (0..self.servers.len())
                .filter(|at| !affected.servers.contains(at))
                .for_each(|at| self.servers.signal(at, Signal::STOP)),
            _ => {}
        }
        if fault.loses_data() {
            self.servers.restart(self.network)?;
        }
        let Some(process) = affected.process else {
            return Ok(());
        };
        let Some(worker) = self.worker(process) else {
            return Err(format!("worker {process} has ended"));
        };
        match fault.damage {
            Damage::Kill => worker.signal(Signal::KILL),
            Damage::Stop => {
                worker.stopped = Some(now());
                worker.signal(Signal::STOP);
            }
            damage => {
                let host = worker.host;
                self.cut(damage, host)?;
            }
        }
        Ok(())
    }

    fn cut(&self, damage: Damage, host: HostId) -> Result<(), String> {
        match damage {
            Damage::Unplug => self.network.unplug(host),
            Damage::CutOut => self.network.cut_out(host),
            Damage::CutIn => self.network.cut_in(host),
            // An answer of etcd and of its members is longer.
            Damage::Slow if self.kind == Kind::Etcd => self.network.slow(host, "512kbit"),
            Damage::Slow => self.network.slow(host, "64kbit"),
            damage => Err(format!("{damage:?} is no damage of a link")),
        }
    }

    /// Removes requests of waiters for some time, so that some of them are removed shortly before
    /// their predecessors are released.
    fn remove_request(&self) -> Result<(), String> {
        let prefix = match self.crew.client {
            Client::Leases => format!("latchwork/q/{NAMESPACE}\0{SHORT}\0"),
            Client::LockCall => format!("{}{SHORT}/", lock_call::PREFIX),
        };
        let (start, mut removed) = (Instant::now(), 0);
        let mut error = "there are no two waiters".to_owned();
        let seconds = |number| start.elapsed() < Duration::from_secs(number);
        // During an election, a member answers late.
        while seconds(2) || (removed == 0 && seconds(10)) {
            match self.servers.remove_waiter(prefix.as_bytes(), self.network) {
                Ok(is_removed) => removed += u32::from(is_removed),
                Err(text) => error = text,
            }
            thread::sleep(Duration::from_millis(fastrand::u64(5..25)));
        }
        match removed {
            0 => Err(error),
            _ => Ok(()),
        }
    }

    /// Acquires a lease that no worker releases.
    fn leave_lease(&self) -> Result<(), String> {
        let request = Request {
            key: LEFT,
            nonce: LEFT_NONCE,
            owner: "a control",
            ttl: Duration::from_secs(60),
        };
        let answer = self.ask(|engine, deadline| engine.try_acquire(&request, deadline))?;
        match answer {
            Attempt::Granted(_) => Ok(()),
            busy => Err(format!("{busy:?}")),
        }
    }

    fn refuse_other_list(&mut self) -> Result<(), String> {
        let url = self.servers.url_of(&[0, 1, 2], self.network);
        let mut other = self.start_worker(self.hosts.probe, url, true)?;
        let start = Instant::now();
        loop {
            match other.child.try_wait().map_err(text)? {
                Some(status) if status.code() == Some(REFUSED) => return Ok(()),
                Some(status) => return Err(format!("a client with another list ended: {status}")),
                None if start.elapsed() > Duration::from_secs(10) => {
                    return Err("a client with another list is not refused".to_owned());
                }
                None => thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    /// Ends a fault, and starts what has ended.
    fn heal(&mut self) -> Result<(), String> {
        self.network.heal()?;
        self.servers.unfill();
        self.servers.unlock();
        for at in 0..self.servers.len() {
            self.servers.signal(at, Signal::CONT);
        }
        self.servers.restart(self.network)?;
        for at in 0..self.workers.len() {
            let worker = &mut self.workers[at];
            if let Some(from) = worker.stopped.take() {
                worker.signal(Signal::CONT);
                self.hub.state().record_stop(worker.process, from);
            }
            if worker.child.try_wait().map_err(text)?.is_some() {
                let (host, url, probes) = (worker.host, worker.url.clone(), worker.probes);
                self.workers[at] = self.start_worker(host, url, probes)?;
            }
        }
        Ok(())
    }

    /// Raises the counters to what the resource has accepted, after data was lost.
    fn repair(&mut self) -> Result<(), String> {
        for name in [SHORT, LONG, PROBE] {
            let seen = self.hub.state().seen(name);
            let key = Key {
                namespace: NAMESPACE,
                name,
            };
            let token = FencingToken::new(seen);
            self.ask(|engine, deadline| engine.raise_floor(key, token, deadline))?;
            self.past.reset(name, seen);
        }
        Ok(())
    }

    /// Runs a round, and checks its history.
    pub(crate) fn round(&mut self, fault: Fault) -> Result<Round, String> {
        let mut round = Round::new(self.kind, fault.name(self.kind));
        let start = Instant::now();
        let has_probe = self.workers.iter().any(|worker| worker.probes);

        // Phase 1: all names are leased, so nothing of an earlier round remains.
        let resumed = now();
        self.command_all("resume");
        let names: &[&str] = if has_probe {
            &[SHORT, LONG, PROBE]
        } else {
            &[SHORT, LONG]
        };
        for name in names {
            let limit = generous(self.ttl) + Duration::from_secs(10);
            if self.wait_for_grant(name, resumed, None, limit).is_none() {
                round.broken.push(format!("I7: {name} cannot be leased"));
            }
        }
        thread::sleep(Duration::from_millis(fastrand::u64(200..700)));

        // Phase 2: the fault.
        round.phases.push(start.elapsed().as_secs_f64());
        let term = self.term();
        let affected = self.affected(fault)?;
        let injected = now();
        if let Err(error) = self.inject(fault, &affected) {
            round.broken.push(error);
        }
        // A command for each link precedes the moment from which a holder is cut off.
        let began = if fault.needs_links() { now() } else { injected };
        round.phases.push(start.elapsed().as_secs_f64());
        thread::sleep(fault.duration(self.kind, self.ttl));
        if let Some(limit) = fault.longest_takeover(self.ttl) {
            let process = affected.process;
            let grant = self.wait_for_grant(LONG, injected, process, generous(limit));
            let took = grant.map_or(u64::MAX, |at| at.saturating_sub(began));
            round.takeover = Some(milliseconds(took));
            round.late = milliseconds(self.pulse.longest_since(injected));
            round.bound("I6", "takeover", took, limit, generous(limit));
        }

        // Phase 3: the system recovers.
        round.phases.push(start.elapsed().as_secs_f64());
        self.heal()?;
        let healed = now();
        round.phases.push(start.elapsed().as_secs_f64());
        if has_probe {
            let limit = generous(fault.longest_outage(self.kind));
            self.wait_for_grant(PROBE, healed, None, limit);
        }
        thread::sleep(Duration::from_millis(700));
        let ended = now();
        round.phases.push(start.elapsed().as_secs_f64());
        self.pause()?;
        round.phases.push(start.elapsed().as_secs_f64());

        // Phase 4: nothing remains (I7), and the history satisfies the rules.
        round.late = milliseconds(self.pulse.longest_since(injected));
        let limit = self.ttl + Duration::from_secs(1);
        if has_probe && !fault.loses_data() {
            match self.wait_until_free(generous(limit)) {
                Ok(took) => {
                    round.free_after = milliseconds(nanos(took));
                    round.bound("I7", "free", nanos(took), limit, generous(limit));
                }
                Err(held) => {
                    round.ghosts += 1;
                    round.broken.push(format!("I7: nothing holds {held}"));
                }
            }
        }
        if has_probe {
            // A machine with other work can be too slow for the heartbeats of etcd.
            round.had_election = !fault.is_of_servers() && self.term() != term;
            self.measure_outage(fault, [injected, healed, ended], &mut round);
        }
        self.conclude(Some(fault), &mut round);
        if fault.loses_data() {
            self.continue_after_loss(&mut round)?;
        }
        round.seconds = start.elapsed().as_secs_f64();
        Ok(round)
    }

    /// Raises the counters. After that, all rules hold again.
    fn continue_after_loss(&mut self, round: &mut Round) -> Result<(), String> {
        self.repair()?;
        self.command_all("resume");
        let (began, limit) = (now(), generous(self.ttl) + Duration::from_secs(10));
        for name in [SHORT, LONG, PROBE] {
            if self.wait_for_grant(name, began, None, limit).is_none() {
                round.broken.push(format!("I7: {name} cannot be leased"));
            }
        }
        thread::sleep(Duration::from_millis(700));
        self.pause()?;
        let refused = round.verdict.refused;
        self.conclude(None, round);
        let refused = round.verdict.refused - refused;
        if refused > 0 {
            let text = format!("I2: {refused} writes are refused although the floor was raised");
            round.broken.push(text);
        }
        Ok(())
    }

    /// I5: the longest time without a lease of the probe.
    fn measure_outage(
        &self,
        fault: Fault,
        [injected, healed, until]: [Nanos; 3],
        round: &mut Round,
    ) {
        let state = self.hub.state();
        let longest_after = |since: Nanos| {
            let grants = state.grants.iter();
            let grants =
                grants.filter(|(name, at, _)| name == PROBE && (since..until).contains(at));
            let (mut last, mut longest) = (since, 0);
            for (_, at, _) in grants {
                longest = longest.max(at - last);
                last = *at;
            }
            // An outage that is still open counts.
            longest.max(until - last)
        };
        let afterwards = longest_after(healed);
        let longest = match fault.interrupts(self.kind) {
            true => afterwards,
            false => longest_after(injected),
        };
        drop(state);
        round.afterwards = milliseconds(afterwards);
        let mut limit = fault.longest_outage(self.kind);
        if round.had_election {
            round.over.push("an election without a fault".to_owned());
            limit = Fault::new((Target::Leader, Damage::Stop)).longest_outage(self.kind);
        }
        round.outage = milliseconds(longest);
        round.late = milliseconds(self.pulse.longest_since(injected));
        round.bound("I5", "outage", longest, limit, generous(limit));
        if longest > nanos(limit) {
            // The cause, as far as it is known here.
            let since = if fault.interrupts(self.kind) {
                healed
            } else {
                injected
            };
            let state = self.hub.state();
            let errors = state.unreached.iter().filter(|(at, _)| *at >= since);
            let errors =
                errors.map(|(at, text)| format!("after {} ms {text}", milliseconds(at - since)));
            round.causes = errors.collect();
        }
    }

    /// Checks the history since the last call. Without a fault, all rules hold.
    fn conclude(&mut self, fault: Option<Fault>, round: &mut Round) {
        let mut state = self.hub.state();
        let history = state.take_history();
        round.gave_up += std::mem::take(&mut state.gave_up);
        round.unavailable += std::mem::take(&mut state.unavailable);
        round.unconfirmed += std::mem::take(&mut state.unconfirmed);
        round.broken.append(&mut state.errors);
        drop(state);
        let verdict = history.judge(&mut self.past);
        let loses_data = fault.is_some_and(Fault::loses_data);
        let mut may_overlap = fault.is_some_and(|fault| fault.may_overlap(self.kind));
        // A leader that had no time is a server that was paused.
        let was_paused = round.had_election || fault.is_some_and(Fault::is_of_servers);
        let exclusive = self.observer.as_deref().map(|o| o.guarantees().exclusive);
        if was_paused && exclusive == Some(Exclusive::UnlessHolderOrServerPauses) {
            may_overlap = true;
            if verdict.overlaps > 0 {
                let text = "exclusion: an old leader of etcd ended leases".to_owned();
                round.over.push(text);
            }
        }
        let mut check = |is_broken: bool, text: String| {
            if is_broken {
                round.broken.push(text);
            }
        };
        let v = &verdict;
        check(
            v.stale > 0 && !loses_data,
            format!("I1: {} stale writes", v.stale),
        );
        let regressions = v.regressions + v.repeated;
        check(
            regressions > 0 && !loses_data,
            format!(
                "I2: {} tokens not greater, {} repeated",
                v.regressions, v.repeated
            ),
        );
        check(
            v.shared > 0,
            format!("I2: {} numbers with two holders", v.shared),
        );
        check(
            v.overlaps_inside > 0,
            format!("I3: {} overlaps in a process", v.overlaps_inside),
        );
        check(
            v.overlaps > 0 && !may_overlap,
            format!("exclusion: {} overlaps of processes", v.overlaps),
        );
        check(
            v.held_past_end > 0,
            format!("I4: held {} times after the end", v.held_past_end),
        );
        let limit = Duration::from_millis(50);
        round.bound("I4", "notice", v.longest_notice, limit, generous(limit));
        round.verdict.add(&verdict);
    }

    /// Runs rounds of workers with a bug until its effect is detected, and returns the findings.
    pub(crate) fn control(&mut self, planted: &Planted, rounds: u32) -> Result<Control, String> {
        self.hire(planted.crew.clone())?;
        self.past = Past::default();
        let mut control = Control {
            kind: self.kind,
            name: planted.name.to_owned(),
            rounds: 0,
            is_detected: false,
            ghosts: 0,
            verdict: Verdict::default(),
        };
        while !control.is_detected && control.rounds < rounds {
            self.hub.state().is_unfenced = planted.shown_by == ShownBy::StaleWrites;
            let round = self.round(Fault::new(planted.fault))?;
            control.rounds += 1;
            control.ghosts += round.ghosts;
            control.verdict.add(&round.verdict);
            control.is_detected = match planted.shown_by {
                ShownBy::StaleWrites => control.verdict.stale > 0,
                ShownBy::TwoHolders => control.verdict.overlaps + control.verdict.regressions > 0,
                ShownBy::Ghosts => control.ghosts > 0,
            };
        }
        if planted.shown_by == ShownBy::Ghosts {
            self.ask(|engine, deadline| engine.release(LEFT, LEFT_NONCE, deadline))?;
        }
        Ok(control)
    }
}

/// The lease of a control that is left behind.
const LEFT: Key<'static> = Key {
    namespace: NAMESPACE,
    name: "left",
};
const LEFT_NONCE: Nonce = Nonce::new(1);

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
