//! Cells by their public interface.

#[path = "../common/mod.rs"]
mod common;

mod calls;
mod direct_access;
mod large;
mod texts;
mod values;
