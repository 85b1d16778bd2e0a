//! The servers of one engine, each on a host of its own and with a disk of its own.

use std::fs::{self, File};
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::gateway::{self, agent, post};
use crate::network::{HostId, Network, run};
use crate::programs::Programs;

/// The engine of a session.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Etcd,
    Quorum,
    Postgres,
    /// A file, which has no server.
    Sqlite,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Etcd => "etcd",
            Kind::Quorum => "quorum",
            Kind::Postgres => "postgres",
            Kind::Sqlite => "sqlite",
        }
    }

    fn count(self) -> usize {
        match self {
            Kind::Etcd => 3,
            Kind::Quorum => 5,
            Kind::Postgres | Kind::Sqlite => 1,
        }
    }

    /// The size of a disk, in MiB.
    fn disk(self) -> u32 {
        match self {
            // Two segments of the log, of 64 MiB each.
            Kind::Etcd => 320,
            Kind::Quorum | Kind::Sqlite => 64,
            Kind::Postgres => 200,
        }
    }
}

/// One server, which may have ended.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) host: HostId,
    pub(crate) folder: PathBuf,
    pub(crate) ports: [u16; 2],
    pub(crate) process: Option<Child>,
    /// The difference of its clock, in seconds.
    pub(crate) offset: i64,
}

/// All servers of one engine. They end with this value.
#[derive(Debug)]
pub(crate) struct Servers {
    pub(crate) kind: Kind,
    pub(crate) servers: Vec<Server>,
    pub(crate) programs: Programs,
    pub(crate) folder: PathBuf,
    /// Whether each server has a disk of its own, which can be full.
    pub(crate) has_disks: bool,
    /// Whether the clock of each server can be moved.
    pub(crate) has_clocks: bool,
    /// Has the lock for writers of the file.
    writer: Option<Connection>,
}

/// The user of PostgreSQL, which does not run as root.
pub(crate) const POSTGRES: &str = "postgres";

impl Servers {
    /// Starts servers with empty disks.
    pub(crate) fn start(
        kind: Kind,
        programs: &Programs,
        network: &mut Network,
        hosts: &[HostId],
        folder: &Path,
    ) -> Result<Servers, String> {
        let folder = folder.join(kind.name());
        fs::create_dir_all(&folder).map_err(text)?;
        let mut servers = Servers {
            kind,
            servers: Vec::new(),
            programs: programs.clone(),
            folder,
            has_disks: network.has_links(),
            has_clocks: false,
            writer: None,
        };
        for (number, &host) in hosts.iter().take(kind.count()).enumerate() {
            let folder = servers.folder.join(format!("disk{number}"));
            fs::create_dir_all(&folder).map_err(text)?;
            // The program has its own namespace of mounts, which ends with it.
            servers.has_disks = servers.has_disks && mount(&folder, kind.disk()).is_ok();
            servers.servers.push(Server {
                host,
                folder,
                ports: free_ports(network.has_links(), kind)?,
                process: None,
                offset: 0,
            });
            servers.move_clock(number, 0)?;
        }
        if kind == Kind::Postgres {
            servers.init_postgres()?;
        }
        servers.has_clocks = servers.clock_works(network);
        for at in 0..servers.len() {
            servers.spawn(at, network)?;
        }
        servers.wait_until_ready(network, Duration::from_secs(30))?;
        Ok(servers)
    }

    pub(crate) fn len(&self) -> usize {
        self.servers.len()
    }

    pub(crate) fn host(&self, at: usize) -> HostId {
        self.servers[at].host
    }

    pub(crate) fn place(&self, at: usize, network: &Network) -> String {
        let server = &self.servers[at];
        format!("{}:{}", network.host(server.host).address, server.ports[0])
    }

    /// Returns the URL of the engine with some of the servers.
    pub(crate) fn url_of(&self, servers: &[usize], network: &Network) -> String {
        let places = servers.iter().map(|at| self.place(*at, network));
        let places: Vec<String> = match self.kind {
            Kind::Quorum => places.map(|place| format!("redis://{place}")).collect(),
            _ => places.collect(),
        };
        let places = places.join(",");
        match self.kind {
            Kind::Etcd => format!("etcd://{places}"),
            Kind::Quorum => format!("quorum:{places}"),
            Kind::Postgres => format!("postgres://{POSTGRES}@{places}/postgres"),
            Kind::Sqlite => format!("sqlite:{}", self.database().display()),
        }
    }

    pub(crate) fn url(&self, network: &Network) -> String {
        let all: Vec<usize> = (0..self.len()).collect();
        self.url_of(&all, network)
    }

    /// The file of the engine that has no server.
    fn database(&self) -> PathBuf {
        self.servers[0].folder.join("leases.db")
    }

    /// Acquires the lock for writers, as a process that stops in a transaction.
    pub(crate) fn lock(&mut self) -> Result<(), String> {
        let writer = Connection::open(self.database()).map_err(text)?;
        let limit = Duration::from_secs(5);
        writer.busy_timeout(limit).map_err(text)?;
        writer.execute_batch("BEGIN IMMEDIATE").map_err(text)?;
        self.writer = Some(writer);
        Ok(())
    }

    /// Releases the lock for writers.
    pub(crate) fn unlock(&mut self) {
        self.writer = None;
    }

    pub(crate) fn clock_file(&self, at: usize) -> PathBuf {
        self.folder.join(format!("clock{at}"))
    }

    pub(crate) fn wait_for(
        &mut self,
        at: usize,
        network: &Network,
        limit: Duration,
    ) -> Result<(), String> {
        let start = Instant::now();
        while !self.is_ready(at, network) {
            let has_ended = !self.is_running(at);
            if has_ended || start.elapsed() > limit {
                let log = fs::read(self.folder.join(format!("log{at}"))).unwrap_or_default();
                let log = String::from_utf8_lossy(&log);
                let end: Vec<&str> = log.lines().rev().take(5).collect();
                let kind = self.kind.name();
                return Err(format!("{kind}: server {at} does not answer: {end:?}"));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    pub(crate) fn wait_until_ready(
        &mut self,
        network: &Network,
        limit: Duration,
    ) -> Result<(), String> {
        (0..self.len()).try_for_each(|at| self.wait_for(at, network, limit))
    }

    pub(crate) fn is_running(&mut self, at: usize) -> bool {
        if self.kind == Kind::Sqlite {
            return true;
        }
        let process = self.servers[at].process.as_mut();
        process.is_some_and(|process| matches!(process.try_wait(), Ok(None)))
    }

    /// Starts each server that does not run.
    pub(crate) fn restart(&mut self, network: &Network) -> Result<(), String> {
        for at in 0..self.len() {
            if !self.is_running(at) {
                self.kill(at);
                self.spawn(at, network)?;
            }
        }
        Ok(())
    }

    /// Sends a signal to all processes of a server.
    pub(crate) fn signal(&self, at: usize, signal: Signal) {
        let Some(process) = &self.servers[at].process else {
            return;
        };
        send(&children(process.id()), signal);
        send(&[process.id()], signal);
    }

    /// Ends a server as a crash does, and waits until all of its processes have ended.
    pub(crate) fn kill(&mut self, at: usize) {
        let Some(mut process) = self.servers[at].process.take() else {
            return;
        };
        let others = children(process.id());
        // The process first, because one of the others may answer it for its clock.
        send(&[process.id()], Signal::KILL);
        send(&others, Signal::KILL);
        let _ = process.wait();
        // A server does not start while a process of the previous one uses its memory.
        let start = Instant::now();
        while others.iter().any(|id| is_alive(*id)) && start.elapsed() < Duration::from_secs(10) {
            thread::sleep(Duration::from_millis(5));
        }
        if self.kind == Kind::Postgres {
            let _ = fs::remove_file(self.servers[at].folder.join("data/postmaster.pid"));
        }
    }

    /// Removes the data of a server that has ended.
    pub(crate) fn lose_data(&self, at: usize) -> Result<(), String> {
        let folder = &self.servers[at].folder;
        for entry in fs::read_dir(folder).map_err(text)?.flatten() {
            let path = entry.path();
            let removed = match path.is_dir() {
                true => fs::remove_dir_all(&path),
                false => fs::remove_file(&path),
            };
            removed.map_err(text)?;
        }
        Ok(())
    }

    fn backup(&self, at: usize) -> PathBuf {
        self.folder.join(format!("backup{at}"))
    }

    /// Copies the data of all servers, which must have ended.
    pub(crate) fn back_up(&self) -> Result<(), String> {
        for (at, server) in self.servers.iter().enumerate() {
            let _ = fs::remove_dir_all(self.backup(at));
            copy(&server.folder, &self.backup(at))?;
        }
        Ok(())
    }

    /// Replaces the data of all servers, which must have ended, by the copy.
    pub(crate) fn rewind(&self) -> Result<(), String> {
        for (at, server) in self.servers.iter().enumerate() {
            self.lose_data(at)?;
            copy(&self.backup(at).join("."), &server.folder)?;
        }
        Ok(())
    }

    /// Fills the disk of a server.
    pub(crate) fn fill(&self, at: usize) -> Result<(), String> {
        let mut file = File::create(self.servers[at].folder.join("filler")).map_err(text)?;
        let block = vec![0_u8; 1 << 16];
        while file.write_all(&block).is_ok() {}
        // What remains is less than a block.
        while file.write_all(&[0]).is_ok() {}
        if self.kind == Kind::Postgres {
            self.need_disk();
        }
        Ok(())
    }

    /// Makes PostgreSQL begin segments of its log, beyond those that exist.
    fn need_disk(&self) {
        let server = &self.servers[0];
        let programs = self.programs.postgres.clone().unwrap_or_default();
        let psql = programs.join("psql").display().to_string();
        let (folder, port) = (
            server.folder.display().to_string(),
            server.ports[0].to_string(),
        );
        for _ in 0..20 {
            let statement = "SELECT pg_logical_emit_message(false, '', ''); SELECT pg_switch_wal()";
            // The server ends when the disk is full.
            let connect = [psql.as_str(), "-X", "-q", "-h", &folder, "-p", &port];
            if run(&[&connect[..], &["-U", POSTGRES, "-c", statement]].concat()).is_err() {
                return;
            }
        }
    }

    pub(crate) fn unfill(&self) {
        for server in &self.servers {
            let _ = fs::remove_file(server.folder.join("filler"));
        }
    }

    /// Moves the clock of a server by some seconds more.
    pub(crate) fn move_clock(&mut self, at: usize, seconds: i64) -> Result<(), String> {
        self.servers[at].offset += seconds;
        let (offset, file) = (self.servers[at].offset, self.clock_file(at));
        // The server reads the file at each call, so it must never be empty.
        let part = file.with_extension("new");
        fs::write(&part, format!("{offset:+}\n")).map_err(text)?;
        fs::rename(part, file).map_err(text)
    }

    /// Returns the leader of etcd.
    pub(crate) fn leader(&self, network: &Network) -> Result<usize, String> {
        let agent = agent(Duration::from_millis(500));
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(15) {
            for at in 0..self.len() {
                let place = self.place(at, network);
                let status = post(&agent, &place, "/v3/maintenance/status", &json!({}));
                let status = status.unwrap_or_default();
                let leader = &status["leader"];
                if leader.is_string() && *leader == status["header"]["member_id"] {
                    return Ok(at);
                }
            }
            thread::sleep(Duration::from_millis(50));
        }
        Err("etcd: there is no leader".to_owned())
    }

    /// Returns the term of etcd, which grows with each election.
    pub(crate) fn term(&self, network: &Network) -> Option<i64> {
        let agent = agent(Duration::from_millis(500));
        (0..self.len()).find_map(|at| {
            let place = self.place(at, network);
            let status = post(&agent, &place, "/v3/maintenance/status", &json!({})).ok()?;
            Some(gateway::number(&status["raftTerm"])).filter(|term| *term > 0)
        })
    }

    /// Removes the key of the second request in a queue of etcd, which is that of a waiter. Returns
    /// whether there was one.
    pub(crate) fn remove_waiter(&self, prefix: &[u8], network: &Network) -> Result<bool, String> {
        let (agent, place) = (agent(Duration::from_secs(2)), self.place(0, network));
        let keys = gateway::queue(&agent, &place, prefix)?;
        // Of at least three, so that another waiter is granted behind it.
        let [first, second, _, ..] = keys.as_slice() else {
            return Ok(false);
        };
        // While its predecessor exists, the second request is that of a waiter.
        let body = json!({
            "compare": [{
                "key": first, "target": "CREATE", "result": "GREATER", "create_revision": "0",
            }],
            "success": [{ "request_delete_range": { "key": second } }],
        });
        let answer = post(&agent, &place, "/v3/kv/txn", &body)?;
        Ok(answer["succeeded"] == true)
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.unlock();
        for at in 0..self.len() {
            self.kill(at);
        }
        for server in &self.servers {
            if self.has_disks {
                let _ = run(&["umount", "-l", &server.folder.display().to_string()]);
            }
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn mount(folder: &Path, mebibytes: u32) -> Result<(), String> {
    let (size, folder) = (format!("size={mebibytes}m"), folder.display().to_string());
    run(&["mount", "-t", "tmpfs", "-o", &size, "none", &folder])
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    run(&[
        "cp",
        "-a",
        &from.display().to_string(),
        &to.display().to_string(),
    ])
}

pub(crate) fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn free_ports(has_links: bool, kind: Kind) -> Result<[u16; 2], String> {
    if has_links {
        return Ok(match kind {
            Kind::Etcd => [2379, 2380],
            Kind::Quorum => [6379, 0],
            Kind::Postgres => [5432, 0],
            Kind::Sqlite => [0, 0],
        });
    }
    let bind = || TcpListener::bind("127.0.0.1:0").map_err(text);
    let bound = [bind()?, bind()?];
    let port = |listener: &TcpListener| listener.local_addr().map_err(text);
    Ok([port(&bound[0])?.port(), port(&bound[1])?.port()])
}

fn send(processes: &[u32], signal: Signal) {
    for id in processes {
        if let Some(id) = Pid::from_raw(*id as i32) {
            // A process that has ended is no failure.
            let _ = kill_process(id, signal);
        }
    }
}

/// Whether a process runs. One that waits to be reaped does not.
fn is_alive(id: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    status
        .lines()
        .any(|line| line.starts_with("State:") && !line.contains('Z'))
}

fn children(parent: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
    let text = text.unwrap_or_default();
    text.split_whitespace()
        .filter_map(|id| id.parse().ok())
        .collect()
}
