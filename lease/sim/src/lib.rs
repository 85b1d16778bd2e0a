//! Simulates leases of many clients over engines that are far apart.
//!
//! The state machine of an acquisition is that of `latchwork-lease`. Engines, links, clocks and
//! failures are simulated, so every figure is a simulated one. A simulation depends on its
//! [`Setup`] alone: the same seed gives the same figures.

mod experiments;
mod links;
mod outcome;
mod plot;
mod report;
mod server;
mod setup;
mod world;

pub use experiments::{Experiments, Extent, Run, Servers};
pub use links::REGIONS;
pub use outcome::Outcome;
pub use report::{File, render};
pub use setup::{Costs, Engine, Failures, Setup};
pub use world::World;

/// Runs a simulation.
///
/// # Errors
/// Returns an error if the setup is refused.
pub fn simulate(setup: Setup) -> Result<Outcome, String> {
    Ok(World::new(setup)?.run(|_| {}))
}
