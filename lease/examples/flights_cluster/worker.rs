//! A worker process: it leases one shard after the other and adds its flights to the totals.

use std::io::{self, Write as _};
use std::process;
use std::thread;
use std::time::Duration;

use latchwork_lease::{AcquireError, Lease, Leases};
use serde::{Deserialize, Serialize};

use crate::data::Flight;
use crate::failure::Failure;
use crate::ledger::{self, Ledger, Write};
use crate::shards::{Shards, Totals};

/// What a worker needs to know: the first line of its standard input.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) url: String,
    pub(crate) run: String,
    pub(crate) shards: Shards,
    pub(crate) batch: u32,
    pub(crate) pause: Duration,
    pub(crate) ttl: Duration,
    pub(crate) is_fenced: bool,
}

/// What a worker reports: a line of its standard output.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Event {
    /// The lease of a shard is granted, and its fence is presented.
    Began { shard: u32 },
    /// A batch is in the totals.
    Added { flights: u64 },
    /// The fence of a later holder refused a batch.
    Refused { shard: u32 },
    /// The worker noticed by itself that its lease has ended.
    Lost { shard: u32 },
    /// All flights of the shard are in the totals, and the lease is released.
    Finished { shard: u32 },
}

fn say(event: Event) {
    let line = serde_json::to_string(&event).expect("an event is a value of JSON");
    // The parent has ended if its end of the pipe is closed.
    if writeln!(io::stdout(), "{line}").is_err() {
        process::exit(1);
    }
}

pub(crate) fn run() -> Result<(), Failure> {
    let mut line = String::new();
    io::stdin().read_line(&mut line).map_err(Failure::failed)?;
    let job = serde_json::from_str(&line).map_err(Failure::failed)?;
    thread::spawn(|| {
        // Standard input ends when the parent does, however it ends.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        process::exit(1);
    });
    Worker::start(&job)?.replay()
}

struct Worker<'a> {
    job: &'a Job,
    leases: Leases,
    ledger: Box<dyn Ledger>,
    flights: Vec<Flight>,
}

impl<'a> Worker<'a> {
    fn start(job: &'a Job) -> Result<Self, Failure> {
        Ok(Worker {
            job,
            leases: Leases::connect(&job.url).map_err(Failure::failed)?,
            ledger: ledger::open(&job.url).map_err(Failure::failed)?,
            flights: job.shards.read().map_err(Failure::failed)?,
        })
    }

    /// Leases shards until all flights are in the totals.
    fn replay(&mut self) -> Result<(), Failure> {
        loop {
            let open = self.unfinished()?;
            if open.is_empty() {
                return Ok(());
            }
            let mut acquired = false;
            for shard in open {
                let name = format!("flights/{}/{shard}", self.job.run);
                match self.leases.try_acquire(&name, self.job.ttl) {
                    Ok(Some(lease)) => {
                        self.replay_shard(shard, lease)?;
                        acquired = true;
                        break;
                    }
                    Ok(None) => {}
                    // A process that is stopped within a transaction locks the file for so long.
                    Err(AcquireError::Unavailable { .. }) => break,
                    Err(error) => return Err(Failure::failed(error)),
                }
            }
            if !acquired {
                thread::sleep(self.job.ttl / 20);
            }
        }
    }

    /// Returns the unfinished shards: those first that a worker has begun and left.
    fn unfinished(&mut self) -> Result<Vec<u32>, Failure> {
        let progress = self
            .ledger
            .progress(&self.job.run)
            .map_err(Failure::failed)?;
        let mut open: Vec<_> = (0..)
            .zip(progress)
            .filter(|&(shard, done)| done < self.job.shards.range(shard).len() as u64)
            .collect();
        // Different processes begin at different shards.
        let first = process::id() as usize % open.len().max(1);
        open.rotate_left(first);
        open.sort_by_key(|&(_, done)| done == 0);
        Ok(open.into_iter().map(|(shard, _)| shard).collect())
    }

    fn replay_shard(&mut self, shard: u32, lease: Lease) -> Result<(), Failure> {
        let job = self.job;
        let fence = job.is_fenced.then(|| lease.fence());
        let flights = job.shards.range(shard);
        // Presenting the fence first makes the number exact: no earlier holder can change it now.
        let begun = self.ledger.begin(&job.run, shard, fence);
        let Write::Accepted(mut done) = begun.map_err(Failure::failed)? else {
            say(Event::Refused { shard });
            return Ok(());
        };
        say(Event::Began { shard });
        while (done as usize) < flights.len() {
            // This check saves useless work. It cannot exclude a late write: the process may be
            // stopped right behind it.
            if !lease.is_held() {
                say(Event::Lost { shard });
                return Ok(());
            }
            let start = flights.start + done as usize;
            let end = flights.end.min(start + job.batch as usize);
            let batch = Totals::of(&self.flights[start..end]);
            thread::sleep(job.pause);
            let count = (end - start) as u64;
            let added = self
                .ledger
                .add(&job.run, shard, fence, done + count, &batch);
            if added.map_err(Failure::failed)? == Write::Refused {
                say(Event::Refused { shard });
                return Ok(());
            }
            done += count;
            say(Event::Added { flights: count });
        }
        // A release that fails leaves a lease that ends by itself.
        let _ = lease.release();
        say(Event::Finished { shard });
        Ok(())
    }
}
