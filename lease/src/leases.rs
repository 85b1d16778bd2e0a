//! Leases of one engine and namespace: [`Leases`] and its builder.

use core::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::acquisition::{End, Event};
use crate::clock::Timestamp;
use crate::engine::{Engine, EngineError};
use crate::error::{AcquireError, ConnectError};
use crate::future::{LeaseFuture, NOT_RUN, Sender, oneshot, within};
use crate::guarantees::Guarantees;
use crate::lease::{Lease, LossReason};
use crate::memory::MemoryEngine;
use crate::name;
use crate::runtime::{Class, Config, Core, Job};
use crate::shared::{Guard, Shared, Step, error_of};
use crate::wait::{Pace, block_on_until};

/// Leases on names, at one engine and in one namespace.
///
/// Clones share everything: the connection, the threads, and the queue of this process. At most one
/// thread of the clones requests a name at a time, and the others wait in the order of their calls.
///
/// # Threads
/// The first acquisition starts a thread that keeps time. Requests in the background run in a few
/// more threads, which end when they are idle.
///
/// # Fork
/// The child of a fork has no leases and must connect again: its acquisitions fail.
///
/// # Examples
/// ```
/// use latchwork_lease::Leases;
/// use std::time::Duration;
/// let leases = Leases::connect("memory:")?;
/// let lease = leases.acquire("reports/nightly", Duration::from_secs(10))?;
/// assert!(lease.is_held());
/// assert!(leases.try_acquire("reports/nightly", Duration::from_secs(10))?.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Leases {
    handle: Arc<Handle>,
}

/// The error in the child of a fork.
pub(crate) const FORKED: &str = "the process was forked: connect again in the child";

/// Notifies the threads when the last clone is dropped.
struct Handle {
    core: Arc<Core>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        if !self.core.is_foreign() {
            self.core.orphan();
        }
    }
}

/// The options of one acquisition.
///
/// # Examples
/// ```
/// use latchwork_lease::{AcquireError, AcquireOptions, Leases};
/// use std::time::Duration;
/// let leases = Leases::connect("memory:")?;
/// let lease = leases.acquire("a", Duration::from_secs(10))?;
/// let mut options = AcquireOptions::new(Duration::from_secs(10));
/// options.give_up_after = Some(Duration::from_millis(10));
/// assert!(matches!(leases.acquire_with("a", &options), Err(AcquireError::GaveUp)));
/// # drop(lease);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AcquireOptions {
    /// The length of the lease: 100 ms, or the least of the engine, to 24 hours.
    pub ttl: Duration,
    /// The time limit of the caller. `None` waits indefinitely.
    ///
    /// At least one request is made, unless the name is held in this process.
    pub give_up_after: Option<Duration>,
}

impl AcquireOptions {
    /// Makes options with this length of the lease and without a time limit.
    pub fn new(ttl: Duration) -> Self {
        AcquireOptions {
            ttl,
            give_up_after: None,
        }
    }
}

impl Leases {
    /// Connects to the engine that the URL names.
    ///
    /// | URL | engine | feature |
    /// |---|---|---|
    /// | `memory:` | a new [`MemoryEngine`] | |
    /// | `sqlite:FILE` | a file on this machine, on Linux | `sqlite` |
    /// | `postgres://USER@HOST/DATABASE` | rows of a table at a PostgreSQL server | `postgres` |
    /// | `etcd://HOST:PORT,…` | keys of an etcd cluster | `etcd` |
    /// | `quorum:redis://…,redis://…` | independent Redis nodes | `redis` |
    ///
    /// # Errors
    /// Returns an error if the scheme is unknown, or if the engine refuses the URL. The error never
    /// contains a password.
    pub fn connect(url: &str) -> Result<Self, ConnectError> {
        Self::builder().connect(url)
    }

    /// Uses an engine of your own, with the default options.
    ///
    /// # Examples
    /// ```
    /// use latchwork_lease::{Leases, memory::MemoryEngine};
    /// let leases = Leases::new(MemoryEngine::new());
    /// # drop(leases);
    /// ```
    pub fn new(engine: impl Engine) -> Self {
        let config = Self::builder().config;
        Self::from_core(Core::new(Arc::new(engine), config))
    }

    /// Returns a builder with the default options.
    pub fn builder() -> LeasesBuilder {
        LeasesBuilder {
            config: Config::default(),
        }
    }

    fn from_core(core: Arc<Core>) -> Self {
        Leases {
            handle: Arc::new(Handle { core }),
        }
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.handle.core
    }

    /// Returns the guarantees of the engine, as configured.
    pub fn guarantees(&self) -> Guarantees {
        self.core().engine.guarantees()
    }

    /// Acquires a lease on a name, and waits while another lease has the name.
    ///
    /// # Blocking
    /// Blocks the thread until the lease is granted.
    ///
    /// # Deadlocks
    /// Deadlocks if the thread already holds the name. Leases have no deadlock detection: to
    /// acquire several names, agree on an order.
    ///
    /// # Errors
    /// Returns an error if the name or `ttl` is refused, or if the engine cannot be reached for the
    /// time limit of a request.
    pub fn acquire(&self, name: &str, ttl: Duration) -> Result<Lease, AcquireError> {
        self.acquire_with(name, &AcquireOptions::new(ttl))
    }

    /// Acquires a lease with options.
    ///
    /// # Blocking
    /// Blocks the thread until the lease is granted, or the time limit has passed. A request that
    /// was sent by then is awaited.
    ///
    /// # Deadlocks
    /// If the thread already holds the name, the call waits for its time limit.
    ///
    /// # Errors
    /// Returns [`AcquireError::GaveUp`] after the time limit, and the errors of
    /// [`acquire`](Self::acquire).
    pub fn acquire_with(
        &self,
        name: &str,
        options: &AcquireOptions,
    ) -> Result<Lease, AcquireError> {
        let start = Timestamp::now();
        self.check(name, options.ttl)?;
        let until = options.give_up_after.map(|after| start.plus(after));
        let core = self.core();
        // Only the head of this process's queue makes requests [LE8].
        let local = core.table.lock_async_owned(name);
        let guard = block_on_until(local, until).ok_or(AcquireError::GaveUp)?;
        let asking = Asking::start(core, name, options.ttl, false, until, guard)?;
        asking.run()
    }

    /// Acquires a lease if the name is free, with one request.
    ///
    /// Returns `None` if another lease has the name, or if another thread of this process requests
    /// it. A lease that was dropped has the name until its release in the background is answered.
    ///
    /// # Blocking
    /// Blocks until the engine has answered, at most for the time limit of a request.
    ///
    /// # Errors
    /// Returns an error if the name or `ttl` is refused, or if the request fails.
    pub fn try_acquire(&self, name: &str, ttl: Duration) -> Result<Option<Lease>, AcquireError> {
        self.check(name, ttl)?;
        let Some(guard) = self.core().table.try_lock_owned(name) else {
            return Ok(None);
        };
        match Asking::start(self.core(), name, ttl, true, None, guard)?.run() {
            Ok(lease) => Ok(Some(lease)),
            Err(AcquireError::GaveUp) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// As [`acquire`](Self::acquire), without blocking the thread.
    ///
    /// The future needs no runtime: its requests run in threads of the crate.
    ///
    /// # Cancel safety
    /// The future may be dropped at any point. It leaves the queue of the process then. A lease
    /// that was requested is released in the background, and is never renewed.
    ///
    /// # Examples
    /// ```
    /// # pollster::block_on(async {
    /// use latchwork_lease::Leases;
    /// use std::time::Duration;
    /// let leases = Leases::connect("memory:").expect("in memory");
    /// let lease = leases.acquire_async("a", Duration::from_secs(10)).await.expect("in memory");
    /// assert!(lease.is_held());
    /// # });
    /// ```
    pub fn acquire_async(
        &self,
        name: &str,
        ttl: Duration,
    ) -> LeaseFuture<Result<Lease, AcquireError>> {
        self.acquire_with_async(name, &AcquireOptions::new(ttl))
    }

    /// As [`acquire_with`](Self::acquire_with), without blocking the thread.
    ///
    /// # Cancel safety
    /// The future may be dropped at any point, as that of [`acquire_async`](Self::acquire_async).
    pub fn acquire_with_async(
        &self,
        name: &str,
        options: &AcquireOptions,
    ) -> LeaseFuture<Result<Lease, AcquireError>> {
        let (leases, name, options) = (self.clone(), name.to_owned(), options.clone());
        LeaseFuture::new(async move {
            let start = Timestamp::now();
            leases.check(&name, options.ttl)?;
            let until = options.give_up_after.map(|after| start.plus(after));
            let core = leases.core();
            // Only the head of this process's queue makes requests [LE8].
            let local = core.table.lock_async_owned(name.as_str());
            let guard = within(core, local, until)
                .await
                .ok_or(AcquireError::GaveUp)?;
            let asking = Asking::start(core, &name, options.ttl, false, until, guard)?;
            drive(core, asking).await
        })
    }

    /// As [`try_acquire`](Self::try_acquire), without blocking the thread.
    ///
    /// # Cancel safety
    /// The future may be dropped at any point, as that of [`acquire_async`](Self::acquire_async).
    pub fn try_acquire_async(
        &self,
        name: &str,
        ttl: Duration,
    ) -> LeaseFuture<Result<Option<Lease>, AcquireError>> {
        let (leases, name) = (self.clone(), name.to_owned());
        LeaseFuture::new(async move {
            leases.check(&name, ttl)?;
            let core = leases.core();
            let Some(guard) = core.table.try_lock_owned(name.as_str()) else {
                return Ok(None);
            };
            let asking = Asking::start(core, &name, ttl, true, None, guard)?;
            match drive(core, asking).await {
                Ok(lease) => Ok(Some(lease)),
                Err(AcquireError::GaveUp) => Ok(None),
                Err(error) => Err(error),
            }
        })
    }

    /// Ends all leases, and waits at most for `grace` until all of them are released.
    ///
    /// It also waits for the releases in the background. Later acquisitions fail, and those in
    /// progress end with an error. All clones are affected.
    ///
    /// # Blocking
    /// Blocks the thread, at most for `grace`.
    ///
    /// # Errors
    /// Returns an error if some releases were not confirmed by then. They continue in the
    /// background, and without them the leases expire.
    ///
    /// # Examples
    /// ```
    /// use latchwork_lease::{Leases, LossReason};
    /// use std::time::Duration;
    /// let leases = Leases::connect("memory:")?;
    /// let lease = leases.acquire("a", Duration::from_secs(10))?;
    /// leases.shutdown(Duration::from_secs(5))?;
    /// assert_eq!(lease.wait_lost_for(Duration::ZERO), Some(LossReason::Shutdown));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn shutdown(&self, grace: Duration) -> Result<(), ShutdownError> {
        let until = Timestamp::now().plus(grace);
        if self.core().is_foreign() {
            return Ok(());
        }
        let open = self.core().close();
        Shared::release_many_in_background(self.core(), &open, LossReason::Shutdown);
        match self.core().drain(until) {
            0 => Ok(()),
            unreleased => Err(ShutdownError { unreleased }),
        }
    }

    /// Refuses what no engine should receive, before anything is sent.
    pub(crate) fn check(&self, name: &str, ttl: Duration) -> Result<(), AcquireError> {
        name::check(name)?;
        name::check_ttl(ttl, self.guarantees().least_lease)?;
        if self.core().is_foreign() {
            return Err(AcquireError::Misconfigured(FORKED.into()));
        }
        Ok(())
    }
}

impl fmt::Debug for Leases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = &self.core().config;
        f.debug_struct("Leases")
            .field("namespace", &config.namespace)
            .field("owner_label", &config.owner)
            .finish_non_exhaustive()
    }
}

/// An acquisition that makes requests. It is abandoned if it is dropped before its end.
pub(crate) struct Asking {
    shared: Arc<Shared>,
    cause: Option<EngineError>,
    pace: Pace,
    is_first: bool,
    has_ended: bool,
}

/// The state of an acquisition that a driver advanced.
pub(crate) enum Progress {
    Ended(Result<Lease, AcquireError>),
    /// Wait until this time, or for a hint unless the engine failed.
    Wait {
        until: Timestamp,
        failed: bool,
    },
}

impl Asking {
    pub(crate) fn start(
        core: &Arc<Core>,
        name: &str,
        ttl: Duration,
        once: bool,
        until: Option<Timestamp>,
        guard: Guard,
    ) -> Result<Self, AcquireError> {
        let terms = core.terms(ttl, once, until);
        Ok(Asking {
            shared: Shared::new(core, name.into(), terms, Some(guard))?,
            cause: None,
            pace: Pace::default(),
            is_first: true,
            has_ended: false,
        })
    }

    /// Makes requests until the acquisition ends or has to wait.
    pub(crate) fn advance(&mut self) -> Progress {
        // After a failure, the state machine decides when the pause is over.
        let event = match std::mem::take(&mut self.is_first) {
            true => Event::Hint,
            false => Event::Tick {
                ahead: Duration::ZERO,
            },
        };
        self.progress(event)
    }

    /// Continues after a wait for the key, which may be free.
    pub(crate) fn hinted(&mut self) -> Progress {
        self.progress(Event::Hint)
    }

    fn progress(&mut self, event: Event) -> Progress {
        match self.shared.advance(event, &mut self.cause) {
            Step::Granted(token) => {
                self.has_ended = true;
                Progress::Ended(Ok(Lease::new(self.shared.clone(), token)))
            }
            Step::Ended(end) => {
                self.has_ended = true;
                Progress::Ended(Err(self.error(end)))
            }
            Step::Wait { until, failed } => Progress::Wait { until, failed },
        }
    }

    fn error(&mut self, end: End) -> AcquireError {
        error_of(end, self.cause.take())
    }

    /// Waits for the key to become free.
    pub(crate) fn wait(&mut self, until: Timestamp) -> Result<(), EngineError> {
        let (shared, start) = (&self.shared, Timestamp::now());
        let deadline = until.to_instant();
        let core = shared.core();
        let waited =
            core.request(|engine| engine.wait_hint(shared.key(), shared.nonce(), deadline));
        if let Some(until) = self.pace.pause_after(start) {
            std::thread::sleep(until.since(Timestamp::now()));
        }
        waited
    }

    /// Performs the acquisition on this thread.
    fn run(mut self) -> Result<Lease, AcquireError> {
        let mut progress = self.advance();
        loop {
            match progress {
                Progress::Ended(result) => return result,
                Progress::Wait {
                    until,
                    failed: false,
                } if self.wait(until).is_ok() => progress = self.hinted(),
                Progress::Wait { until, .. } => {
                    std::thread::sleep(until.since(Timestamp::now()));
                    progress = self.advance();
                }
            }
        }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if !self.has_ended {
            self.shared.feed(Event::Abandon(LossReason::Released));
        }
    }
}

/// Performs an acquisition on threads of the pool.
pub(crate) async fn drive(core: &Arc<Core>, asking: Asking) -> Result<Lease, AcquireError> {
    let shared = asking.shared.clone();
    // The in-process queue must not wait for the thread that performs the acquisition [LE9].
    let abandon: Job = Box::new(move || {
        shared.feed(Event::Abandon(LossReason::Released));
    });
    let (sender, receiver) = oneshot(Some(abandon));
    resume(core.clone(), asking, sender, true);
    let result = receiver.await;
    result.unwrap_or_else(|| Err(EngineError::unknown(NOT_RUN).into()))
}

type Outlet = Sender<Result<Lease, AcquireError>>;

/// Continues an acquisition on a thread of the pool.
fn resume(core: Arc<Core>, asking: Asking, sender: Outlet, is_hinted: bool) {
    let pool = core.clone();
    let job = move || advance(core, asking, sender, is_hinted);
    pool.submit(Class::Ask, Box::new(job));
}

fn advance(core: Arc<Core>, mut asking: Asking, sender: Outlet, is_hinted: bool) {
    let mut progress = if is_hinted {
        asking.hinted()
    } else {
        asking.advance()
    };
    loop {
        let (until, failed) = match progress {
            Progress::Ended(result) => return sender.send(result),
            Progress::Wait { until, failed } => (until, failed),
        };
        // Few threads may block in a wait; the other acquisitions poll.
        if !failed && core.begin_wait() {
            let waited = asking.wait(until);
            core.end_wait();
            if waited.is_ok() {
                progress = asking.hinted();
                continue;
            }
        }
        let at = if failed {
            until
        } else {
            until.min(Timestamp::now().plus(POLL))
        };
        let timer = core.clone();
        let job = move || resume(core, asking, sender, !failed);
        // Without the timer thread the job is dropped, and with it the sender.
        let _ = timer.call_at(at, Box::new(job));
        return;
    }
}

/// How often a busy key is requested while no thread is left that could wait for a hint.
const POLL: Duration = Duration::from_millis(100);

/// The error of [`Leases::shutdown`]: some releases were not confirmed in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShutdownError {
    /// The number of leases whose release was not confirmed.
    pub unreleased: usize,
}

impl fmt::Display for ShutdownError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unreleased = self.unreleased;
        write!(
            f,
            "{unreleased} leases were not released in time; they expire"
        )
    }
}

impl std::error::Error for ShutdownError {}

/// Makes [`Leases`] with options. Returned by [`Leases::builder`].
///
/// # Examples
/// ```
/// use latchwork_lease::Leases;
/// use std::time::Duration;
/// let leases = Leases::builder()
///     .namespace("reports")
///     .owner_label("worker 7")
///     .request_timeout(Duration::from_secs(1))
///     .connect("memory:")?;
/// # drop(leases);
/// # Ok::<(), latchwork_lease::ConnectError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it connects"]
pub struct LeasesBuilder {
    config: Config,
}

impl LeasesBuilder {
    /// Sets the namespace. Equal names of different namespaces are independent. The default is
    /// `default`. It must satisfy the rules of names.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.config.namespace = namespace.into();
        self
    }

    /// Sets the label by which people recognise the holder. The default is the name of the machine
    /// and the number of the process. It must satisfy the rules of names.
    pub fn owner_label(mut self, label: impl Into<String>) -> Self {
        self.config.owner = label.into();
        self
    }

    /// Sets the time limit of one request. The default is 2 seconds; at least 10 ms.
    ///
    /// A request for a lease is also limited by the length of the lease, and a renewal by half of
    /// the time that remains.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.config.request_timeout = timeout;
        self
    }

    /// Sets the fraction of a lease that its holder does not use, because clocks differ in rate.
    /// The default is 0.01; at most 0.5. Two milliseconds are added.
    pub fn drift(mut self, fraction: f64) -> Self {
        self.config.drift = fraction;
        self
    }

    /// Sets the fraction of a lease after which it is renewed. The default is a third; 0.05 to 0.8.
    pub fn renew_at(mut self, fraction: f64) -> Self {
        self.config.renew_at = fraction;
        self
    }

    /// Connects to the engine that the URL names, as [`Leases::connect`] does.
    ///
    /// # Errors
    /// Returns an error if an option is refused, or as [`Leases::connect`].
    pub fn connect(self, url: &str) -> Result<Leases, ConnectError> {
        self.build_shared(engine(url)?)
    }

    /// Uses an engine of your own.
    ///
    /// # Errors
    /// Returns an error if an option is refused.
    pub fn build(self, engine: impl Engine) -> Result<Leases, ConnectError> {
        self.build_shared(Arc::new(engine))
    }

    pub(crate) fn build_shared(self, engine: Arc<dyn Engine>) -> Result<Leases, ConnectError> {
        let config = self.config;
        let refuse = |option, reason: &dyn fmt::Display| {
            let reason = reason.to_string();
            Err(ConnectError::InvalidOption { option, reason })
        };
        if let Err(reason) = name::check(&config.namespace) {
            return refuse("namespace", &reason);
        }
        if let Err(reason) = name::check(&config.owner) {
            return refuse("owner_label", &reason);
        }
        if config.request_timeout < Duration::from_millis(10) {
            return refuse("request_timeout", &"it is less than 10 ms");
        }
        if !(0.0..=0.5).contains(&config.drift) {
            return refuse("drift", &"it is not between 0 and 0.5");
        }
        if !(0.05..=0.8).contains(&config.renew_at) {
            return refuse("renew_at", &"it is not between 0.05 and 0.8");
        }
        Ok(Leases::from_core(Core::new(engine, config)))
    }
}

/// Opens the engine that the URL names.
pub(crate) fn engine(url: &str) -> Result<Arc<dyn Engine>, ConnectError> {
    // The text behind the scheme may contain a password, and is in no error.
    let end = url.find(|c: char| !c.is_ascii_alphanumeric() && !"+-.".contains(c));
    let scheme = match end {
        Some(end) if url[end..].starts_with(':') => &url[..end],
        _ => "",
    };
    match scheme {
        "memory" => Ok(Arc::new(MemoryEngine::new())),
        #[cfg(all(feature = "sqlite", target_os = "linux"))]
        "sqlite" => Ok(Arc::new(crate::sqlite::SqliteEngine::from_url(url)?)),
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => Ok(Arc::new(crate::postgres::PostgresEngine::connect(url)?)),
        #[cfg(feature = "etcd")]
        "etcd" => Ok(Arc::new(crate::etcd::EtcdEngine::connect(url)?)),
        #[cfg(feature = "redis")]
        "quorum" => Ok(Arc::new(crate::quorum::QuorumEngine::connect(url)?)),
        // The arms of further engines belong here, each behind its feature:
        // `Ok(Arc::new(Type::from_url(url)?))`.
        #[cfg(not(feature = "sqlite"))]
        "sqlite" => Err(ConnectError::MissingFeature {
            scheme: scheme.to_owned(),
            feature: "sqlite",
        }),
        #[cfg(not(feature = "postgres"))]
        "postgres" | "postgresql" => Err(ConnectError::MissingFeature {
            scheme: scheme.to_owned(),
            feature: "postgres",
        }),
        #[cfg(not(feature = "etcd"))]
        "etcd" => Err(ConnectError::MissingFeature {
            scheme: scheme.to_owned(),
            feature: "etcd",
        }),
        #[cfg(not(feature = "redis"))]
        "quorum" => Err(ConnectError::MissingFeature {
            scheme: scheme.to_owned(),
            feature: "redis",
        }),
        _ => Err(ConnectError::UnknownScheme {
            scheme: scheme.to_owned(),
        }),
    }
}
