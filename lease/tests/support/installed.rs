//! The servers that are installed, and the arguments with which tests and campaigns start them.
#![allow(dead_code, unreachable_pub)]

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// Returns the folder with the programs of the newest PostgreSQL server.
pub fn postgres_programs() -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .filter(|path| path.join("initdb").exists())
        .collect();
    found.sort();
    found.pop()
}

/// A member of a cluster of etcd.
#[derive(Debug)]
pub struct EtcdMember<'a> {
    pub name: &'a str,
    pub data: &'a Path,
    /// Where it serves clients, and the other members.
    pub client: &'a str,
    pub peer: &'a str,
    /// All members, as `NAME=URL`.
    pub cluster: &'a [String],
}

impl EtcdMember<'_> {
    /// Returns the arguments of the program `etcd`.
    pub fn arguments(&self) -> Vec<OsString> {
        let cluster = self.cluster.join(",");
        let words = [
            ["--name", self.name],
            ["--listen-client-urls", self.client],
            ["--advertise-client-urls", self.client],
            ["--listen-peer-urls", self.peer],
            ["--initial-advertise-peer-urls", self.peer],
            ["--initial-cluster", &cluster],
            ["--initial-cluster-state", "new"],
            ["--initial-cluster-token", "t"],
            ["--heartbeat-interval", "100"],
            ["--election-timeout", "1000"],
            ["--logger", "zap"],
        ];
        let mut arguments: Vec<OsString> = words.concat().into_iter().map(OsString::from).collect();
        arguments.extend([OsString::from("--data-dir"), self.data.into()]);
        arguments
    }
}
