//! Optimistic latches, links between them, and the structures of the examples.

#[path = "../common/mod.rs"]
mod common;

mod calls;
mod links;
mod structures;

#[path = "../../examples/structures/btree.rs"]
mod btree;
#[path = "../../examples/structures/list.rs"]
mod list;
