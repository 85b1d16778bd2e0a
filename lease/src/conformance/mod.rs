//! One suite of tests for any engine: [`cases`].
//!
//! The cases check the rules of [`Engine`], and leases over the engine. They use namespaces of
//! their own, so the suite can run at a server that is in use. Each case needs some seconds at
//! most, if the least lease of the engine is short.
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

use core::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::clock;
use crate::engine::{Attempt, Engine, EngineError, Key, Nonce, Request};
use crate::{ConnectError, Leases};

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
    /// Returns the violated rule. A panic of the engine is such an error.
    pub fn run(&self, open: &Open<'_>) -> Result<(), Failure> {
        let run = || -> Checked {
            let suite = Suite::new(open)?;
            (self.run)(&suite)
        };
        let result = catch_unwind(AssertUnwindSafe(run));
        let result = result.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            Err(format!("panicked: {}", text.unwrap_or_default()))
        });
        result.map_err(|reason| Failure {
            case: self.name,
            reason,
        })
    }
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

type Checked = Result<(), String>;

/// Returns an error from the case unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err(format!($($text)+));
        }
    };
}
use ensure;

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
}

const LONG: Duration = Duration::from_secs(600);

impl<'a> Suite<'a> {
    fn new(open: &'a Open<'a>) -> Result<Self, String> {
        let guarantees = open().guarantees();
        let number = clock::random().map_err(|error| error.to_string())?;
        let ttl = guarantees.least_lease.max(Duration::from_millis(500));
        Ok(Suite {
            open,
            namespace: format!("conformance-{number:032x}"),
            ttl,
            patience: Duration::from_secs(6) + ttl,
            hand_over: guarantees.hand_over * 4 + Duration::from_secs(3),
            ends_early: guarantees.ends_early,
        })
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
    ) -> Result<Attempt, String> {
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
    ) -> Result<T, String> {
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
    ) -> Result<u64, String> {
        let start = Instant::now();
        loop {
            match self.ask(engine, name, nonce, ttl)? {
                Attempt::Granted(token) => return Ok(token.get()),
                Attempt::Busy { .. } if start.elapsed() < Duration::from_millis(250) => {
                    thread::sleep(Duration::from_millis(5));
                }
                busy => return Err(format!("{name:?} is free, and the answer is {busy:?}")),
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
    ) -> Result<u64, String> {
        let deadline = self.deadline();
        loop {
            if let Attempt::Granted(token) = self.ask(engine, name, nonce, ttl)? {
                return Ok(token.get());
            }
            ensure!(Instant::now() < deadline, "{name:?} does not become free");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn nonce() -> Nonce {
    Nonce::new(clock::random().expect("the system has random numbers"))
}

fn text<T>(result: Result<T, EngineError>) -> Result<T, String> {
    result.map_err(|error| format!("a call failed: {error}"))
}
