//! An engine that counts the requests to another one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use latchwork::table::FencingToken;
use latchwork_lease::engine::{
    Attempt, AttemptAll, Engine, EngineError, HolderInfo, Key, Nonce, Released, Renewal, Renewed,
    Request,
};
use latchwork_lease::guarantees::Guarantees;

/// The numbers of calls, which threads may read while the engine is used.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    all: AtomicU64,
    renewals: AtomicU64,
    renewed: AtomicU64,
}

impl Calls {
    fn add(&self) {
        // Relaxed: a counter for itself. The same holds for all accesses below.
        self.all.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of calls of any kind.
    pub(crate) fn all(&self) -> u64 {
        self.all.load(Ordering::Relaxed)
    }

    /// Returns the number of requests that renewed, and of the leases in them.
    pub(crate) fn renewals(&self) -> (u64, u64) {
        (
            self.renewals.load(Ordering::Relaxed),
            self.renewed.load(Ordering::Relaxed),
        )
    }
}

#[derive(Debug)]
pub(crate) struct Counting<E> {
    engine: E,
    calls: Arc<Calls>,
}

impl<E: Engine> Counting<E> {
    pub(crate) fn new(engine: E) -> (Self, Arc<Calls>) {
        let calls = Arc::new(Calls::default());
        let counting = Counting {
            engine,
            calls: calls.clone(),
        };
        (counting, calls)
    }
}

impl<E: Engine> Engine for Counting<E> {
    fn guarantees(&self) -> Guarantees {
        self.engine.guarantees()
    }

    fn try_acquire(
        &self,
        request: &Request<'_>,
        deadline: Instant,
    ) -> Result<Attempt, EngineError> {
        self.calls.add();
        self.engine.try_acquire(request, deadline)
    }

    fn try_acquire_all(
        &self,
        requests: &[Request<'_>],
        deadline: Instant,
    ) -> Option<Result<AttemptAll, EngineError>> {
        self.calls.add();
        self.engine.try_acquire_all(requests, deadline)
    }

    fn renew_many(
        &self,
        renewals: &[Renewal<'_>],
        deadline: Instant,
    ) -> Result<Vec<Renewed>, EngineError> {
        self.calls.add();
        self.calls.renewals.fetch_add(1, Ordering::Relaxed);
        let number = renewals.len() as u64;
        self.calls.renewed.fetch_add(number, Ordering::Relaxed);
        self.engine.renew_many(renewals, deadline)
    }

    fn release(
        &self,
        key: Key<'_>,
        nonce: Nonce,
        deadline: Instant,
    ) -> Result<Released, EngineError> {
        self.calls.add();
        self.engine.release(key, nonce, deadline)
    }

    fn holder(&self, key: Key<'_>, deadline: Instant) -> Result<Option<HolderInfo>, EngineError> {
        self.calls.add();
        self.engine.holder(key, deadline)
    }

    fn list(
        &self,
        namespace: &str,
        prefix: &str,
        deadline: Instant,
    ) -> Result<Vec<(String, HolderInfo)>, EngineError> {
        self.calls.add();
        self.engine.list(namespace, prefix, deadline)
    }

    fn break_lease(
        &self,
        key: Key<'_>,
        token: FencingToken,
        deadline: Instant,
    ) -> Result<bool, EngineError> {
        self.calls.add();
        self.engine.break_lease(key, token, deadline)
    }

    fn raise_floor(
        &self,
        key: Key<'_>,
        token: FencingToken,
        deadline: Instant,
    ) -> Result<(), EngineError> {
        self.calls.add();
        self.engine.raise_floor(key, token, deadline)
    }

    fn wait_hint(&self, key: Key<'_>, nonce: Nonce, deadline: Instant) -> Result<(), EngineError> {
        self.calls.add();
        self.engine.wait_hint(key, nonce, deadline)
    }
}
