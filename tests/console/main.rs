//! The console: its reports, and how its servers treat clients, files and bad input.
#![cfg(all(feature = "console", unix))]

#[path = "../common/mod.rs"]
mod common;

mod reports;
mod servers;

use serde_json::Value;

/// Parses a report.
fn parsed(json: &str) -> Value {
    serde_json::from_str(json).expect("a report is JSON")
}
