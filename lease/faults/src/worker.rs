//! A worker process: its threads acquire names, write through the fence, and release.
//!
//! A thread checks its lease, works, and then writes. So a process that is stopped writes late when
//! it continues, and only the fence refuses this write.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use latchwork_lease::engine::Engine;
use latchwork_lease::{
    AcquireError, AcquireOptions, ConnectError, Lease, Leases, LossReason, conformance,
};

use crate::clock::{self, Nanos, now};
use crate::history::CLOCKS_DIFFER;
use crate::lock_call::LockCall;
use crate::message::{Client, Failure, Job, LONG, Lost, Message, NAMESPACE, PROBE, SHORT};
use crate::recorded::{Asked, Recorded};

/// The exit status of a worker that the engine refuses until its configuration changes.
pub(crate) const REFUSED: i32 = 3;

/// The time limit for a connection to the engine.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);

static IS_PAUSED: AtomicBool = AtomicBool::new(false);

/// Runs a worker until its standard input ends, which it does with the program of the campaign.
pub(crate) fn run() -> Result<(), String> {
    let mut input = BufReader::new(io::stdin());
    let mut line = String::new();
    input.read_line(&mut line).map_err(text)?;
    let job: Job = serde_json::from_str(&line).map_err(text)?;
    thread::spawn(move || {
        for line in input.lines().map_while(Result::ok) {
            IS_PAUSED.store(line == "pause", Ordering::SeqCst);
        }
        process::exit(1);
    });
    let engine = connect(&job)?;
    let asked = Asked::default();
    let recorded = Recorded {
        engine,
        asked: asked.clone(),
    };
    let leases = Leases::builder()
        .namespace(NAMESPACE)
        .owner_label(format!("worker {}", job.process))
        .build(recorded)
        .map_err(text)?;
    let names: &[&str] = match job.probes {
        true => &[PROBE],
        false => &[SHORT, SHORT, LONG],
    };
    thread::scope(|scope| {
        for (number, &name) in (0..).zip(names) {
            let (leases, job, asked) = (leases.clone(), &job, asked.clone());
            scope.spawn(move || {
                let stream = UnixStream::connect(&job.socket);
                let stream = stream.expect("the program of the campaign listens");
                let reader = stream.try_clone().expect("a socket can be cloned");
                let mut worker = Worker {
                    leases,
                    asked,
                    name,
                    ttl: Duration::from_millis(job.milliseconds),
                    stream,
                    answers: BufReader::new(reader),
                };
                worker.report(&Message::Hello {
                    process: job.process,
                    thread: number,
                });
                worker.work();
            });
        }
    });
    Ok(())
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn connect(job: &Job) -> Result<Arc<dyn Engine>, String> {
    if job.client == Client::LockCall {
        return Ok(Arc::new(LockCall::new(&job.url)));
    }
    let start = Instant::now();
    loop {
        match conformance::open(&job.url) {
            Ok(engine) => return Ok(engine),
            Err(ConnectError::Engine(error)) if !error.is_temporary => {
                println!("refused: {error}");
                process::exit(REFUSED);
            }
            Err(error) if start.elapsed() > CONNECT_LIMIT => return Err(text(error)),
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// One thread of a worker.
struct Worker {
    leases: Leases,
    asked: Asked,
    name: &'static str,
    ttl: Duration,
    stream: UnixStream,
    answers: BufReader<UnixStream>,
}

/// The time at which a holder was notified of a loss.
type Notice = Arc<(Mutex<Option<(Nanos, LossReason)>>, Condvar)>;

impl Worker {
    /// Sends a message. The process ends if the program of the campaign has ended.
    fn report(&mut self, message: &Message) {
        let line = serde_json::to_string(message).expect("a message is a value of JSON");
        if self.stream.write_all((line + "\n").as_bytes()).is_err() {
            process::exit(1);
        }
    }

    fn work(&mut self) {
        loop {
            if IS_PAUSED.load(Ordering::SeqCst) {
                self.report(&Message::Idle);
                while IS_PAUSED.load(Ordering::SeqCst) {
                    thread::sleep(Duration::from_millis(5));
                }
            }
            self.report(&Message::Asking {
                name: self.name.to_owned(),
            });
            let mut options = AcquireOptions::new(self.ttl);
            let limit = match fastrand::u8(0..4) {
                // These often end while a request is in flight.
                0 if self.name == SHORT => fastrand::u64(5..100),
                1 if self.name == SHORT => 1000,
                _ => 5000,
            };
            options.give_up_after = Some(Duration::from_millis(limit));
            match self.leases.acquire_with(self.name, &options) {
                Ok(lease) => self.hold(lease),
                Err(error) => {
                    let failure = match error {
                        AcquireError::GaveUp => Failure::GaveUp,
                        error @ AcquireError::Unavailable { .. } => {
                            Failure::Unavailable(error.to_string())
                        }
                        error => Failure::Other(error.to_string()),
                    };
                    self.report(&Message::Failed(failure));
                    thread::sleep(Duration::from_millis(10));
                }
            }
        }
    }

    fn hold(&mut self, lease: Lease) {
        let granted = now();
        let fence = lease.fence();
        let asked = self.asked.remove(fence.nonce);
        self.report(&Message::Granted {
            token: fence.token.get(),
            nonce: format!("{:032x}", fence.nonce),
            asked: asked.unwrap_or(granted),
            granted,
        });
        let notice = Notice::default();
        let notifier = Arc::clone(&notice);
        lease.on_lost(move |reason| {
            let mut noticed = lock(&notifier.0);
            *noticed = Some((now(), reason));
            notifier.1.notify_all();
        });
        let (length, work) = match self.name {
            LONG => (self.ttl * 3 / 2, fastrand::u64(15..40)),
            SHORT => (Duration::from_millis(40), fastrand::u64(3..15)),
            _ => (Duration::ZERO, 5),
        };
        let (start, mut last) = (Instant::now(), granted);
        while start.elapsed() < length && !IS_PAUSED.load(Ordering::SeqCst) {
            let Some(held) = self.check(&lease) else {
                break;
            };
            last = held;
            thread::sleep(Duration::from_millis(work));
            // The lease may have ended since the check. Only the fence refuses this write.
            if !self.write(last) {
                break;
            }
        }
        match self.check(&lease) {
            Some(held) => {
                let is_confirmed = lease.release().is_ok();
                self.report(&Message::Ended {
                    held,
                    loss: None,
                    is_confirmed,
                });
            }
            None => {
                let loss = wait_for(&notice).map(|(notified, reason)| Lost {
                    deadline: clock::at(lease.deadline()),
                    notified,
                    has_expired: reason == LossReason::Expired,
                });
                if loss.is_none() {
                    self.report(&Message::Failed(Failure::Other(
                        "a loss was not notified".to_owned(),
                    )));
                }
                self.report(&Message::Ended {
                    held: last,
                    loss,
                    is_confirmed: true,
                });
            }
        }
        if self.name == PROBE {
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Returns a time at which the lease was held, or `None` if it is lost.
    fn check(&mut self, lease: &Lease) -> Option<Nanos> {
        let before = clock::at(lease.deadline());
        let time = now();
        let is_held = lease.is_held();
        let end = before.max(clock::at(lease.deadline()));
        if is_held && time > end + CLOCKS_DIFFER {
            self.report(&Message::HeldPastEnd);
        }
        is_held.then_some(time)
    }

    fn write(&mut self, held: Nanos) -> bool {
        self.report(&Message::Write { held });
        let mut answer = [0; 2];
        if self.answers.read_exact(&mut answer).is_err() {
            process::exit(1);
        }
        answer == *b"1\n"
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until the loss is notified, which is soon after `is_held` was false.
fn wait_for(notice: &Notice) -> Option<(Nanos, LossReason)> {
    let limit = Duration::from_secs(5);
    let noticed = lock(&notice.0);
    let wait = notice
        .1
        .wait_timeout_while(noticed, limit, |noticed| noticed.is_none());
    *wait.unwrap_or_else(PoisonError::into_inner).0
}
