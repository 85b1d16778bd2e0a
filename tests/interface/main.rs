//! The types of the crate: which threads may have them, and what the optional features add.

#[path = "../common/mod.rs"]
mod common;

mod auto_traits;
mod observe;
mod version_serde;
