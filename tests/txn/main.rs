//! Transactions and snapshots.

#[path = "../common/mod.rs"]
mod common;

mod bad_input;
mod calls;
mod hazards;
mod limits;
mod properties;
mod ranked;
mod snapshots_bad_input;
mod unhappy;
mod update_all;
mod waits;
