//! The guide: a tutorial, recipes, promises, limits and background. It contains no code to call.
//!
//! | chapter | contents |
//! |---|---|
//! | [`guide`] | a tutorial: one program that grows from a mutex to transactions |
//! | [`how_to`] | recipes for common tasks, and migration from other crates |
//! | [`choosing`] | which primitive to use, and when to use another crate |
//! | [`optimistic`] | when to lock and when to be optimistic, with numbers |
//! | [`locks`] | four ways to hold several locks without deadlock |
//! | [`guarantees`] | each promise, and the tests and models that check it |
//! | [`limitations`] | the limits, and what blocks an executor |
//! | [`console`] | which waiter waits for which holder: reports, sockets and `latchtop` |
//! | [`tasks`] | locks in tasks: yielding, timeouts and wakers |
//! | [`performance`] | the costs, and how to measure them |
//! | [`internals`] | the protocols: how it works, and why it is correct |
//! | [`fork`] | the child of a process with threads |
//! | [`variance`] | which types can stand for each other |
//! | [`glossary`] | the terms |
//!
//! # Short answers
//! - *What is it?* A library for concurrency control inside one process: locks by key, values with
//!   versions, a map of both, transactions and snapshots. Start with [the tutorial](guide).
//! - *When should I not use it?* See [When not to use it](choosing#when-not-to-use-it).
//! - *How fast is it, compared with the crate that I use?* See
//!   [How fast against what I use](performance#how-fast-against-what-i-use).
//! - *How do I know that it is right?* See
//!   [How do I know that it is right](guarantees#how-do-i-know-that-it-is-right).
//! - *What happens when a process dies?* See
//!   [What happens when a process dies](limitations#what-happens-when-a-process-dies).
//! - *Which map should I use?* See [Which map when](choosing#which-map-when).
//! - *Which waiter waits for which holder?* See [Which waiter waits for which holder](console).
//! - *What blocks an executor?* See
//!   [What blocks an executor](limitations#what-blocks-an-executor).
//! - *How do I migrate?* See [How do I migrate](how_to#how-do-i-migrate).

pub mod choosing;
pub mod console;
pub mod fork;
pub mod glossary;
pub mod guarantees;
pub mod guide;
pub mod how_to;
pub mod internals;
pub mod limitations;
pub mod locks;
pub mod optimistic;
pub mod performance;

#[doc = include_str!("tasks.md")]
pub mod tasks {}
pub mod variance;
