//! The engine `quorum:redis://…` through the contract of an engine, without faults.
#![cfg(feature = "redis")]

#[path = "support/contract.rs"]
mod contract;
#[path = "support/redis.rs"]
mod redis;
mod support;

use std::sync::Arc;

use latchwork_lease::engine::Engine;
use latchwork_lease::quorum::QuorumEngine;
use redis::Redis;

fn connect(url: &str) -> QuorumEngine {
    QuorumEngine::connect(url).unwrap_or_else(|error| panic!("{error}"))
}

#[cfg(feature = "conformance")]
#[test]
fn the_engine_on_five_nodes_conforms() {
    let Some(nodes) = Redis::several(5) else {
        return;
    };
    let url = redis::url(&nodes);
    let open = || -> Arc<dyn Engine> { Arc::new(connect(&url)) };
    contract::assert_conforms(&open);
}

#[cfg(feature = "conformance")]
#[test]
fn the_engine_on_one_node_conforms() {
    let Some(node) = Redis::start(&[]) else {
        return;
    };
    let url = redis::url([&node]);
    let open = || -> Arc<dyn Engine> { Arc::new(connect(&url)) };
    contract::assert_conforms(&open);
}
