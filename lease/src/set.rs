//! Leases on several names at once: [`LeaseSet`].

use std::sync::Arc;
use std::time::Duration;

use crate::acquisition::{Action, Event};
use crate::clock::Timestamp;
use crate::engine::{Attempt, AttemptAll, EngineError, Nonce, Request};
use crate::error::{AcquireError, ReleaseError};
use crate::future::{LeaseFuture, NOT_RUN, run, sleep, wait_hint, within};
use crate::lease::{Lease, LossReason, Release};
use crate::leases::{Asking, Leases, drive};
use crate::name::InvalidName;
use crate::runtime::Core;
use crate::shared::{Guard, Shared, failure};
use crate::wait::{Pace, block_on_until};

/// The longest time between two requests for a set that is busy.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The time before an engine that failed is asked again.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// Leases on several names that were acquired together.
///
/// Returned by [`Leases::acquire_all`]. Each lease is renewed and lost by itself. Dropping releases
/// all of them.
///
/// # Examples
/// ```
/// use latchwork_lease::Leases;
/// use std::time::Duration;
/// let leases = Leases::connect("memory:")?;
/// let set = leases.acquire_all(["b", "a"], Duration::from_secs(10))?;
/// assert!(set.get("a").is_some_and(|lease| lease.is_held()));
/// assert!(set.get("c").is_none());
/// let names: Vec<_> = set.iter().map(|lease| lease.name()).collect();
/// assert_eq!(names, ["a", "b"]);
/// set.release()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "the leases are released at once if the set is not used"]
#[derive(Debug)]
pub struct LeaseSet {
    /// In ascending order of the names.
    leases: Vec<Lease>,
}

impl LeaseSet {
    /// Returns the number of leases.
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    /// Returns whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// Returns the lease on `name`, or `None` if the set has none.
    pub fn get(&self, name: &str) -> Option<&Lease> {
        let at = self
            .leases
            .binary_search_by(|lease| lease.name().cmp(name))
            .ok()?;
        Some(&self.leases[at])
    }

    /// Iterates over the leases, in ascending order of the bytes of their names.
    pub fn iter(&self) -> std::slice::Iter<'_, Lease> {
        self.leases.iter()
    }

    /// Returns whether all leases are held.
    pub fn is_held(&self) -> bool {
        self.leases.iter().all(Lease::is_held)
    }

    /// Releases all leases. The result is [`Release::Done`] if all were held until then.
    ///
    /// If the engine can, a thousand leases are released in one request.
    ///
    /// # Blocking
    /// Blocks until the engine has answered, at most for the time limit of a request for each
    /// thousand leases.
    ///
    /// # Errors
    /// Returns the first error. All leases are released nevertheless, if necessary in the
    /// background.
    pub fn release(mut self) -> Result<Release, ReleaseError> {
        let leases = std::mem::take(&mut self.leases);
        let shared: Vec<Arc<Shared>> = leases.iter().map(|lease| lease.shared().clone()).collect();
        let Some(core) = core_of(&shared) else {
            return Ok(Release::Done);
        };
        if core.is_foreign() {
            return Ok(Release::WasLost);
        }
        match Shared::release_many(&core, &shared, LossReason::Released) {
            Ok(true) => Ok(Release::Done),
            Ok(false) => Ok(Release::WasLost),
            Err(error) => Err(ReleaseError {
                source: error.source,
            }),
        }
    }
}

impl Drop for LeaseSet {
    fn drop(&mut self) {
        let shared: Vec<_> = self.leases.iter().map(|one| one.shared().clone()).collect();
        if let Some(core) = core_of(&shared).filter(|core| !core.is_foreign()) {
            Shared::release_many_in_background(&core, &shared, LossReason::Released);
        }
    }
}

fn core_of(leases: &[Arc<Shared>]) -> Option<Arc<Core>> {
    leases.first().map(|first| first.core().clone())
}

impl<'a> IntoIterator for &'a LeaseSet {
    type Item = &'a Lease;
    type IntoIter = std::slice::Iter<'a, Lease>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// How one request for all names ended.
enum Attempted {
    Granted(Vec<Lease>),
    Busy {
        index: usize,
        nonce: Nonce,
        free_in: Option<Duration>,
    },
    Failed(EngineError),
    /// The engine has no such request.
    Unsupported,
}

impl Leases {
    /// Acquires leases on all names: all of them, or none.
    ///
    /// The names are acquired in one order, so that concurrent calls do not deadlock. If the engine
    /// can, they are acquired in one step.
    ///
    /// # Blocking
    /// Blocks the thread until all leases are granted.
    ///
    /// # Deadlocks
    /// Deadlocks if the thread already holds one of the names. It can deadlock with a thread that
    /// holds one of the names and waits for another.
    ///
    /// # Errors
    /// Returns an error as [`acquire`](Self::acquire) does, or if a name occurs twice.
    pub fn acquire_all<N: AsRef<str>>(
        &self,
        names: impl IntoIterator<Item = N>,
        ttl: Duration,
    ) -> Result<LeaseSet, AcquireError> {
        let acquire = self.acquire_all_async(names, ttl);
        block_on_until(acquire, None).expect("there is no time limit")
    }

    /// Acquires leases on all names if all of them are free.
    ///
    /// # Blocking
    /// Blocks until the engine has answered.
    ///
    /// # Errors
    /// Returns an error as [`try_acquire`](Self::try_acquire) does, or if a name occurs twice.
    pub fn try_acquire_all<N: AsRef<str>>(
        &self,
        names: impl IntoIterator<Item = N>,
        ttl: Duration,
    ) -> Result<Option<LeaseSet>, AcquireError> {
        let acquire = self.try_acquire_all_async(names, ttl);
        block_on_until(acquire, None).expect("there is no time limit")
    }

    /// As [`acquire_all`](Self::acquire_all), without blocking the thread.
    ///
    /// # Cancel safety
    /// The future may be dropped at any point. All that was acquired is released then.
    pub fn acquire_all_async<N: AsRef<str>>(
        &self,
        names: impl IntoIterator<Item = N>,
        ttl: Duration,
    ) -> LeaseFuture<Result<LeaseSet, AcquireError>> {
        let (names, leases) = (self.sorted(names, ttl), self.clone());
        LeaseFuture::new(async move {
            let set = acquire_all(&leases, &names?, ttl, false).await?;
            Ok(set.expect("the call waits until all names are free"))
        })
    }

    /// As [`try_acquire_all`](Self::try_acquire_all), without blocking the thread.
    ///
    /// # Cancel safety
    /// The future may be dropped at any point. All that was acquired is released then.
    pub fn try_acquire_all_async<N: AsRef<str>>(
        &self,
        names: impl IntoIterator<Item = N>,
        ttl: Duration,
    ) -> LeaseFuture<Result<Option<LeaseSet>, AcquireError>> {
        let (names, leases) = (self.sorted(names, ttl), self.clone());
        LeaseFuture::new(async move { acquire_all(&leases, &names?, ttl, true).await })
    }

    fn sorted<N: AsRef<str>>(
        &self,
        names: impl IntoIterator<Item = N>,
        ttl: Duration,
    ) -> Result<Vec<String>, AcquireError> {
        let names = names.into_iter().map(|name| name.as_ref().to_owned());
        let mut names: Vec<String> = names.collect();
        names.sort_unstable();
        for name in &names {
            self.check(name, ttl)?;
        }
        match names.windows(2).any(|pair| pair[0] == pair[1]) {
            true => Err(InvalidName::Duplicate.into()),
            false => Ok(names),
        }
    }
}

/// Acquires all names, or returns `None` if `once` and a name is busy.
async fn acquire_all(
    leases: &Leases,
    names: &[String],
    ttl: Duration,
    once: bool,
) -> Result<Option<LeaseSet>, AcquireError> {
    let core = leases.core();
    // In-process queues first, in the order of the names [LE8].
    let mut guards = Vec::with_capacity(names.len());
    for name in names {
        let guard = if once {
            core.table.try_lock_owned(name.as_str())
        } else {
            within(core, core.table.lock_async_owned(name.as_str()), None).await
        };
        match guard {
            Some(guard) => guards.push(guard),
            None => return Ok(None),
        }
    }
    let shared: Arc<[String]> = names.into();
    let (mut failing_since, mut pace) = (None, Pace::default());
    loop {
        let (names, start) = (shared.clone(), Timestamp::now());
        let attempt = move |core: &Arc<Core>| attempt_all(core, &names, ttl);
        match run(core, attempt).await {
            Some(Ok(Attempted::Granted(leases))) => {
                for (lease, guard) in leases.iter().zip(guards) {
                    lease.shared().keep(guard);
                }
                return Ok(Some(LeaseSet { leases }));
            }
            Some(Ok(Attempted::Busy { .. })) if once => return Ok(None),
            Some(Ok(Attempted::Busy {
                index,
                nonce,
                free_in,
            })) => {
                failing_since = None;
                let pause = free_in.unwrap_or(ASK_AGAIN).min(ASK_AGAIN);
                let until = Timestamp::now().plus(pause.max(Duration::from_millis(5)));
                wait_hint(core, &shared[index], nonce, until, &mut pace).await;
            }
            Some(Ok(Attempted::Failed(error))) => {
                let since = *failing_since.get_or_insert(start);
                let is_final = once || !error.is_temporary;
                if is_final || Timestamp::now().since(since) >= core.config.request_timeout {
                    return Err(error.into());
                }
                sleep(core, Timestamp::now().plus(AFTER_FAILURE)).await;
            }
            Some(Ok(Attempted::Unsupported)) => {
                return one_by_one(core, &shared, ttl, once, guards).await;
            }
            Some(Err(error)) => return Err(error),
            None => return Err(EngineError::unknown(NOT_RUN).into()),
        }
    }
}

/// Makes one request for all names.
fn attempt_all(
    core: &Arc<Core>,
    names: &[String],
    ttl: Duration,
) -> Result<Attempted, AcquireError> {
    // A machine for each name, as if it was asked for alone.
    let terms = core.terms(ttl, true, None);
    let mut all = Vec::with_capacity(names.len());
    for name in names {
        all.push(Unasked(Shared::new(
            core,
            name.as_str().into(),
            terms,
            None,
        )?));
    }
    let mut asks = Vec::with_capacity(names.len());
    for one in &all {
        asks.extend(
            one.0
                .feed(Event::Hint)
                .into_iter()
                .filter_map(|action| match action {
                    Action::Ask(request, deadline) => Some((request, deadline)),
                    _ => None,
                }),
        );
    }
    let Some(deadline) = asks.iter().map(|(_, deadline)| *deadline).min() else {
        return Ok(Attempted::Granted(Vec::new()));
    };
    if asks.len() < all.len() {
        return Err(EngineError::misconfigured("the leases are shut down").into());
    }
    let requests: Vec<Request<'_>> = all.iter().map(|one| one.0.request_of()).collect();
    let mut is_supported = true;
    let answer = core.request(|engine| {
        let answer = engine.try_acquire_all(&requests, deadline.to_instant());
        is_supported = answer.is_some();
        // A request that is not supported has had no effect.
        answer.unwrap_or_else(|| Err(EngineError::not_done("unsupported")))
    });
    let each = |at: usize| match &answer {
        Ok(AttemptAll::Granted(tokens)) => match tokens.get(at) {
            Some(token) => Ok(Attempt::Granted(*token)),
            None => Err(failure(&EngineError::unknown("a token is missing"))),
        },
        Ok(AttemptAll::Busy { free_in, .. }) => Ok(Attempt::Busy { free_in: *free_in }),
        Err(error) => Err(failure(error)),
    };
    let mut leases = Vec::new();
    for (at, (request, _)) in asks.iter().enumerate() {
        for action in all[at].0.feed(Event::Asked(*request, each(at))) {
            if let Action::Granted(token) = action {
                leases.push(Lease::new(all[at].0.clone(), token));
            }
        }
    }
    Ok(match answer {
        _ if !is_supported => Attempted::Unsupported,
        Ok(AttemptAll::Granted(_)) if leases.len() == all.len() => Attempted::Granted(leases),
        // Those that were granted are dropped, and so released.
        Ok(AttemptAll::Granted(_)) => {
            Attempted::Failed(EngineError::unknown("the answer was late or incomplete"))
        }
        Ok(AttemptAll::Busy { index, free_in }) => Attempted::Busy {
            index: index.min(all.len() - 1),
            nonce: all[index.min(all.len() - 1)].0.nonce(),
            free_in,
        },
        Err(error) => Attempted::Failed(error),
    })
}

/// Abandons an acquisition that is dropped before its request.
struct Unasked(Arc<Shared>);

impl Drop for Unasked {
    fn drop(&mut self) {
        self.0.abandon_unless_granted();
    }
}

async fn one_by_one(
    core: &Arc<Core>,
    names: &[String],
    ttl: Duration,
    once: bool,
    guards: Vec<Guard>,
) -> Result<Option<LeaseSet>, AcquireError> {
    let mut leases = Vec::with_capacity(names.len());
    for (name, guard) in names.iter().zip(guards) {
        let asking = Asking::start(core, name, ttl, once, None, guard)?;
        match drive(core, asking).await {
            Ok(lease) => leases.push(lease),
            // The leases that were granted are dropped, and so released.
            Err(AcquireError::GaveUp) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    // A lease that was lost while others were awaited makes the set useless.
    if leases.iter().all(Lease::is_held) {
        return Ok(Some(LeaseSet { leases }));
    }
    Err(EngineError::not_done("a lease was lost while others were awaited").into())
}
