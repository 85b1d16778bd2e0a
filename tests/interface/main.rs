//! The types of the crate: which threads may have them, what the optional features add,
//! and the names by which its documentation is searched.

#[path = "../common/mod.rs"]
mod common;

mod auto_traits;
mod doc_aliases;
mod map_features;
mod observe;
mod version_serde;
