//! Asks: a request enters the queue, or reads its place in it.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use latchwork::table::FencingToken;
use serde_json::Value;

use crate::clock::Timestamp;
use crate::engine::{Attempt, Nonce, Outcome, Request};

use super::client::{Cause, Failed};
use super::driver::{ATTEMPTS, Driver, ENDS_EARLY, Extension, TRANSACTION, Turn, is_valid, lock};
use super::groups::{Held, Lease, State};
use super::message::{self, Answer, Details, Entry, transaction};
use super::{Plant, planted};

/// How an ask continues.
pub(super) enum Answered {
    Final(Attempt),
    /// Ask again in the same state of the group.
    Again,
    /// Extend the group and ask again.
    ExtendAgain,
}

impl Driver {
    pub(super) fn ask(&self, request: &Request<'_>, deadline: Instant) -> Result<Attempt, Failed> {
        let call = Timestamp::now();
        let mut after = call;
        for _ in 0..ATTEMPTS {
            // The wait for a turn ends no request.
            let end = Timestamp::now().plus(request.ttl);
            self.state().postpone(request.nonce, end);
            let _turn = self.client.turn(deadline)?;
            let held = self.join(request, call, deadline)?;
            let answered = self.ask_in(&held, request, after, deadline);
            self.end_ask(request.nonce, &answered);
            match answered? {
                Answered::Final(attempt) => return Ok(attempt),
                Answered::Again => {}
                Answered::ExtendAgain => after = Timestamp::now(),
            }
        }
        let text = format!("{}: the cluster changes too often", self.client.cluster());
        let is_unsure = self.state().requests.contains_key(&request.nonce.get());
        Err(Failed {
            outcome: if is_unsure {
                Outcome::Unknown
            } else {
                Outcome::NotDone
            },
            ..Failed::not_done(text)
        })
    }

    /// Ends one ask. A request that has no key and will have none is dropped.
    pub(super) fn end_ask(&self, nonce: Nonce, answered: &Result<Answered, Failed>) {
        let mut state = self.state();
        let Some(held) = state.requests.get_mut(&nonce.get()) else {
            return;
        };
        held.asks -= 1;
        let Err(failed) = answered else {
            return;
        };
        if failed.outcome == Outcome::Unknown {
            // It may be executed later. Later acquisitions use another engine lease [EC6].
            held.is_unsure = true;
            let group = held.group;
            state.close(group);
        } else if held.created.is_none() && !held.is_unsure && held.asks == 0 {
            state.remove(nonce);
        }
    }

    pub(super) fn ask_in(
        &self,
        held: &Held,
        request: &Request<'_>,
        after: Timestamp,
        deadline: Instant,
    ) -> Result<Answered, Failed> {
        // Phase 1: the engine lease lasts until the end of the new lease [EC4].
        let ttl = self.state().groups.get(&held.group).map(|group| group.ttl);
        let slack = ttl.unwrap_or_default().saturating_sub(request.ttl) + ENDS_EARLY;
        let after = after.as_nanos().saturating_sub(slack.as_nanos() as u64);
        let extension = self.extend(held.group, Timestamp::from_nanos(after), deadline);
        let extension = extension.map_err(|failed| Failed {
            // The key of the request was not touched.
            outcome: Outcome::NotDone,
            ..failed
        })?;
        let term = match extension {
            Extension::Valid(term) => term,
            // No member has this term. The transaction states whether the lease exists.
            Extension::Gone => Some(-1),
        };
        // Phase 2: enter the queue, or read the own place in it.
        match held.created {
            None => self.enter(held, request, term, deadline),
            Some(created) => self.look(held, request, created, term, deadline),
        }
    }

    pub(super) fn offset(&self, namespace: &str) -> (i64, i64) {
        lock(&self.offsets)
            .get(namespace)
            .copied()
            .unwrap_or_default()
    }

    /// Records the offset that an answer contains, and returns it.
    pub(super) fn read_offset(&self, namespace: &str, found: &[Entry]) -> (i64, i64) {
        let offset = found.first().map_or((0, 0), |entry| {
            let text = std::str::from_utf8(&entry.value).unwrap_or_default();
            (text.parse().unwrap_or(0), entry.modified)
        });
        lock(&self.offsets).insert(namespace.to_owned(), offset);
        offset
    }

    /// Changes the registered request, unless it was released concurrently.
    pub(super) fn update(&self, nonce: Nonce, change: impl FnOnce(&mut Held)) {
        if let Some(held) = self.state().requests.get_mut(&nonce.get()) {
            change(held);
        }
    }

    /// Makes a change of the keys of a group, which its checks take into account [EC7].
    pub(super) fn change(
        &self,
        lease: Lease,
        body: &Value,
        deadline: Instant,
    ) -> (Result<Answer, Failed>, bool) {
        self.state().begin_change(lease);
        let _turn = Turn {
            driver: self,
            end: State::end_change,
            of: lease,
        };
        let (answer, was_unknown) = self.client.call_counted(TRANSACTION, body, deadline);
        (answer.map(Answer::read), was_unknown)
    }

    /// Creates the key of the request, and reads the queue in the same transaction [EC1].
    pub(super) fn enter(
        &self,
        held: &Held,
        request: &Request<'_>,
        term: Option<i64>,
        deadline: Instant,
    ) -> Result<Answered, Failed> {
        let (key, nonce, lease) = (request.key, request.nonce, held.group);
        let own = self.keys.request(key, nonce);
        let offset_key = self.keys.offset(key.namespace);
        let (offset, modified) = self.offset(key.namespace);
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let details = Details {
            owner: request.owner.to_owned(),
            offset,
            since: since.as_millis() as i64,
            ttl: request.ttl.as_millis() as i64,
        };
        let tombstone = self.keys.tombstone(nonce);
        let body = transaction(
            &[
                message::is_absent(&own),
                message::is_absent(&tombstone),
                message::was_modified_at(&offset_key, modified),
            ],
            &[
                message::put(&own, &details.write(), lease),
                message::put(&self.keys.attachment(lease, nonce), b"", lease),
                message::last_keys(&self.keys.queue(key), None, 2),
            ],
            &[],
        );
        let (answer, was_unknown) = self.change(lease, &body, deadline);
        if was_unknown {
            // An earlier attempt at another member may be executed later [EC6].
            self.update(nonce, |held| held.is_unsure = true);
        }
        let answer = match answer {
            Err(failed) if failed.cause == Cause::LeaseNotFound => {
                // Not even a delayed request can have an effect without the engine lease.
                self.lose_group(lease);
                self.state().remove(nonce);
                return Ok(Answered::Again);
            }
            answer => answer?,
        };
        if answer.succeeded {
            let created = answer.header.revision;
            let mut queue = answer.range(2).into_iter();
            let is_own = queue.next().is_some_and(|entry| entry.key == own);
            let predecessor = queue.next().map(|entry| (entry.key, created));
            let token = created.saturating_add(offset) as u64;
            let is_first = is_own && predecessor.is_none();
            let is_extended = is_valid(term, answer.header);
            self.update(nonce, |held| {
                held.created = Some(created);
                held.predecessor = predecessor;
                held.token = (is_first && is_extended).then_some(token);
            });
            return Ok(match (is_first, is_extended) {
                (true, true) => granted(token),
                (true, false) => Answered::ExtendAgain,
                (false, _) => Answered::Final(Attempt::Busy { free_in: None }),
            });
        }
        // The reason is read apart: it is rare, and its operations would slow each request.
        let read = [
            message::get(&own),
            message::get(&offset_key),
            message::get_key(&tombstone),
        ];
        let read = self.transact(&transaction(&[], &read, &[]), deadline);
        let answer = read.map_err(|failed| Failed {
            // A read has no effect, and the transaction before it had none.
            outcome: Outcome::NotDone,
            ..failed
        })?;
        self.read_offset(key.namespace, &answer.range(1));
        if !answer.range(2).is_empty() {
            let text = format!("{}: the request was released before", self.client.cluster());
            return Err(Failed::not_done(text));
        }
        // An earlier request of this nonce was executed, or the offset has changed.
        match answer.range(0).pop() {
            None => Ok(Answered::Again),
            Some(entry) if entry.lease == lease => {
                self.update(nonce, |held| held.created = Some(entry.created));
                Ok(Answered::Again)
            }
            Some(entry) => self.adopt(held, nonce, &entry, deadline),
        }
    }

    /// Attaches a key that another engine created to a group of this one.
    pub(super) fn adopt(
        &self,
        held: &Held,
        nonce: Nonce,
        entry: &Entry,
        deadline: Instant,
    ) -> Result<Answered, Failed> {
        let lease = held.group;
        let body = transaction(
            &[
                message::was_modified_at(&entry.key, entry.modified),
                message::is_absent(&self.keys.tombstone(nonce)),
            ],
            &[
                // A put of an existing key changes its lease, and not its create revision.
                message::put(&entry.key, &entry.value, lease),
                message::put(&self.keys.attachment(lease, nonce), b"", lease),
                message::delete(&self.keys.attachment(entry.lease, nonce)),
            ],
            &[],
        );
        let (answer, was_unknown) = self.change(lease, &body, deadline);
        if was_unknown {
            self.update(nonce, |held| held.is_unsure = true);
        }
        match answer {
            Err(failed) if failed.cause == Cause::LeaseNotFound => {
                self.lose_group(lease);
                self.state().remove(nonce);
                Ok(Answered::Again)
            }
            answer => {
                if answer?.succeeded {
                    self.update(nonce, |held| held.created = Some(entry.created));
                }
                Ok(Answered::Again)
            }
        }
    }

    /// Reads the own key and its predecessor in one transaction [EC2].
    pub(super) fn look(
        &self,
        held: &Held,
        request: &Request<'_>,
        created: i64,
        term: Option<i64>,
        deadline: Instant,
    ) -> Result<Answered, Failed> {
        let (key, nonce, lease) = (request.key, request.nonce, held.group);
        let own = self.keys.request(key, nonce);
        let offset_key = self.keys.offset(key.namespace);
        let body = transaction(
            &[],
            &[
                message::get(&own),
                message::last_keys(&self.keys.queue(key), Some(created), 1),
                message::get(&offset_key),
            ],
            &[],
        );
        let answer = self.transact(&body, deadline).map_err(|failed| Failed {
            // A read has no effect.
            outcome: Outcome::NotDone,
            ..failed
        })?;
        let (offset, modified) = self.read_offset(key.namespace, &answer.range(2));
        let entry = answer.range(0).pop();
        let is_own = |entry: &Entry| entry.created == created && entry.lease == lease;
        let entry = match entry {
            Some(entry) if is_own(&entry) => entry,
            None if planted(Plant::OwnKeyUnchecked) && answer.range(1).is_empty() => {
                return Ok(granted(created as u64));
            }
            // A delayed request of this nonce could follow the release of a new one [EC6].
            _ if held.is_unsure => {
                let cluster = self.client.cluster();
                let text = format!("{cluster}: the request was removed from the queue");
                return Err(Failed::not_done(text));
            }
            // The engine lease ended while the request waited, or another client removed the
            // key. It is never granted; the next ask enters the queue again [EC2].
            _ => {
                self.state().remove(nonce);
                return Ok(Answered::Again);
            }
        };
        if let Some(predecessor) = answer.range(1).pop() {
            let predecessor = Some((predecessor.key, answer.header.revision));
            self.update(nonce, |held| held.predecessor = predecessor);
            return Ok(Answered::Final(Attempt::Busy { free_in: None }));
        }
        if !is_valid(term, answer.header) {
            return Ok(Answered::ExtendAgain);
        }
        if let Some(token) = held.token {
            return Ok(granted(token));
        }
        // The offset may have been raised since the request entered the queue [EC3].
        let mut details = Details::read(&entry.value);
        if details.offset != offset {
            details.offset = offset;
            let body = transaction(
                &[
                    message::was_modified_at(&own, entry.modified),
                    message::was_modified_at(&offset_key, modified),
                ],
                &[message::put(&own, &details.write(), lease)],
                &[],
            );
            self.change(lease, &body, deadline).0?;
            return Ok(Answered::Again);
        }
        let token = created.saturating_add(offset) as u64;
        self.update(nonce, |held| held.token = Some(token));
        Ok(granted(token))
    }
}

fn granted(token: u64) -> Answered {
    Answered::Final(Attempt::Granted(FencingToken::new(token)))
}
