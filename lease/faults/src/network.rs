//! The hosts of a campaign: network namespaces on one bridge, or this machine alone.
//!
//! With namespaces, the program itself runs in one that has the bridge. A host has its own
//! namespace, its own address and one link to the bridge.

use std::process::{Command, Stdio};

/// An address of hardware that no host has. Packets to it are lost without an error.
const NOWHERE: &str = "02:00:00:00:00:fe";

/// The number of a host.
pub(crate) type HostId = usize;

#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) address: String,
    /// Its namespace, unless all hosts are this machine.
    namespace: Option<String>,
    link: String,
}

/// How links are made slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slowness {
    /// The kernel delays packets.
    Delay,
    /// The kernel can only limit the rate.
    Rate,
    Unsupported,
}

#[derive(Debug)]
pub(crate) struct Network {
    prefix: Option<String>,
    hosts: Vec<Host>,
    slowness: Slowness,
}

/// Runs a command, and returns its error text if it fails.
pub(crate) fn run(words: &[&str]) -> Result<(), String> {
    let output = Command::new(words[0])
        .args(&words[1..])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{}: {error}", words[0]))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "{}: {}",
            words.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}

impl Network {
    /// Makes the bridge, if the program runs in a namespace whose name begins with `prefix`.
    pub(crate) fn new(prefix: Option<String>) -> Result<Network, String> {
        let mut slowness = Slowness::Unsupported;
        if prefix.is_some() {
            run(&["ip", "link", "set", "lo", "up"])?;
            run(&["ip", "link", "add", "bridge", "type", "bridge"])?;
            run(&["ip", "addr", "add", "10.77.0.1/24", "dev", "bridge"])?;
            let try_qdisc = |words: &[&str]| {
                let add = ["tc", "qdisc", "replace", "dev", "bridge", "root"];
                run(&[&add, words].concat()).is_ok()
            };
            if try_qdisc(DELAY) {
                slowness = Slowness::Delay;
            } else if try_qdisc(&["tbf", "rate", "64kbit", "burst", "2kb", "latency", "2s"]) {
                slowness = Slowness::Rate;
            }
            let _ = run(&["tc", "qdisc", "del", "dev", "bridge", "root"]);
            run(&["ip", "link", "set", "bridge", "up"])?;
        }
        Ok(Network {
            prefix,
            hosts: Vec::new(),
            slowness,
        })
    }

    /// Whether hosts have links of their own, which can be cut.
    pub(crate) fn has_links(&self) -> bool {
        self.prefix.is_some()
    }

    pub(crate) fn can_be_slow(&self) -> bool {
        self.slowness != Slowness::Unsupported
    }

    /// How slow a slow link is, for people.
    pub(crate) fn slowness(&self) -> &'static str {
        match self.slowness {
            Slowness::Delay => "50 ms more",
            Slowness::Rate => "512 kbit/s at etcd, 64 kbit/s elsewhere",
            Slowness::Unsupported => "not slow",
        }
    }

    pub(crate) fn host(&self, id: HostId) -> &Host {
        &self.hosts[id]
    }

    /// Adds a host.
    pub(crate) fn add(&mut self) -> Result<HostId, String> {
        let id = self.hosts.len();
        let Some(prefix) = &self.prefix else {
            self.hosts.push(Host {
                address: "127.0.0.1".to_owned(),
                namespace: None,
                link: String::new(),
            });
            return Ok(id);
        };
        let (namespace, link) = (format!("{prefix}-{id}"), format!("link{id}"));
        let address = format!("10.77.0.{}", id + 10);
        run(&["ip", "netns", "add", &namespace])?;
        run(&[
            "ip", "link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &namespace,
        ])?;
        run(&["ip", "link", "set", &link, "master", "bridge", "up"])?;
        let within = ["ip", "-n", &namespace];
        let network = format!("{address}/24");
        run(&[&within[..], &["addr", "add", &network, "dev", "eth0"]].concat())?;
        run(&[&within[..], &["link", "set", "lo", "up"]].concat())?;
        run(&[&within[..], &["link", "set", "eth0", "up"]].concat())?;
        self.hosts.push(Host {
            address,
            namespace: Some(namespace),
            link,
        });
        Ok(id)
    }

    /// Makes a command that runs on a host, as `user` if there is one, and ends with this process.
    pub(crate) fn command(&self, id: HostId, user: Option<&str>, signal: &str) -> Command {
        let mut words = Vec::new();
        if let Some(namespace) = &self.hosts[id].namespace {
            words.extend(["ip", "netns", "exec", namespace]);
        }
        words.push("setpriv");
        if let Some(user) = user {
            words.extend(["--reuid", user, "--regid", user, "--init-groups"]);
        }
        words.extend(["--pdeathsig", signal]);
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).stdin(Stdio::null());
        command
    }

    /// Cuts the link of a host, in both directions.
    pub(crate) fn unplug(&self, id: HostId) -> Result<(), String> {
        run(&["ip", "link", "set", &self.hosts[id].link, "down"])
    }

    /// Loses all packets that a host sends.
    pub(crate) fn cut_out(&self, id: HostId) -> Result<(), String> {
        for other in (0..self.hosts.len()).filter(|other| *other != id) {
            self.lose(id, other)?;
        }
        Ok(())
    }

    /// Loses all packets that are sent to a host.
    pub(crate) fn cut_in(&self, id: HostId) -> Result<(), String> {
        for other in (0..self.hosts.len()).filter(|other| *other != id) {
            self.lose(other, id)?;
        }
        Ok(())
    }

    /// Loses the packets from one host to another one.
    fn lose(&self, from: HostId, to: HostId) -> Result<(), String> {
        let namespace = self.hosts[from].namespace.as_deref();
        run(&[
            "ip",
            "-n",
            namespace.unwrap_or_default(),
            "neigh",
            "replace",
            &self.hosts[to].address,
            "lladdr",
            NOWHERE,
            "dev",
            "eth0",
            "nud",
            "permanent",
        ])
    }

    /// Makes what a host sends slow: by a delay, or at most at this rate.
    pub(crate) fn slow(&self, id: HostId, rate: &str) -> Result<(), String> {
        let at_rate = ["tbf", "rate", rate, "burst", "2kb", "latency", "2s"];
        let words = match self.slowness {
            Slowness::Delay => DELAY,
            _ => &at_rate,
        };
        self.qdisc(id, &[&["replace"], words].concat())
    }

    fn qdisc(&self, id: HostId, words: &[&str]) -> Result<(), String> {
        let namespace = self.hosts[id].namespace.as_deref().unwrap_or_default();
        let (command, rest) = words.split_at(1);
        let at = [
            "tc", "-n", namespace, "qdisc", command[0], "dev", "eth0", "root",
        ];
        run(&[&at[..], rest].concat())
    }

    /// Repairs all links.
    pub(crate) fn heal(&self) -> Result<(), String> {
        if !self.has_links() {
            return Ok(());
        }
        for (id, host) in self.hosts.iter().enumerate() {
            run(&["ip", "link", "set", &host.link, "up"])?;
            let namespace = host.namespace.as_deref().unwrap_or_default();
            let within = ["ip", "-n", namespace];
            run(&[&within[..], &["neigh", "flush", "nud", "permanent"]].concat())?;
            // There is nothing to remove on most hosts.
            let _ = self.qdisc(id, &["del"]);
        }
        Ok(())
    }
}

const DELAY: &[&str] = &["netem", "delay", "50ms", "20ms"];
