//! One suite of tests for any engine: [`cases`].
//!
//! The cases check the rules of [`Engine`], and leases over the engine. They use namespaces of
//! their own, so the suite can run at a server that is in use. Each case needs some seconds at
//! most, if the least lease of the engine is short.
//!
//! # Machines with other work
//! The cases use short leases, and a busy machine can wake the thread that renews one after its
//! end. So a thread of the suite measures how late it is woken, and each time limit is extended by
//! eight times the longest delay since its begin. A request passes four threads and processes, and
//! each of them may be interrupted once more.
//!
//! A case is repeated with leases of twice the length if it lost a lease, and such a delay explains
//! the loss. It is never repeated for another reason: two holders, a token that is not greater, and
//! a release of another's lease fail it at once. [`Held`] has the number of repetitions.
//!
//! # Examples
//! ```
//! use latchwork_lease::{conformance, engine::Engine, memory::MemoryEngine};
//! use std::sync::Arc;
//! let engine = MemoryEngine::new();
//! let open = || -> Arc<dyn Engine> { Arc::new(engine.clone()) };
//! for case in conformance::cases().take(3) {
//!     case.run(&open).unwrap_or_else(|failure| panic!("{failure}"));
//! }
//! ```

mod calls;
mod faults;
mod leases;
mod processes;
mod pulse;

use core::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::clock;
use crate::engine::{Attempt, Engine, EngineError, Key, Nonce, Request};
use crate::{AcquireError, CallError, ConnectError, Leases, ReleaseError, ShutdownError};
pub use processes::{ProcessCase, Start, act, process_cases};
use pulse::Pulse;

/// Opens a further connection to one store, as another process would.
pub type Open<'a> = dyn Fn() -> Arc<dyn Engine> + Sync + 'a;

/// Opens the engine that a URL names, for [`Case::run`].
///
/// Each engine of `memory:` is a store of its own, so the suite needs another way to open those.
///
/// # Errors
/// As [`Leases::connect`].
pub fn open(url: &str) -> Result<Arc<dyn Engine>, ConnectError> {
    crate::leases::engine(url)
}

/// One case of the suite.
#[derive(Clone, Copy)]
pub struct Case {
    name: &'static str,
    run: fn(&Suite<'_>) -> Checked,
}

/// How a case held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Held {
    /// How often the case was repeated with longer leases, because this machine was late.
    pub repetitions: u32,
}

/// The reason why a case failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The name of the case.
    pub case: &'static str,
    /// The rule that was violated, for people.
    pub reason: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.case, self.reason)
    }
}

impl std::error::Error for Failure {}

impl Case {
    /// Returns the name of the case, which is unique.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Runs the case.
    ///
    /// `open` is called several times, and must return engines that share one store.
    ///
    /// # Blocking
    /// Blocks the thread for the duration of the case.
    ///
    /// # Errors
    /// Returns the violated rule. A panic of the engine is such an error, and so is a machine that
    /// is too late to check a rule.
    pub fn run(&self, open: &Open<'_>) -> Result<Held, Failure> {
        repeat(self.name, open, self.run)
    }
}

/// Runs a case, and repeats it with longer leases while this machine is too late to check it.
fn repeat(
    case: &'static str,
    open: &Open<'_>,
    run: impl Fn(&Suite<'_>) -> Checked,
) -> Result<Held, Failure> {
    let mut repetitions = 0;
    loop {
        let reason = match run_once(open, 1 << repetitions, &run) {
            Ok(()) => return Ok(Held { repetitions }),
            Err(Problem::Late(_)) if repetitions < REPETITIONS => {
                repetitions += 1;
                continue;
            }
            Err(Problem::Late(reason)) => format!("not checked: {reason}"),
            Err(Problem::Broken(reason) | Problem::Temporary(reason)) => reason,
        };
        return Err(Failure { case, reason });
    }
}

/// Runs a case with leases that are longer by a factor.
fn run_once(open: &Open<'_>, factor: u32, run: &dyn Fn(&Suite<'_>) -> Checked) -> Checked {
    let run = || -> Checked {
        let start = Instant::now();
        let suite = Suite::new(open, factor)?;
        run(&suite).map_err(|problem| match problem {
            Problem::Temporary(reason) => suite.judge(start, SOON, reason),
            other => other,
        })
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(format!("panicked: {}", text.unwrap_or_default()).into())
    })
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Case").field(&self.name).finish()
    }
}

/// Returns all cases. They are independent of each other, and may run concurrently.
pub fn cases() -> impl Iterator<Item = Case> {
    calls::CASES
        .iter()
        .chain(leases::CASES)
        .map(|&(name, run)| Case { name, run })
}

/// Why a case did not hold.
#[derive(Debug)]
enum Problem {
    /// A rule is violated.
    Broken(String),
    /// A call failed for a time.
    Temporary(String),
    /// The machine was so late that the rule could not be checked.
    Late(String),
}

impl From<String> for Problem {
    fn from(reason: String) -> Self {
        Problem::Broken(reason)
    }
}

impl From<&str> for Problem {
    fn from(reason: &str) -> Self {
        Problem::Broken(reason.to_owned())
    }
}

type Checked = Result<(), Problem>;

/// Returns an error from the case unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err(format!($($text)+).into());
        }
    };
}
use ensure;

/// The greatest number of repetitions of a case.
const REPETITIONS: u32 = 3;

/// The delays that a request may encounter one after another: it passes four threads and processes,
/// and each of them may be interrupted once more.
const DELAYS: u32 = 8;

/// The time within which an engine answers on a machine without other work.
const SOON: Duration = Duration::from_millis(500);

/// The environment of a case.
struct Suite<'a> {
    open: &'a Open<'a>,
    /// A namespace that no other case uses.
    namespace: String,
    /// A length of leases that is short, and long enough for the engine.
    ttl: Duration,
    /// How long a case waits for something that must happen.
    patience: Duration,
    /// The time from a release until a waiter of another process must have the key.
    hand_over: Duration,
    /// The time by which a lease may end early.
    ends_early: Duration,
    pulse: Pulse,
}

const LONG: Duration = Duration::from_secs(600);

impl<'a> Suite<'a> {
    fn new(open: &'a Open<'a>, factor: u32) -> Result<Self, String> {
        let guarantees = open().guarantees();
        let number = clock::random().map_err(|error| error.to_string())?;
        let ttl = guarantees.least_lease.max(Duration::from_millis(500)) * factor;
        Ok(Suite {
            open,
            namespace: format!("conformance-{number:032x}"),
            ttl,
            patience: Duration::from_secs(6) + ttl * 2,
            hand_over: guarantees.hand_over * 4 + Duration::from_secs(3),
            ends_early: guarantees.ends_early,
            pulse: Pulse::start().map_err(|error| error.to_string())?,
        })
    }

    /// The time by which what began at `since` may be late, because this machine was.
    fn delay(&self, since: Instant) -> Duration {
        self.pulse.longest_since(since) * DELAYS
    }

    /// Whether a time limit that began at `since` has passed, even on this machine.
    fn has_passed(&self, since: Instant, limit: Duration) -> bool {
        let elapsed = since.elapsed();
        elapsed >= limit && elapsed >= limit + self.delay(since)
    }

    /// Returns an error if a time limit that began at `since` has passed.
    fn in_time(&self, since: Instant, limit: Duration, what: &str) -> Checked {
        let elapsed = since.elapsed();
        ensure!(
            !self.has_passed(since, limit),
            "{what} took {elapsed:?}, and may take {limit:?}"
        );
        Ok(())
    }

    /// The problem of a lease that ended before its renewal, for which `slack` remained, or of a
    /// call that must succeed within this time.
    fn judge(&self, since: Instant, slack: Duration, reason: String) -> Problem {
        let late = self.pulse.longest_since(since);
        match late * DELAYS >= slack {
            true => Problem::Late(format!("{reason}; a thread was woken {late:?} late")),
            false => Problem::Broken(reason),
        }
    }

    /// Returns an error if a lease that was requested after `since` may have ended by now. Requests
    /// that took longer than the lease state nothing about it.
    fn still_lasts(&self, since: Instant, ttl: Duration) -> Checked {
        let elapsed = since.elapsed();
        match elapsed < self.least(ttl) {
            true => Ok(()),
            false => Err(Problem::Late(format!(
                "requests took {elapsed:?} with a lease of {ttl:?}"
            ))),
        }
    }

    /// The least time for which a lease lasts by the clock of this process. The clock of a server
    /// may differ in rate by a percent.
    fn least(&self, ttl: Duration) -> Duration {
        ttl.mul_f64(0.99)
            .saturating_sub(Duration::from_millis(2) + self.ends_early)
    }

    fn engine(&self) -> Arc<dyn Engine> {
        (self.open)()
    }

    fn key<'k>(&'k self, name: &'k str) -> Key<'k> {
        Key {
            namespace: &self.namespace,
            name,
        }
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.patience
    }

    /// Leases over a further connection.
    fn leases(&self) -> Result<Leases, String> {
        self.leases_of(self.engine())
    }

    fn leases_of(&self, engine: Arc<dyn Engine>) -> Result<Leases, String> {
        let builder = Leases::builder()
            .namespace(&self.namespace)
            .owner_label("conformance");
        builder
            .build_shared(engine)
            .map_err(|error| error.to_string())
    }

    /// Asks once.
    fn ask(
        &self,
        engine: &dyn Engine,
        name: &str,
        nonce: Nonce,
        ttl: Duration,
    ) -> Result<Attempt, Problem> {
        let request = Request {
            key: self.key(name),
            nonce,
            owner: "conformance",
            ttl,
        };
        self.persist(|deadline| engine.try_acquire(&request, deadline))
    }

    /// Repeats a call that fails for a time, as a server of a machine with other work may. Each
    /// repetition has the nonce of the call.
    fn persist<T>(
        &self,
        mut call: impl FnMut(Instant) -> Result<T, EngineError>,
    ) -> Result<T, Problem> {
        let deadline = self.deadline();
        loop {
            match call(deadline) {
                Err(error) if error.is_temporary && Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(20));
                }
                answer => return text(answer),
            }
        }
    }

    /// Ends a request that was refused, which may be in the queue of the key.
    fn leave(&self, engine: &dyn Engine, name: &str, nonce: Nonce) -> Checked {
        if engine.guarantees().fair {
            text(engine.release(self.key(name), nonce, self.deadline()))?;
        }
        Ok(())
    }

    /// Asks for a key that must be free. For a moment after a release, nodes that have not handled
    /// it may refuse a request.
    fn grant(
        &self,
        engine: &dyn Engine,
        name: &str,
        nonce: Nonce,
        ttl: Duration,
    ) -> Result<u64, Problem> {
        let start = Instant::now();
        loop {
            match self.ask(engine, name, nonce, ttl)? {
                Attempt::Granted(token) => return Ok(token.get()),
                Attempt::Busy { .. } if !self.has_passed(start, Duration::from_millis(250)) => {
                    thread::sleep(Duration::from_millis(5));
                }
                busy => {
                    return Err(format!("{name:?} is free, and the answer is {busy:?}").into());
                }
            }
        }
    }

    /// Asks until the key is granted.
    fn wait(
        &self,
        engine: &dyn Engine,
        name: &str,
        nonce: Nonce,
        ttl: Duration,
    ) -> Result<u64, Problem> {
        let start = Instant::now();
        loop {
            if let Attempt::Granted(token) = self.ask(engine, name, nonce, ttl)? {
                return Ok(token.get());
            }
            ensure!(
                !self.has_passed(start, self.patience),
                "{name:?} does not become free"
            );
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn nonce() -> Nonce {
    Nonce::new(clock::random().expect("the system has random numbers"))
}

/// An error of a call, which may be temporary.
trait CallFailure: fmt::Display {
    fn is_temporary(&self) -> bool;
}

impl CallFailure for EngineError {
    fn is_temporary(&self) -> bool {
        self.is_temporary
    }
}

impl CallFailure for AcquireError {
    fn is_temporary(&self) -> bool {
        matches!(self, AcquireError::Unavailable { .. })
    }
}

impl CallFailure for CallError {
    fn is_temporary(&self) -> bool {
        matches!(self, CallError::Unavailable { .. })
    }
}

impl CallFailure for ReleaseError {
    fn is_temporary(&self) -> bool {
        true
    }
}

impl CallFailure for ShutdownError {
    fn is_temporary(&self) -> bool {
        true
    }
}

/// Converts the error of a call.
fn text<T, E: CallFailure>(result: Result<T, E>) -> Result<T, Problem> {
    result.map_err(|error| {
        let reason = format!("a call failed: {error}");
        match error.is_temporary() {
            true => Problem::Temporary(reason),
            false => Problem::Broken(reason),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;
    use crate::memory::MemoryEngine;

    fn engine() -> Arc<dyn Engine> {
        Arc::new(MemoryEngine::new())
    }

    #[test]
    fn only_a_delay_that_was_measured_excuses_a_loss() {
        let suite = Suite::new(&engine, 1).expect("in memory");
        let start = Instant::now();
        suite.pulse.record_delay(Duration::from_millis(250));
        let judge = |slack| suite.judge(start, Duration::from_secs(slack), String::new());
        assert!(matches!(judge(2), Problem::Late(_)));
        assert!(matches!(judge(1000), Problem::Broken(_)));
        // One before the begin does not count.
        let later = Instant::now() + Duration::from_millis(1);
        thread::sleep(Duration::from_millis(2));
        assert!(suite.pulse.longest_since(later) < Duration::from_millis(250));
        // Limits are extended by it, and not without end.
        let before = start.checked_sub(Duration::from_secs(1));
        let before = before.expect("the system runs for a second");
        assert!(!suite.has_passed(before, Duration::from_millis(500)));
        let long_before = start.checked_sub(Duration::from_secs(60));
        let long_before = long_before.expect("the system runs for a minute");
        assert!(suite.has_passed(long_before, Duration::from_millis(500)));
    }

    #[test]
    fn a_violation_is_never_repeated() {
        let runs = Cell::new(0);
        let fail = |problem: fn(String) -> Problem| {
            runs.set(0);
            let failure = repeat("a case", &engine, |_| {
                runs.set(runs.get() + 1);
                Err(problem("two holders".to_owned()))
            });
            failure.expect_err("it fails").reason
        };
        assert_eq!(fail(Problem::Broken), "two holders");
        assert_eq!(runs.get(), 1);
        assert_eq!(fail(Problem::Late), "not checked: two holders");
        assert_eq!(runs.get(), 1 + REPETITIONS);
    }

    #[test]
    fn a_repetition_has_longer_leases_and_is_counted() {
        let lengths = RefCell::new(Vec::new());
        let held = repeat("a case", &engine, |suite| {
            lengths.borrow_mut().push(suite.ttl.as_millis());
            match lengths.borrow().len() {
                3 => Ok(()),
                _ => Err(Problem::Late(String::new())),
            }
        });
        assert_eq!(held, Ok(Held { repetitions: 2 }));
        assert_eq!(*lengths.borrow(), [500, 1000, 2000]);
    }
}
