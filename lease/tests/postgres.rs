//! The engine `postgres://…` through the contract of an engine, without faults.
#![cfg(feature = "postgres")]

#[path = "support/contract.rs"]
mod contract;
#[path = "support/server.rs"]
mod server;
mod support;

use std::sync::Arc;

use latchwork_lease::engine::{Engine, Outcome};
use latchwork_lease::postgres::PostgresEngine;
use server::Server;

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
