//! Sessions: who gets what, who waits, and whose wait is ended.

#[path = "../common/mod.rs"]
mod common;

mod actors;
mod announced;
mod bad_input;
mod inspected;
mod passing;
mod properties;
mod reference;
mod reports;
mod retries;
mod scenarios;
mod sets;
mod texts;
mod threads;
mod times;
mod unpolled;
mod wakers;
