//! The worker processes of a session.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Child, ChildStdin, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::clock::Nanos;
use crate::hub::{Doing, Thread};
use crate::message::{Client, Job};
use crate::network::HostId;
use crate::session::{Session, generous, text};

/// The number of worker processes that compete for names.
pub(crate) const WORKERS: usize = 4;

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

/// A worker process.
pub(crate) struct Worker {
    pub(crate) process: u32,
    pub(crate) child: Child,
    /// Closed when the program ends, which ends the worker.
    pub(crate) stdin: ChildStdin,
    pub(crate) host: HostId,
    pub(crate) url: String,
    pub(crate) probes: bool,
    /// When it was stopped.
    pub(crate) stopped: Option<Nanos>,
}

impl Worker {
    pub(crate) fn signal(&self, signal: Signal) {
        // The process is a child that was not waited for, so the number is still its own.
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    pub(crate) fn command(&mut self, line: &str) {
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

impl Session<'_> {
    /// Replaces all workers.
    pub(crate) fn hire(&mut self, crew: Crew) -> Result<(), String> {
        self.workers.clear();
        self.wait_for_threads(|doing| doing.is_empty(), Duration::from_secs(10));
        let mut state = self.site.hub.state();
        state.take_history();
        state.is_unfenced = false;
        drop(state);
        self.crew = crew;
        for number in 0..WORKERS {
            let url = match (self.crew.has_two_lists, number < WORKERS / 2) {
                (false, _) => self.servers.url(&self.site.network),
                // The two lists share one node.
                (true, true) => self.servers.url_of(&[0, 1, 2], &self.site.network),
                (true, false) => self.servers.url_of(&[2, 3, 4], &self.site.network),
            };
            let worker = self.start_worker(self.site.hosts.workers[number], url, false)?;
            self.workers.push(worker);
        }
        if self.crew.client == Client::Leases && self.crew.plant.is_none() {
            let url = self.servers.url(&self.site.network);
            let probe = self.start_worker(self.site.hosts.probe, url, true)?;
            self.workers.push(probe);
        }
        Ok(())
    }

    pub(crate) fn start_worker(
        &mut self,
        host: HostId,
        url: String,
        probes: bool,
    ) -> Result<Worker, String> {
        self.site.last += 1;
        let process = self.site.last;
        let program = std::env::current_exe().map_err(text)?;
        let mut command = self.site.network.command(host, None, "KILL");
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
            socket: self.site.folder.join("hub"),
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
    pub(crate) fn wait_for_threads(
        &self,
        condition: impl Fn(&BTreeMap<Thread, Doing>) -> bool,
        limit: Duration,
    ) -> bool {
        let start = Instant::now();
        while !condition(&self.site.hub.state().threads) {
            if start.elapsed() > limit {
                return false;
            }
            thread::sleep(Duration::from_millis(5));
        }
        true
    }

    pub(crate) fn command_all(&mut self, line: &str) {
        for worker in &mut self.workers {
            worker.command(line);
        }
    }

    /// Lets the workers release their leases, and waits until none of them has or requests one.
    pub(crate) fn pause(&mut self) -> Result<(), String> {
        self.command_all("pause");
        let expected: usize = self
            .workers
            .iter()
            .map(|w| if w.probes { 1 } else { 3 })
            .sum();
        let is_idle = |threads: &BTreeMap<Thread, Doing>| {
            threads.len() == expected && threads.values().all(|doing| *doing == Doing::Idle)
        };
        if self.wait_for_threads(is_idle, Duration::from_secs(30)) {
            return Ok(());
        }
        let threads = self.site.hub.state().threads.clone();
        Err(format!("the workers are not idle: {threads:?}"))
    }

    /// Waits for a process of which a thread does this, and returns it.
    pub(crate) fn choose(&self, doing: &Doing) -> Option<u32> {
        let start = Instant::now();
        while start.elapsed() < generous(self.ttl) {
            let threads = self.site.hub.state().threads_that(doing);
            if let Some((process, _)) = threads.first() {
                return Some(*process);
            }
            thread::sleep(Duration::from_millis(2));
        }
        None
    }

    pub(crate) fn worker(&mut self, process: u32) -> Option<&mut Worker> {
        let mut workers = self.workers.iter_mut();
        workers.find(|worker| worker.process == process)
    }
}
