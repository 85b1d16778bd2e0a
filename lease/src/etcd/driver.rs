//! The requests of one engine, and the groups that they share.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::clock::Timestamp;
use crate::engine::{Outcome, Request};

use super::client::{Client, Failed};
use super::groups::{Held, Lease, OwnedKey, State};
use super::keys::Keys;
use super::message::{self, Answer, Details, Entry, Header, integer};
use super::{Plant, planted};

pub(super) const TRANSACTION: &str = "/v3/kv/txn";
pub(super) const RANGE: &str = "/v3/kv/range";
const GRANT: &str = "/v3/lease/grant";
const KEEP_ALIVE: &str = "/v3/lease/keepalive";

/// How often an ask, a check or a change is repeated because the cluster changed.
pub(super) const ATTEMPTS: usize = 6;

/// The age of an extension that still counts for a new lease. So not each ask needs a keep-alive.
pub(super) const ENDS_EARLY: Duration = Duration::from_millis(100);

/// The result of an attempt to extend a group.
pub(super) enum Extension {
    /// Extended, by a member of this term, or created.
    Valid(Option<i64>),
    /// The member that answered has no such lease. A transaction must confirm it.
    Gone,
}

/// The requests of one engine.
pub(super) struct Driver {
    pub(super) client: Client,
    pub(super) keys: Keys,
    state: Mutex<State>,
    /// A group was granted, extended or checked.
    changed: Condvar,
    /// The last known offset of each namespace, and its modification revision.
    pub(super) offsets: Mutex<HashMap<String, (i64, i64)>>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No user code runs under these mutexes, so a poisoned state is whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Resets a flag of a group when a thread leaves, including by a panic.
pub(super) struct Turn<'a> {
    pub(super) driver: &'a Driver,
    pub(super) end: fn(&mut State, i64),
    pub(super) of: i64,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        (self.end)(&mut lock(&self.driver.state), self.of);
        self.driver.changed.notify_all();
    }
}

pub(super) fn seconds_of(ttl: Duration) -> u64 {
    ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0)
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

impl Driver {
    pub(super) fn new(client: Client, keys: Keys) -> Self {
        Driver {
            client,
            keys,
            state: Mutex::default(),
            changed: Condvar::new(),
            offsets: Mutex::default(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(super) fn wait<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        deadline: Instant,
    ) -> Result<MutexGuard<'a, State>, Failed> {
        let left = left(deadline);
        if left.is_zero() {
            let text = format!("{}: the time limit has passed", self.client.cluster());
            return Err(Failed::not_done(text));
        }
        let waited = self.changed.wait_timeout(state, left);
        Ok(waited.unwrap_or_else(PoisonError::into_inner).0)
    }

    pub(super) fn transact(&self, body: &Value, deadline: Instant) -> Result<Answer, Failed> {
        let answer = self.client.call(TRANSACTION, body, deadline)?;
        Ok(Answer::read(answer))
    }

    // Groups

    /// Requests an engine lease of this length.
    pub(super) fn grant(
        &self,
        seconds: u64,
        deadline: Instant,
    ) -> Result<(Lease, Duration), Failed> {
        let body = json!({ "TTL": seconds.to_string() });
        let answer = self.client.call(GRANT, &body, deadline)?;
        let ttl = u64::try_from(integer(&answer["TTL"])).unwrap_or(0);
        Ok((integer(&answer["ID"]), Duration::from_secs(ttl)))
    }

    /// Registers a request, in a group of its length [EC5].
    pub(super) fn join(
        &self,
        request: &Request<'_>,
        call: Timestamp,
        deadline: Instant,
    ) -> Result<Held, Failed> {
        let seconds = seconds_of(request.ttl);
        let end = call.plus(request.ttl);
        let mut state = self.state();
        loop {
            // Phase 1: the request is registered, from an earlier ask. If its removal was sent, a
            // delayed removal could follow a grant, so its key is removed first [EC5].
            let known = state.requests.get(&request.nonce.get());
            if let Some(held) = known.filter(|held| held.is_leaving).cloned() {
                drop(state);
                let removed = self.withdraw_ended(request.nonce, &held, deadline);
                removed.map_err(|failed| Failed {
                    outcome: Outcome::NotDone,
                    ..failed
                })?;
                state = self.state();
                continue;
            }
            if let Some(group) = known.map(|held| held.group) {
                let is_same = state
                    .groups
                    .get(&group)
                    .is_some_and(|group| group.seconds == seconds);
                if is_same {
                    let held = state.requests.get_mut(&request.nonce.get());
                    let held = held.expect("it is registered");
                    held.end = held.end.max(end);
                    held.asks += 1;
                    return Ok(held.clone());
                }
                // Another length: its key is moved to a group of that length.
                state.remove(request.nonce);
            }
            // Phase 2: a group exists.
            if let Some(group) = state.open_group(seconds, Timestamp::now()) {
                let held = Held {
                    group,
                    key: OwnedKey {
                        namespace: request.key.namespace.to_owned(),
                        name: request.key.name.to_owned(),
                    },
                    created: None,
                    token: None,
                    end,
                    predecessor: None,
                    is_unsure: false,
                    asks: 1,
                    is_leaving: false,
                };
                state.insert(request.nonce, held.clone());
                return Ok(held);
            }
            // Phase 3: one thread requests a group, and the others wait for it.
            if !state.granting.insert(seconds) {
                state = self.wait(state, deadline)?;
                continue;
            }
            drop(state);
            let turn = Turn {
                driver: self,
                end: |state, seconds| {
                    state.granting.remove(&seconds.unsigned_abs());
                },
                of: seconds as i64,
            };
            let sent = Timestamp::now();
            let (lease, ttl) = self.grant(seconds, deadline)?;
            self.state().new_group(lease, seconds, ttl, sent);
            drop(turn);
            state = self.state();
        }
    }

    /// Extends a group by a request that is sent at `after` or later.
    pub(super) fn extend(
        &self,
        lease: Lease,
        after: Timestamp,
        deadline: Instant,
    ) -> Result<Extension, Failed> {
        let (sent, ended) = {
            let mut state = self.state();
            loop {
                let Some(group) = state.groups.get_mut(&lease) else {
                    return Ok(Extension::Gone);
                };
                if group.is_gone {
                    return Ok(Extension::Gone);
                }
                if group.extended >= after || planted(Plant::GroupUnextended) {
                    return Ok(Extension::Valid(group.term));
                }
                if !group.is_extending {
                    group.is_extending = true;
                    break;
                }
                state = self.wait(state, deadline)?;
            }
            let now = Timestamp::now();
            (now, state.ended(lease, now))
        };
        let _turn = Turn {
            driver: self,
            end: |state, lease| {
                if let Some(group) = state.groups.get_mut(&lease) {
                    group.is_extending = false;
                }
            },
            of: lease,
        };
        // A request that has ended must not be extended with the others [EC5].
        if !planted(Plant::EndIgnored) {
            for (nonce, held) in ended {
                self.withdraw_ended(nonce, &held, deadline)?;
            }
        }
        let body = json!({ "ID": lease.to_string() });
        let answer = self.client.call(KEEP_ALIVE, &body, deadline)?;
        let mut state = self.state();
        let Some(group) = state.groups.get_mut(&lease) else {
            return Ok(Extension::Gone);
        };
        if integer(&answer["TTL"]) <= 0 {
            state.close(lease);
            return Ok(Extension::Gone);
        }
        group.extended = group.extended.max(sent);
        group.term = Some(message::header(&answer).term);
        Ok(Extension::Valid(group.term))
    }

    /// Records that etcd has no such lease, as a transaction stated.
    pub(super) fn lose_group(&self, lease: Lease) {
        let mut state = self.state();
        if let Some(group) = state.groups.get_mut(&lease) {
            group.is_gone = true;
        }
        state.close(lease);
    }
}

/// Whether an extension of this term counts, as the header of a later transaction states [EC4].
pub(super) fn is_valid(term: Option<i64>, header: Header) -> bool {
    term.is_none_or(|term| term == header.term)
}

/// The token of a request, if it holds its key.
pub(super) fn token_of(entry: &Entry) -> u64 {
    let offset = Details::read(&entry.value).offset;
    entry.created.saturating_add(offset) as u64
}
