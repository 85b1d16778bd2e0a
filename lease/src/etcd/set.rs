//! Asks for several names in one transaction.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use latchwork::table::FencingToken;

use crate::clock::Timestamp;
use crate::engine::{AttemptAll, Nonce, Outcome, Request};

use super::client::{Cause, Failed};
use super::driver::{ATTEMPTS, Driver, ENDS_EARLY, Extension, is_valid, seconds_of, token_of};
use super::groups::{Held, Lease};
use super::message::{self, Details, transaction};

/// The greatest number of names in one transaction, which has two comparisons and two operations
/// for each. By default etcd allows 128 of each kind.
const MOST_NAMES: usize = 60;

/// How an ask continues.
enum Answered {
    Final(AttemptAll),
    Again,
    /// The group must be extended first.
    ExtendAgain,
}

impl Driver {
    /// Creates the keys of all requests, or of none if another request precedes one of them [EC12].
    ///
    /// Returns `None`, without an effect, if one transaction cannot do so.
    pub(super) fn ask_all(
        &self,
        requests: &[Request<'_>],
        deadline: Instant,
    ) -> Option<Result<AttemptAll, Failed>> {
        let Some(first) = requests.first() else {
            return Some(Ok(AttemptAll::Granted(Vec::new())));
        };
        let is_alike = |request: &Request<'_>| {
            request.key.namespace == first.key.namespace
                && seconds_of(request.ttl) == seconds_of(first.ttl)
        };
        if requests.len() > MOST_NAMES || !requests.iter().all(is_alike) {
            return None;
        }
        let call = Timestamp::now();
        let mut after = call;
        for _ in 0..ATTEMPTS {
            let _turn = match self.client.turn(deadline) {
                Ok(turn) => turn,
                Err(failed) => return Some(Err(failed)),
            };
            let group = match self.join_all(requests, call, deadline) {
                Ok(group) => group?,
                Err(failed) => return Some(Err(failed)),
            };
            let answered = self.ask_all_in(group, requests, after, deadline);
            self.end_all(requests, answered.as_ref());
            match answered {
                Ok(Answered::Final(attempt)) => return Some(Ok(attempt)),
                Ok(Answered::Again) => {}
                Ok(Answered::ExtendAgain) => after = Timestamp::now(),
                Err(failed) => return Some(Err(failed)),
            }
        }
        // The keys may exist, so the caller releases them.
        Some(Err(self.contended()))
    }

    /// Registers all requests in one group. Returns `None` if they belong to several.
    fn join_all(
        &self,
        requests: &[Request<'_>],
        call: Timestamp,
        deadline: Instant,
    ) -> Result<Option<Lease>, Failed> {
        let mut joined: Vec<Held> = Vec::with_capacity(requests.len());
        let mut result = Ok(());
        for request in requests {
            match self.join(request, call, deadline) {
                Ok(held) => joined.push(held),
                Err(failed) => {
                    result = Err(failed);
                    break;
                }
            }
        }
        let group = joined.first().map(|held| held.group);
        if result.is_ok() && joined.iter().all(|held| Some(held.group) == group) {
            return Ok(group);
        }
        self.end_all(&requests[..joined.len()], Ok(&Answered::Again));
        result.map(|()| None)
    }

    /// Ends one ask of each request. Those that have no key and will have none are dropped.
    fn end_all(&self, requests: &[Request<'_>], answered: Result<&Answered, &Failed>) {
        let is_unknown = answered.is_err_and(|failed| failed.outcome == Outcome::Unknown);
        let mut state = self.state();
        for request in requests {
            let Some(held) = state.requests.get_mut(&request.nonce.get()) else {
                continue;
            };
            held.asks -= 1;
            held.is_unsure |= is_unknown;
            let (group, has_none) = (
                held.group,
                held.created.is_none() && !held.is_unsure && held.asks == 0,
            );
            if is_unknown {
                // It may be executed later. Later acquisitions use another engine lease [EC6].
                state.close(group);
            } else if has_none {
                state.remove(request.nonce);
            }
        }
    }

    fn ask_all_in(
        &self,
        lease: Lease,
        requests: &[Request<'_>],
        after: Timestamp,
        deadline: Instant,
    ) -> Result<Answered, Failed> {
        // Phase 1: the engine lease lasts until the end of the new leases [EC4].
        let longest = requests.iter().map(|request| request.ttl).max();
        let ttl = self.state().groups.get(&lease).map(|group| group.ttl);
        let slack = ttl.unwrap_or_default();
        let slack = slack.saturating_sub(longest.unwrap_or_default()) + ENDS_EARLY;
        let after = after.as_nanos().saturating_sub(slack.as_nanos() as u64);
        let extension = self.extend(lease, Timestamp::from_nanos(after), deadline);
        let extension = extension.map_err(without_effect)?;
        let term = match extension {
            Extension::Valid(term) => term,
            Extension::Gone => Some(-1),
        };
        // Phase 2: all queues are empty, and receive one key each.
        let namespace = requests[0].key.namespace;
        let offset_key = self.keys.offset(namespace);
        let (offset, modified) = self.offset(namespace);
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let since = since.unwrap_or_default().as_millis() as i64;
        let mut compare = vec![message::was_modified_at(&offset_key, modified)];
        let mut success = Vec::with_capacity(2 * requests.len());
        for request in requests {
            let details = Details {
                owner: request.owner.to_owned(),
                offset,
                since,
                ttl: request.ttl.as_millis() as i64,
            };
            let own = self.keys.request(request.key, request.nonce);
            compare.push(message::is_empty(&self.keys.queue(request.key)));
            compare.push(message::is_absent(&self.keys.tombstone(request.nonce)));
            success.push(message::put(&own, &details.write(), lease));
            let attachment = self.keys.attachment(lease, request.nonce);
            success.push(message::put(&attachment, b"", lease));
        }
        let body = transaction(&compare, &success, &[]);
        let (answer, was_unknown) = self.change(lease, &body, deadline);
        if was_unknown {
            // An earlier attempt at another member may be executed later [EC6].
            for request in requests {
                self.update(request.nonce, |held| held.is_unsure = true);
            }
        }
        let answer = match answer {
            Err(failed) if failed.cause == Cause::LeaseNotFound => {
                self.lose_group(lease);
                let mut state = self.state();
                requests
                    .iter()
                    .for_each(|request| drop(state.remove(request.nonce)));
                return Ok(Answered::Again);
            }
            answer => answer?,
        };
        if !answer.succeeded {
            return self.read_all(lease, requests, term, deadline);
        }
        let created = answer.header.revision;
        let is_extended = is_valid(term, answer.header);
        let token = created.saturating_add(offset) as u64;
        for request in requests {
            self.update(request.nonce, |held| {
                held.created = Some(created);
                held.token = is_extended.then_some(token);
            });
        }
        if !is_extended {
            return Ok(Answered::ExtendAgain);
        }
        let tokens = vec![FencingToken::new(token); requests.len()];
        Ok(Answered::Final(AttemptAll::Granted(tokens)))
    }

    /// Reads why the keys were not created: they exist, others do, or the offset has changed.
    fn read_all(
        &self,
        lease: Lease,
        requests: &[Request<'_>],
        term: Option<i64>,
        deadline: Instant,
    ) -> Result<Answered, Failed> {
        let namespace = requests[0].key.namespace;
        let mut read = vec![message::get(&self.keys.offset(namespace))];
        let queues = requests.iter().map(|request| self.keys.queue(request.key));
        read.extend(queues.map(|queue| message::first(&queue)));
        let answer = self.transact(&transaction(&[], &read, &[]), deadline);
        let answer = answer.map_err(without_effect)?;
        self.read_offset(namespace, &answer.range(0));
        let mut own = Vec::with_capacity(requests.len());
        for (index, request) in requests.iter().enumerate() {
            let Some(first) = answer.range(1 + index).pop() else {
                continue;
            };
            let is_own = first.key == self.keys.request(request.key, request.nonce);
            match is_own && first.lease == lease {
                true => own.push((request.nonce, first)),
                false => {
                    let free_in = None;
                    return Ok(Answered::Final(AttemptAll::Busy { index, free_in }));
                }
            }
        }
        if own.len() < requests.len() {
            // A queue has become empty, or a tombstone forbids one of the requests.
            return match self.has_tombstone(requests.iter().map(|one| one.nonce), deadline)? {
                true => {
                    let cluster = self.client.cluster();
                    let text = format!("{cluster}: a request was released before");
                    Err(Failed::not_done(text))
                }
                false => Ok(Answered::Again),
            };
        }
        // An earlier request with these nonces was executed.
        let is_extended = is_valid(term, answer.header);
        let mut tokens = Vec::with_capacity(own.len());
        for (nonce, entry) in own {
            let token = token_of(&entry);
            self.update(nonce, |held| {
                held.created = Some(entry.created);
                held.token = is_extended.then_some(token);
            });
            tokens.push(FencingToken::new(token));
        }
        Ok(match is_extended {
            true => Answered::Final(AttemptAll::Granted(tokens)),
            false => Answered::ExtendAgain,
        })
    }

    fn has_tombstone(
        &self,
        nonces: impl Iterator<Item = Nonce>,
        deadline: Instant,
    ) -> Result<bool, Failed> {
        let read: Vec<_> = nonces
            .map(|nonce| message::get_key(&self.keys.tombstone(nonce)))
            .collect();
        let answer = self.transact(&transaction(&[], &read, &[]), deadline);
        let answer = answer.map_err(without_effect)?;
        Ok((0..read.len()).any(|at| !answer.range(at).is_empty()))
    }
}

/// A failure before anything was changed, or of a read.
fn without_effect(failed: Failed) -> Failed {
    Failed {
        outcome: Outcome::NotDone,
        ..failed
    }
}
