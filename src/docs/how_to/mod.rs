//! Recipes: complete solutions for common tasks.
//!
//! | you need | recipe |
//! |---|---|
//! | a cache that computes each value once, however many threads ask | [`single_flight`] |
//! | a transfer between accounts that must not overdraw | [`transfer`] |
//! | row locks that become known one by one, with deadlock retry | [`row_locks`] |
//! | a configuration with an entity tag and conditional updates | [`entity_tag`] |
//!
//! Each block is a whole program, and the tests of this crate run it. Longer programs are in the
//! [folder `examples`](https://docs.rs/crate/latchwork/latest/source/examples/): a bank, a bounded
//! queue, a job queue with fencing tokens, the dining philosophers, a B+tree, and a sorted list.
//! Run one with `cargo run --release --example bank`.
//!
//! # How do I migrate
//! Each chapter shows the old code beside the new code, maps each call, and lists the calls that do
//! not exist here.
//!
//! | from | chapter |
//! |---|---|
//! | guards of `dashmap`, or another map with entry locks | [`from_dashmap`] |
//! | `arc_swap::ArcSwap` | [`from_arc_swap`] |
//! | a map of `tokio::sync::Mutex` | [`from_tokio_mutexes`] |
//! | the crate `stm` | [`from_stm`] |
//!
//! Migrate one data structure at a time. All primitives of this crate are independent of each
//! other, and of any runtime.

pub mod entity_tag;
pub mod from_arc_swap;
pub mod from_dashmap;
pub mod from_stm;
pub mod from_tokio_mutexes;
pub mod row_locks;
pub mod single_flight;
pub mod transfer;
