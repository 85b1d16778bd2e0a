//! The control: leases by the `Lock` call of etcd, as its clients make it.
//!
//! The call returns when the predecessors of its key are gone, and does not check that the key
//! itself exists. So it grants a lock to a caller whose key is gone.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use latchwork::table::FencingToken;
use latchwork_lease::engine::{
    Attempt, Engine, EngineError, HolderInfo, Key, Nonce, Released, Renewal, Renewed, Request,
};
use latchwork_lease::guarantees::{Exclusive, Guarantees, TokenOrder};
use serde_json::{Value, json};
use ureq::Agent;

use crate::gateway::{agent, encode, number, post};

/// The prefix of the locks.
pub(crate) const PREFIX: &str = "lock-call/";

#[derive(Clone, Default)]
struct Call {
    lease: i64,
    /// The key and the revision, once the call has returned.
    granted: Option<(String, u64)>,
    is_over: bool,
}

pub(crate) struct LockCall {
    address: String,
    agent: Agent,
    calls: Arc<(Mutex<HashMap<u128, Call>>, Condvar)>,
}

impl LockCall {
    pub(crate) fn new(url: &str) -> Self {
        let members = url.trim_start_matches("etcd://");
        let first = members.split(',').next().unwrap_or_default();
        LockCall {
            address: first.to_owned(),
            agent: agent(Duration::from_secs(60)),
            calls: Arc::default(),
        }
    }

    fn calls(&self) -> MutexGuard<'_, HashMap<u128, Call>> {
        self.calls.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value, EngineError> {
        post(&self.agent, &self.address, path, body).map_err(EngineError::unknown)
    }

    /// Grants an engine lease. One thread calls `Lock`, and another one extends the engine lease.
    fn start(&self, request: &Request<'_>) -> Result<(), EngineError> {
        let seconds = request.ttl.as_secs().max(2);
        let body = json!({ "TTL": seconds.to_string() });
        let lease = number(&self.post("/v3/lease/grant", &body)?["ID"]);
        let nonce = request.nonce.get();
        let call = Call {
            lease,
            ..Call::default()
        };
        self.calls().insert(nonce, call);
        let (agent, address) = (self.agent.clone(), self.address.clone());
        let name = encode(format!("{PREFIX}{}", request.key.name));
        let calls = Arc::clone(&self.calls);
        let body = json!({ "name": name, "lease": lease.to_string() });
        thread::spawn(move || {
            let answer = post(&agent, &address, "/v3/lock/lock", &body);
            let mut calls_now = calls.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(call) = calls_now.get_mut(&nonce) {
                match answer {
                    Ok(answer) => {
                        let key = answer["key"].as_str().unwrap_or_default().to_owned();
                        let revision = number(&answer["header"]["revision"]) as u64;
                        call.granted = Some((key, revision));
                    }
                    Err(_) => call.is_over = true,
                }
            }
            calls.1.notify_all();
        });
        let (agent, address) = (self.agent.clone(), self.address.clone());
        let calls = Arc::clone(&self.calls);
        thread::spawn(move || {
            let has_call = || {
                let calls = calls.0.lock().unwrap_or_else(PoisonError::into_inner);
                calls.contains_key(&nonce)
            };
            while has_call() {
                let body = json!({ "ID": lease.to_string() });
                let _ = post(&agent, &address, "/v3/lease/keepalive", &body);
                thread::sleep(Duration::from_millis(500));
            }
        });
        Ok(())
    }
}

impl Engine for LockCall {
    fn guarantees(&self) -> Guarantees {
        let mut all = Guarantees::new(Exclusive::UnlessPaused, TokenOrder::Always);
        all.fair = true;
        all.least_lease = Duration::from_secs(2);
        all
    }

    fn try_acquire(&self, request: &Request<'_>, _: Instant) -> Result<Attempt, EngineError> {
        let call = self.calls().get(&request.nonce.get()).cloned();
        match call {
            None => {
                self.start(request)?;
                Ok(Attempt::Busy { free_in: None })
            }
            Some(call) if call.is_over => Err(EngineError::unknown("the call failed")),
            Some(Call {
                granted: Some((_, revision)),
                ..
            }) => Ok(Attempt::Granted(FencingToken::new(revision))),
            Some(_) => Ok(Attempt::Busy { free_in: None }),
        }
    }

    fn renew_many(
        &self,
        renewals: &[Renewal<'_>],
        _: Instant,
    ) -> Result<Vec<Renewed>, EngineError> {
        let renew = |renewal: &Renewal<'_>| {
            let call = self.calls().get(&renewal.nonce.get()).cloned();
            let Some(call) = call else {
                return Ok(Renewed::Lost);
            };
            let body = json!({ "ID": call.lease.to_string() });
            let answer = self.post("/v3/lease/keepalive", &body)?;
            let is_extended = number(&answer["result"]["TTL"]) > 0;
            Ok(if is_extended {
                Renewed::Held
            } else {
                Renewed::Lost
            })
        };
        renewals.iter().map(renew).collect()
    }

    fn release(&self, _: Key<'_>, nonce: Nonce, _: Instant) -> Result<Released, EngineError> {
        let call = self.calls().remove(&nonce.get());
        let Some(call) = call else {
            return Ok(Released::WasLost);
        };
        let body = json!({ "ID": call.lease.to_string() });
        self.post("/v3/lease/revoke", &body)?;
        Ok(Released::Done)
    }

    fn holder(&self, _: Key<'_>, _: Instant) -> Result<Option<HolderInfo>, EngineError> {
        Ok(None)
    }

    fn list(&self, _: &str, _: &str, _: Instant) -> Result<Vec<(String, HolderInfo)>, EngineError> {
        Ok(Vec::new())
    }

    fn break_lease(&self, _: Key<'_>, _: FencingToken, _: Instant) -> Result<bool, EngineError> {
        Ok(false)
    }

    fn raise_floor(&self, _: Key<'_>, _: FencingToken, _: Instant) -> Result<(), EngineError> {
        Ok(())
    }

    fn wait_hint(&self, _: Key<'_>, nonce: Nonce, deadline: Instant) -> Result<(), EngineError> {
        let limit = deadline.saturating_duration_since(Instant::now());
        let calls = self.calls();
        let is_waiting = |calls: &mut HashMap<u128, Call>| {
            let call = calls.get(&nonce.get());
            call.is_some_and(|call| call.granted.is_none() && !call.is_over)
        };
        let wait = self.calls.1.wait_timeout_while(calls, limit, is_waiting);
        drop(wait);
        Ok(())
    }
}
