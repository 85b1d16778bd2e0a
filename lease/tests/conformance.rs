//! The conformance suite: `memory:` and a second engine pass, and each planted fault fails a case.

#![cfg(feature = "conformance")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use latchwork::table::FencingToken;
use latchwork_lease::conformance::{Case, cases};
use latchwork_lease::engine::{
    Attempt, Engine, EngineError, HolderInfo, Key, Nonce, Released, Renewal, Renewed, Request,
};
use latchwork_lease::guarantees::{Exclusive, Guarantees, TokenOrder};
use latchwork_lease::memory::MemoryEngine;

/// Runs all cases concurrently, and returns the failures.
fn run(open: &(dyn Fn() -> Arc<dyn Engine> + Sync), cases: &[Case]) -> Vec<String> {
    thread::scope(|s| {
        let runs: Vec<_> = cases
            .iter()
            .map(|case| s.spawn(|| case.run(open).err()))
            .collect();
        let ends = runs
            .into_iter()
            .map(|run| run.join().expect("a case panicked"));
        ends.flatten().map(|failure| failure.to_string()).collect()
    })
}

#[test]
fn the_engine_in_memory_conforms() {
    let engine = MemoryEngine::new();
    let open = || -> Arc<dyn Engine> { Arc::new(engine.clone()) };
    let all: Vec<Case> = cases().collect();
    assert!(all.len() > 30);
    assert_eq!(run(&open, &all), [""; 0]);
}

/// A fault of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    NoExpiry,
    TokenReuse,
    ReleaseByName,
    RenewResurrects,
    RenewIgnoresToken,
    NotExclusive,
    ListByLike,
    NamesFoldCase,
    KeysConcatenated,
    BreakIgnoresToken,
    FloorIgnored,
    RepeatRefused,
    HintNever,
    EarlyExpiry,
}

/// A simple engine, without a request for several keys, with a fault.
#[derive(Clone)]
struct Simple {
    fault: Fault,
    rows: Arc<Mutex<HashMap<(String, String), Row>>>,
}

#[derive(Clone, Default)]
struct Row {
    counter: u64,
    nonce: Option<Nonce>,
    token: u64,
    owner: String,
    since: Option<Instant>,
    expires: Option<Instant>,
}

impl Row {
    fn is_held(&self) -> bool {
        self.nonce.is_some() && self.expires.is_some_and(|expires| Instant::now() < expires)
    }

    fn info(&self) -> Option<HolderInfo> {
        let now = Instant::now();
        self.is_held().then(|| HolderInfo {
            owner: self.owner.clone(),
            token: FencingToken::new(self.token),
            held_for: self.since.map(|since| now - since).unwrap_or_default(),
            expires_in: self
                .expires
                .map(|expires| expires - now)
                .unwrap_or_default(),
        })
    }
}

impl Simple {
    fn new(fault: Fault) -> Self {
        let rows = Arc::default();
        Simple { fault, rows }
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn rows(&self) -> MutexGuard<'_, HashMap<(String, String), Row>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(&self, key: Key<'_>) -> (String, String) {
        if self.is(Fault::KeysConcatenated) {
            return (String::new(), format!("{}/{}", key.namespace, key.name));
        }
        let fold = self.is(Fault::NamesFoldCase);
        let name = if fold {
            key.name.to_lowercase()
        } else {
            key.name.to_owned()
        };
        (key.namespace.to_owned(), name)
    }

    fn end(&self, ttl: Duration) -> Option<Instant> {
        let ttl = match self.fault {
            Fault::NoExpiry => Duration::from_secs(24 * 3600),
            Fault::EarlyExpiry => ttl / 2,
            _ => ttl,
        };
        Some(Instant::now() + ttl)
    }
}

impl Engine for Simple {
    fn guarantees(&self) -> Guarantees {
        Guarantees::new(Exclusive::UnlessPaused, TokenOrder::Always)
    }

    fn try_acquire(&self, request: &Request<'_>, _: Instant) -> Result<Attempt, EngineError> {
        let mut rows = self.rows();
        let row = rows.entry(self.key(request.key)).or_default();
        let is_own = row.nonce == Some(request.nonce) && !self.is(Fault::RepeatRefused);
        if row.is_held() && !is_own && !self.is(Fault::NotExclusive) {
            return Ok(Attempt::Busy { free_in: None });
        }
        if !(row.is_held() && is_own) {
            row.counter += u64::from(!self.is(Fault::TokenReuse) || row.counter == 0);
            row.token = row.counter;
            row.since = Some(Instant::now());
        }
        row.nonce = Some(request.nonce);
        row.owner = request.owner.to_owned();
        row.expires = self.end(request.ttl);
        Ok(Attempt::Granted(FencingToken::new(row.token)))
    }

    fn renew_many(
        &self,
        renewals: &[Renewal<'_>],
        _: Instant,
    ) -> Result<Vec<Renewed>, EngineError> {
        let mut rows = self.rows();
        let mut answers = Vec::new();
        for renewal in renewals {
            let row = rows.entry(self.key(renewal.key)).or_default();
            let is_token = row.token == renewal.token.get() || self.is(Fault::RenewIgnoresToken);
            let is_own = row.is_held() && row.nonce == Some(renewal.nonce) && is_token;
            if is_own || (self.is(Fault::RenewResurrects) && row.counter > 0) {
                row.nonce = Some(renewal.nonce);
                row.expires = self.end(renewal.ttl);
                answers.push(Renewed::Held);
            } else {
                answers.push(Renewed::Lost);
            }
        }
        Ok(answers)
    }

    fn release(&self, key: Key<'_>, nonce: Nonce, _: Instant) -> Result<Released, EngineError> {
        let mut rows = self.rows();
        let row = rows.entry(self.key(key)).or_default();
        let is_own = row.nonce == Some(nonce) || self.is(Fault::ReleaseByName);
        if row.is_held() && is_own {
            row.nonce = None;
            return Ok(Released::Done);
        }
        Ok(Released::WasLost)
    }

    fn holder(&self, key: Key<'_>, _: Instant) -> Result<Option<HolderInfo>, EngineError> {
        Ok(self.rows().get(&self.key(key)).and_then(Row::info))
    }

    fn list(
        &self,
        namespace: &str,
        prefix: &str,
        _: Instant,
    ) -> Result<Vec<(String, HolderInfo)>, EngineError> {
        let like = |name: &str| {
            let mut characters = name.chars();
            prefix.chars().all(|wanted| match wanted {
                '%' => true,
                '_' => characters.next().is_some(),
                wanted => characters.next() == Some(wanted),
            })
        };
        let is_listed = |name: &str| match self.fault {
            Fault::ListByLike => like(name),
            _ => name.starts_with(prefix),
        };
        let rows = self.rows();
        let mut listed: Vec<_> = rows
            .iter()
            .filter(|((space, name), _)| space == namespace && is_listed(name))
            .filter_map(|((_, name), row)| Some((name.clone(), row.info()?)))
            .collect();
        listed.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(listed)
    }

    fn break_lease(
        &self,
        key: Key<'_>,
        token: FencingToken,
        _: Instant,
    ) -> Result<bool, EngineError> {
        let mut rows = self.rows();
        let row = rows.entry(self.key(key)).or_default();
        let is_token = row.token == token.get() || self.is(Fault::BreakIgnoresToken);
        let is_broken = row.is_held() && is_token;
        if is_broken {
            row.nonce = None;
        }
        Ok(is_broken)
    }

    fn raise_floor(
        &self,
        key: Key<'_>,
        token: FencingToken,
        _: Instant,
    ) -> Result<(), EngineError> {
        if !self.is(Fault::FloorIgnored) {
            let mut rows = self.rows();
            let row = rows.entry(self.key(key)).or_default();
            row.counter = row.counter.max(token.get());
        }
        Ok(())
    }

    fn wait_hint(&self, _: Key<'_>, _: Nonce, deadline: Instant) -> Result<(), EngineError> {
        let left = deadline.saturating_duration_since(Instant::now());
        let often = Duration::from_millis(10);
        thread::sleep(if self.is(Fault::HintNever) {
            left
        } else {
            left.min(often)
        });
        Ok(())
    }
}

#[test]
fn an_engine_without_requests_for_several_keys_conforms() {
    let engine = Simple::new(Fault::None);
    let open = || -> Arc<dyn Engine> { Arc::new(engine.clone()) };
    assert_eq!(run(&open, &cases().collect::<Vec<_>>()), [""; 0]);
}

#[test]
fn each_fault_of_an_engine_fails_a_case() {
    // The cases that call the engine directly are fast, and sufficient.
    let calls: Vec<Case> = cases()
        .take_while(|case| !case.name().contains("background"))
        .collect();
    let faults = [
        Fault::NoExpiry,
        Fault::TokenReuse,
        Fault::ReleaseByName,
        Fault::RenewResurrects,
        Fault::RenewIgnoresToken,
        Fault::NotExclusive,
        Fault::ListByLike,
        Fault::NamesFoldCase,
        Fault::KeysConcatenated,
        Fault::BreakIgnoresToken,
        Fault::FloorIgnored,
        Fault::RepeatRefused,
        Fault::HintNever,
        Fault::EarlyExpiry,
    ];
    thread::scope(|s| {
        for fault in faults {
            let calls = &calls;
            s.spawn(move || {
                let engine = Simple::new(fault);
                let open = || -> Arc<dyn Engine> { Arc::new(engine.clone()) };
                let failures = run(&open, calls);
                assert!(!failures.is_empty(), "{fault:?} fails no case");
                println!("{fault:?}: {failures:?}");
            });
        }
    });
}
