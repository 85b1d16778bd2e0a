//! Clusters of etcd for the tests, in temporary folders and on free ports.
#![allow(dead_code, unreachable_pub)]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use super::support::Folder;
use super::support::installed::EtcdMember;

/// A cluster that ends with this value, and if the process ends in any other way.
#[derive(Debug)]
pub struct Cluster {
    folder: Folder,
    members: Vec<Member>,
    scheme: &'static str,
    arguments: Vec<String>,
}

#[derive(Debug)]
struct Member {
    client: u16,
    peer: u16,
    process: Option<Child>,
}

/// Returns the path of a program, or prints SKIPPED unless `ENGINES_REQUIRED` names etcd.
fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path)
        .chain([PathBuf::from("/usr/bin")])
        .map(|folder| folder.join(name))
        .find(|path| path.exists());
    if found.is_none() {
        let required = env::var("ENGINES_REQUIRED").unwrap_or_default();
        let is_required = required.split(',').any(|engine| engine == "etcd");
        assert!(
            !is_required,
            "ENGINES_REQUIRED names etcd, and {name} is not installed"
        );
        eprintln!("SKIPPED: {name} is not installed");
    }
    found
}

fn free_ports(count: usize) -> Vec<u16> {
    // All are bound at once, so that they are distinct.
    let bound: Vec<_> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    let ports = bound
        .iter()
        .map(|listener| listener.local_addr().unwrap().port());
    ports.collect()
}

impl Cluster {
    /// Starts a cluster of `members`, or returns `None` if etcd is not installed.
    pub fn start(members: usize) -> Option<Cluster> {
        Self::start_with(members, "http", &[])
    }

    pub fn start_with(
        members: usize,
        scheme: &'static str,
        arguments: &[String],
    ) -> Option<Cluster> {
        let _ = (program("etcd")?, program("etcdctl")?);
        let ports = free_ports(members * 2);
        let member = |ports: &[u16]| Member {
            client: ports[0],
            peer: ports[1],
            process: None,
        };
        let mut cluster = Cluster {
            folder: Folder::new(),
            members: ports.chunks(2).map(member).collect(),
            scheme,
            arguments: arguments.to_vec(),
        };
        for at in 0..members {
            cluster.spawn(at);
        }
        let start = Instant::now();
        while !cluster.is_usable() {
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "no cluster: {}",
                cluster.log()
            );
            thread::sleep(Duration::from_millis(50));
        }
        Some(cluster)
    }

    fn is_usable(&self) -> bool {
        // A port answers once its member has joined; TLS is not spoken here.
        if self.scheme == "https" {
            let open = |member: &Member| {
                std::net::TcpStream::connect(("127.0.0.1", member.client)).is_ok()
            };
            return self.members.iter().all(open);
        }
        self.try_ctl(&["get", "nothing"]).is_ok()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.file("log")).unwrap_or_default()
    }

    /// Starts the process of a member.
    pub fn spawn(&mut self, at: usize) {
        let peers: Vec<String> = (self.members.iter().enumerate())
            .map(|(at, member)| format!("n{at}=http://127.0.0.1:{}", member.peer))
            .collect();
        let member = &mut self.members[at];
        let client = format!("{}://127.0.0.1:{}", self.scheme, member.client);
        let peer = format!("http://127.0.0.1:{}", member.peer);
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.file("log"))
            .unwrap();
        let arguments = EtcdMember {
            name: &format!("n{at}"),
            data: &self.folder.file(&format!("n{at}")),
            client: &client,
            peer: &peer,
            cluster: &peers,
        }
        .arguments();
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "etcd"])
            .args(arguments)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .env("ETCD_UNSUPPORTED_ARCH", "arm64");
        // The signal is sent when the thread that made the process ends: one that never does.
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            sender.send(command.spawn().unwrap()).unwrap();
            loop {
                thread::park();
            }
        });
        member.process = Some(receiver.recv().unwrap());
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn len(&self) -> usize {
        self.members.len()
    }

    pub fn port(&self, at: usize) -> u16 {
        self.members[at].client
    }

    pub fn endpoints(&self) -> String {
        let endpoints: Vec<String> = (self.members.iter())
            .map(|member| format!("127.0.0.1:{}", member.client))
            .collect();
        endpoints.join(",")
    }

    pub fn url(&self) -> String {
        format!("etcd://{}", self.endpoints())
    }

    /// Runs etcdctl, and returns its output or its error.
    pub fn try_ctl(&self, arguments: &[&str]) -> Result<String, String> {
        let output = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.endpoints(), "--command-timeout=3s"])
            .args(arguments)
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8_lossy(bytes).trim().to_owned();
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(text(&output.stderr)),
        }
    }

    pub fn ctl(&self, arguments: &[&str]) -> String {
        self.try_ctl(arguments)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// Sends a request to the gateway of a member.
    pub fn post(&self, path: &str, body: &serde_json::Value) -> serde_json::Value {
        let url = format!("http://127.0.0.1:{}{path}", self.port(0));
        let mut answer = ureq::post(&url).send(&body.to_string()).unwrap();
        let text = answer.body_mut().read_to_string().unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// Returns the text of the metrics of a member.
    pub fn metrics(&self, at: usize) -> String {
        let url = format!("http://127.0.0.1:{}/metrics", self.port(at));
        let mut answer = ureq::get(&url).call().unwrap();
        answer.body_mut().read_to_string().unwrap()
    }

    /// Returns the number of requests of clients that all members have received.
    pub fn requests(&self) -> u64 {
        self.requests_of("")
    }

    /// Returns the number of requests for a method that all members have received.
    pub fn requests_of(&self, method: &str) -> u64 {
        (0..self.len()).map(|at| self.requests_at(at, method)).sum()
    }

    /// Returns the number of requests for a method that a member has received.
    pub fn requests_at(&self, at: usize, method: &str) -> u64 {
        let method = format!("grpc_method=\"{method}");
        let metrics = self.metrics(at);
        let counters = metrics.lines().filter(|line| {
            let is_counter = line.starts_with("grpc_server_started_total");
            is_counter && line.contains("etcdserverpb") && line.contains(&method)
        });
        let numbers = counters.map(|line| line.rsplit(' ').next().unwrap());
        numbers
            .map(|number| number.parse::<f64>().unwrap() as u64)
            .sum()
    }

    /// Returns the index of the leader.
    pub fn leader(&self) -> usize {
        let start = Instant::now();
        loop {
            let status = self.try_ctl(&["endpoint", "status", "-w", "json"]);
            let status: serde_json::Value =
                serde_json::from_str(&status.unwrap_or_default()).unwrap_or_default();
            for member in status.as_array().into_iter().flatten() {
                let (status, endpoint) = (&member["Status"], &member["Endpoint"]);
                let is_leader = status["leader"] == status["header"]["member_id"];
                let port = |at: &usize| {
                    let text = endpoint.as_str().unwrap_or_default();
                    text.ends_with(&format!(":{}", self.port(*at)))
                };
                if let (true, Some(at)) = (is_leader, (0..self.len()).find(port)) {
                    return at;
                }
            }
            assert!(start.elapsed() < Duration::from_secs(20), "no leader");
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Sends a signal to the process of a member.
    pub fn signal(&self, at: usize, signal: &str) {
        if let Some(process) = &self.members[at].process {
            // A process that has ended is no failure.
            let _ = Command::new("kill")
                .arg(format!("-{signal}"))
                .arg(process.id().to_string())
                .stderr(Stdio::null())
                .status();
        }
    }

    /// Ends the process of a member, and waits until it has ended.
    pub fn kill(&mut self, at: usize) {
        self.signal(at, "KILL");
        if let Some(mut process) = self.members[at].process.take() {
            process.wait().unwrap();
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for at in 0..self.members.len() {
            self.kill(at);
        }
    }
}
