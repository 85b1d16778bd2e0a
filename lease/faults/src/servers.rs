//! The servers of one engine, each on a host of its own and with a disk of its own.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::gateway::{self, agent, post};
use crate::network::{HostId, Network, run};

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

/// The programs of the servers.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    pub(crate) redis: String,
    postgres: Option<PathBuf>,
    /// The library that changes the time that a server reads.
    pub(crate) clock: Option<PathBuf>,
    /// The program `ci/lease_clock`, which does so for etcd.
    pub(crate) lease_clock: Option<PathBuf>,
}

impl Programs {
    pub(crate) fn find() -> Programs {
        let mut postgres: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path().join("bin"))
            .filter(|path| path.join("initdb").exists())
            .collect();
        postgres.sort();
        let clock = [
            "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
            "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
        ];
        Programs {
            redis: std::env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned()),
            postgres: postgres.pop(),
            clock: clock
                .map(PathBuf::from)
                .into_iter()
                .find(|path| path.exists()),
            lease_clock: std::env::var_os("LEASE_CLOCK").map(PathBuf::from),
        }
    }

    /// Returns whether the clock of a server of this kind might be moved.
    fn may_move_clock(&self, kind: Kind) -> bool {
        match kind {
            Kind::Etcd => self.lease_clock.is_some() && is_root(),
            // No process may use the date.
            Kind::Sqlite => false,
            _ => self.clock.is_some(),
        }
    }

    /// Returns the program that is missing for an engine.
    pub(crate) fn missing(&self, kind: Kind) -> Option<&str> {
        let runs = |program: &str| {
            let version = Command::new(program)
                .arg("--version")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            version.is_ok_and(|status| status.success())
        };
        match kind {
            Kind::Etcd => (!runs("etcd")).then_some("etcd"),
            Kind::Quorum => (!runs(&self.redis)).then_some(&self.redis),
            Kind::Postgres => self.postgres.is_none().then_some("PostgreSQL"),
            Kind::Sqlite => None,
        }
    }
}

#[derive(Debug)]
struct Server {
    host: HostId,
    folder: PathBuf,
    ports: [u16; 2],
    process: Option<Child>,
    /// The difference of its clock, in seconds.
    offset: i64,
}

/// All servers of one engine. They end with this value.
#[derive(Debug)]
pub(crate) struct Servers {
    pub(crate) kind: Kind,
    servers: Vec<Server>,
    programs: Programs,
    folder: PathBuf,
    /// Whether each server has a disk of its own, which can be full.
    pub(crate) has_disks: bool,
    /// Whether the clock of each server can be moved.
    pub(crate) has_clocks: bool,
    /// Has the lock for writers of the file.
    writer: Option<Connection>,
}

/// The user of PostgreSQL, which does not run as root.
const POSTGRES: &str = "postgres";

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

    fn place(&self, at: usize, network: &Network) -> String {
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

    fn clock_file(&self, at: usize) -> PathBuf {
        self.folder.join(format!("clock{at}"))
    }

    fn init_postgres(&self) -> Result<(), String> {
        let folder = &self.servers[0].folder;
        let path = folder.display().to_string();
        let programs = self.programs.postgres.clone().unwrap_or_default();
        if is_root() {
            run(&["chown", POSTGRES, &path])?;
        }
        let data = folder.join("data").display().to_string();
        let initdb = programs.join("initdb").display().to_string();
        let mut words = Vec::new();
        if is_root() {
            words.extend([
                "setpriv",
                "--reuid",
                POSTGRES,
                "--regid",
                POSTGRES,
                "--init-groups",
            ]);
        }
        words.extend([initdb.as_str(), "-D", &data, "-A", "trust", "-U", POSTGRES]);
        // Small segments, so that a full disk is detected soon.
        words.extend(["--no-sync", "-E", "UTF8", "--locale=C", "--wal-segsize=1"]);
        run(&words)
    }

    /// Starts the process of a server.
    fn spawn(&mut self, at: usize, network: &Network) -> Result<(), String> {
        if self.kind == Kind::Sqlite {
            return Ok(());
        }
        let server = &self.servers[at];
        let address = network.host(server.host).address.clone();
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.join(format!("log{at}")))
            .map_err(text)?;
        let user = (self.kind == Kind::Postgres && is_root()).then_some(POSTGRES);
        let signal = if self.kind == Kind::Postgres {
            "QUIT"
        } else {
            "KILL"
        };
        let mut command = network.command(server.host, user, signal);
        let library = self.programs.clock.as_ref();
        let library = library.filter(|_| self.has_clocks && self.kind != Kind::Etcd);
        if let Some(library) = library {
            command.arg("env");
            command.arg(format!("LD_PRELOAD={}", library.display()));
            let file = self.clock_file(at);
            command.arg(format!("FAKETIME_TIMESTAMP_FILE={}", file.display()));
            command.args(["FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1"]);
        }
        let [port, peer] = server.ports;
        match self.kind {
            Kind::Etcd => self.etcd(&mut command, at, network),
            Kind::Quorum => {
                command.arg(&self.programs.redis);
                command.args(["--port", &port.to_string(), "--bind", &address]);
                command.args([
                    "--save",
                    "",
                    "--appendonly",
                    "yes",
                    "--protected-mode",
                    "no",
                ]);
                command
                    .args(["--appendfsync", "always"])
                    .arg("--dir")
                    .arg(&server.folder);
            }
            Kind::Postgres => {
                let programs = self.programs.postgres.clone().unwrap_or_default();
                command.arg(programs.join("postgres"));
                command.arg("-D").arg(server.folder.join("data"));
                let folder = server.folder.display();
                for setting in [
                    format!("listen_addresses={address}"),
                    format!("port={port}"),
                    format!("unix_socket_directories={folder}"),
                    "min_wal_size=2MB".to_owned(),
                    "max_wal_size=64MB".to_owned(),
                ] {
                    command.arg("-c").arg(setting);
                }
                let access = server.folder.join("data/pg_hba.conf");
                let rules = "local all all trust\nhost all all 0.0.0.0/0 trust\n";
                fs::write(access, rules).map_err(text)?;
            }
            Kind::Sqlite => unreachable!("it has no server"),
        }
        let _ = peer;
        command.stdout(log.try_clone().map_err(text)?).stderr(log);
        let process = command.spawn().map_err(text)?;
        self.servers[at].process = Some(process);
        Ok(())
    }

    fn etcd(&self, command: &mut Command, at: usize, network: &Network) {
        let address = |server: &Server| network.host(server.host).address.clone();
        let peers: Vec<String> = (self.servers.iter().enumerate())
            .map(|(at, server)| format!("n{at}=http://{}:{}", address(server), server.ports[1]))
            .collect();
        let server = &self.servers[at];
        let [client, peer] = server
            .ports
            .map(|port| format!("http://{}:{port}", address(server)));
        command.args(["env", "ETCD_UNSUPPORTED_ARCH=arm64"]);
        if let (true, Some(program)) = (self.has_clocks, &self.programs.lease_clock) {
            command.arg(program).arg(self.clock_file(at));
        }
        command
            .args(["etcd", "--name", &format!("n{at}"), "--data-dir"])
            .arg(server.folder.join("data"))
            .args(["--listen-client-urls", &client])
            .args(["--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer])
            .args(["--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &peers.join(",")])
            .args([
                "--initial-cluster-state",
                "new",
                "--initial-cluster-token",
                "t",
            ])
            .args(["--heartbeat-interval", "100", "--election-timeout", "1000"])
            .arg("--logger=zap");
    }

    /// Whether the engine's server runs with a clock that can be moved.
    fn clock_works(&mut self, network: &Network) -> bool {
        if !self.programs.may_move_clock(self.kind) {
            return false;
        }
        self.has_clocks = true;
        if self.kind == Kind::Etcd {
            // Alone it elects no leader, so it does not answer.
            return self.shows_the_date(network);
        }
        let works = self.spawn(0, network).is_ok()
            && self.wait_for(0, network, Duration::from_secs(5)).is_ok();
        self.kill(0);
        works
    }

    /// Whether a member of etcd that starts a day ahead writes that day into its log.
    fn shows_the_date(&mut self, network: &Network) -> bool {
        let day = 86_400;
        let date = |offset: i64| {
            let date = Command::new("date")
                .args(["-u", "+%Y-%m-%d", "-d"])
                .arg(format!("{offset} seconds"))
                .output();
            let date = date.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
            date.unwrap_or_default().trim().to_owned()
        };
        let (log, start) = (self.folder.join("log0"), Instant::now());
        let mut works = self.move_clock(0, day).is_ok() && self.spawn(0, network).is_ok();
        while works && start.elapsed() < Duration::from_secs(5) {
            let text = fs::read_to_string(&log).unwrap_or_default();
            let expected = format!("\"ts\":\"{}", date(day));
            if text.contains(&expected) {
                break;
            }
            works = self.is_running(0) && !text.contains(&format!("\"ts\":\"{}", date(0)));
            thread::sleep(Duration::from_millis(20));
        }
        self.kill(0);
        let _ = fs::remove_file(log);
        works &= self.move_clock(0, -day).is_ok() && self.lose_data(0).is_ok();
        works
    }

    fn is_ready(&self, at: usize, network: &Network) -> bool {
        let place = self.place(at, network);
        match self.kind {
            Kind::Etcd => {
                let agent = agent(Duration::from_millis(1000));
                let body = json!({ "key": gateway::encode("nothing") });
                post(&agent, &place, "/v3/kv/range", &body).is_ok()
            }
            Kind::Quorum => {
                let ping = || -> std::io::Result<String> {
                    let mut stream = TcpStream::connect(&place)?;
                    stream.set_read_timeout(Some(Duration::from_millis(500)))?;
                    stream.write_all(b"PING\r\n")?;
                    let mut answer = [0; 7];
                    stream.read_exact(&mut answer)?;
                    Ok(String::from_utf8_lossy(&answer).into_owned())
                };
                ping().is_ok_and(|answer| answer == "+PONG\r\n")
            }
            Kind::Postgres => {
                let programs = self.programs.postgres.clone().unwrap_or_default();
                let program = programs.join("pg_isready").display().to_string();
                let (host, port) = place.split_once(':').unwrap_or_default();
                let at = ["-t", "1", "-h", host, "-p", port, "-U", POSTGRES];
                run(&[&[program.as_str(), "-q"], &at[..]].concat()).is_ok()
            }
            Kind::Sqlite => true,
        }
    }

    fn wait_for(&mut self, at: usize, network: &Network, limit: Duration) -> Result<(), String> {
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

    fn is_running(&mut self, at: usize) -> bool {
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

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn is_root() -> bool {
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
