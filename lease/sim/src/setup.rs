//! The conditions of one simulation.

use crate::links::{REGIONS, Time, seconds};
use crate::server::Conduct;

/// A kind of engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// One server, as PostgreSQL. Waiters are notified together.
    Central,
    /// A consensus group, as etcd. Waiters are granted in the order of their asks.
    Consensus,
    /// Independent nodes, as Redis: at most five for each name, chosen by rendezvous hashing.
    Quorum,
}

impl Engine {
    /// The three kinds.
    pub const ALL: [Engine; 3] = [Engine::Central, Engine::Consensus, Engine::Quorum];

    /// Its name in a report.
    pub fn title(self) -> &'static str {
        match self {
            Engine::Central => "central",
            Engine::Consensus => "consensus",
            Engine::Quorum => "quorum",
        }
    }
}

/// Failures by rate, and their lengths in seconds. Lengths are exponentially distributed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Failures {
    /// Crashes of a client in an hour. It restarts after the time.
    pub client_crashes: f64,
    /// The mean time until a crashed client restarts.
    pub restart: f64,
    /// Pauses of a client in an hour: the process stops, and its writes are not checked again.
    pub pauses: f64,
    /// The mean length of a pause.
    pub pause: f64,
    /// Cuts of one client from all servers in an hour.
    pub client_cuts: f64,
    /// Crashes of a server's machine in an hour. Its data remain.
    pub server_crashes: f64,
    /// The mean time until a crashed machine restarts.
    pub repair: f64,
    /// Cuts between two regions in an hour.
    pub region_cuts: f64,
    /// The mean length of a cut.
    pub cut: f64,
}

/// Service and sync times of the servers, in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Costs {
    /// One request to a central server, and its sync.
    pub central: (f64, f64),
    /// One request to the leader of a consensus group, and the sync of a member.
    pub consensus: (f64, f64),
    /// One request to a node of a quorum, and its sync.
    pub quorum: (f64, f64),
}

impl Default for Costs {
    /// The syncs reproduce the times for an acquisition and release that were measured on one
    /// machine with one client. The service times are assumptions: the reciprocal of a rate.
    fn default() -> Self {
        Costs {
            central: (100.0, 200.0),
            consensus: (100.0, 1100.0),
            quorum: (50.0, 300.0),
        }
    }
}

/// The conditions of one simulation.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// The kind of the engine.
    pub engine: Engine,
    /// Independent groups, over which names are sharded. A quorum has one.
    pub groups: usize,
    /// The members of a consensus group, or the nodes of a quorum.
    pub nodes: usize,
    /// The regions over which clients and servers are spread.
    pub regions: usize,
    /// The number of clients. Each is a process.
    pub clients: usize,
    /// The number of names that clients share, or `None` if each has a name of its own.
    pub names: Option<usize>,
    /// The length of a lease in seconds.
    pub ttl: f64,
    /// The mean time between two acquisitions of a client in seconds.
    pub think: f64,
    /// The mean time for which a lease is held in seconds.
    pub hold: f64,
    /// The mean time between two writes of a holder in seconds.
    pub write_every: f64,
    /// Failures by rate.
    pub failures: Failures,
    /// The costs of servers.
    pub costs: Costs,
    /// Whether the resource checks fences. A control does not.
    pub has_fence: bool,
    /// The part at the beginning that is not measured, in seconds.
    pub warm_up: f64,
    /// The measured part in seconds.
    pub length: f64,
    /// The seed of all random choices.
    pub seed: u64,
}

impl Default for Setup {
    fn default() -> Self {
        Setup {
            engine: Engine::Central,
            groups: 1,
            nodes: 5,
            regions: 1,
            clients: 100,
            names: None,
            ttl: 10.0,
            think: 9.0,
            hold: 1.0,
            write_every: 1.0,
            failures: Failures::default(),
            costs: Costs::default(),
            has_fence: true,
            warm_up: 10.0,
            length: 20.0,
            seed: 1,
        }
    }
}

impl Setup {
    /// Checks the ranges.
    pub fn check(&self) -> Result<(), String> {
        let range = |what: &str, value: usize, least: usize, most: usize| {
            if (least..=most).contains(&value) {
                return Ok(());
            }
            Err(format!("{what} must be {least} to {most}, not {value}"))
        };
        range("the number of clients", self.clients, 1, 1_000_000)?;
        range("the number of regions", self.regions, 1, REGIONS.len())?;
        range("the number of groups", self.groups, 1, 1000)?;
        if self.engine == Engine::Quorum {
            range("the number of groups of a quorum", self.groups, 1, 1)?;
        }
        if self.engine != Engine::Central {
            range("the number of nodes", self.nodes, 1, 25)?;
        }
        range(
            "the number of names",
            self.names.unwrap_or(1),
            1,
            usize::MAX >> 32,
        )?;
        if !(self.ttl >= 0.1 && self.ttl <= 86_400.0) {
            return Err("the length of a lease must be 0.1 s to a day".to_owned());
        }
        Ok(())
    }

    /// The facts of the servers.
    pub(crate) fn conduct(&self) -> Conduct {
        let (service, sync) = match self.engine {
            Engine::Central => self.costs.central,
            Engine::Consensus => self.costs.consensus,
            Engine::Quorum => self.costs.quorum,
        };
        Conduct {
            service: micros(service),
            sync: micros(sync),
            is_fair: self.engine == Engine::Consensus,
            reacquires: self.engine == Engine::Quorum,
        }
    }
}

fn micros(micros: f64) -> Time {
    seconds(micros / 1e6)
}
