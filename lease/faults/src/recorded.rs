//! An engine that records when the request was sent that was granted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use latchwork::table::FencingToken;
use latchwork_lease::engine::{
    Attempt, Engine, EngineError, HolderInfo, Key, Nonce, Released, Renewal, Renewed, Request,
};
use latchwork_lease::guarantees::Guarantees;

use crate::clock::{Nanos, now};

/// The times at which requests were sent, by the nonces that were granted.
#[derive(Clone, Default)]
pub(crate) struct Asked(Arc<Mutex<HashMap<u128, Nanos>>>);

impl Asked {
    /// Returns the time of the request, and removes it.
    pub(crate) fn remove(&self, nonce: u128) -> Option<Nanos> {
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        asked.remove(&nonce)
    }
}

/// Forwards all requests, and records the time of each request that is granted.
pub(crate) struct Recorded {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) asked: Asked,
}

impl Engine for Recorded {
    fn guarantees(&self) -> Guarantees {
        self.engine.guarantees()
    }

    fn try_acquire(
        &self,
        request: &Request<'_>,
        deadline: Instant,
    ) -> Result<Attempt, EngineError> {
        let start = now();
        let answer = self.engine.try_acquire(request, deadline);
        if matches!(answer, Ok(Attempt::Granted(_))) {
            let mut asked = self.asked.0.lock().unwrap_or_else(PoisonError::into_inner);
            asked.insert(request.nonce.get(), start);
        }
        answer
    }

    fn renew_many(
        &self,
        renewals: &[Renewal<'_>],
        deadline: Instant,
    ) -> Result<Vec<Renewed>, EngineError> {
        self.engine.renew_many(renewals, deadline)
    }

    fn release(
        &self,
        key: Key<'_>,
        nonce: Nonce,
        deadline: Instant,
    ) -> Result<Released, EngineError> {
        self.engine.release(key, nonce, deadline)
    }

    fn release_many(
        &self,
        releases: &[(Key<'_>, Nonce)],
        deadline: Instant,
    ) -> Option<Result<Vec<Released>, EngineError>> {
        self.engine.release_many(releases, deadline)
    }

    fn holder(&self, key: Key<'_>, deadline: Instant) -> Result<Option<HolderInfo>, EngineError> {
        self.engine.holder(key, deadline)
    }

    fn list(
        &self,
        namespace: &str,
        prefix: &str,
        deadline: Instant,
    ) -> Result<Vec<(String, HolderInfo)>, EngineError> {
        self.engine.list(namespace, prefix, deadline)
    }

    fn break_lease(
        &self,
        key: Key<'_>,
        token: FencingToken,
        deadline: Instant,
    ) -> Result<bool, EngineError> {
        self.engine.break_lease(key, token, deadline)
    }

    fn raise_floor(
        &self,
        key: Key<'_>,
        token: FencingToken,
        deadline: Instant,
    ) -> Result<(), EngineError> {
        self.engine.raise_floor(key, token, deadline)
    }

    fn wait_hint(&self, key: Key<'_>, nonce: Nonce, deadline: Instant) -> Result<(), EngineError> {
        self.engine.wait_hint(key, nonce, deadline)
    }
}
