//! Runs one simulation, or all experiments of the report.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use latchwork_lease_sim::{Engine, Experiments, Extent, Failures, Outcome, Setup, World, render};

/// Simulates leases of many clients over engines that are far apart.
#[derive(Parser)]
#[command(version)]
struct Command {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Runs all experiments and writes the report with its plots.
    Report(Report),
    /// Runs one simulation and prints its figures.
    Run(Box<One>),
}

#[derive(Args)]
struct Report {
    /// The folder into which the report is written.
    #[arg(long, value_name = "DIR")]
    write: PathBuf,
    /// Simulates less, within seconds.
    #[arg(long)]
    small: bool,
    /// The seed of all random choices.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Central,
    Consensus,
    Quorum,
}

#[derive(Args)]
struct One {
    /// The kind of the engine.
    #[arg(long)]
    engine: Kind,
    /// Independent groups over which names are sharded.
    #[arg(long, default_value_t = 1)]
    groups: usize,
    /// The members of a consensus group, or the nodes of a quorum.
    #[arg(long, default_value_t = 5)]
    nodes: usize,
    /// The regions over which clients and servers are spread, 1 to 5.
    #[arg(long, default_value_t = 1)]
    regions: usize,
    /// The number of clients.
    #[arg(long, default_value_t = 100)]
    clients: usize,
    /// The number of names that clients share. Without it, each client has a name of its own.
    #[arg(long)]
    names: Option<usize>,
    /// The length of a lease in seconds.
    #[arg(long, default_value_t = 10.0)]
    ttl: f64,
    /// The mean time between two acquisitions of a client in seconds.
    #[arg(long, default_value_t = 9.0)]
    think: f64,
    /// The mean time for which a lease is held in seconds.
    #[arg(long, default_value_t = 1.0)]
    hold: f64,
    /// Crashes of a client in an hour.
    #[arg(long, default_value_t = 0.0)]
    crashes: f64,
    /// Pauses of a client in an hour.
    #[arg(long, default_value_t = 0.0)]
    pauses: f64,
    /// The mean length of a pause in seconds.
    #[arg(long, default_value_t = 5.0)]
    pause: f64,
    /// Cuts of a client from all servers in an hour.
    #[arg(long, default_value_t = 0.0)]
    cuts: f64,
    /// Crashes of each machine of a server in an hour.
    #[arg(long, default_value_t = 0.0)]
    server_crashes: f64,
    /// The mean time in seconds until a machine or a client restarts, or a cut ends.
    #[arg(long, default_value_t = 10.0)]
    repair: f64,
    /// Cuts between two regions in an hour.
    #[arg(long, default_value_t = 0.0)]
    region_cuts: f64,
    /// Simulates a resource that checks no fence.
    #[arg(long)]
    no_fence: bool,
    /// The simulated seconds that are measured.
    #[arg(long, default_value_t = 60.0)]
    length: f64,
    /// The seed of all random choices.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl One {
    fn setup(&self) -> Setup {
        Setup {
            engine: match self.engine {
                Kind::Central => Engine::Central,
                Kind::Consensus => Engine::Consensus,
                Kind::Quorum => Engine::Quorum,
            },
            groups: self.groups,
            nodes: self.nodes,
            regions: self.regions,
            clients: self.clients,
            names: self.names,
            ttl: self.ttl,
            think: self.think,
            hold: self.hold,
            failures: Failures {
                client_crashes: self.crashes,
                restart: self.repair,
                pauses: self.pauses,
                pause: self.pause,
                client_cuts: self.cuts,
                server_crashes: self.server_crashes,
                repair: self.repair,
                region_cuts: self.region_cuts,
                cut: self.repair,
            },
            has_fence: !self.no_fence,
            warm_up: self.think + 3.0,
            length: self.length,
            seed: self.seed,
            ..Setup::default()
        }
    }
}

fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {percent}% {msg} {elapsed}");
    let bar = ProgressBar::new(100);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn report(options: &Report) -> Result<(), String> {
    let extent = match options.small {
        true => Extent::Small,
        false => Extent::Full,
    };
    let bar = bar();
    let all = Experiments::run(extent, options.seed, &bar)?;
    bar.finish_and_clear();
    let small = if options.small { " --small" } else { "" };
    let command = format!(
        "cargo run --release -p latchwork-lease-sim -- report --write lease/sim{small} --seed {}",
        options.seed
    );
    for file in render(&all, &command, options.seed)? {
        let path = options.write.join(file.name);
        fs::write(&path, file.text).map_err(|error| format!("{}: {error}", path.display()))?;
        println!("{}", path.display());
    }
    Ok(())
}

fn run(options: &One) -> Result<(), String> {
    let bar = bar();
    let world = World::new(options.setup())?;
    let outcome = world.run(|part| bar.set_position((100.0 * part) as u64));
    bar.finish_and_clear();
    print(&outcome);
    Ok(())
}

fn print(outcome: &Outcome) {
    let count = |number: u64| number as f64;
    for (title, value) in [
        ("acquisitions a second", outcome.rate()),
        ("time to acquire, median, ms", outcome.acquire_ms(0.5)),
        (
            "time to acquire, 99th percentile, ms",
            outcome.acquire_ms(0.99),
        ),
        ("acquisitions that failed", count(outcome.failed)),
        ("leases lost", count(outcome.lost)),
        ("takeovers", count(outcome.takeover.len())),
        ("takeover, median, s", outcome.takeover_s(0.5)),
        ("takeover, 99th percentile, s", outcome.takeover_s(0.99)),
        ("messages an acquisition", outcome.messages_each()),
        (
            "renewal messages, each lease and second",
            outcome.renewals_each(),
        ),
        (
            "overlaps with a paused holder",
            count(outcome.overlaps_paused),
        ),
        ("other overlaps", count(outcome.overlaps)),
        ("tokens out of order", count(outcome.regressions)),
        ("writes", count(outcome.writes)),
        ("writes that the fence refused", count(outcome.refused)),
        ("stale writes accepted", count(outcome.stale)),
        ("longest time without a grant, s", outcome.gap),
    ] {
        println!("{title:42} {value:12.3}");
    }
    println!("All figures are simulated.");
}

fn main() -> ExitCode {
    let result = match &Command::parse().action {
        Action::Report(options) => report(options),
        Action::Run(options) => run(options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}
