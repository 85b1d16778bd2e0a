//! Cases that need further processes: holders and waiters that are killed or stopped.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use latchwork::table::{Fence, FencingToken};

use super::{Checked, Failure, Held, LONG, Open, Problem, Suite, ensure, nonce, repeat, text};
use crate::engine::{Attempt, Engine};
use crate::{Leases, Release};

/// Makes the command of a further process, which must call [`act`] with the role and with an engine
/// over the same store.
pub type Start<'a> = dyn Fn(&str) -> Command + Sync + 'a;

type Run = fn(&Stage<'_>) -> Checked;

/// One case that starts processes.
#[derive(Clone, Copy, Debug)]
pub struct ProcessCase {
    name: &'static str,
    run: Run,
}

/// Returns the cases that start processes, for engines that other processes can reach.
///
/// Their names differ from those of [`cases`](super::cases).
pub fn process_cases() -> impl Iterator<Item = ProcessCase> {
    let case = |name, run| ProcessCase { name, run };
    [
        case("processes against an oracle", oracle as Run),
        case("a process that is killed frees its lease", killed_holder),
        case("a waiter that is killed blocks no other", killed_waiter),
        #[cfg(unix)]
        case(
            "a process that stops is replaced and fenced",
            stopped_holder,
        ),
    ]
    .into_iter()
}

impl ProcessCase {
    /// Returns the name of the case, which is unique.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Runs the case. `open` is that of [`Case::run`](super::Case::run).
    ///
    /// # Blocking
    /// Blocks the thread for the duration of the case. No process remains.
    ///
    /// # Errors
    /// Returns the violated rule. A process that cannot be started is such an error.
    pub fn run(&self, open: &Open<'_>, start: &Start<'_>) -> Result<Held, Failure> {
        repeat(self.name, open, |suite| (self.run)(&Stage { suite, start }))
    }
}

/// The name that all cases use.
const NAME: &str = "a";

/// The text before each message of a process, which may print other text.
const MARK: &str = "conformance: ";

/// Plays a role of a [`ProcessCase`], and returns when standard input has ended.
///
/// # Blocking
/// Blocks the thread until then. It reads standard input and prints its messages.
pub fn act(engine: Arc<dyn Engine>, role: &str) {
    if let Err(reason) = play(engine, role) {
        report(&format!("failed {reason}"));
    }
}

fn report(message: &str) {
    println!("{MARK}{message}");
}

fn play(engine: Arc<dyn Engine>, role: &str) -> Result<(), String> {
    let words: Vec<&str> = role.split(' ').collect();
    let [role, namespace, number] = words[..] else {
        return Err("the role is unknown".to_owned());
    };
    let number: u32 = number.parse().map_err(|_| "the role is malformed")?;
    let builder = Leases::builder()
        .namespace(namespace)
        .owner_label("conformance");
    let leases = builder
        .build_shared(engine)
        .map_err(|error| error.to_string())?;
    let mut lines = io::stdin().lines().map_while(Result::ok);
    if role == "compete" {
        for _ in 0..number {
            let lease = leases.acquire(NAME, LONG).map_err(|e| e.to_string())?;
            report(&format!("entered {}", lease.token()));
            if lines.next().is_none() {
                return Ok(());
            }
            let released = lease.release().map_err(|e| e.to_string())?;
            report(&format!("left {released:?}"));
        }
        return Ok(());
    }
    report("asking");
    let ttl = Duration::from_millis(number.into());
    let lease = leases.acquire(NAME, ttl).map_err(|e| e.to_string())?;
    let fence = lease.fence();
    report(&format!("granted {} {}", fence.token, fence.nonce));
    for _ in lines {
        report(&format!("held {}", lease.is_held()));
    }
    Ok(())
}

/// The environment of a case that starts processes.
struct Stage<'a> {
    suite: &'a Suite<'a>,
    start: &'a Start<'a>,
}

/// A process that plays a role. It is killed with this value.
struct Actor<'a> {
    suite: &'a Suite<'a>,
    child: Child,
    input: ChildStdin,
    messages: Receiver<String>,
}

impl Stage<'_> {
    fn actor(&self, role: &str, number: u128) -> Result<Actor<'_>, Problem> {
        let role = format!("{role} {} {number}", self.suite.namespace);
        let mut command = (self.start)(&role);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let failed = |error: io::Error| format!("a process cannot be started: {error}");
        let mut child = command.stderr(Stdio::null()).spawn().map_err(failed)?;
        let input = child.stdin.take().ok_or("the process has no input")?;
        let output = child.stdout.take().ok_or("the process has no output")?;
        let (sender, messages) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Some((_, message)) = line.split_once(MARK) {
                    if sender.send(message.to_owned()).is_err() {
                        return;
                    }
                }
            }
        });
        let suite = self.suite;
        Ok(Actor {
            suite,
            child,
            input,
            messages,
        })
    }

    /// Starts a process that acquires the name for the length of the suite.
    fn holder(&self) -> Result<Actor<'_>, Problem> {
        self.actor("hold", self.suite.ttl.as_millis())
    }
}

impl Actor<'_> {
    /// Waits for a message that begins with this word, and returns the rest.
    fn receive(&mut self, word: &str) -> Result<String, Problem> {
        let start = Instant::now();
        loop {
            match self.messages.recv_timeout(Duration::from_millis(50)) {
                Ok(message) => match message.split_once(' ').unwrap_or((&message, "")) {
                    (first, rest) if first == word => return Ok(rest.to_owned()),
                    ("failed", reason) => return Err(Problem::Temporary(reason.to_owned())),
                    _ => return Err(format!("a process reported {message:?}, not {word:?}").into()),
                },
                Err(RecvTimeoutError::Timeout) => {
                    let limit = self.suite.patience * 2;
                    self.suite.in_time(start, limit, "a message of a process")?;
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(format!("a process ended before it reported {word:?}").into());
                }
            }
        }
    }

    /// Waits until the process has the lease.
    fn is_granted(&mut self) -> Result<Fence, Problem> {
        self.receive("asking")?;
        let granted = self.receive("granted")?;
        let (token, nonce) = granted.split_once(' ').unwrap_or_default();
        match (token.parse(), nonce.parse()) {
            (Ok(token), Ok(nonce)) => Ok(Fence::new(FencingToken::new(token), nonce)),
            _ => Err(format!("a process was granted {granted:?}").into()),
        }
    }

    fn send(&mut self, line: &str) -> Checked {
        let written = writeln!(self.input, "{line}");
        written.map_err(|error| format!("a process reads no input: {error}").into())
    }

    fn kill(&mut self) {
        // One that has ended needs no signal.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    #[cfg(unix)]
    fn signal(&self, name: &str) -> Checked {
        let kill = Command::new("kill")
            .args([name, &self.child.id().to_string()])
            .status();
        ensure!(
            kill.is_ok_and(|status| status.success()),
            "the process cannot be signalled"
        );
        Ok(())
    }
}

impl Drop for Actor<'_> {
    fn drop(&mut self) {
        self.kill();
    }
}

fn oracle(stage: &Stage<'_>) -> Checked {
    const ROUNDS: u128 = 10;
    let mut actors = Vec::new();
    for _ in 0..3 {
        actors.push(stage.actor("compete", ROUNDS)?);
    }
    let (holders, last) = (AtomicUsize::new(0), AtomicU64::new(0));
    thread::scope(|s| {
        let threads: Vec<_> = actors
            .into_iter()
            .map(|mut actor| {
                let (holders, last) = (&holders, &last);
                s.spawn(move || -> Checked {
                    for _ in 0..ROUNDS {
                        let token = actor.receive("entered")?.parse().unwrap_or(0);
                        // Until the answer, the process has the lease.
                        let others = holders.fetch_add(1, Ordering::SeqCst);
                        let before = last.swap(token, Ordering::SeqCst);
                        thread::sleep(Duration::from_millis(1));
                        holders.fetch_sub(1, Ordering::SeqCst);
                        actor.send("leave")?;
                        ensure!(others == 0, "{others} other processes have the lease");
                        ensure!(before < token, "token {token} follows token {before}");
                        let released = actor.receive("left")?;
                        ensure!(
                            released == format!("{:?}", Release::Done),
                            "a release of a process was {released}"
                        );
                    }
                    Ok(())
                })
            })
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().expect("no panic"))
    })
}

fn killed_holder(stage: &Stage<'_>) -> Checked {
    let (suite, start) = (stage.suite, Instant::now());
    let mut holder = stage.holder()?;
    let fence = holder.is_granted()?;
    let (engine, granted) = (suite.engine(), Instant::now());
    // It renews the lease beyond its length.
    while granted.elapsed() < suite.ttl * 2 {
        let other = nonce();
        if let Attempt::Granted(_) = suite.ask(&*engine, NAME, other, LONG)? {
            holder.send("check")?;
            ensure!(holder.receive("held")? == "false", "two holders");
            let reason = "a process lost its lease".to_owned();
            return Err(suite.judge(start, suite.ttl * 2 / 3, reason));
        }
        suite.leave(&*engine, NAME, other)?;
        thread::sleep(suite.ttl / 10);
    }
    holder.kill();
    let killed = Instant::now();
    let next = suite.wait(&*engine, NAME, nonce(), LONG)?;
    let limit = suite.ttl + Duration::from_secs(1);
    suite.in_time(killed, limit, "the end of the lease of a dead holder")?;
    ensure!(
        next > fence.token.get(),
        "token {next} follows token {}",
        fence.token
    );
    Ok(())
}

fn killed_waiter(stage: &Stage<'_>) -> Checked {
    let suite = stage.suite;
    let (one, two) = (suite.engine(), suite.engine());
    let (holder, third) = (nonce(), nonce());
    suite.grant(&*one, NAME, holder, LONG)?;
    let mut waiter = stage.holder()?;
    waiter.receive("asking")?;
    thread::sleep(Duration::from_millis(300));
    // Behind the waiter, if the engine has a queue.
    let busy = suite.ask(&*two, NAME, third, LONG)?;
    ensure!(matches!(busy, Attempt::Busy { .. }), "two holders");
    waiter.kill();
    text(one.release(suite.key(NAME), holder, suite.deadline()))?;
    let released = Instant::now();
    suite.wait(&*two, NAME, third, LONG)?;
    let limit = suite.ttl + suite.hand_over + Duration::from_secs(1);
    suite.in_time(released, limit, "the turn of a dead waiter")
}

#[cfg(unix)]
fn stopped_holder(stage: &Stage<'_>) -> Checked {
    let suite = stage.suite;
    let resource = latchwork::table::FencedCell::new(());
    let mut holder = stage.holder()?;
    let first = holder.is_granted()?;
    ensure!(
        resource.write(first, ()).is_ok(),
        "the first write is refused"
    );
    holder.signal("-STOP")?;
    let (engine, stopped, nonce) = (suite.engine(), Instant::now(), nonce());
    let token = suite.wait(&*engine, NAME, nonce, LONG)?;
    let limit = suite.ttl + Duration::from_secs(1);
    suite.in_time(stopped, limit, "the end of the lease of a stopped holder")?;
    let next = Fence::new(FencingToken::new(token), nonce.get());
    ensure!(
        resource.write(next, ()).is_ok(),
        "token {token} follows token {}",
        first.token
    );
    // It reads the question when it continues.
    holder.send("check")?;
    holder.signal("-CONT")?;
    ensure!(
        holder.receive("held")? == "false",
        "a process that was stopped holds its lease"
    );
    ensure!(
        resource.write(first, ()).is_err(),
        "a late write is accepted"
    );
    // It releases its lease now, which is over.
    thread::sleep(suite.ttl);
    let present = text(suite.engine().holder(suite.key(NAME), suite.deadline()))?;
    ensure!(
        present.map(|holder| holder.token.get()) == Some(token),
        "a process that was stopped ended the next lease"
    );
    Ok(())
}
