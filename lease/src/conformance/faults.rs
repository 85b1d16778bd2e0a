//! An engine whose network fails on request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use latchwork::table::FencingToken;

use crate::engine::{
    Attempt, AttemptAll, Engine, EngineError, HolderInfo, Key, Nonce, Released, Renewal, Renewed,
    Request,
};
use crate::guarantees::Guarantees;

/// What happens to requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Fault {
    None,
    /// Requests fail at once, without an effect.
    Down,
    /// Requests hang until their deadline, without an effect.
    Hung,
    /// Requests have their effect, and the answer is lost.
    AnswerLost,
    /// The answer of each second request is lost, of requests for a lease and of others.
    HalfLost,
}

/// Forwards requests to an engine, unless a fault is set.
pub(super) struct Faulty {
    engine: Arc<dyn Engine>,
    fault: AtomicU8,
    /// The numbers of requests for a lease, and of others.
    calls: [AtomicUsize; 2],
}

/// The kind of a request.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Ask,
    Other,
}

impl Faulty {
    pub(super) fn new(engine: Arc<dyn Engine>) -> Arc<Self> {
        Arc::new(Faulty {
            engine,
            fault: AtomicU8::new(Fault::None as u8),
            calls: [AtomicUsize::new(0), AtomicUsize::new(0)],
        })
    }

    pub(super) fn set(&self, fault: Fault) {
        self.fault.store(fault as u8, Ordering::SeqCst);
    }

    /// Returns the number of requests so far.
    pub(super) fn calls(&self) -> usize {
        let load = |calls: &AtomicUsize| calls.load(Ordering::SeqCst);
        self.calls.iter().map(load).sum()
    }

    fn call<T>(
        &self,
        kind: Kind,
        deadline: Instant,
        call: impl FnOnce(&dyn Engine) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        // A release in the background must not make two asks in sequence fail.
        let number = self.calls[kind as usize].fetch_add(1, Ordering::SeqCst);
        let is = |fault: Fault| self.fault.load(Ordering::SeqCst) == fault as u8;
        if is(Fault::Down) {
            return Err(EngineError::not_done("connection refused"));
        }
        if is(Fault::Hung) {
            while is(Fault::Hung) && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(5));
            }
            return Err(EngineError::unknown("no answer"));
        }
        let answer = call(&*self.engine);
        if is(Fault::AnswerLost) || (is(Fault::HalfLost) && number % 2 == 0) {
            return Err(EngineError::unknown("connection reset"));
        }
        answer
    }
}

impl Engine for Faulty {
    fn guarantees(&self) -> Guarantees {
        self.engine.guarantees()
    }

    fn try_acquire(
        &self,
        request: &Request<'_>,
        deadline: Instant,
    ) -> Result<Attempt, EngineError> {
        self.call(Kind::Ask, deadline, |engine| {
            engine.try_acquire(request, deadline)
        })
    }

    fn try_acquire_all(
        &self,
        requests: &[Request<'_>],
        deadline: Instant,
    ) -> Option<Result<AttemptAll, EngineError>> {
        let mut is_supported = true;
        let answer = self.call(Kind::Ask, deadline, |engine| {
            let answer = engine.try_acquire_all(requests, deadline);
            is_supported = answer.is_some();
            answer.unwrap_or_else(|| Err(EngineError::not_done("unsupported")))
        });
        is_supported.then_some(answer)
    }

    fn renew_many(
        &self,
        renewals: &[Renewal<'_>],
        deadline: Instant,
    ) -> Result<Vec<Renewed>, EngineError> {
        self.call(Kind::Other, deadline, |engine| {
            engine.renew_many(renewals, deadline)
        })
    }

    fn release(
        &self,
        key: Key<'_>,
        nonce: Nonce,
        deadline: Instant,
    ) -> Result<Released, EngineError> {
        self.call(Kind::Other, deadline, |engine| {
            engine.release(key, nonce, deadline)
        })
    }

    fn holder(&self, key: Key<'_>, deadline: Instant) -> Result<Option<HolderInfo>, EngineError> {
        self.call(Kind::Other, deadline, |engine| engine.holder(key, deadline))
    }

    fn list(
        &self,
        namespace: &str,
        prefix: &str,
        deadline: Instant,
    ) -> Result<Vec<(String, HolderInfo)>, EngineError> {
        self.call(Kind::Other, deadline, |engine| {
            engine.list(namespace, prefix, deadline)
        })
    }

    fn break_lease(
        &self,
        key: Key<'_>,
        token: FencingToken,
        deadline: Instant,
    ) -> Result<bool, EngineError> {
        self.call(Kind::Other, deadline, |engine| {
            engine.break_lease(key, token, deadline)
        })
    }

    fn raise_floor(
        &self,
        key: Key<'_>,
        token: FencingToken,
        deadline: Instant,
    ) -> Result<(), EngineError> {
        self.call(Kind::Other, deadline, |engine| {
            engine.raise_floor(key, token, deadline)
        })
    }

    fn wait_hint(&self, key: Key<'_>, nonce: Nonce, deadline: Instant) -> Result<(), EngineError> {
        self.call(Kind::Other, deadline, |engine| {
            engine.wait_hint(key, nonce, deadline)
        })
    }
}
