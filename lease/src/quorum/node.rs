//! One node: its connection, its queue of requests, and the thread that serves both.
//!
//! Each node has one thread and one connection. The connection is *free* while no thread uses it. A
//! caller that finds the connections of all nodes free borrows them, and sends and receives by
//! itself: see [`Direct`](super::direct::Direct). Otherwise it adds its requests to the queues. The
//! thread of the node sends all requests of the queue in one round trip, and connects.
//!
//! A caller returns a connection although a request has no answer, if it needs none. The next user
//! reads that answer, or the thread does so a little later. A node that does not answer delays only
//! its own thread: callers wait until a majority has answered, and requests to a node that is set
//! aside fail at once [QU8].

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use redis::{RedisError, Value};

use crate::engine::{EngineError, Nonce};

use super::answers::Answers;
use super::inspect;
use super::inspect::Line;
use super::scripts::{self, Script};
use super::settings::Address;
use super::wire::{self, Wire};

/// The longest wait for a node, whatever the deadline of a request: then it is set aside.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// The reason of a node that is set aside without an error of its connection.
const NO_ANSWER: &str = "it did not answer in time";

/// The time within which a connection is made.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// The time before a node that failed is probed, which doubles with each failure.
const PROBE_AFTER: Duration = Duration::from_millis(50);

/// The greatest time between two probes.
const PROBE_AFTER_AT_MOST: Duration = Duration::from_secs(1);

/// The time between two reads of answers that no caller awaits.
const WATCH_INTERVAL: Duration = Duration::from_millis(5);

/// The number of such times without an answer to read, after which the thread waits for a notice.
const WATCHES: u32 = 20;

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
    slot: Slot,
    /// The connection was returned with requests whose answers a caller awaits.
    is_awaited: bool,
    /// The thread reads answers at intervals, without a notice.
    is_watched: bool,
    /// The number of failures since the last connection.
    failures: u32,
    probe_at: Instant,
    is_closed: bool,
}

/// The connection, if it is without TLS.
#[derive(Debug)]
enum Slot {
    /// The thread of the node uses the connection, or there is none.
    Thread,
    /// A caller has borrowed it.
    Caller,
    Free(Wire),
}

/// The connection of a node for one caller.
pub(super) enum Borrowed {
    Wire(Wire),
    /// The node is set aside.
    Refused(Refusal),
    /// Another thread uses the connection.
    Busy,
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
    /// It was sent over a connection that has ended.
    was_sent: bool,
}

impl Job {
    pub(super) fn new(
        request: Arc<Packed>,
        deadline: Instant,
        answers: Arc<Answers>,
        place: usize,
    ) -> Self {
        Job {
            request,
            deadline,
            answers,
            place,
            was_sent: false,
        }
    }
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
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the number of replies.
    pub(super) fn replies(&self) -> usize {
        self.replies
    }

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
                slot: Slot::Thread,
                is_awaited: false,
                is_watched: false,
                failures: 0,
                probe_at: Instant::now(),
                is_closed: false,
            }),
            changed: Condvar::new(),
            is_slow: AtomicBool::new(false),
        });
        let worker = Worker {
            node: Arc::clone(&node),
            connection: None,
            wire: None,
            watches: 0,
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
        state.note(&job);
        state.queue.push_back(job);
        // Who has borrowed the connection notifies the thread when it is returned.
        let must_notify = state.queue.len() == 1 && !matches!(state.slot, Slot::Caller);
        drop(state);
        if must_notify {
            self.changed.notify_all();
        }
    }

    /// Lends the connection to a caller, if no other thread uses it.
    pub(super) fn borrow(&self) -> Borrowed {
        let mut state = self.state.lock();
        if let Link::Down(refusal) = &state.link {
            return Borrowed::Refused(refusal.clone());
        }
        if !state.queue.is_empty() {
            // Requests of one nonce must not overtake each other.
            return Borrowed::Busy;
        }
        match std::mem::replace(&mut state.slot, Slot::Caller) {
            Slot::Free(wire) => Borrowed::Wire(wire),
            other => {
                state.slot = other;
                Borrowed::Busy
            }
        }
    }

    /// Records the effect of a request that a caller sends by itself, or that the node refuses.
    pub(super) fn note(&self, job: &Job, is_refused: bool) {
        let mut state = self.state.lock();
        match is_refused {
            true => state.owe(job),
            false => state.note(job),
        }
    }

    /// Returns a connection that a caller has borrowed.
    ///
    /// If an answer `is_awaited`, the thread of the node reads it at once, and otherwise soon.
    pub(super) fn give_back(&self, wire: Wire, is_awaited: bool) {
        let mut state = self.state.lock();
        let has_rest = !wire.is_idle();
        let must_watch = has_rest && !state.is_watched;
        state.is_watched |= has_rest;
        state.is_awaited |= is_awaited && has_rest;
        state.slot = Slot::Free(wire);
        let must_notify =
            must_watch || state.is_awaited || !state.queue.is_empty() || state.is_closed;
        drop(state);
        if must_notify {
            self.changed.notify_all();
        }
    }

    /// Handles the end of a connection that a caller has borrowed: the thread of the node sends the
    /// requests without an answer once more, because each can be repeated.
    pub(super) fn resend(&self, wire: Wire) {
        let mut state = self.state.lock();
        state.slot = Slot::Thread;
        for mut job in wire.into_jobs().into_iter().rev() {
            job.was_sent = true;
            state.queue.push_front(job);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Sets a node aside that did not answer a caller which has borrowed its connection.
    pub(super) fn hang(&self, wire: Wire) {
        let refusal = Refusal {
            reason: NO_ANSWER.into(),
            is_permanent: false,
        };
        let mut jobs = wire.into_jobs();
        jobs.iter_mut().for_each(|job| job.was_sent = true);
        self.set_aside(refusal, jobs);
    }

    /// Delivers the replies to a request.
    pub(super) fn answer(&self, job: &Job, replies: Vec<Value>) {
        // Relaxed: a hint, and no other data depends on it.
        self.is_slow.store(false, Ordering::Relaxed);
        job.answers.deliver(job.place, answer(replies));
    }

    /// Fails requests and those of the queue, and later ones until a probe succeeds.
    fn set_aside(&self, refusal: Refusal, mut jobs: VecDeque<Job>) {
        let mut state = self.state.lock();
        let pause = PROBE_AFTER * 2_u32.saturating_pow(state.failures.min(10));
        state.failures = state.failures.saturating_add(1);
        state.probe_at = Instant::now() + pause.min(PROBE_AFTER_AT_MOST);
        state.link = Link::Down(refusal.clone());
        state.slot = Slot::Thread;
        jobs.append(&mut state.queue);
        jobs.iter().for_each(|job| state.keep(job));
        drop(state);
        self.changed.notify_all();
        for job in jobs {
            let answer = match job.was_sent {
                true => Answer::Unknown(Arc::clone(&refusal.reason)),
                false => Answer::NotDone(refusal.clone()),
            };
            job.answers.deliver(job.place, answer);
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
}

impl State {
    /// Records the effect of a request that is sent.
    fn note(&mut self, job: &Job) {
        match job.request.effect {
            Effect::None => {}
            Effect::Acquires(nonce) if self.acquired.len() < QUEUE_LIMIT * 2 => {
                self.acquired.insert(nonce.get());
            }
            // A release that fails is sent again whether it is in the set or not.
            Effect::Acquires(_) => {}
            Effect::Releases(nonce) => {
                self.acquired.remove(&nonce.get());
            }
        }
    }

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
    /// The connection with TLS.
    connection: Option<Line>,
    /// The connection without TLS, while the thread uses it.
    wire: Option<Wire>,
    /// The number of intervals since an answer was read that no caller awaits.
    watches: u32,
}

/// The next step of the thread of a node.
enum Task {
    /// It sends requests.
    Send(VecDeque<Job>),
    /// It reads the answers that are missing.
    Finish,
    /// It reads the answers that have arrived.
    Watch,
    /// The time of a probe has passed.
    Probe,
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
        self.connect(&mut VecDeque::new());
        while let Some(task) = self.next() {
            match task {
                Task::Send(jobs) => self.perform(jobs),
                Task::Finish => self.perform(VecDeque::new()),
                Task::Watch => self.watch(),
                Task::Probe => drop(self.connect(&mut VecDeque::new())),
            }
        }
    }

    /// Waits for something to do. Returns `None` at the end.
    fn next(&mut self) -> Option<Task> {
        let node = Arc::clone(&self.node);
        let mut state = node.state.lock();
        if let Some(wire) = self.wire.take() {
            state.is_watched |= !wire.is_idle();
            state.slot = Slot::Free(wire);
        }
        loop {
            if matches!(state.link, Link::Down(_)) {
                if state.is_closed {
                    return None;
                }
                if Instant::now() >= state.probe_at {
                    return Some(Task::Probe);
                }
                let probe_at = state.probe_at;
                node.changed.wait_until(&mut state, probe_at);
                continue;
            }
            if !matches!(state.slot, Slot::Caller) {
                let oldest = match &state.slot {
                    Slot::Free(wire) => wire.oldest(),
                    _ => None,
                };
                let must_finish = oldest.is_some() && (state.is_awaited || state.is_closed);
                let is_old = oldest.is_some_and(|at| at.elapsed() >= WATCH_INTERVAL);
                let task = match std::mem::take(&mut state.queue) {
                    jobs if !jobs.is_empty() => Some(Task::Send(jobs)),
                    _ if must_finish => Some(Task::Finish),
                    _ if is_old => Some(Task::Watch),
                    _ => None,
                };
                if oldest.is_some() {
                    self.watches = 0;
                }
                if task.is_some() {
                    if let Slot::Free(wire) = std::mem::replace(&mut state.slot, Slot::Thread) {
                        self.wire = Some(wire);
                    }
                    state.is_awaited = false;
                    return task;
                }
                if state.is_closed {
                    return None;
                }
            }
            // A caller that has borrowed the connection returns it with a notice if necessary.
            if !state.is_watched {
                node.changed.wait(&mut state);
            } else if node
                .changed
                .wait_for(&mut state, WATCH_INTERVAL)
                .timed_out()
            {
                self.watches += 1;
                state.is_watched = self.watches < WATCHES;
            }
        }
    }

    /// Reads answers that have arrived, without waiting for others.
    fn watch(&mut self) {
        let Some(mut wire) = self.wire.take() else {
            return;
        };
        let node = &self.node;
        match wire.advance(|job, replies| node.answer(&job, replies)) {
            Ok(()) if wire.limit().is_some_and(|limit| limit <= Instant::now()) => {
                node.hang(wire);
            }
            Ok(()) => self.wire = Some(wire),
            Err(_) => node.resend(wire),
        }
    }

    /// Connects, and returns whether it succeeded.
    ///
    /// Otherwise the node is set aside, and the jobs fail.
    fn connect(&mut self, jobs: &mut VecDeque<Job>) -> bool {
        (self.connection, self.wire) = (None, None);
        let made = inspect::connect(&self.node.address, CONNECT_LIMIT).and_then(|made| {
            inspect::register(&self.node, &self.node.servers, made.server)?;
            Ok(made.line)
        });
        let connected = made.and_then(|mut line| {
            self.release_owed(&mut line)?;
            Ok(line)
        });
        let refusal = match connected {
            Ok(Line::Plain(stream, parser)) => match Wire::new(stream, parser) {
                Ok(wire) => {
                    self.wire = Some(wire);
                    None
                }
                Err(error) => Some(inspect::refusal(&error.into())),
            },
            Ok(line) => {
                self.connection = Some(line);
                None
            }
            Err(refusal) => Some(refusal),
        };
        match refusal {
            None => {
                self.node.state.lock().failures = 0;
                true
            }
            Some(refusal) => {
                self.node.set_aside(refusal, std::mem::take(jobs));
                false
            }
        }
    }

    /// Sends the releases that did not reach the node. The node is used when none is left [QU14].
    fn release_owed(&self, line: &mut Line) -> Result<(), Refusal> {
        loop {
            let mut state = self.node.state.lock();
            let owed = std::mem::take(&mut state.unreleased);
            if owed.is_empty() {
                state.link = Link::Up;
                self.node.changed.notify_all();
                return Ok(());
            }
            drop(state);
            if let Err(error) = release(line, &owed) {
                let mut state = self.node.state.lock();
                owed.into_iter()
                    .rev()
                    .for_each(|one| state.unreleased.push_front(one));
                return Err(inspect::refusal(&error));
            }
        }
    }

    /// Sends requests in one round trip, and reads the answers that are missing. If the connection
    /// ended, it does so once more, because each request can be repeated.
    fn perform(&mut self, mut jobs: VecDeque<Job>) {
        for attempt in 0..2 {
            let now = Instant::now();
            jobs.retain(|job| {
                let is_late = job.deadline <= now;
                if is_late {
                    self.node.state.lock().keep(job);
                    job.answers.deliver(job.place, late(job.was_sent));
                }
                !is_late
            });
            let is_connected = self.wire.is_some() || self.connection.is_some();
            if jobs.is_empty() && !is_connected {
                return;
            }
            if !is_connected && !self.connect(&mut jobs) {
                return;
            }
            let failed = match self.round_trip(&mut jobs) {
                Ok(()) => return,
                Err(failed) => failed,
            };
            self.connection = None;
            match failed {
                Failed::Ended(_) if attempt == 0 => {}
                Failed::Ended(error) | Failed::Hung(error) => {
                    self.node.set_aside(inspect::refusal(&error), jobs);
                    return;
                }
            }
        }
    }

    /// Sends all requests and reads their replies, each within [`ANSWER_LIMIT`]: callers wait only
    /// until their own deadlines. Removes the requests that were answered.
    fn round_trip(&mut self, jobs: &mut VecDeque<Job>) -> Result<(), Failed> {
        match self.wire.take() {
            Some(wire) => self.round_trip_on(wire, jobs),
            None => self.round_trip_with_tls(jobs),
        }
    }

    fn round_trip_on(&mut self, mut wire: Wire, jobs: &mut VecDeque<Job>) -> Result<(), Failed> {
        let node = &self.node;
        let mut sent = Ok(());
        for job in std::mem::take(jobs) {
            match sent {
                Ok(()) => sent = wire.send(job),
                Err(_) => jobs.push_back(job),
            }
        }
        let mut result = sent.map_err(|error| failed(error.into()));
        while let (Ok(()), Some(limit)) = (&result, wire.limit()) {
            wire::wait([&wire].into_iter(), limit);
            result = wire
                .advance(|job, replies| node.answer(&job, replies))
                .map_err(failed);
            if result.is_ok() && wire.limit().is_some_and(|limit| limit <= Instant::now()) {
                let error = std::io::Error::from(std::io::ErrorKind::TimedOut);
                result = Err(Failed::Hung(error.into()));
            }
        }
        match result {
            Ok(()) => self.wire = Some(wire),
            Err(_) => {
                for mut job in wire.into_jobs().into_iter().rev() {
                    job.was_sent = true;
                    jobs.push_front(job);
                }
            }
        }
        result
    }

    fn round_trip_with_tls(&mut self, jobs: &mut VecDeque<Job>) -> Result<(), Failed> {
        let line = self.connection.as_mut().expect("the caller has connected");
        let sent = if jobs.len() == 1 {
            line.send(jobs[0].request.bytes())
        } else {
            let mut bytes = Vec::new();
            jobs.iter()
                .for_each(|job| bytes.extend_from_slice(job.request.bytes()));
            line.send(&bytes)
        };
        jobs.iter_mut().for_each(|job| job.was_sent = true);
        sent.map_err(failed)?;
        while let Some(job) = jobs.front() {
            let mut replies = Vec::with_capacity(job.request.replies);
            let mut lacks_script = false;
            for _ in 0..job.request.replies {
                let reply = line.receive().map_err(failed)?;
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
            let job = jobs.pop_front().expect("it is the front");
            self.node.answer(&job, replies);
        }
        Ok(())
    }
}

/// Sends releases that did not reach the node, and waits for the replies.
fn release(line: &mut Line, owed: &VecDeque<Arc<Packed>>) -> redis::RedisResult<()> {
    let bytes: Vec<u8> = owed.iter().flat_map(|one| one.bytes.clone()).collect();
    if bytes.is_empty() {
        return Ok(());
    }
    line.send(&bytes)?;
    for _ in 0..owed.iter().map(|one| one.replies).sum() {
        line.receive()?;
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
        true => Answer::Unknown(NO_ANSWER.into()),
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
