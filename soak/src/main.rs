//! Every structure at once, for as long as one likes: threads come and go, more of them than there
//! are cores, some end by a panic with locks in hand, futures are dropped halfway. It fails if
//! memory grows, if a thread stands still, or if a total is wrong.
//!
//! Time is cut into rounds. After each, all threads are gone and everything that was locked, waited
//! for or replaced must be too: then the heap is as large as it was after the first rounds, but for
//! a slack.
//!
//! `--plant` has one thread of the soak itself break a promise: the soak must find that.

mod crew;
mod heap;
mod rng;
mod structures;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};

use crew::Crew;
use structures::{Structure, all, prepare};

/// A bug of the soak's own, that it must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Plant {
    /// A snapshot is forgotten now and then.
    Leak,
    /// A guard is forgotten, once.
    Standstill,
    /// Money is paid in that nobody has paid out, once.
    Total,
}

/// Runs every structure under churn.
#[derive(Clone, Debug, Parser)]
struct Args {
    /// For how long.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Seconds of a round.
    #[arg(long, default_value_t = 5)]
    round: u64,
    /// Seconds in which every thread has to get somewhere.
    #[arg(long, default_value_t = 60)]
    patience: u64,
    /// Threads at a time; by default four for each core, and at least three for each structure.
    #[arg(long)]
    threads: Option<usize>,
    /// Where the choices begin.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// KiB that the heap may grow by after the first rounds: some come and go with the crowds that
    /// meet by chance. In ten minutes a leak of one object in some thousand operations is many
    /// times as much.
    #[arg(long, default_value_t = 512)]
    slack: usize,
    /// Structures that are to work, by name; all of them unless one is named.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// A bug that it must find.
    #[arg(long)]
    plant: Option<Plant>,
}

/// Rounds after which memory has to be what it will be: threads and tables have been set up.
const WARM_UP: u32 = 4;

fn main() -> ExitCode {
    let args = Args::parse();
    prepare();
    let structures = all(args.plant, &args.only);
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let least = 3 * structures.len();
    let threads = args.threads.unwrap_or(4 * cores).max(least);
    let begun = Instant::now();
    let result = soak(&args, structures, threads, begun);
    println!(
        "{threads} threads at a time, {cores} cores, {} seconds, seed {}",
        begun.elapsed().as_secs(),
        args.seed
    );
    for structure in structures {
        println!(
            "soak: {} {}",
            structure.name(),
            structure.operations().get()
        );
    }
    match result {
        Ok(()) => {
            println!("nothing grew, nobody stood still, all totals are right");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("FAILED: {failure}");
            // Threads may be stuck, and would keep the process.
            std::process::exit(1)
        }
    }
}

/// Frees what no thread can see any more. Each flush advances the epoch, and frees some of what
/// earlier threads left.
fn settle() {
    let (mut least, mut idle) = (usize::MAX, 0);
    while idle < 64 {
        latchwork::flush();
        idle = if heap::live() < least { 0 } else { idle + 1 };
        least = least.min(heap::live());
    }
}

fn soak(
    args: &Args,
    structures: &'static [Box<dyn Structure>],
    threads: usize,
    begun: Instant,
) -> Result<(), String> {
    let end = begun + Duration::from_secs(args.seconds);
    let mut crew = Crew::new(structures, threads, args.seed, args.patience);
    let mut at_first = 0;
    for round in 1.. {
        let length = Duration::from_secs(args.round).min(end - Instant::now().min(end));
        crew.work(length)?;
        // What this thread has written it drops itself; the rest is for one that takes along what
        // it keeps.
        latchwork::flush();
        let settled = std::thread::spawn(settle).join();
        settled.map_err(|_| "a destructor panicked".to_owned())?;
        for structure in structures {
            let check = structure.check();
            check.map_err(|wrong| format!("{}: {wrong}", structure.name()))?;
        }
        let garbage = latchwork::stats().garbage;
        if garbage > 0 {
            return Err(format!("{garbage} values wait for threads that are gone"));
        }
        let now = heap::live();
        println!(
            "round {round}: {} threads so far, {} KiB on the heap, {} at most",
            crew.threads_so_far(),
            now / 1024,
            heap::peak() / 1024
        );
        if round <= WARM_UP {
            at_first = now.max(at_first);
        } else if now > at_first + 1024 * args.slack {
            return Err(format!("the heap grew from {at_first} to {now} bytes"));
        }
        if heap::peak() > heap::MOST {
            return Err(format!("{} bytes at once", heap::peak()));
        }
        if Instant::now() >= end {
            break;
        }
    }
    Ok(())
}
