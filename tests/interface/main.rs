//! The types of the crate: which threads may have them, what the optional features add,
//! the names by which its documentation is searched, and the variance of its types.

#[path = "../common/mod.rs"]
mod common;

mod auto_traits;
mod doc_aliases;
mod map_features;
mod must_use;
mod observe;
mod variance;
mod version_serde;
