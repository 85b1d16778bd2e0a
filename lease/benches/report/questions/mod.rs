//! The sections of the report.

mod alone;
#[cfg(any(feature = "etcd", feature = "postgres", feature = "redis"))]
mod anchors;
mod crates;
mod ends;
mod group;
#[cfg(feature = "postgres")]
mod hand_over;
mod inside;
mod many;
mod next;
#[cfg(feature = "etcd")]
mod queue;
#[cfg(feature = "redis")]
mod quorum;

use crate::row::Row;
#[cfg(feature = "postgres")]
use crate::server::Server;

/// A section.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) title: &'static str,
    /// How it is measured.
    pub(crate) method: &'static str,
    /// Whether the disk has a part in it.
    pub(crate) syncs: bool,
    /// Measures it. Without rows, an engine was missing.
    pub(crate) ask: fn() -> Vec<Row>,
}

pub(crate) fn all() -> Vec<Question> {
    vec![
        inside::QUESTION,
        alone::QUESTION,
        #[cfg(any(feature = "etcd", feature = "postgres", feature = "redis"))]
        anchors::QUESTION,
        #[cfg(feature = "postgres")]
        hand_over::QUESTION,
        #[cfg(feature = "etcd")]
        queue::QUESTION,
        next::QUESTION,
        #[cfg(feature = "redis")]
        quorum::QUESTION,
        ends::QUESTION,
        group::QUESTION,
        many::QUESTION,
        crates::QUESTION,
    ]
}

/// A server with its name in the report.
#[cfg(feature = "postgres")]
pub(crate) type Named = (&'static str, std::sync::Arc<Server>);

/// Returns two servers with their names, if PostgreSQL is installed: one with the durability
/// of its defaults, and one that does not wait for the disk.
///
/// The second shows what the first can hide: beside a slow disk, nothing else counts.
#[cfg(feature = "postgres")]
pub(crate) fn servers() -> Vec<Named> {
    use std::sync::{Arc, Mutex};
    // All sections use them. They end with the process.
    static SERVERS: Mutex<Option<Vec<Named>>> = Mutex::new(None);
    let mut servers = SERVERS.lock().unwrap();
    let start = || {
        let durable = Server::start(&[])?;
        let fast = Server::start(&["fsync=off"])?;
        Some(vec![
            ("PostgreSQL", Arc::new(durable)),
            ("PostgreSQL, `fsync=off`", Arc::new(fast)),
        ])
    };
    servers
        .get_or_insert_with(|| start().unwrap_or_default())
        .clone()
}

/// Returns the server with the durability of its defaults.
#[cfg(feature = "postgres")]
pub(crate) fn server() -> Option<std::sync::Arc<Server>> {
    servers().into_iter().next().map(|(_, server)| server)
}

/// Removes the targets of all rows but the first, which has the durability that they were set for.
#[cfg(feature = "postgres")]
pub(crate) fn judge_the_first(mut rows: Vec<Row>) -> Vec<Row> {
    for row in rows.iter_mut().skip(1) {
        row.target = None;
    }
    rows
}

/// Starts clusters of one and three members with their names, if etcd is installed.
#[cfg(feature = "etcd")]
pub(crate) fn clusters() -> Vec<(&'static str, crate::etcd::Cluster)> {
    [("etcd x 3", 3), ("etcd x 1", 1)]
        .into_iter()
        .filter_map(|(name, members)| Some((name, crate::etcd::Cluster::start(members)?)))
        .collect()
}
