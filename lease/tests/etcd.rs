//! The engine `etcd://…` at real clusters, without faults of their members.
#![cfg(feature = "etcd")]

#[path = "support/contract.rs"]
mod contract;
#[path = "support/etcd.rs"]
mod etcd;
mod support;

use std::sync::Arc;

use etcd::Cluster;
use latchwork_lease::engine::Engine;
use latchwork_lease::etcd::EtcdEngine;

#[cfg(feature = "conformance")]
fn assert_conforms(members: usize) {
    let Some(cluster) = Cluster::start(members) else {
        return;
    };
    let url = cluster.url();
    let open = || -> Arc<dyn Engine> { Arc::new(EtcdEngine::connect(&url).unwrap()) };
    contract::assert_conforms(&open);
}

#[cfg(feature = "conformance")]
#[test]
fn the_engine_conforms_at_one_node() {
    assert_conforms(1);
}

#[cfg(feature = "conformance")]
#[test]
fn the_engine_conforms_at_three_nodes() {
    assert_conforms(3);
}
