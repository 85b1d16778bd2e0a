//! A fleet runs each job once in each period, although workers are killed.
//!
//! Each worker is a process with the same schedule. For each period, a worker leases the job, runs
//! it, and records the run. The record is one transaction that checks the fence of the lease and
//! the number of the period, so a worker that continues after its lease records nothing. The
//! survivors run the jobs of a worker that was killed. An effect outside of that transaction, as a
//! mail, must check the fence where it happens, or it may occur twice.
//!
//! Run it with `cargo run --release -p latchwork-lease --example scheduler`. Exit code 1 is a job
//! that ran twice or not at all, and 2 is bad input.

use std::env;
use std::io;
use std::process::{Child, Command, ExitCode, Stdio, exit};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use latchwork::table::Fence;
use latchwork_lease::Leases;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

/// Runs each job once in each period, with worker processes of which one is killed.
#[derive(Clone, Debug, Parser)]
#[command(name = "scheduler")]
struct Cli {
    /// File of the leases and of the records, as sqlite:FILE [default: a new file]
    #[arg(long, value_name = "URL")]
    on: Option<String>,

    /// Worker processes
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=32))]
    workers: u32,

    /// Jobs
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=1000))]
    jobs: u32,

    /// Periods in which each job runs once
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    periods: u32,

    /// Milliseconds of a period
    #[arg(long, value_name = "MS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    period: u64,

    /// Milliseconds of work for one run
    #[arg(long, value_name = "MS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(..=60_000))]
    work: u64,

    /// Milliseconds of a lease
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(100..=60_000))]
    ttl: u64,

    /// The number of this worker, and the start of the first period
    #[arg(long, hide = true, num_args = 2, value_names = ["WORKER", "START"])]
    worker: Option<Vec<u64>>,
}

const TABLES: &str = "
    create table scheduler_job (
        job integer primary key, done integer not null,
        token integer not null, nonce blob not null);
    create table scheduler_run (job integer not null, period integer not null, worker integer not null);";

/// The guard: the row changes only for a later holder, or for the same one.
const BEGIN: &str = "
    update scheduler_job set token = ?2, nonce = ?3
     where job = ?1 and (token < ?2 or (token = ?2 and nonce = ?3))
    returning done";
const FINISH: &str = "
    update scheduler_job set done = done + 1
     where job = ?1 and token = ?2 and nonce = ?3 and done = ?4";

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn open(url: &str) -> Result<Connection, String> {
    let path = url
        .strip_prefix("sqlite:")
        .ok_or_else(|| format!("the URL {url:?} does not begin with sqlite:"))?;
    let connection = Connection::open(path).map_err(|error| format!("{path}: {error}"))?;
    connection
        .busy_timeout(Duration::from_secs(30))
        .map_err(text)?;
    Ok(connection)
}

/// Milliseconds of the wall clock, which all workers share.
fn wall_clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_millis() as u64
}

/// Records the run of one period. Returns whether the fence was accepted.
fn record(
    ledger: &mut Connection,
    job: u32,
    worker: u64,
    done: u32,
    (token, nonce): (i64, [u8; 16]),
) -> rusqlite::Result<bool> {
    let tx = ledger.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if tx.execute(FINISH, params![job, token, nonce, done])? == 0 {
        return Ok(false);
    }
    tx.execute(
        "insert into scheduler_run values (?1, ?2, ?3)",
        params![job, done, worker],
    )?;
    tx.commit()?;
    Ok(true)
}

/// The fence as columns: SQLite has signed numbers of 64 bits, and a nonce has 128.
fn columns(fence: Fence) -> (i64, [u8; 16]) {
    let token = i64::try_from(fence.token.get()).unwrap_or(i64::MAX);
    (token, fence.nonce.to_be_bytes())
}

/// A worker: runs the jobs that are not done in the present period and before.
fn work(cli: &Cli, url: &str, worker: u64, start: u64) -> Result<(), String> {
    let leases = Leases::builder()
        .owner_label(format!("worker {worker}"))
        .connect(url)
        .map_err(text)?;
    let mut ledger = open(url)?;
    let (ttl, pause) = (Duration::from_millis(cli.ttl), cli.period / 10);
    loop {
        let elapsed = wall_clock().saturating_sub(start) / cli.period;
        let present = u32::try_from(elapsed + 1).unwrap_or(u32::MAX);
        let periods = present.min(cli.periods);
        let query = "select job from scheduler_job where done < ?1 order by (job + ?2) % ?3";
        let open: Vec<u32> = ledger
            .prepare_cached(query)
            .and_then(|mut query| {
                let order = params![periods, worker * 7, cli.jobs];
                query.query_map(order, |row| row.get(0))?.collect()
            })
            .map_err(text)?;
        if open.is_empty() && periods == cli.periods {
            break;
        }
        for job in open {
            let lease = match leases.try_acquire(&format!("job/{job}"), ttl) {
                Ok(Some(lease)) => lease,
                // Another worker runs the job.
                Ok(None) => continue,
                Err(error) => return Err(text(error)),
            };
            let (token, nonce) = columns(lease.fence());
            let done: Option<u32> = ledger
                .query_row(BEGIN, params![job, token, nonce], |row| row.get(0))
                .optional()
                .map_err(text)?;
            let Some(done) = done.filter(|done| *done < periods) else {
                continue;
            };
            thread::sleep(Duration::from_millis(cli.work));
            record(&mut ledger, job, worker, done, (token, nonce)).map_err(text)?;
            // An unconfirmed release is repeated in the background.
            let _ = lease.release();
        }
        thread::sleep(Duration::from_millis(pause.max(5)));
    }
    leases
        .shutdown(Duration::from_secs(5))
        .map_err(|error| error.to_string())
}

fn spawn(cli: &Cli, url: &str, worker: u32, start: u64) -> io::Result<Child> {
    let argument = |name: &str, value: u64| format!("--{name}={value}");
    Command::new(env::current_exe()?)
        .arg(format!("--on={url}"))
        .arg(argument("jobs", cli.jobs.into()))
        .arg(argument("periods", cli.periods.into()))
        .arg(argument("period", cli.period))
        .arg(argument("work", cli.work))
        .arg(argument("ttl", cli.ttl))
        .args(["--worker", &worker.to_string(), &start.to_string()])
        .stdin(Stdio::piped())
        .spawn()
}

/// Runs the fleet. Returns whether each job ran once in each period.
fn run(cli: &Cli, url: &str) -> Result<bool, String> {
    // The file must be one of leases before it has other tables.
    drop(Leases::connect(url).map_err(text)?);
    let ledger = open(url)?;
    ledger
        .pragma_update(None, "journal_mode", "wal")
        .map_err(text)?;
    ledger.execute_batch(TABLES).map_err(text)?;
    for job in 0..cli.jobs {
        let nothing: &[u8] = &[];
        let row = "insert into scheduler_job values (?1, 0, 0, ?2)";
        ledger.execute(row, params![job, nothing]).map_err(text)?;
    }
    let start = wall_clock();
    let workers = (0..cli.workers).map(|worker| spawn(cli, url, worker, start));
    let mut workers: Vec<Child> = workers.collect::<Result<_, _>>().map_err(text)?;
    let mut killed = 0;
    if workers.len() > 1 {
        // In the middle, while it may run a job.
        thread::sleep(Duration::from_millis(
            cli.period * u64::from(cli.periods) / 2,
        ));
        let mut victim = workers.remove(0);
        killed += u32::from(victim.kill().is_ok());
        let _ = victim.wait();
    }
    // A wait closes standard input, which would end the worker.
    let inputs: Vec<_> = workers
        .iter_mut()
        .map(|worker| worker.stdin.take())
        .collect();
    for worker in &mut workers {
        let status = worker.wait().map_err(text)?;
        if !status.success() {
            return Err("a worker failed".to_owned());
        }
    }
    drop(inputs);
    report(cli, &ledger, killed).map_err(text)
}

fn report(cli: &Cli, ledger: &Connection, killed: u32) -> rusqlite::Result<bool> {
    let count = |query: &str| ledger.query_row(query, [], |row| row.get::<_, u32>(0));
    let runs = count("select count(*) from scheduler_run")?;
    let distinct = count("select count(*) from (select distinct job, period from scheduler_run)")?;
    println!("{:24} {:>8}", "worker", "runs");
    let mut query = ledger
        .prepare("select worker, count(*) from scheduler_run group by worker order by worker")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        println!("{:24} {:>8}", row.get::<_, u32>(0)?, row.get::<_, u32>(1)?);
    }
    let expected = cli.jobs * cli.periods;
    for (title, value) in [
        ("jobs x periods", expected),
        ("runs", runs),
        ("runs missing", expected - distinct),
        ("runs more than once", runs - distinct),
        ("workers killed", killed),
    ] {
        println!("{title:24} {value:>8}");
    }
    Ok(runs == expected && distinct == expected)
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let fail = |message: String| {
        eprintln!("scheduler: {message}");
        ExitCode::from(2)
    };
    if let (Some(worker), Some(url)) = (&cli.worker, &cli.on) {
        thread::spawn(|| {
            // Standard input ends when the parent does, however it ends.
            let _ = io::copy(&mut io::stdin(), &mut io::sink());
            exit(1);
        });
        return match work(&cli, url, worker[0], worker[1]) {
            Ok(()) => ExitCode::SUCCESS,
            Err(message) => fail(message),
        };
    }
    let folder = match tempfile::tempdir() {
        Ok(folder) => folder,
        Err(error) => return fail(error.to_string()),
    };
    let file = folder.path().join("scheduler.db");
    let url = cli.on.clone();
    let url = url.unwrap_or_else(|| format!("sqlite:{}", file.display()));
    match run(&cli, &url) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => fail(message),
    }
}
