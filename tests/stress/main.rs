//! Threads against an oracle. The step `noise` runs them with random yields before atomic accesses.

#[path = "../common/mod.rs"]
mod common;

mod cell;
mod growth;
mod table;
mod timeouts;
