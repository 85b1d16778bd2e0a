//! The engine `postgres://…` through the contract of an engine, without faults.
#![cfg(feature = "postgres")]

#[path = "support/contract.rs"]
mod contract;
#[path = "support/server.rs"]
mod server;
mod support;

use std::fs;
use std::sync::Arc;

use latchwork_lease::engine::{Engine, Nonce, Outcome};
use latchwork_lease::postgres::PostgresEngine;
use server::Server;
use support::{Folder, KEY, attempt, ms, soon};

/// A database of a server.
struct Database {
    server: Arc<Server>,
    name: String,
}

impl Database {
    fn new() -> Option<Self> {
        let server = server::shared()?;
        let name = server.database();
        Some(Database { server, name })
    }

    fn url(&self) -> String {
        self.server.url(&self.name)
    }
}

impl contract::Place for Database {
    fn open(&self) -> Box<dyn Engine> {
        Box::new(PostgresEngine::connect(&self.url()).unwrap())
    }
}

contract::contract_tests!(Database::new());

fn refusal(url: &str) -> String {
    let error = PostgresEngine::connect(url).unwrap_err();
    assert_eq!(
        (error.outcome, error.is_temporary),
        (Outcome::NotDone, false),
        "{error}"
    );
    let text = error.to_string();
    assert!(!text.contains('\n'), "{text}");
    text
}

#[test]
fn a_database_that_is_missing_is_refused() {
    let Some(database) = Database::new() else {
        return;
    };
    assert!(refusal(&database.server.url("nothing")).contains("\"nothing\" does not exist"));
}

#[test]
fn a_direct_connection_parses_each_statement_once() {
    let Some(server) = Server::start(&["log_min_duration_statement=0"]) else {
        return;
    };
    let engine = PostgresEngine::connect(&server.url(&server.database())).unwrap();
    for nonce in 1..=10 {
        assert!(attempt(&engine, KEY, nonce, ms(10_000)).is_some());
        engine.release(KEY, Nonce::new(nonce), soon()).unwrap();
    }
    let log = fs::read_to_string(server.folder().join("log")).unwrap();
    let count = |phase: &str| {
        let phase = format!(" ms  {phase} ");
        log.lines().filter(|line| line.contains(&phase)).count()
    };
    assert!(count("execute") >= 20, "{log}");
    // Those of the inspection, the acquisition and the release.
    assert!(count("parse") <= 4, "{} are parsed", count("parse"));
}
