//! Fault campaigns over the engines of leases: see `lease/FAULTS.md`.
//!
//! Worker processes acquire names, write through the fence to a resource of this program, and
//! release. The program damages servers, links, clocks, disks and workers, one at a time, and
//! checks each round from its history. `ci/lease_faults.sh` runs it.

mod campaign;
mod clock;
mod crew;
mod damage;
mod fault;
mod gateway;
mod history;
mod hub;
#[path = "../../tests/support/installed.rs"]
mod installed;
mod launch;
mod lock_call;
mod message;
mod network;
mod programs;
mod pulse;
mod record;
mod recorded;
mod servers;
mod session;
mod worker;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::servers::Kind;

#[derive(Debug, Parser)]
#[command(about = "Fault campaigns over the engines of leases")]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Runs the faults and controls of the short form.
    Short(Options),
    /// Runs all faults and controls, again and again.
    Campaign {
        #[command(flatten)]
        options: Options,
        /// How long, with the time of the rounds that the file contains.
        #[arg(long)]
        minutes: f64,
        /// Results are appended to this file. A campaign continues where the file ends.
        #[arg(long)]
        state: PathBuf,
        /// Runs only faults whose name contains this text, and no controls.
        #[arg(long)]
        fault: Option<String>,
    },
    /// Prints the table of a campaign.
    Table {
        #[arg(long)]
        state: PathBuf,
    },
    /// Runs a worker process, which its parent commands.
    #[command(hide = true)]
    Worker,
}

#[derive(Clone, Debug, clap::Args)]
struct Options {
    /// The namespace in which the program runs. Hosts are namespaces whose names begin with it.
    #[arg(long)]
    namespaces: Option<String>,
    /// An empty folder for the data of the servers.
    #[arg(long)]
    folder: PathBuf,
    /// Only these engines.
    #[arg(long)]
    only: Vec<Kind>,
    /// The seed of the random choices.
    #[arg(long)]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().action {
        Action::Worker => worker::run().map(|()| true),
        Action::Short(options) => campaign::short(&options),
        Action::Campaign {
            options,
            minutes,
            state,
            fault,
        } => campaign::long(&options, minutes, &state, fault.as_deref()),
        Action::Table { state } => {
            print!("{}", record::table(&record::read(&state)));
            Ok(true)
        }
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("lease_faults: {error}");
            ExitCode::from(2)
        }
    }
}
