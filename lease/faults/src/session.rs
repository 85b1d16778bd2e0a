//! A session: the servers of one engine, the workers, and rounds with one fault each.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use latchwork_lease::conformance;
use latchwork_lease::engine::{Engine, EngineError};
use latchwork_lease::guarantees::Exclusive;

use crate::clock::{Nanos, nanos, now};
use crate::crew::{Crew, WORKERS, Worker};
use crate::damage::{LEFT, LEFT_NONCE};
use crate::fault::{Damage, Fault, Target};
use crate::history::{Past, Verdict};
use crate::hub::Hub;
use crate::message::{LONG, NAMESPACE, PROBE, SHORT};
use crate::network::{HostId, Network};
use crate::programs::Programs;
use crate::pulse::Pulse;
use crate::record::{Control, Round, milliseconds};
use crate::servers::{Kind, Servers};

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

/// What the sessions of a campaign share.
pub(crate) struct Site {
    pub(crate) programs: Programs,
    pub(crate) network: Network,
    pub(crate) hosts: Hosts,
    pub(crate) hub: Hub,
    pub(crate) pulse: Pulse,
    /// The folder with the data of the servers and the socket of the hub.
    pub(crate) folder: PathBuf,
    /// The number of the last worker process.
    pub(crate) last: u32,
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

pub(crate) struct Session<'a> {
    pub(crate) kind: Kind,
    pub(crate) servers: Servers,
    pub(crate) site: &'a mut Site,
    pub(crate) workers: Vec<Worker>,
    pub(crate) crew: Crew,
    pub(crate) past: Past,
    pub(crate) ttl: Duration,
    /// An engine of this program, which is not affected by cuts between other hosts.
    observer: Option<Arc<dyn Engine>>,
}

/// What bounds are multiplied with, and what is added, before they are a failure. A machine that
/// has other work is late by more than a target.
const GENEROUS: (u32, Duration) = (3, Duration::from_secs(1));

pub(crate) fn generous(bound: Duration) -> Duration {
    bound * GENEROUS.0 + GENEROUS.1
}

impl<'a> Session<'a> {
    pub(crate) fn start(
        kind: Kind,
        site: &'a mut Site,
        ttl: Duration,
    ) -> Result<Session<'a>, String> {
        let servers = Servers::start(
            kind,
            &site.programs,
            &mut site.network,
            &site.hosts.servers,
            &site.folder,
        )?;
        site.hub.state().forget_registers();
        let mut session = Session {
            kind,
            servers,
            site,
            workers: Vec::new(),
            crew: Crew::SOUND,
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
            match conformance::open(&self.servers.url(&self.site.network)) {
                Ok(engine) => return Ok(engine),
                Err(error) if start.elapsed() > Duration::from_secs(15) => {
                    return Err(error.to_string());
                }
                Err(_) => thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    /// Repeats a request of this program for some seconds.
    pub(crate) fn ask<T>(
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
        self.servers.restart(&self.site.network)?;
        self.servers
            .wait_until_ready(&self.site.network, Duration::from_secs(30))
    }

    /// Waits until a name was granted to another process than `not` after a time, and returns when.
    pub(crate) fn wait_for_grant(
        &self,
        name: &str,
        after: Nanos,
        not: Option<u32>,
        limit: Duration,
    ) -> Option<Nanos> {
        let start = Instant::now();
        loop {
            let state = self.site.hub.state();
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

    fn term(&self) -> Option<i64> {
        match self.kind {
            Kind::Etcd => self.servers.term(&self.site.network),
            _ => None,
        }
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
            round.late = milliseconds(self.site.pulse.longest_since(injected));
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
        round.late = milliseconds(self.site.pulse.longest_since(injected));
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
        let state = self.site.hub.state();
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
        round.late = milliseconds(self.site.pulse.longest_since(injected));
        round.bound("I5", "outage", longest, limit, generous(limit));
        if longest > nanos(limit) {
            // The cause, as far as it is known here.
            let since = if fault.interrupts(self.kind) {
                healed
            } else {
                injected
            };
            let state = self.site.hub.state();
            let errors = state.unreached.iter().filter(|(at, _)| *at >= since);
            let errors =
                errors.map(|(at, text)| format!("after {} ms {text}", milliseconds(at - since)));
            round.causes = errors.collect();
        }
    }

    /// Checks the history since the last call. Without a fault, all rules hold.
    fn conclude(&mut self, fault: Option<Fault>, round: &mut Round) {
        let mut state = self.site.hub.state();
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
            self.site.hub.state().is_unfenced = planted.shown_by == ShownBy::StaleWrites;
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

pub(crate) fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
