//! The worker processes: started, tormented, replaced, and listened to.

use std::collections::HashMap;
use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use rustix::process::{Pid, Signal, kill_process};

use crate::torment::{Plan, Torment, Tormentor};
use crate::worker::{Event, Job};

/// What happened in a run.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) took: Duration,
    pub(crate) flights: u64,
    pub(crate) killed: u64,
    pub(crate) stopped: u64,
    /// Batches that the fence of a later holder refused.
    pub(crate) refused: u64,
    /// How often a worker noticed by itself that its lease had ended.
    pub(crate) noticed: u64,
    /// Milliseconds from a torment until another worker has the shard.
    pub(crate) takeovers: Histogram<u64>,
}

/// A worker process. Dropping it kills it.
#[derive(Debug)]
struct Worker {
    child: Child,
    /// Closed when the parent ends, which ends the worker.
    _stdin: ChildStdin,
    shard: Option<u32>,
    /// When it continues, if it is stopped.
    stopped_until: Option<Instant>,
}

impl Worker {
    fn start(id: u64, job: &Job, heard: &Sender<(u64, Option<Event>)>) -> io::Result<Self> {
        let mut child = Command::new(env::current_exe()?)
            .arg("--worker")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut stdin = child.stdin.take().expect("it is a pipe");
        let stdout = child.stdout.take().expect("it is a pipe");
        let worker = Worker {
            child,
            _stdin: {
                writeln!(stdin, "{}", serde_json::to_string(job)?)?;
                stdin
            },
            shard: None,
            stopped_until: None,
        };
        let heard = heard.clone();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let Ok(event) = serde_json::from_str(&line) else {
                    break; // A line that its process could not finish.
                };
                let _ = heard.send((id, Some(event)));
            }
            let _ = heard.send((id, None));
        });
        Ok(worker)
    }

    fn signal(&self, signal: Signal) {
        // The process is a child that was not waited for, so the number is still its own.
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Replays all shards, and returns what happened.
pub(crate) fn replay(
    job: &Job,
    workers: u32,
    torment: Option<Plan>,
    flights: u64,
) -> Result<Outcome, String> {
    let (heard, events) = mpsc::channel();
    let mut crew = Crew {
        job,
        heard,
        workers: HashMap::new(),
        next: 0,
        abandoned: HashMap::new(),
        outcome: Outcome {
            took: Duration::ZERO,
            flights: 0,
            killed: 0,
            stopped: 0,
            refused: 0,
            noticed: 0,
            takeovers: Histogram::new(3).expect("three digits are possible"),
        },
    };
    let bar = ProgressBar::new(flights);
    bar.set_style(
        ProgressStyle::with_template("{bar:24} {percent:>3}% {per_sec} {msg}")
            .expect("the template is valid")
            .with_key(
                "per_sec",
                |state: &indicatif::ProgressState, w: &mut dyn std::fmt::Write| {
                    let _ = write!(w, "{:.0} flights/s", state.per_sec());
                },
            ),
    );
    let start = Instant::now();
    for _ in 0..workers {
        crew.hire().map_err(|e| e.to_string())?;
    }
    let mut tormentor = torment.map(Tormentor::new);
    let done = crew.watch(&events, tormentor.as_mut(), &bar);
    bar.finish_and_clear();
    done?;
    crew.outcome.took = start.elapsed();
    Ok(crew.outcome)
}

struct Crew<'a> {
    job: &'a Job,
    heard: Sender<(u64, Option<Event>)>,
    workers: HashMap<u64, Worker>,
    next: u64,
    /// Shards whose worker was tormented: the worker, and when.
    abandoned: HashMap<u32, (u64, Instant)>,
    outcome: Outcome,
}

impl Crew<'_> {
    fn hire(&mut self) -> io::Result<()> {
        let id = self.next;
        self.next += 1;
        let worker = Worker::start(id, self.job, &self.heard)?;
        self.workers.insert(id, worker);
        Ok(())
    }

    /// Listens until all workers have ended.
    fn watch(
        &mut self,
        events: &Receiver<(u64, Option<Event>)>,
        mut tormentor: Option<&mut Tormentor>,
        bar: &ProgressBar,
    ) -> Result<(), String> {
        while !self.workers.is_empty() {
            match events.recv_timeout(Duration::from_millis(20)) {
                Ok((id, Some(event))) => self.note(id, event),
                Ok((id, None)) => self.ended(id)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => unreachable!("the crew has a sender"),
            }
            self.resume();
            if let Some(tormentor) = tormentor.as_deref_mut() {
                self.torment(tormentor).map_err(|e| e.to_string())?;
            }
            bar.set_position(self.outcome.flights);
            bar.set_message(format!(
                "{} taken over, {} late writes refused",
                self.outcome.takeovers.len(),
                self.outcome.refused
            ));
        }
        Ok(())
    }

    fn note(&mut self, id: u64, event: Event) {
        let mut shard_of_worker = None;
        match event {
            Event::Began { shard } => {
                if let Some((victim, since)) = self.abandoned.remove(&shard) {
                    if victim != id {
                        let _ = self
                            .outcome
                            .takeovers
                            .record(since.elapsed().as_millis() as u64);
                    }
                }
                shard_of_worker = Some(shard);
            }
            Event::Added { flights } => {
                self.outcome.flights += flights;
                return;
            }
            Event::Refused { .. } => self.outcome.refused += 1,
            Event::Lost { .. } => self.outcome.noticed += 1,
            Event::Finished { shard } => {
                self.abandoned.remove(&shard);
            }
        }
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.shard = shard_of_worker;
        }
    }

    /// Removes a worker that has ended, which must have finished its work.
    fn ended(&mut self, id: u64) -> Result<(), String> {
        // A worker that was killed is no longer in the map.
        let Some(mut worker) = self.workers.remove(&id) else {
            return Ok(());
        };
        let status = worker.child.wait().map_err(|e| e.to_string())?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("a worker failed: {status}"))
        }
    }

    fn resume(&mut self) {
        let now = Instant::now();
        for worker in self.workers.values_mut() {
            if worker.stopped_until.is_some_and(|end| end <= now) {
                worker.stopped_until = None;
                worker.signal(Signal::CONT);
            }
        }
    }

    fn torment(&mut self, tormentor: &mut Tormentor) -> io::Result<()> {
        // A worker without a shard is left alone: nothing could be taken over.
        let mut victims: Vec<_> = self
            .workers
            .iter()
            .filter(|(_, worker)| worker.shard.is_some() && worker.stopped_until.is_none())
            .map(|(&id, _)| id)
            .collect();
        victims.sort_unstable();
        let now = Instant::now();
        let Some((index, torment)) = tormentor.choose(now, victims.len()) else {
            return Ok(());
        };
        let id = victims[index];
        let worker = self.workers.get_mut(&id).expect("it was just listed");
        if let Some(shard) = worker.shard {
            self.abandoned.insert(shard, (id, now));
        }
        match torment {
            Torment::Kill => {
                self.workers.remove(&id);
                self.outcome.killed += 1;
                self.hire()?;
            }
            Torment::StopFor(duration) => {
                worker.signal(Signal::STOP);
                worker.stopped_until = Some(now + duration);
                self.outcome.stopped += 1;
            }
        }
        Ok(())
    }
}
