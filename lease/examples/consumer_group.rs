//! A consumer group spreads shards over a changing number of workers.
//!
//! Each worker is a process. It leases a name as a member, and counts the members. Of the shards it
//! leases its part and no more: it releases what exceeds the part, and acquires shards that are
//! free. No worker coordinates the others.
//!
//! A worker works on a shard only while its membership is held, and a membership lasts half as long
//! as the lease of a shard. So if a worker is killed, its membership ends after half of a lease at
//! the latest. The other workers then break the leases of its shards, and have the second half to
//! acquire them. The order of two reads makes this safe: a worker reads the shards before the
//! members. A holder in the first list was a member before, so it has left if the second list does
//! not contain it. A worker that loses its membership, such as one that was stopped, joins again.
//!
//! The parent starts and ends workers, and measures the time until all shards are held and no
//! worker holds more than its part. Run it with
//! `cargo run --release -p latchwork-lease --example consumer_group`. Exit code 1 is a group that
//! did not become balanced, and 2 is bad input.

use std::collections::BTreeMap;
use std::env;
use std::io::{self, Read};
use std::process::{Child, Command, ExitCode, Stdio, exit};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use latchwork_lease::{Lease, Leases};

/// Spreads shards over workers that join, leave and are killed.
#[derive(Clone, Debug, Parser)]
#[command(name = "consumer_group")]
struct Cli {
    /// Engine of the leases [default: a new SQLite file]
    #[arg(long, value_name = "URL")]
    on: Option<String>,

    /// Shards, each under one lease
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1000))]
    shards: u32,

    /// Milliseconds of a lease on a shard, within which the shards of a killed worker are held
    /// again; memberships last half of it
    #[arg(long, value_name = "MS", default_value_t = 4000, value_parser = clap::value_parser!(u64).range(200..=60_000))]
    lease: u64,

    /// Lengths of a lease after which the group must be balanced
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    patience: u32,

    /// The number of this worker
    #[arg(long, hide = true)]
    worker: Option<u32>,
}

const MEMBERS: &str = "group/member/";
const SHARDS: &str = "group/shard/";

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Cli {
    /// The length of a lease on a shard.
    fn lease(&self) -> Duration {
        Duration::from_millis(self.lease)
    }

    /// The label of a worker, which its leases show to the others.
    fn label(number: u32) -> String {
        format!("worker {number}")
    }
}

fn shard(number: u32) -> String {
    format!("{SHARDS}{number:04}")
}

/// The shards that one of so many members may hold.
fn part(shards: u32, members: usize) -> usize {
    (shards as usize).div_ceil(members.max(1))
}

/// A worker: leases its part of the shards until standard input ends.
fn work(cli: &Cli, url: &str, number: u32) -> Result<(), String> {
    let is_over = Arc::new(AtomicBool::new(false));
    let flag = is_over.clone();
    thread::spawn(move || {
        // One byte is a request to leave. The end of standard input is the end of the parent.
        match io::stdin().read(&mut [0]) {
            Ok(1) => flag.store(true, Ordering::Relaxed),
            _ => exit(1),
        }
    });
    let leases = Leases::builder().owner_label(Cli::label(number));
    let leases = leases.connect(url).map_err(text)?;
    // Relaxed: the flag publishes no other memory.
    while !is_over.load(Ordering::Relaxed) {
        let membership = leases.acquire(&format!("{MEMBERS}{number}"), cli.lease() / 2);
        let membership = membership.map_err(text)?;
        let mut held: BTreeMap<u32, Lease> = BTreeMap::new();
        // Relaxed: as above.
        while membership.is_held() && !is_over.load(Ordering::Relaxed) {
            held.retain(|_, lease| lease.is_held());
            balance(cli, &leases, &mut held, number)?;
            thread::sleep(cli.lease() / 50);
        }
        // The shards precede the membership, so no other worker breaks them.
        drop(held);
    }
    leases.shutdown(Duration::from_secs(5)).map_err(text)
}

/// Releases the shards above the part of this worker, and acquires free ones below it.
fn balance(
    cli: &Cli,
    leases: &Leases,
    held: &mut BTreeMap<u32, Lease>,
    number: u32,
) -> Result<(), String> {
    // The shards before the members: a holder was a member before it leased a shard.
    let mut leased = leases.list(SHARDS).map_err(text)?;
    let members = leases.list(MEMBERS).map_err(text)?;
    let is_member = |label: &str| {
        let mut members = members.iter();
        members.any(|(_, member)| member.owner_label == label)
    };
    let part = part(cli.shards, members.len());
    while held.len() > part {
        // The work on the shard must have ended here.
        if let Some((_, lease)) = held.pop_last() {
            let _ = lease.release();
        }
    }
    if held.len() == part {
        return Ok(());
    }
    let own = Cli::label(number);
    let mut error = None;
    leased.retain(|(name, holder)| {
        let has_left = holder.owner_label != own && !is_member(&holder.owner_label);
        // Breaking names the token that was read, so it cannot end the lease of a later holder.
        if has_left {
            let broken = leases.break_lease(name, holder.token);
            error = broken.err().or(error.take());
        }
        !has_left
    });
    if let Some(error) = error {
        return Err(text(error));
    }
    let is_free = |name: &String| !leased.iter().any(|(other, _)| other == name);
    // Each worker begins at another shard, so that few of them try the same one.
    let first = number.wrapping_mul(17) % cli.shards;
    for step in 0..cli.shards {
        let candidate = (first + step) % cli.shards;
        let name = shard(candidate);
        if held.len() == part || !is_free(&name) {
            continue;
        }
        if let Some(lease) = leases.try_acquire(&name, cli.lease()).map_err(text)? {
            held.insert(candidate, lease);
        }
    }
    Ok(())
}

/// The group as its parent sees it.
struct Group<'a> {
    cli: &'a Cli,
    url: &'a str,
    leases: Leases,
    workers: Vec<Child>,
    started: u32,
}

impl Group<'_> {
    fn start(&mut self) -> io::Result<()> {
        let worker = Command::new(env::current_exe()?)
            .arg(format!("--on={}", self.url))
            .arg(format!("--shards={}", self.cli.shards))
            .arg(format!("--lease={}", self.cli.lease))
            .arg(format!("--worker={}", self.started))
            .stdin(Stdio::piped())
            .spawn()?;
        self.started += 1;
        self.workers.push(worker);
        Ok(())
    }

    fn kill(&mut self) -> io::Result<()> {
        let mut worker = self.workers.remove(0);
        let killed = worker.kill();
        worker.wait()?;
        killed
    }

    fn leave(&mut self) -> io::Result<()> {
        let mut worker = self.workers.remove(0);
        let asked = match &mut worker.stdin {
            Some(input) => io::Write::write_all(input, b"x"),
            None => Ok(()),
        };
        worker.wait()?;
        asked
    }

    /// The shards of each worker.
    fn holders(&self) -> Result<BTreeMap<String, usize>, String> {
        let mut holders = BTreeMap::new();
        for (_, holder) in self.leases.list(SHARDS).map_err(text)? {
            *holders.entry(holder.owner_label).or_default() += 1;
        }
        Ok(holders)
    }

    /// Waits until the group is balanced, and prints a row. Returns whether it is.
    fn settle(&self, change: &str) -> Result<bool, String> {
        let start = Instant::now();
        let lease = self.cli.lease();
        loop {
            let holders = self.holders()?;
            let held: usize = holders.values().sum();
            let most = holders.values().copied().max().unwrap_or(0);
            let (count, shards) = (self.workers.len(), self.cli.shards);
            let is_balanced =
                held == shards as usize && most <= part(shards, count) && holders.len() <= count;
            let elapsed = start.elapsed();
            if is_balanced || elapsed > lease * self.cli.patience {
                let part = elapsed.as_secs_f64() / lease.as_secs_f64();
                let least = holders.values().copied().min().unwrap_or(0);
                println!(
                    "{change:20} {count:>7} {held:>6} {least:>5} {most:>5} {:>9.2} {part:>7.2}",
                    elapsed.as_secs_f64(),
                );
                return Ok(is_balanced);
            }
            thread::sleep(lease / 50);
        }
    }
}

fn run(cli: &Cli, url: &str) -> Result<bool, String> {
    let mut group = Group {
        cli,
        url,
        leases: Leases::connect(url).map_err(text)?,
        workers: Vec::new(),
        started: 0,
    };
    println!(
        "{:20} {:>7} {:>6} {:>5} {:>5} {:>9} {:>7}",
        "change", "workers", "shards", "least", "most", "seconds", "leases"
    );
    let mut is_balanced = true;
    for _ in 0..2 {
        group.start().map_err(text)?;
    }
    is_balanced &= group.settle("two start")?;
    for _ in 0..2 {
        group.start().map_err(text)?;
    }
    is_balanced &= group.settle("two join")?;
    group.kill().map_err(text)?;
    is_balanced &= group.settle("one is killed")?;
    group.leave().map_err(text)?;
    is_balanced &= group.settle("one leaves")?;
    let is_left = |group: &Group<'_>| !group.workers.is_empty();
    while is_left(&group) {
        group.leave().map_err(text)?;
    }
    println!(
        "{:20} {:>7}",
        "balanced",
        if is_balanced { "yes" } else { "no" }
    );
    Ok(is_balanced)
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let fail = |message: String| {
        eprintln!("consumer_group: {message}");
        ExitCode::from(2)
    };
    if let (Some(number), Some(url)) = (cli.worker, &cli.on) {
        return match work(&cli, url, number) {
            Ok(()) => ExitCode::SUCCESS,
            Err(message) => fail(message),
        };
    }
    let folder = match tempfile::tempdir() {
        Ok(folder) => folder,
        Err(error) => return fail(error.to_string()),
    };
    let file = folder.path().join("group.db");
    let url = cli.on.clone();
    let url = url.unwrap_or_else(|| format!("sqlite:{}", file.display()));
    match run(&cli, &url) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => fail(message),
    }
}
