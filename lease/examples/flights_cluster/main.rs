//! Replays a year of flights with several worker *processes*, while a tormentor kills and stops
//! them at random.
//!
//! The flights are split into shards. A worker leases a shard, adds its flights to the totals in
//! batches, and releases it. Each batch is one transaction of the database, guarded by the fence of
//! the lease: [`ledger`] has the three statements that a user needs. Survivors take over the shards
//! of workers that were killed or stopped. A stopped worker that continues after its lease still
//! writes its batch, late, and the fence refuses it. At the end all totals must equal those of a
//! sequential run.
//!
//! Run it with `cargo run --release -p latchwork-lease --example flights_cluster`. With
//! `-- --no-fence` late batches are accepted, and the table shows which totals are wrong.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crew::Outcome;
use failure::Failure;
use shards::{Shards, Totals};

mod crew;
#[path = "../../../examples/flights/data.rs"]
mod data;
#[path = "../../../examples/flights/failure.rs"]
mod failure;
mod ledger;
mod report;
mod shards;
mod torment;
mod worker;

/// The shipped data, relative to the package.
const SHIPPED: &str = "../examples/data/nycflights13.csv.gz";

/// Replays flights with worker processes that are killed and stopped at random.
///
/// The totals must equal those of a sequential run; a wrong total is exit code 1. Bad input is one
/// line on stderr and exit code 2.
#[derive(Debug, Parser)]
#[command(name = "flights_cluster", verbatim_doc_comment)]
struct Cli {
    /// CSV file, plain or gzip, with columns tailnum, origin, dest and distance [default: shipped]
    file: Option<PathBuf>,

    /// Engine of the leases and of the totals: sqlite:FILE, postgres://…, etcd://… or
    /// quorum:redis://…, whose first node has the totals [default: a new file]
    #[arg(long, value_name = "URL")]
    on: Option<String>,

    /// Worker processes
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: u32,

    /// Shards, each under one lease
    #[arg(long, value_name = "N", default_value_t = 96, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    shards: u32,

    /// Flights in a batch
    #[arg(long, value_name = "N", default_value_t = 250, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    batch: u32,

    /// Milliseconds that a worker spends on a batch before it writes it
    #[arg(long, value_name = "MS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(..=10_000))]
    pause: u64,

    /// Milliseconds of a lease
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(100..=60_000))]
    ttl: u64,

    /// Milliseconds between two torments; 0 for none
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(..=60_000))]
    torment: u64,

    /// Seed of the tormentor's choices
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Accept late writes, to show what they damage
    #[arg(long)]
    no_fence: bool,

    /// The process is a worker of another process
    #[arg(long, hide = true)]
    worker: bool,
}

fn main() -> ExitCode {
    failure::exit("flights_cluster", Cli::try_parse(), |cli| {
        if cli.worker { worker::run() } else { run(cli) }
    })
}

fn run(cli: &Cli) -> Result<(), Failure> {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join(SHIPPED);
    let path = cli.file.as_deref().unwrap_or(&shipped);
    let data = data::read(path).map_err(Failure::usage)?;
    let expected = Totals::of(&data.flights);
    let folder = tempfile::tempdir().map_err(Failure::failed)?;
    let shards = Shards::write(folder.path(), &data, cli.shards).map_err(Failure::failed)?;
    let url = match &cli.on {
        Some(url) => url.clone(),
        None => format!("sqlite:{}", folder.path().join("flights.db").display()),
    };

    // Before any process starts: a wrong URL or a missing permission is one line.
    let leases = latchwork_lease::Leases::connect(&url).map_err(Failure::usage)?;
    let least = leases.guarantees().least_lease.as_millis();
    if u128::from(cli.ttl) < least {
        return Err(Failure::usage(format!(
            "--ttl is at least {least} on this engine"
        )));
    }
    drop(leases);
    let mut ledger = ledger::open(&url).map_err(Failure::usage)?;
    let run = format!("{:016x}", rand_run());
    ledger
        .create(&run, shards.count())
        .map_err(Failure::usage)?;

    let job = worker::Job {
        url,
        run,
        shards: shards.clone(),
        batch: cli.batch,
        pause: Duration::from_millis(cli.pause),
        ttl: Duration::from_millis(cli.ttl),
        is_fenced: !cli.no_fence,
    };
    let torment = (cli.torment > 0).then(|| torment::Plan {
        every: Duration::from_millis(cli.torment),
        ttl: job.ttl,
        seed: cli.seed,
    });
    let outcome = crew::replay(&job, cli.workers, torment, data.flights.len() as u64)
        .map_err(Failure::failed)?;
    let totals = ledger.totals(&job.run).map_err(Failure::failed)?;
    let dropped = ledger.drop_run(&job.run);
    finish(cli, &data, &expected, &totals, &outcome)?;
    dropped.map_err(Failure::failed)
}

/// Prints the table, and fails if a total is wrong although late writes were refused.
fn finish(
    cli: &Cli,
    data: &data::Dataset,
    expected: &Totals,
    totals: &Totals,
    outcome: &Outcome,
) -> Result<(), Failure> {
    let wrong = report::differences(data, expected, totals);
    report::print(cli, outcome, &wrong).map_err(Failure::failed)?;
    if !cli.no_fence && !wrong.is_empty() {
        let line = format!("{} totals differ from the sequential run", wrong.len());
        return Err(Failure::failed(line));
    }
    Ok(())
}

/// A number that distinguishes this run from others on the same engine.
fn rand_run() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}
