//! Questions about leases, and interventions: [`Holder`] and calls of [`Leases`].

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use latchwork::table::FencingToken;

use crate::clock::Timestamp;
use crate::engine::{Engine, EngineError, HolderInfo};
use crate::error::CallError;
use crate::future::{LeaseFuture, NOT_RUN, run};
use crate::leases::Leases;
use crate::name;
use crate::runtime::Core;

/// The present holder of a name, for people.
///
/// The times are those of the engine, converted to the wall clock of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// The label of the holder: see [`owner_label`](crate::LeasesBuilder::owner_label).
    pub owner_label: String,
    /// The token of the lease, by which it can be broken.
    pub token: FencingToken,
    /// When the lease was granted.
    pub since: SystemTime,
    /// When the lease ends, unless it is renewed.
    pub expires: SystemTime,
}

impl Holder {
    pub(crate) fn new(info: HolderInfo) -> Self {
        let now = SystemTime::now();
        Holder {
            owner_label: info.owner,
            token: info.token,
            since: now
                .checked_sub(info.held_for)
                .unwrap_or(SystemTime::UNIX_EPOCH),
            expires: now.checked_add(info.expires_in).unwrap_or(now),
        }
    }
}

/// Makes one request with the time limit of a request.
pub(crate) fn call<T>(
    core: &Core,
    request: impl FnOnce(&dyn Engine, Instant) -> Result<T, EngineError>,
) -> Result<T, CallError> {
    let deadline = Timestamp::now()
        .plus(core.config.request_timeout)
        .to_instant();
    Ok(core.request(|engine| request(engine, deadline))?)
}

/// Makes one request on a thread of the pool.
fn call_async<T: Send + 'static>(
    leases: &Leases,
    checked: Result<(), CallError>,
    request: impl FnOnce(&Core) -> Result<T, CallError> + Send + 'static,
) -> LeaseFuture<Result<T, CallError>> {
    let core = leases.core().clone();
    LeaseFuture::new(async move {
        checked?;
        let result = run(&core, move |core: &Arc<Core>| request(core)).await;
        result.unwrap_or_else(|| Err(EngineError::unknown(NOT_RUN).into()))
    })
}

fn holder(core: &Core, name: &str) -> Result<Option<Holder>, CallError> {
    let info = call(core, |engine, deadline| {
        engine.holder(core.key(name), deadline)
    })?;
    Ok(info.map(Holder::new))
}

fn list(core: &Core, prefix: &str) -> Result<Vec<(String, Holder)>, CallError> {
    let namespace = &core.config.namespace;
    let infos = call(core, |engine, deadline| {
        engine.list(namespace, prefix, deadline)
    })?;
    Ok(infos
        .into_iter()
        .map(|(name, info)| (name, Holder::new(info)))
        .collect())
}

fn break_lease(core: &Core, name: &str, token: FencingToken) -> Result<bool, CallError> {
    call(core, |engine, deadline| {
        engine.break_lease(core.key(name), token, deadline)
    })
}

fn raise_floor(core: &Core, name: &str, token: FencingToken) -> Result<(), CallError> {
    call(core, |engine, deadline| {
        engine.raise_floor(core.key(name), token, deadline)
    })
}

impl Leases {
    fn check_call(&self, name: Result<(), name::InvalidName>) -> Result<(), CallError> {
        name?;
        match self.core().is_foreign() {
            true => Err(CallError::Misconfigured(crate::leases::FORKED.into())),
            false => Ok(()),
        }
    }

    /// Returns the present holder of a name, or `None` if the name is free.
    ///
    /// The answer may be outdated when it arrives.
    ///
    /// # Blocking
    /// Blocks until the engine has answered, at most for the time limit of a request.
    ///
    /// # Errors
    /// Returns an error if the name is refused or the request fails.
    ///
    /// # Examples
    /// ```
    /// use latchwork_lease::Leases;
    /// use std::time::Duration;
    /// let leases = Leases::builder().owner_label("worker 7").connect("memory:")?;
    /// let lease = leases.acquire("a", Duration::from_secs(10))?;
    /// let holder = leases.holder("a")?.expect("the lease is held");
    /// assert_eq!((holder.owner_label.as_str(), holder.token), ("worker 7", lease.token()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn holder(&self, name: &str) -> Result<Option<Holder>, CallError> {
        self.check_call(name::check(name))?;
        holder(self.core(), name)
    }

    /// As [`holder`](Self::holder), without blocking the thread.
    pub fn holder_async(&self, name: &str) -> LeaseFuture<Result<Option<Holder>, CallError>> {
        let checked = self.check_call(name::check(name));
        let name = name.to_owned();
        call_async(self, checked, move |core| holder(core, &name))
    }

    /// Returns the holders of all names that begin with `prefix`, in the order of the names' bytes.
    ///
    /// No character of `prefix` has a special meaning. An empty prefix selects all names of the
    /// namespace.
    ///
    /// # Blocking
    /// Blocks until the engine has answered, at most for the time limit of a request.
    ///
    /// # Errors
    /// Returns an error if `prefix` contains a refused character, or if the request fails.
    ///
    /// # Examples
    /// ```
    /// use latchwork_lease::Leases;
    /// use std::time::Duration;
    /// let leases = Leases::connect("memory:")?;
    /// let ttl = Duration::from_secs(10);
    /// let held = (leases.acquire("a%1", ttl)?, leases.acquire("a_2", ttl)?);
    /// let names: Vec<_> = leases.list("a%")?.into_iter().map(|(name, _)| name).collect();
    /// assert_eq!(names, ["a%1"]);
    /// # drop(held);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn list(&self, prefix: &str) -> Result<Vec<(String, Holder)>, CallError> {
        self.check_call(name::check_prefix(prefix))?;
        list(self.core(), prefix)
    }

    /// As [`list`](Self::list), without blocking the thread.
    pub fn list_async(
        &self,
        prefix: &str,
    ) -> LeaseFuture<Result<Vec<(String, Holder)>, CallError>> {
        let checked = self.check_call(name::check_prefix(prefix));
        let prefix = prefix.to_owned();
        call_async(self, checked, move |core| list(core, &prefix))
    }

    /// Ends the lease of a name if its token is `token`, and returns whether it was.
    ///
    /// The token names the lease that was seen, so that a later holder is not affected. The holder
    /// of the lease is notified by its next renewal. Until then it believes to hold the name, so
    /// its effects must be fenced.
    ///
    /// # Blocking
    /// Blocks until the engine has answered, at most for the time limit of a request.
    ///
    /// # Errors
    /// Returns an error if the name is refused or the request fails.
    pub fn break_lease(&self, name: &str, token: FencingToken) -> Result<bool, CallError> {
        self.check_call(name::check(name))?;
        break_lease(self.core(), name, token)
    }

    /// As [`break_lease`](Self::break_lease), without blocking the thread.
    pub fn break_lease_async(
        &self,
        name: &str,
        token: FencingToken,
    ) -> LeaseFuture<Result<bool, CallError>> {
        let checked = self.check_call(name::check(name));
        let name = name.to_owned();
        call_async(self, checked, move |core| break_lease(core, &name, token))
    }

    /// Raises the counter of a name, so that each later token is greater than `token`.
    ///
    /// It repairs the order of tokens after the engine has lost data: pass the greatest token that
    /// the resource has seen. A present holder keeps its token.
    ///
    /// # Blocking
    /// Blocks until the engine has answered, at most for the time limit of a request.
    ///
    /// # Errors
    /// Returns an error if the name is refused, if `token` exceeds the limit of the engine, or if
    /// the request fails.
    ///
    /// # Examples
    /// ```
    /// use latchwork::table::FencingToken;
    /// use latchwork_lease::Leases;
    /// use std::time::Duration;
    /// let leases = Leases::connect("memory:")?;
    /// leases.raise_floor("a", FencingToken::new(41))?;
    /// let lease = leases.acquire("a", Duration::from_secs(10))?;
    /// assert_eq!(lease.token().get(), 42);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn raise_floor(&self, name: &str, token: FencingToken) -> Result<(), CallError> {
        self.check_call(name::check(name))?;
        raise_floor(self.core(), name, token)
    }

    /// As [`raise_floor`](Self::raise_floor), without blocking the thread.
    pub fn raise_floor_async(
        &self,
        name: &str,
        token: FencingToken,
    ) -> LeaseFuture<Result<(), CallError>> {
        let checked = self.check_call(name::check(name));
        let name = name.to_owned();
        call_async(self, checked, move |core| raise_floor(core, &name, token))
    }
}

/// The longest time between two questions of a [`Watch`](crate::Watch).
pub(crate) const WATCH_AGAIN: Duration = Duration::from_millis(500);
