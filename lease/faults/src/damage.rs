//! How a session damages its servers, links and workers, and repairs them.

use std::thread;
use std::time::{Duration, Instant};

use latchwork::table::FencingToken;
use latchwork_lease::engine::{Attempt, Key, Nonce, Request};
use rustix::process::Signal;

use crate::clock::now;
use crate::fault::{Damage, Fault, Target};
use crate::hub::Doing;
use crate::lock_call;
use crate::message::{Client, LONG, NAMESPACE, PROBE, SHORT};
use crate::network::HostId;
use crate::servers::Kind;
use crate::session::{Session, text};
use crate::worker::REFUSED;

/// The processes that a fault affects.
#[derive(Default)]
pub(crate) struct Affected {
    pub(crate) servers: Vec<usize>,
    /// A worker, by the number of its process.
    pub(crate) process: Option<u32>,
}

/// The lease of a control that is left behind.
pub(crate) const LEFT: Key<'static> = Key {
    namespace: NAMESPACE,
    name: "left",
};
pub(crate) const LEFT_NONCE: Nonce = Nonce::new(1);

impl Session<'_> {
    /// Chooses what the fault affects.
    pub(crate) fn affected(&self, fault: Fault) -> Result<Affected, String> {
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
            Target::Leader => Ok(servers(vec![self.servers.leader(&self.site.network)?])),
            Target::Follower => {
                let leader = self.servers.leader(&self.site.network)?;
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
    pub(crate) fn inject(&mut self, fault: Fault, affected: &Affected) -> Result<(), String> {
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
            self.servers.restart(&self.site.network)?;
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
            Damage::Unplug => self.site.network.unplug(host),
            Damage::CutOut => self.site.network.cut_out(host),
            Damage::CutIn => self.site.network.cut_in(host),
            // An answer of etcd and of its members is longer.
            Damage::Slow if self.kind == Kind::Etcd => self.site.network.slow(host, "512kbit"),
            Damage::Slow => self.site.network.slow(host, "64kbit"),
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
            match self
                .servers
                .remove_waiter(prefix.as_bytes(), &self.site.network)
            {
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
        let url = self.servers.url_of(&[0, 1, 2], &self.site.network);
        let mut other = self.start_worker(self.site.hosts.probe, url, true)?;
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
    pub(crate) fn heal(&mut self) -> Result<(), String> {
        self.site.network.heal()?;
        self.servers.unfill();
        self.servers.unlock();
        for at in 0..self.servers.len() {
            self.servers.signal(at, Signal::CONT);
        }
        self.servers.restart(&self.site.network)?;
        for at in 0..self.workers.len() {
            let worker = &mut self.workers[at];
            if let Some(from) = worker.stopped.take() {
                worker.signal(Signal::CONT);
                self.site.hub.state().record_stop(worker.process, from);
            }
            if worker.child.try_wait().map_err(text)?.is_some() {
                let (host, url, probes) = (worker.host, worker.url.clone(), worker.probes);
                self.workers[at] = self.start_worker(host, url, probes)?;
            }
        }
        Ok(())
    }

    /// Raises the counters to what the resource has accepted, after data was lost.
    pub(crate) fn repair(&mut self) -> Result<(), String> {
        for name in [SHORT, LONG, PROBE] {
            let seen = self.site.hub.state().seen(name);
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
}
