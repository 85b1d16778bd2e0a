//! Leases on names, for processes and machines, with ordered fencing tokens.

pub mod engine;
pub mod guarantees;

#[cfg(all(feature = "sqlite", target_os = "linux"))]
pub mod sqlite;
