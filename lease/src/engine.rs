//! The contract of an engine: [`Engine`].
//!
//! An engine stores leases where other processes can see them. The functions here are its whole
//! contract. An engine decides nothing about time limits of a caller, retries or renewals: the
//! acquisition's state machine does.

use core::fmt;
use std::error::Error;
use std::time::{Duration, Instant};

use latchwork::table::FencingToken;

use crate::guarantees::Guarantees;

/// The driver of one engine, for all names and namespaces.
///
/// All functions block, at most until the `deadline` of the call and a short time more. They are
/// called from several threads concurrently.
///
/// # Rules
/// 1. A request is granted only if no other nonce holds the key by the engine's clock.
/// 2. Tokens of a key grow with each grant to a nonce that did not hold the key.
/// 3. A request that repeats the nonce of the present holder is granted with the same token, and
///    the lease then ends `ttl` after this request. So a request whose answer was lost can be
///    repeated.
/// 4. Nothing but [`renew_many`](Self::renew_many) and rule 3 extends a lease, and neither extends
///    one that has ended if another nonce has held the key since. A renewal never grants a key.
/// 5. A call that returns an error with [`Outcome::NotDone`] has had no effect and never will.
///
/// The feature `conformance` contains a suite that checks these rules for any engine.
pub trait Engine: Send + Sync + 'static {
    /// Returns the guarantees of this engine, as configured.
    fn guarantees(&self) -> Guarantees;

    /// Asks for the lease of a key, and never waits until the key is free.
    ///
    /// After [`Attempt::Busy`], an engine whose guarantees are [`fair`](Guarantees::fair) may keep
    /// the request in its queue, under its nonce. A caller that ceases to ask then calls
    /// [`release`](Self::release) with this nonce. For other engines, it makes no such request.
    ///
    /// # Errors
    /// Returns an error if the engine cannot be reached or refuses the request.
    fn try_acquire(&self, request: &Request<'_>, deadline: Instant)
    -> Result<Attempt, EngineError>;

    /// Asks for all keys in one step: all are granted, or none.
    ///
    /// The result has one token for each request, in their order, or the index of a request that
    /// is busy. Returns `None`, without an effect, if the engine has no such step. The requests are
    /// then made one by one. The keys are distinct and in ascending order.
    ///
    /// # Errors
    /// As [`try_acquire`](Self::try_acquire).
    fn try_acquire_all(
        &self,
        requests: &[Request<'_>],
        deadline: Instant,
    ) -> Option<Result<AttemptAll, EngineError>> {
        let _ = (requests, deadline);
        None
    }

    /// Extends leases to `ttl` from now, each only if its nonce and token still hold the key.
    ///
    /// The result has one entry for each renewal, in their order. A call that exceeds its deadline
    /// extends none of the leases. So an engine should not wait for one of them, and should return
    /// [`Renewed::Unknown`] for it.
    ///
    /// # Errors
    /// Returns an error if it is not known for any of the leases whether it was extended.
    fn renew_many(
        &self,
        renewals: &[Renewal<'_>],
        deadline: Instant,
    ) -> Result<Vec<Renewed>, EngineError>;

    /// Ends the lease of a nonce, and removes its request from the queue of the key.
    ///
    /// # Errors
    /// Returns an error if it is not known whether the nonce still holds the key.
    fn release(
        &self,
        key: Key<'_>,
        nonce: Nonce,
        deadline: Instant,
    ) -> Result<Released, EngineError>;

    /// Ends the leases of several nonces in one request.
    ///
    /// It does for each of them what [`release`](Self::release) does.
    ///
    /// The result has one entry for each pair, in their order. The keys are distinct. Returns
    /// `None`, without an effect, if the engine has no such request, including for an empty list.
    /// The releases are then made one by one.
    ///
    /// # Errors
    /// Returns an error if it is not known for one of the pairs whether the nonce holds the key.
    fn release_many(
        &self,
        releases: &[(Key<'_>, Nonce)],
        deadline: Instant,
    ) -> Option<Result<Vec<Released>, EngineError>> {
        let _ = (releases, deadline);
        None
    }

    /// Returns the present holder of a key.
    ///
    /// # Errors
    /// Returns an error if the engine cannot be reached.
    fn holder(&self, key: Key<'_>, deadline: Instant) -> Result<Option<HolderInfo>, EngineError>;

    /// Returns the holders of all names of the namespace that begin with `prefix`, in ascending
    /// order of the bytes of the names. No character of `prefix` has a special meaning.
    ///
    /// # Errors
    /// Returns an error if the engine cannot be reached.
    fn list(
        &self,
        namespace: &str,
        prefix: &str,
        deadline: Instant,
    ) -> Result<Vec<(String, HolderInfo)>, EngineError>;

    /// Ends the lease of a key if its token is `token`, and returns whether it was.
    ///
    /// # Errors
    /// Returns an error if it is not known whether the lease was ended.
    fn break_lease(
        &self,
        key: Key<'_>,
        token: FencingToken,
        deadline: Instant,
    ) -> Result<bool, EngineError>;

    /// Raises the counter of a key, so that each later token is greater than `token`.
    ///
    /// A present holder keeps its token. The engine may also raise the counters of other keys.
    ///
    /// # Errors
    /// Returns an error if it is not known whether the counter was raised.
    fn raise_floor(
        &self,
        key: Key<'_>,
        token: FencingToken,
        deadline: Instant,
    ) -> Result<(), EngineError>;

    /// Blocks until the key may have become free since `nonce` was refused, or until `deadline`.
    ///
    /// It may return at any time. After many waits of less than a millisecond, the caller pauses
    /// for five between them. A lease that expires need not end the wait: the caller reads from
    /// [`Attempt::Busy`] when to ask again. A release of the key ends the wait, on this machine or
    /// another, within the time that [`Guarantees`] states.
    ///
    /// # Errors
    /// Returns an error if the engine cannot be reached.
    fn wait_hint(&self, key: Key<'_>, nonce: Nonce, deadline: Instant) -> Result<(), EngineError>;
}

/// The identity of a lease: a namespace and a name, compared by their bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key<'a> {
    /// The namespace.
    pub namespace: &'a str,
    /// The name: 1 to 512 bytes of UTF-8 without control characters.
    pub name: &'a str,
}

/// A random number that identifies one acquisition.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Nonce(u128);

impl Nonce {
    /// Returns the nonce with this number.
    pub const fn new(number: u128) -> Self {
        Nonce(number)
    }

    /// Returns its number.
    pub const fn get(self) -> u128 {
        self.0
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nonce({:032x})", self.0)
    }
}

/// A request for a lease.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The key to lease.
    pub key: Key<'a>,
    /// The identity of this acquisition.
    pub nonce: Nonce,
    /// A label for people, of at most 512 bytes.
    pub owner: &'a str,
    /// The length of the lease, which starts when the engine grants it.
    pub ttl: Duration,
}

/// The answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The nonce holds the key, under this token.
    Granted(FencingToken),
    /// Another nonce holds the key or precedes this one in its queue.
    Busy {
        /// The time after which the present lease ends, unless its holder renews it, if known.
        free_in: Option<Duration>,
    },
}

/// The answer to a request for several keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptAll {
    /// All keys are held, under these tokens.
    Granted(Vec<FencingToken>),
    /// No key was acquired.
    Busy {
        /// The index of a request whose key is held by another nonce.
        index: usize,
        /// As in [`Attempt::Busy`].
        free_in: Option<Duration>,
    },
}

/// A lease to extend.
#[derive(Clone, Copy, Debug)]
pub struct Renewal<'a> {
    /// The leased key.
    pub key: Key<'a>,
    /// The identity of the acquisition.
    pub nonce: Nonce,
    /// The token under which the lease was granted.
    pub token: FencingToken,
    /// The new length, from now.
    pub ttl: Duration,
}

/// The answer to a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewed {
    /// The lease is extended.
    Held,
    /// The lease has ended: it expired, or was broken.
    Lost,
    /// It is not known whether the lease was extended, in contrast to others of the same request.
    ///
    /// For example, another client has locked its entry.
    Unknown,
}

/// The answer to a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Released {
    /// The nonce held the key until now.
    Done,
    /// The nonce did not hold the key.
    WasLost,
}

/// The holder of a key, by the engine's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HolderInfo {
    /// The label for people.
    pub owner: String,
    /// The token of the lease.
    pub token: FencingToken,
    /// The time since the lease was granted.
    pub held_for: Duration,
    /// The time until the lease ends, unless it is renewed.
    pub expires_in: Duration,
}

/// Whether a failed call may have had an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The call had no effect and will have none.
    NotDone,
    /// The call may have had its effect, or may still have it.
    Unknown,
}

/// The error of an engine.
///
/// Its text and its sources never contain a password.
#[derive(Debug)]
pub struct EngineError {
    /// The knowledge about the effect of the call.
    pub outcome: Outcome,
    /// Whether a later attempt can succeed without a change of the configuration.
    pub is_temporary: bool,
    /// The cause.
    pub source: Box<dyn Error + Send + Sync>,
}

impl EngineError {
    /// A temporary error of a call that had no effect.
    pub fn not_done(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        EngineError {
            outcome: Outcome::NotDone,
            is_temporary: true,
            source: source.into(),
        }
    }

    /// A temporary error of a call that may have had its effect.
    pub fn unknown(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        EngineError {
            outcome: Outcome::Unknown,
            is_temporary: true,
            source: source.into(),
        }
    }

    /// An error that persists until the configuration changes. The call had no effect.
    pub fn misconfigured(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        EngineError {
            outcome: Outcome::NotDone,
            is_temporary: false,
            source: source.into(),
        }
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.source, f)
    }
}

impl Error for EngineError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.source()
    }
}

/// The greatest token to which a counter can be raised, so that it never overflows.
const GREATEST_FLOOR: u64 = 1 << 62;

/// Returns the value to which a counter is raised, or why it cannot be.
pub(crate) fn floor(token: FencingToken) -> Result<i64, String> {
    match i64::try_from(token.get()) {
        Ok(floor) if token.get() <= GREATEST_FLOOR => Ok(floor),
        _ => Err(format!(
            "the token {token} is greater than {GREATEST_FLOOR}"
        )),
    }
}
