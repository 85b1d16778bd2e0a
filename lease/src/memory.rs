//! The engine `memory:`, for the threads of one process: [`MemoryEngine`].

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use latchwork::table::FencingToken;

use crate::clock::Timestamp;
use crate::engine::{
    Attempt, AttemptAll, Engine, EngineError, HolderInfo, Key, Nonce, Released, Renewal, Renewed,
    Request,
};
use crate::guarantees::{Exclusive, Guarantees, TokenOrder};

/// Stores leases in this process.
///
/// Clones share one store, and so do the [`Leases`](crate::Leases) that are made from them. Each
/// connection to `memory:` has a store of its own. Its rows remain after a release, because they
/// contain the tokens.
///
/// # Examples
/// ```
/// use latchwork_lease::{Leases, memory::MemoryEngine};
/// use std::time::Duration;
/// let engine = MemoryEngine::new();
/// let (one, two) = (Leases::new(engine.clone()), Leases::new(engine));
/// let lease = one.acquire("a", Duration::from_secs(10)).expect("the name is free");
/// assert!(two.try_acquire("a", Duration::from_secs(10)).expect("in memory").is_none());
/// # drop(lease);
/// ```
#[derive(Clone, Default)]
pub struct MemoryEngine {
    store: Arc<Store>,
}

/// The guarantees of this engine.
pub(crate) const GUARANTEES: Guarantees = Guarantees {
    tolerates: "nothing: the leases end with the process",
    hand_over: Duration::from_millis(5),
    ..Guarantees::new(Exclusive::UnlessPaused, TokenOrder::Always)
};

#[derive(Default)]
struct Store {
    rows: Mutex<BTreeMap<(String, String), Row>>,
    released: Condvar,
    clock: MemoryClock,
}

/// A clock of a [`MemoryEngine`], which a test can advance.
///
/// It reads the clock of the process, and adds the time by which it was advanced.
#[derive(Clone, Debug, Default)]
pub struct MemoryClock(Arc<AtomicU64>);

impl MemoryClock {
    /// Makes a clock that was not advanced.
    pub fn new() -> Self {
        Self::default()
    }

    /// Advances the clock, as a jump of a server's clock does.
    pub fn advance(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        // Relaxed: no other memory is published by the clock.
        self.0.fetch_add(nanos, Ordering::Relaxed);
    }

    fn now(&self) -> Timestamp {
        // Relaxed: no other memory is published by the clock.
        Timestamp::now().plus(Duration::from_nanos(self.0.load(Ordering::Relaxed)))
    }
}

#[derive(Default)]
struct Row {
    /// The greatest token that was issued, or to which the counter was raised.
    counter: u64,
    lease: Option<Held>,
}

struct Held {
    nonce: Nonce,
    token: FencingToken,
    owner: String,
    since: Timestamp,
    expires: Timestamp,
}

impl Row {
    /// Returns the lease unless it has expired.
    fn held(&self, now: Timestamp) -> Option<&Held> {
        self.lease.as_ref().filter(|held| now < held.expires)
    }

    fn info(&self, now: Timestamp) -> Option<HolderInfo> {
        self.held(now).map(|held| HolderInfo {
            owner: held.owner.clone(),
            token: held.token,
            held_for: now.since(held.since),
            expires_in: held.expires.since(now),
        })
    }

    /// Returns the time until the key is free if another nonce holds it.
    fn busy(&self, nonce: Nonce, now: Timestamp) -> Option<Duration> {
        let held = self.held(now).filter(|held| held.nonce != nonce)?;
        Some(held.expires.since(now))
    }

    /// Grants the key. The caller has checked that it is not busy.
    fn grant(&mut self, request: &Request<'_>, now: Timestamp) -> FencingToken {
        let expires = now.plus(request.ttl);
        if let Some(held) = self.lease.as_mut().filter(|held| now < held.expires) {
            // The nonce has the lease already, and asks again because an answer was lost.
            held.expires = expires;
            return held.token;
        }
        self.counter += 1;
        let token = FencingToken::new(self.counter);
        self.lease = Some(Held {
            nonce: request.nonce,
            token,
            owner: request.owner.to_owned(),
            since: now,
            expires,
        });
        token
    }
}

type Rows<'a> = MutexGuard<'a, BTreeMap<(String, String), Row>>;

impl MemoryEngine {
    /// Makes an engine with an empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes an engine whose leases expire by `clock`.
    pub fn with_clock(clock: MemoryClock) -> Self {
        MemoryEngine {
            store: Arc::new(Store {
                clock,
                ..Store::default()
            }),
        }
    }

    fn rows(&self) -> (Rows<'_>, Timestamp) {
        // No user code runs while the store is locked, so a poisoned store is whole.
        let rows = self
            .store
            .rows
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        (rows, self.store.clock.now())
    }
}

fn owned(key: Key<'_>) -> (String, String) {
    (key.namespace.to_owned(), key.name.to_owned())
}

impl Engine for MemoryEngine {
    fn guarantees(&self) -> Guarantees {
        GUARANTEES
    }

    fn try_acquire(&self, request: &Request<'_>, _: Instant) -> Result<Attempt, EngineError> {
        let (mut rows, now) = self.rows();
        let row = rows.entry(owned(request.key)).or_default();
        if let Some(free_in) = row.busy(request.nonce, now) {
            let free_in = Some(free_in);
            return Ok(Attempt::Busy { free_in });
        }
        Ok(Attempt::Granted(row.grant(request, now)))
    }

    fn try_acquire_all(
        &self,
        requests: &[Request<'_>],
        _: Instant,
    ) -> Option<Result<AttemptAll, EngineError>> {
        let (mut rows, now) = self.rows();
        for (index, request) in requests.iter().enumerate() {
            let row = rows.entry(owned(request.key)).or_default();
            if let Some(free_in) = row.busy(request.nonce, now) {
                let free_in = Some(free_in);
                return Some(Ok(AttemptAll::Busy { index, free_in }));
            }
        }
        let grant = |request: &Request<'_>| {
            let row = rows.entry(owned(request.key)).or_default();
            row.grant(request, now)
        };
        let tokens = requests.iter().map(grant).collect();
        Some(Ok(AttemptAll::Granted(tokens)))
    }

    fn renew_many(
        &self,
        renewals: &[Renewal<'_>],
        _: Instant,
    ) -> Result<Vec<Renewed>, EngineError> {
        let (mut rows, now) = self.rows();
        let renew = |renewal: &Renewal<'_>| {
            let Some(row) = rows.get_mut(&owned(renewal.key)) else {
                return Renewed::Lost;
            };
            let identity = (renewal.nonce, renewal.token);
            match &mut row.lease {
                Some(held) if (held.nonce, held.token) == identity && now < held.expires => {
                    held.expires = now.plus(renewal.ttl);
                    Renewed::Held
                }
                _ => Renewed::Lost,
            }
        };
        Ok(renewals.iter().map(renew).collect())
    }

    fn release(&self, key: Key<'_>, nonce: Nonce, _: Instant) -> Result<Released, EngineError> {
        let (mut rows, now) = self.rows();
        let Some(row) = rows.get_mut(&owned(key)) else {
            return Ok(Released::WasLost);
        };
        if row.held(now).is_none_or(|held| held.nonce != nonce) {
            return Ok(Released::WasLost);
        }
        row.lease = None;
        drop(rows);
        self.store.released.notify_all();
        Ok(Released::Done)
    }

    fn holder(&self, key: Key<'_>, _: Instant) -> Result<Option<HolderInfo>, EngineError> {
        let (rows, now) = self.rows();
        Ok(rows.get(&owned(key)).and_then(|row| row.info(now)))
    }

    fn list(
        &self,
        namespace: &str,
        prefix: &str,
        _: Instant,
    ) -> Result<Vec<(String, HolderInfo)>, EngineError> {
        let (rows, now) = self.rows();
        let from = (namespace.to_owned(), prefix.to_owned());
        let all = rows.range(from..).take_while(|((space, name), _)| {
            space.as_str() == namespace && name.starts_with(prefix)
        });
        let held = all.filter_map(|((_, name), row)| Some((name.clone(), row.info(now)?)));
        Ok(held.collect())
    }

    fn break_lease(
        &self,
        key: Key<'_>,
        token: FencingToken,
        _: Instant,
    ) -> Result<bool, EngineError> {
        let (mut rows, now) = self.rows();
        let Some(row) = rows.get_mut(&owned(key)) else {
            return Ok(false);
        };
        if row.held(now).is_none_or(|held| held.token != token) {
            return Ok(false);
        }
        row.lease = None;
        drop(rows);
        self.store.released.notify_all();
        Ok(true)
    }

    fn raise_floor(
        &self,
        key: Key<'_>,
        token: FencingToken,
        _: Instant,
    ) -> Result<(), EngineError> {
        crate::engine::floor(token).map_err(EngineError::misconfigured)?;
        let (mut rows, _) = self.rows();
        let row = rows.entry(owned(key)).or_default();
        row.counter = row.counter.max(token.get());
        Ok(())
    }

    fn wait_hint(&self, key: Key<'_>, nonce: Nonce, deadline: Instant) -> Result<(), EngineError> {
        let (mut rows, mut now) = self.rows();
        let key = owned(key);
        while rows
            .get(&key)
            .is_some_and(|row| row.busy(nonce, now).is_some())
        {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.store.released.wait_timeout(rows, left);
            rows = waited.unwrap_or_else(PoisonError::into_inner).0;
            now = self.store.clock.now();
        }
        Ok(())
    }
}

impl fmt::Debug for MemoryEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rows, _) = self.rows();
        f.debug_struct("MemoryEngine")
            .field("rows", &rows.len())
            .finish_non_exhaustive()
    }
}
