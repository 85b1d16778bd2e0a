//! Processes that this program starts, and what they do.
//!
//! A child reads one command a line and answers with one line. It ends with its input, and thus
//! with the parent.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, io, thread};

use latchwork_lease::Leases;
use latchwork_lease::engine::Engine;
use rustix::time::{ClockId, clock_gettime};

use crate::by_hand::{Client, Ours};
use crate::counting::Counting;

/// A child with the ends of its pipes.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    /// Starts a child of a kind of client, which has connected when this returns.
    pub(crate) fn start(kind: &str, url: &str) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--child", kind, url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut process = Process {
            child,
            input,
            output,
        };
        assert_eq!(process.answer(), "ready");
        process
    }

    pub(crate) fn send(&mut self, command: &str) {
        writeln!(self.input, "{command}").unwrap();
    }

    pub(crate) fn answer(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Returns the numbers of an answer.
    pub(crate) fn numbers(&mut self) -> Vec<f64> {
        let answer = self.answer();
        answer
            .split(' ')
            .map(|number| number.parse().unwrap_or_else(|_| panic!("{answer:?}")))
            .collect()
    }

    /// Kills the child, and returns when the signal was sent.
    pub(crate) fn kill(&mut self) -> Instant {
        let at = Instant::now();
        self.child.kill().unwrap();
        let _ = self.child.wait();
        at
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Ends processes in order, so that a server stores what it counted.
#[cfg(any(feature = "postgres", feature = "redis"))]
pub(crate) fn end(processes: Vec<Process>) {
    for mut process in processes {
        process.send("end");
        let _ = process.child.wait();
    }
}

/// Returns the time of the clock that all processes share, in milliseconds.
pub(crate) fn shared_clock() -> f64 {
    seconds(ClockId::Monotonic) * 1000.0
}

/// Returns the processor time of this process in seconds.
fn cpu() -> f64 {
    seconds(ClockId::ProcessCPUTime)
}

fn seconds(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Runs a child until its input ends.
pub(crate) fn run(arguments: &[String]) {
    let [kind, url] = arguments else {
        panic!("a child has a kind and a URL");
    };
    match kind.as_str() {
        "ours" => serve(&mut Ours::connect(url)),
        #[cfg(feature = "postgres")]
        "by-hand" => serve(&mut crate::by_hand::Postgres::connect(url)),
        "holder" => hold(url),
        "many" => many(url),
        #[cfg(feature = "etcd")]
        "queue" => queue(url),
        other => panic!("no child is a {other}"),
    }
}

fn commands() -> impl Iterator<Item = String> {
    io::stdin()
        .lines()
        .map_while(Result::ok)
        .take_while(|line| line != "end")
}

fn answer(text: &str) {
    println!("{text}");
}

/// `loop MS` acquires and releases for this time; `wait` acquires once.
fn serve(client: &mut dyn Client) {
    answer("ready");
    for command in commands() {
        match command.split_once(' ') {
            Some(("loop", time)) => {
                let end = Instant::now() + Duration::from_millis(time.parse().unwrap());
                let (mut acquired, mut handed_over, mut last) = (0, 0, 0);
                while Instant::now() < end {
                    let token = client.acquire();
                    client.release();
                    acquired += 1;
                    // Another process held the lease since.
                    handed_over += u64::from(token != last + 1);
                    last = token;
                }
                answer(&format!("{acquired} {handed_over}"));
            }
            _ => {
                client.acquire();
                let at = shared_clock();
                client.release();
                answer(&format!("{at}"));
            }
        }
    }
}

/// `hold MS` holds a lease of this length.
fn hold(url: &str) {
    let leases = Leases::connect(url).unwrap();
    answer("ready");
    for command in commands() {
        let (_, length) = command.split_once(' ').unwrap();
        let length = Duration::from_millis(length.parse().unwrap());
        let lease = leases.acquire("one", length).unwrap();
        std::mem::forget(lease);
        answer("held");
    }
}

/// The number of leases that one process holds.
pub(crate) const MANY: usize = 10_000;

/// The length of the leases that one process holds.
const MANY_LENGTH: Duration = Duration::from_secs(10);

/// `hold` acquires them; `watch MS` reports the processor time, requests and renewals meanwhile.
fn many(url: &str) {
    #[cfg(feature = "postgres")]
    if url.starts_with("postgres:") {
        return many_of(latchwork_lease::postgres::PostgresEngine::connect(url).unwrap());
    }
    #[cfg(feature = "etcd")]
    if url.starts_with("etcd:") {
        return many_of(latchwork_lease::etcd::EtcdEngine::connect(url).unwrap());
    }
    #[cfg(feature = "redis")]
    if url.starts_with("quorum:") {
        return many_of(latchwork_lease::quorum::QuorumEngine::connect(url).unwrap());
    }
    many_of(latchwork_lease::sqlite::SqliteEngine::from_url(url).unwrap());
}

fn many_of(engine: impl Engine) {
    let (engine, calls) = Counting::new(engine);
    let leases = Leases::new(engine);
    let mut held = Vec::new();
    answer("ready");
    for command in commands() {
        match command.split_once(' ') {
            Some((_, time)) => {
                let time = Duration::from_millis(time.parse().unwrap());
                let (cpu_before, (requests, renewed)) = (cpu(), calls.renewals());
                let start = Instant::now();
                thread::sleep(time);
                let share = (cpu() - cpu_before) / start.elapsed().as_secs_f64();
                let (more_requests, more_renewed) = calls.renewals();
                let still = held
                    .iter()
                    .flat_map(|set: &latchwork_lease::LeaseSet| set.iter())
                    .filter(|lease| lease.is_held())
                    .count();
                answer(&format!(
                    "{share} {} {} {still}",
                    more_requests - requests,
                    more_renewed - renewed
                ));
            }
            None => {
                for batch in 0..MANY / 1000 {
                    let names = (0..1000).map(|number| format!("lease/{batch}/{number}"));
                    held.push(leases.acquire_all(names, MANY_LENGTH).unwrap());
                }
                answer("held");
            }
        }
    }
}

/// `loop MS` acquires and releases for this time, and reports the token of each lease with the
/// times of the call and of the grant.
#[cfg(feature = "etcd")]
fn queue(url: &str) {
    let leases = Leases::connect(url).unwrap();
    answer("ready");
    for command in commands() {
        let (_, time) = command.split_once(' ').unwrap();
        let end = Instant::now() + Duration::from_millis(time.parse().unwrap());
        let mut numbers = Vec::new();
        while Instant::now() < end {
            let lease = leases.acquire("one", MANY_LENGTH).unwrap();
            numbers.push(format!("{} {}", lease.token(), shared_clock()));
            lease.release().unwrap();
        }
        answer(&numbers.join(" "));
    }
}
