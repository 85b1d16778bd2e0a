//! Leases on names, for processes and machines, with ordered fencing tokens.
//!
//! A lease is a lock that ends by itself if its holder does. [`Leases`] connects to an engine, and
//! [`Leases::acquire`] returns a [`Lease`], which is renewed in the background.
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
//!
//! # Choosing a call
//! | to | use |
//! |---|---|
//! | wait for a name | [`acquire`](Leases::acquire), [`acquire_async`](Leases::acquire_async) |
//! | wait for a limited time | [`acquire_with`](Leases::acquire_with) |
//! | try once | [`try_acquire`](Leases::try_acquire) |
//! | lease several names | [`acquire_all`](Leases::acquire_all) |
//! | elect a leader | [`campaign`](Leases::campaign), [`watch`](Leases::watch) |
//! | write safely | [`Lease::fence`], checked by the resource |
//! | stop work in time | [`Lease::lost`], [`Lease::on_lost`], [`Lease::is_held`] |
//! | see and end leases of others | [`list`](Leases::list), [`break_lease`](Leases::break_lease) |
//! | end a program | [`shutdown`](Leases::shutdown) |
//! | add an engine | [`engine::Engine`] |
//!
//! # Guarantees
//! [`Leases::guarantees`] returns the guarantees of the engine as data. On every engine:
//! - At most one lease of a name is held, unless a holder is paused for longer than its lease and
//!   does not check [`Lease::is_held`]. The fence refuses its writes.
//! - A loss is notified at the end of the lease at the latest, by the clock of this process.
//! - An acquisition that failed, timed out or was dropped leaves no lease that is renewed.
//!
//! # Errors
//! An error states whether the request had an effect ([`engine::Outcome`]). An unknown effect is
//! undone in the background. No error contains a password.
//!
//! [`docs`] has the manual of the command, and shows how SQL, Redis, files and object stores check
//! fences. `README.md` shows how to choose the length of a lease. The crate needs Rust 1.85.

// The support of the integration tests names this crate.
#[cfg(test)]
extern crate self as latchwork_lease;

mod acquisition;
mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod docs;
mod election;

pub mod engine;
mod error;
#[cfg(feature = "etcd")]
pub mod etcd;
mod future;
pub mod guarantees;
mod holder;
mod lease;
mod leases;
pub mod memory;
mod name;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod notices;
#[cfg(any(feature = "etcd", feature = "postgres", feature = "redis"))]
mod percent;
mod plant;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "redis")]
pub mod quorum;
mod runtime;
mod set;
mod shared;
#[cfg(feature = "sim")]
#[doc(hidden)]
pub mod sim;
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

/// The examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
