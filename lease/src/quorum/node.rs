//! One node: its queue of requests, and the thread that sends them.
//!
//! Each node has one thread and one connection. The thread sends all requests of the queue in one
//! round trip. A node that does not answer delays only its own thread: callers wait until a
//! majority has answered, and requests to a node that is set aside fail at once [QU8].

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use redis::{Connection, RedisError, Value};

use crate::engine::{EngineError, Nonce};

use super::answers::Answers;
use super::inspect;
use super::scripts::{self, Script};
use super::settings::Address;

/// The longest wait for a node, whatever the deadline of a request: then it is set aside.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// The time within which a connection is made.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// The time before a node that failed is probed, which doubles with each failure.
const PROBE_AFTER: Duration = Duration::from_millis(50);

/// The greatest time between two probes.
const PROBE_AFTER_AT_MOST: Duration = Duration::from_secs(1);

/// The greatest number of requests in the queue of a node.
const QUEUE_LIMIT: usize = 16_384;

/// A node of the configuration.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) at: usize,
    pub(super) address: Address,
    /// The identities of all servers, by the numbers of their nodes.
    servers: Arc<Mutex<Vec<Option<String>>>>,
    state: Mutex<State>,
    changed: Condvar,
    /// Whether a caller stopped waiting for this node. The next answer clears it.
    is_slow: AtomicBool,
}

#[derive(Debug)]
struct State {
    queue: VecDeque<Job>,
    /// Nonces whose request for a lock was sent, and that were not released since.
    acquired: HashSet<u128>,
    /// Releases that did not reach the node. They are sent before it is used again [QU14].
    unreleased: VecDeque<Arc<Packed>>,
    link: Link,
    is_closed: bool,
}

/// The connection, as callers see it.
#[derive(Clone, Debug)]
enum Link {
    /// The first connection is being made.
    New,
    Up,
    /// The node is set aside.
    Down(Refusal),
}

/// Why a node is set aside.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) reason: Arc<str>,
    /// Whether only a change of the configuration can help.
    pub(super) is_permanent: bool,
}

/// A request to one node.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) request: Arc<Packed>,
    pub(super) deadline: Instant,
    pub(super) answers: Arc<Answers>,
    /// The place of the answer.
    pub(super) place: usize,
}

/// Commands as they are sent.
#[derive(Debug, Default)]
pub(super) struct Packed {
    bytes: Vec<u8>,
    replies: usize,
    effect: Effect,
}

/// The effect of a request on the locks of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Effect {
    #[default]
    None,
    Acquires(Nonce),
    Releases(Nonce),
}

/// The answer of one node.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// The replies to all commands of the request.
    Replies(Vec<Value>),
    /// The request had no effect.
    NotDone(Refusal),
    /// The request may have had its effect.
    Unknown(Arc<str>),
}

impl Packed {
    /// Marks a request after which a nonce may hold a lock.
    pub(super) fn acquires(mut self, nonce: Nonce) -> Self {
        self.effect = Effect::Acquires(nonce);
        self
    }

    /// Marks a request after which a nonce holds no lock.
    pub(super) fn releases(mut self, nonce: Nonce) -> Self {
        self.effect = Effect::Releases(nonce);
        self
    }

    /// Adds a call of a script.
    pub(super) fn call<'a>(
        mut self,
        script: Script,
        keys: impl ExactSizeIterator<Item = &'a [u8]>,
        arguments: impl Iterator<Item = &'a [u8]>,
    ) -> Self {
        let mut command = redis::cmd("EVALSHA");
        command.arg(inspect::digest(script)).arg(keys.len());
        keys.chain(arguments).for_each(|argument| {
            command.arg(argument);
        });
        command.write_packed_command(&mut self.bytes);
        self.replies += 1;
        self
    }

    /// Adds a command.
    pub(super) fn command(mut self, words: &[&[u8]]) -> Self {
        let mut command = redis::Cmd::new();
        words.iter().for_each(|word| {
            command.arg(*word);
        });
        command.write_packed_command(&mut self.bytes);
        self.replies += 1;
        self
    }
}

impl Node {
    pub(super) fn start(
        at: usize,
        address: Address,
        servers: Arc<Mutex<Vec<Option<String>>>>,
    ) -> Result<Arc<Self>, EngineError> {
        let node = Arc::new(Node {
            at,
            address,
            servers,
            state: Mutex::new(State {
                queue: VecDeque::new(),
                acquired: HashSet::new(),
                unreleased: VecDeque::new(),
                link: Link::New,
                is_closed: false,
            }),
            changed: Condvar::new(),
            is_slow: AtomicBool::new(false),
        });
        let worker = Worker {
            node: Arc::clone(&node),
            connection: None,
            failures: 0,
            probe_at: Instant::now(),
        };
        let thread = thread::Builder::new().name("lease node".to_owned());
        thread
            .spawn(move || worker.run())
            .map_err(EngineError::not_done)?;
        Ok(node)
    }

    /// Returns the name of the node for people.
    pub(super) fn label(&self) -> &str {
        &self.address.label
    }

    /// Sends a request, or answers it at once if the node is set aside.
    pub(super) fn submit(&self, job: Job) {
        let mut state = self.state.lock();
        let refusal = match &state.link {
            Link::Down(refusal) => Some(refusal.clone()),
            _ if state.queue.len() >= QUEUE_LIMIT => Some(Refusal {
                reason: "its queue is full".into(),
                is_permanent: false,
            }),
            _ => None,
        };
        if let Some(refusal) = refusal {
            state.owe(&job);
            drop(state);
            job.answers.deliver(job.place, Answer::NotDone(refusal));
            return;
        }
        match job.request.effect {
            Effect::None => {}
            Effect::Acquires(nonce) if state.acquired.len() < QUEUE_LIMIT * 2 => {
                state.acquired.insert(nonce.get());
            }
            // A release that fails is sent again whether it is in the set or not.
            Effect::Acquires(_) => {}
            Effect::Releases(nonce) => {
                state.acquired.remove(&nonce.get());
            }
        }
        state.queue.push_back(job);
        let is_first = state.queue.len() == 1;
        drop(state);
        if is_first {
            self.changed.notify_all();
        }
    }

    /// Waits until the first connection was made or failed, or until the deadline.
    pub(super) fn first_contact(&self, deadline: Instant) -> Contact {
        let mut state = self.state.lock();
        loop {
            match &state.link {
                Link::Up => return Contact::Made,
                Link::Down(refusal) => return Contact::Refused(refusal.clone()),
                Link::New => {}
            }
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                return Contact::Pending;
            }
        }
    }

    /// Returns whether callers wait for this node once a majority has answered.
    pub(super) fn is_slow(&self) -> bool {
        // Relaxed: a hint, and no other data depends on it.
        self.is_slow.load(Ordering::Relaxed)
    }

    /// Records that a caller stopped waiting for this node.
    pub(super) fn mark_slow(&self) {
        // Relaxed: a hint, and no other data depends on it.
        self.is_slow.store(true, Ordering::Relaxed);
    }

    /// Ends the thread, after it has sent the requests of the queue.
    pub(super) fn close(&self) {
        self.state.lock().is_closed = true;
        self.changed.notify_all();
    }

    fn set_link(&self, link: Link) -> MutexGuard<'_, State> {
        let mut state = self.state.lock();
        state.link = link;
        self.changed.notify_all();
        state
    }
}

impl State {
    /// Keeps a release that was not sent, if the nonce may hold a lock on the node.
    fn owe(&mut self, job: &Job) {
        if let Effect::Releases(nonce) = job.request.effect {
            if self.acquired.remove(&nonce.get()) {
                self.keep(job);
            }
        }
    }

    /// Keeps a release that failed.
    fn keep(&mut self, job: &Job) {
        if matches!(job.request.effect, Effect::Releases(_)) {
            if self.unreleased.len() >= QUEUE_LIMIT {
                self.unreleased.pop_front();
            }
            self.unreleased.push_back(Arc::clone(&job.request));
        }
    }
}

/// The result of the first connection.
#[derive(Debug)]
pub(super) enum Contact {
    Made,
    Refused(Refusal),
    Pending,
}

/// The thread of a node.
struct Worker {
    node: Arc<Node>,
    connection: Option<Connection>,
    failures: u32,
    probe_at: Instant,
}

/// The end of a round trip that failed.
enum Failed {
    /// The connection ended. Another one may work.
    Ended(RedisError),
    /// The node did not answer in time.
    Hung(RedisError),
}

impl Worker {
    fn run(mut self) {
        self.connect();
        while let Some(jobs) = self.next() {
            if jobs.is_empty() {
                // The node was set aside, and the time of its probe has passed.
                self.connect();
                continue;
            }
            self.perform(jobs);
        }
    }

    /// Waits for requests. Returns none of them at the time of a probe, and `None` at the end.
    fn next(&mut self) -> Option<VecDeque<Job>> {
        let mut state = self.node.state.lock();
        loop {
            if matches!(state.link, Link::Down(_)) {
                if state.is_closed {
                    return None;
                }
                if Instant::now() >= self.probe_at {
                    return Some(VecDeque::new());
                }
                self.node.changed.wait_until(&mut state, self.probe_at);
                continue;
            }
            if !state.queue.is_empty() {
                return Some(std::mem::take(&mut state.queue));
            }
            if state.is_closed {
                return None;
            }
            self.node.changed.wait(&mut state);
        }
    }

    /// Connects, and returns whether it succeeded. Otherwise the node is set aside.
    fn connect(&mut self) -> bool {
        self.connection = None;
        let made = inspect::connect(&self.node.address, CONNECT_LIMIT).and_then(|made| {
            inspect::register(&self.node, &self.node.servers, made.server)?;
            Ok(made.connection)
        });
        let connected = made.and_then(|mut connection| {
            self.release_owed(&mut connection)?;
            Ok(connection)
        });
        match connected {
            Ok(connection) => {
                self.connection = Some(connection);
                self.failures = 0;
                true
            }
            Err(refusal) => {
                self.set_aside(refusal);
                false
            }
        }
    }

    /// Sends the releases that did not reach the node. The node is used when none is left [QU14].
    fn release_owed(&self, connection: &mut Connection) -> Result<(), Refusal> {
        loop {
            let mut state = self.node.state.lock();
            let owed = std::mem::take(&mut state.unreleased);
            if owed.is_empty() {
                state.link = Link::Up;
                self.node.changed.notify_all();
                return Ok(());
            }
            drop(state);
            if let Err(error) = release(connection, &owed) {
                let mut state = self.node.state.lock();
                owed.into_iter()
                    .rev()
                    .for_each(|one| state.unreleased.push_front(one));
                return Err(inspect::refusal(&error));
            }
        }
    }

    /// Fails all requests of the queue, and later ones until a probe succeeds.
    fn set_aside(&mut self, refusal: Refusal) {
        self.connection = None;
        let pause = PROBE_AFTER * 2_u32.saturating_pow(self.failures.min(10));
        self.failures = self.failures.saturating_add(1);
        self.probe_at = Instant::now() + pause.min(PROBE_AFTER_AT_MOST);
        let mut state = self.node.set_link(Link::Down(refusal.clone()));
        let queue = std::mem::take(&mut state.queue);
        queue.iter().for_each(|job| state.keep(job));
        drop(state);
        for job in queue {
            job.answers
                .deliver(job.place, Answer::NotDone(refusal.clone()));
        }
    }

    /// Sends requests in one round trip. If the connection ended, it does so once more, because
    /// each request can be repeated.
    fn perform(&mut self, mut jobs: VecDeque<Job>) {
        let mut was_sent = false;
        for attempt in 0..2 {
            let now = Instant::now();
            jobs.retain(|job| {
                let is_late = job.deadline <= now;
                if is_late {
                    self.node.state.lock().keep(job);
                    job.answers.deliver(job.place, late(was_sent));
                }
                !is_late
            });
            if jobs.is_empty() {
                return;
            }
            if self.connection.is_none() && !self.connect() {
                break;
            }
            let failed = match self.round_trip(&mut jobs) {
                Ok(()) => return,
                Err(failed) => failed,
            };
            was_sent = true;
            self.connection = None;
            match failed {
                Failed::Ended(_) if attempt == 0 => {}
                Failed::Ended(error) | Failed::Hung(error) => {
                    self.set_aside(inspect::refusal(&error));
                }
            }
            if self.failures > 0 {
                break;
            }
        }
        let mut state = self.node.state.lock();
        jobs.iter().for_each(|job| state.keep(job));
        let refusal = match &state.link {
            Link::Down(refusal) => refusal.clone(),
            _ => Refusal {
                reason: "the connection ended".into(),
                is_permanent: false,
            },
        };
        drop(state);
        for job in jobs {
            let answer = match was_sent {
                true => Answer::Unknown(Arc::clone(&refusal.reason)),
                false => Answer::NotDone(refusal.clone()),
            };
            job.answers.deliver(job.place, answer);
        }
    }

    /// Sends all requests and reads their replies, each within [`ANSWER_LIMIT`]: callers wait only
    /// until their own deadlines. Removes the requests that were answered.
    fn round_trip(&mut self, jobs: &mut VecDeque<Job>) -> Result<(), Failed> {
        let connection = self.connection.as_mut().expect("the caller has connected");
        let sent = if jobs.len() == 1 {
            connection.send_packed_command(&jobs[0].request.bytes)
        } else {
            let mut bytes = Vec::new();
            jobs.iter()
                .for_each(|job| bytes.extend_from_slice(&job.request.bytes));
            connection.send_packed_command(&bytes)
        };
        sent.map_err(failed)?;
        while let Some(job) = jobs.front() {
            let mut replies = Vec::with_capacity(job.request.replies);
            let mut lacks_script = false;
            for _ in 0..job.request.replies {
                let reply = connection.recv_response().map_err(failed)?;
                lacks_script |=
                    matches!(&reply, Value::ServerError(error) if error.code() == "NOSCRIPT");
                replies.push(reply);
            }
            if lacks_script {
                // The scripts were removed from the node. A new connection loads them again.
                return Err(Failed::Ended(RedisError::from(std::io::Error::other(
                    "the node has lost its scripts",
                ))));
            }
            // Relaxed: a hint, and no other data depends on it.
            self.node.is_slow.store(false, Ordering::Relaxed);
            let job = jobs.pop_front().expect("it is the front");
            job.answers.deliver(job.place, answer(replies));
        }
        Ok(())
    }
}

/// Sends releases that did not reach the node, and waits for the replies.
fn release(connection: &mut Connection, owed: &VecDeque<Arc<Packed>>) -> redis::RedisResult<()> {
    let bytes: Vec<u8> = owed.iter().flat_map(|one| one.bytes.clone()).collect();
    if bytes.is_empty() {
        return Ok(());
    }
    connection.send_packed_command(&bytes)?;
    for _ in 0..owed.iter().map(|one| one.replies).sum() {
        connection.recv_response()?;
    }
    Ok(())
}

fn failed(error: RedisError) -> Failed {
    match error.is_timeout() {
        true => Failed::Hung(error),
        false => Failed::Ended(error),
    }
}

/// The answer to a request whose deadline has passed.
fn late(was_sent: bool) -> Answer {
    match was_sent {
        true => Answer::Unknown("it did not answer in time".into()),
        false => Answer::NotDone(Refusal {
            reason: "it did not answer earlier requests in time".into(),
            is_permanent: false,
        }),
    }
}

/// Returns the replies, or the first error of the server, which had no effect.
fn answer(replies: Vec<Value>) -> Answer {
    let error = replies.iter().find_map(|reply| match reply {
        Value::ServerError(error) => Some(error),
        _ => None,
    });
    match error {
        Some(error) => Answer::NotDone(inspect::server_refusal(
            error.code(),
            error.details().unwrap_or_default(),
        )),
        None => Answer::Replies(replies),
    }
}

/// Makes the request that loads all scripts and reads the state of a server.
pub(super) fn introduction() -> Vec<u8> {
    let mut packed = Packed::default().command(&[b"INFO"]);
    for script in scripts::ALL {
        packed = packed.command(&[b"SCRIPT", b"LOAD", script.text().as_bytes()]);
    }
    packed.bytes
}
