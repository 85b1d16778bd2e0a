//! Tasks under shuttle: each test explores many random schedules.
#![cfg(latchwork_shuttle)]

#[path = "../common/mod.rs"]
mod common;

mod cell;
mod histories;
mod session;
mod single_flight;
mod table;
