//! Histories of calls, each checked for an order, and the checkers. The step `noise` runs them with
//! random yields before atomic accesses.

#[path = "../common/mod.rs"]
mod common;

mod calls;
mod checkers;
mod transactions;
