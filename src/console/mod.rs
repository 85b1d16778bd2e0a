//! The state of a running program for other processes: over a socket, as JSON and as Prometheus
//! text.
//!
//! The chapter [`docs::console`](crate::docs::console) describes the formats, and the program
//! `latchtop` that draws them. The feature `console` enables this module.

mod collect;
mod prometheus;
mod reports;
mod request;
mod server;
#[cfg(unix)]
mod socket_file;

pub use reports::Console;
pub use server::Server;
