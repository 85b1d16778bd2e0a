//! The command `lease`, as real processes over all engines.
#![cfg(target_os = "linux")]

mod arguments;
mod end;
mod engines;
#[path = "../support/etcd.rs"]
mod etcd;
#[path = "../support/redis.rs"]
mod redis;
mod sandbox;
#[path = "../support/server.rs"]
mod server;
#[path = "../support/mod.rs"]
mod support;
mod terminal;
mod views;
