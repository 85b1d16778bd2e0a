//! Leases on names, for processes and machines, with ordered fencing tokens.
//!
//! ```
//! use latchwork::table::FencedCell;
//! use latchwork_lease::Leases;
//! use std::time::Duration;
//!
//! let leases = Leases::connect("memory:")?;
//! let report = FencedCell::new("empty");
//! let lease = leases.acquire("reports/nightly", Duration::from_secs(10))?;
//! report.write(lease.fence(), "written by the holder")?;
//! lease.release()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod acquisition;
mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
mod election;

pub mod engine;
mod error;
mod future;
pub mod guarantees;
mod holder;
mod lease;
mod leases;
pub mod memory;
mod name;
#[cfg(feature = "postgres")]
pub mod postgres;
mod runtime;
mod set;
mod shared;
#[cfg(all(feature = "sqlite", target_os = "linux"))]
pub mod sqlite;
mod wait;

pub use election::{Leadership, Watch};
pub use error::{AcquireError, CallError, ConnectError, ReleaseError};
pub use future::LeaseFuture;
pub use holder::Holder;
pub use lease::{Lease, LeaseLost, LossReason, Release};
pub use leases::{AcquireOptions, Leases, LeasesBuilder, ShutdownError};
pub use name::{InvalidName, InvalidTtl};
pub use set::LeaseSet;
