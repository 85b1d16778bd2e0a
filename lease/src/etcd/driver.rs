//! Requests for leases: groups, transactions and watches.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::clock::Timestamp;
use crate::engine::{Attempt, Key, Nonce, Outcome, Released, Renewal, Renewed, Request};

use super::client::{Cause, Client, Failed};
use super::groups::{Held, Lease, OwnedKey, State};
use super::keys::{Keys, end_of, parse_nonce};
use super::message::{self, Answer, Details, Entry, Header, entries, integer, transaction};
use super::{Plant, planted};

use latchwork::table::FencingToken;

pub(super) const TRANSACTION: &str = "/v3/kv/txn";
pub(super) const RANGE: &str = "/v3/kv/range";
const GRANT: &str = "/v3/lease/grant";
const KEEP_ALIVE: &str = "/v3/lease/keepalive";
const TIME_TO_LIVE: &str = "/v3/lease/timetolive";

/// How often an ask, a check or a change is repeated because the cluster changed.
const ATTEMPTS: usize = 6;

/// The greatest number of keys that one transaction compares. By default etcd allows 128.
const COMPARED: usize = 100;

/// The number of keys in one page of a list.
const PAGE: i64 = 1000;

/// The number of keys in one page of a list without values.
const PAGE_OF_KEYS: i64 = 10_000;

/// The time limit for the removal of a request that has ended.
pub(super) const REMOVAL_LIMIT: Duration = Duration::from_secs(1);

/// The result of an attempt to extend a group.
enum Extension {
    /// Extended, by a member of this term, or created.
    Valid(Option<i64>),
    /// The member that answered knows no such lease. A transaction must confirm it.
    Gone,
}

/// How an ask continues.
enum Answered {
    Final(Attempt),
    /// Ask again in the same state of the group.
    Again,
    /// Extend the group and ask again.
    ExtendAgain,
}

/// The requests of one engine.
pub(super) struct Driver {
    pub(super) client: Client,
    pub(super) keys: Keys,
    state: Mutex<State>,
    /// A group was granted, extended or checked.
    changed: Condvar,
    /// The last known offset of each namespace, and its modification revision.
    offsets: Mutex<HashMap<String, (i64, i64)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No user code runs under these mutexes, so a poisoned state is whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Resets a flag of a group when a thread leaves, including by a panic.
struct Turn<'a> {
    driver: &'a Driver,
    end: fn(&mut State, i64),
    of: i64,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        (self.end)(&mut lock(&self.driver.state), self.of);
        self.driver.changed.notify_all();
    }
}

fn seconds_of(ttl: Duration) -> u64 {
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

    fn wait<'a>(
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

    fn transact(&self, body: &Value, deadline: Instant) -> Result<Answer, Failed> {
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
    fn join(
        &self,
        request: &Request<'_>,
        call: Timestamp,
        deadline: Instant,
    ) -> Result<Held, Failed> {
        let seconds = seconds_of(request.ttl);
        let end = call.plus(request.ttl);
        let mut state = self.state();
        loop {
            // Phase 1: the request is registered, from an earlier ask.
            let known = state.requests.get(&request.nonce.get());
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
    fn extend(
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
                self.withdraw(nonce, &held, deadline)?;
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
    fn lose_group(&self, lease: Lease) {
        let mut state = self.state();
        if let Some(group) = state.groups.get_mut(&lease) {
            group.is_gone = true;
        }
        state.close(lease);
    }

    // Asking

    pub(super) fn ask(&self, request: &Request<'_>, deadline: Instant) -> Result<Attempt, Failed> {
        let call = Timestamp::now();
        let mut after = call;
        for _ in 0..ATTEMPTS {
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
    fn end_ask(&self, nonce: Nonce, answered: &Result<Answered, Failed>) {
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

    fn ask_in(
        &self,
        held: &Held,
        request: &Request<'_>,
        after: Timestamp,
        deadline: Instant,
    ) -> Result<Answered, Failed> {
        // Phase 1: the engine lease lasts until the end of the new lease [EC4].
        let ttl = self.state().groups.get(&held.group).map(|group| group.ttl);
        let slack = ttl.unwrap_or_default().saturating_sub(request.ttl);
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
        // Phase 2: enter the queue, or look at the own place in it.
        match held.created {
            None => self.enter(held, request, term, deadline),
            Some(created) => self.look(held, request, created, term, deadline),
        }
    }

    fn offset(&self, namespace: &str) -> (i64, i64) {
        lock(&self.offsets)
            .get(namespace)
            .copied()
            .unwrap_or_default()
    }

    /// Records the offset that an answer contains, and returns it.
    fn read_offset(&self, namespace: &str, found: &[Entry]) -> (i64, i64) {
        let offset = found.first().map_or((0, 0), |entry| {
            let text = std::str::from_utf8(&entry.value).unwrap_or_default();
            (text.parse().unwrap_or(0), entry.modified)
        });
        lock(&self.offsets).insert(namespace.to_owned(), offset);
        offset
    }

    /// Changes the registered request, unless it was released concurrently.
    fn update(&self, nonce: Nonce, change: impl FnOnce(&mut Held)) {
        if let Some(held) = self.state().requests.get_mut(&nonce.get()) {
            change(held);
        }
    }

    /// Makes a change of the keys of a group, which its checks take into account [EC7].
    fn change(
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
    fn enter(
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
            &[
                message::get(&own),
                message::get(&offset_key),
                message::get_key(&tombstone),
            ],
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
    fn adopt(
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
    fn look(
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

    // Releasing

    pub(super) fn release(
        &self,
        key: Key<'_>,
        nonce: Nonce,
        deadline: Instant,
    ) -> Result<Released, Failed> {
        let held = self.state().requests.get(&nonce.get()).cloned();
        if let Some(held) = held.filter(|held| held.key.borrow() == key) {
            if let Some(released) = self.withdraw(nonce, &held, deadline)? {
                return Ok(released);
            }
        }
        self.withdraw_foreign(key, nonce, deadline)
    }

    /// Removes the key of a request, and forbids its delayed requests [EC6].
    ///
    /// Returns `None` if the key is attached to another engine lease.
    fn withdraw(
        &self,
        nonce: Nonce,
        held: &Held,
        deadline: Instant,
    ) -> Result<Option<Released>, Failed> {
        let key = held.key.borrow();
        let own = self.keys.request(key, nonce);
        let attachment = self.keys.attachment(held.group, nonce);
        let mut success = vec![message::delete(&own), message::delete(&attachment)];
        let mut failure = vec![message::get(&own), message::delete(&attachment)];
        if (held.is_unsure || held.asks > 0) && !planted(Plant::DelayedExecuted) {
            // It exists as long as the engine lease, without which a request has no effect.
            let tombstone = message::put(&self.keys.tombstone(nonce), b"", held.group);
            success.push(tombstone.clone());
            failure.push(tombstone);
        }
        let compare = [message::has_lease(&own, held.group)];
        let body = transaction(&compare, &success, &failure);
        let (answer, _) = self.change(held.group, &body, deadline);
        let answer = match answer {
            Err(failed) if failed.cause == Cause::LeaseNotFound => {
                // Its keys ended with it.
                self.lose_group(held.group);
                self.state().remove(nonce);
                return Ok(None);
            }
            answer => answer?,
        };
        self.state().remove(nonce);
        if answer.succeeded {
            return Ok(Some(match held.token {
                Some(_) => Released::Done,
                None => Released::WasLost,
            }));
        }
        let is_elsewhere = answer.range(0).pop().is_some();
        Ok((!is_elsewhere).then_some(Released::WasLost))
    }

    /// Removes the key of a request that this engine did not make.
    fn withdraw_foreign(
        &self,
        key: Key<'_>,
        nonce: Nonce,
        deadline: Instant,
    ) -> Result<Released, Failed> {
        let own = self.keys.request(key, nonce);
        for _ in 0..ATTEMPTS {
            let read = transaction(&[], &[message::get(&own)], &[]);
            let Some(entry) = self.transact(&read, deadline)?.range(0).pop() else {
                return Ok(Released::WasLost);
            };
            let body = transaction(
                &[message::was_modified_at(&own, entry.modified)],
                &[
                    message::first(&self.keys.queue(key)),
                    message::delete(&own),
                    message::delete(&self.keys.attachment(entry.lease, nonce)),
                ],
                &[],
            );
            let answer = self.transact(&body, deadline)?;
            if answer.succeeded {
                let first = answer.range(0).pop();
                let was_held = first.is_some_and(|first| first.key == own);
                return Ok(match was_held {
                    true => Released::Done,
                    false => Released::WasLost,
                });
            }
        }
        Err(self.contended())
    }

    fn contended(&self) -> Failed {
        let text = format!("{}: the key changes too often", self.client.cluster());
        Failed {
            outcome: Outcome::Unknown,
            ..Failed::not_done(text)
        }
    }

    /// Removes the requests whose end has passed [EC5].
    pub(super) fn remove_ended(&self) {
        if planted(Plant::EndIgnored) {
            return;
        }
        let now = Timestamp::now();
        let ended: Vec<_> = {
            let mut state = self.state();
            let groups: Vec<Lease> = state.groups.keys().copied().collect();
            groups
                .into_iter()
                .flat_map(|lease| state.ended(lease, now))
                .collect()
        };
        let deadline = Instant::now() + REMOVAL_LIMIT;
        for (nonce, held) in ended {
            // Without an answer, the group is not extended, and the next turn tries again.
            let _ = self.withdraw(nonce, &held, deadline);
        }
    }

    // Renewing

    pub(super) fn renew(
        &self,
        renewals: &[Renewal<'_>],
        deadline: Instant,
    ) -> Result<Vec<Renewed>, Failed> {
        let call = Timestamp::now();
        let mut answers = vec![Renewed::Unknown; renewals.len()];
        let mut failed = None;
        let mut of_groups: HashMap<Lease, Vec<usize>> = HashMap::new();
        let mut foreign = Vec::new();
        {
            let state = self.state();
            for (at, renewal) in renewals.iter().enumerate() {
                match own_group(&state, renewal) {
                    Some(lease) => of_groups.entry(lease).or_default().push(at),
                    None => foreign.push(at),
                }
            }
        }
        for (lease, places) in of_groups {
            match self.check(lease, call, deadline) {
                Ok(lost) => {
                    let mut state = self.state();
                    for at in places {
                        let renewal = &renewals[at];
                        answers[at] = conclude(&mut state, renewal, &lost, call);
                    }
                }
                Err(error) => failed = Some(error),
            }
        }
        for at in foreign {
            match self.renew_foreign(&renewals[at], call, deadline) {
                Ok(renewed) => answers[at] = renewed,
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(failed) if answers.iter().all(|answer| *answer == Renewed::Unknown) => Err(failed),
            _ => Ok(answers),
        }
    }

    /// Extends a group, and returns which of its requests have no key any more [EC7].
    ///
    /// Concurrent renewals share one check if it begins after all of them.
    fn check(
        &self,
        lease: Lease,
        after: Timestamp,
        deadline: Instant,
    ) -> Result<Arc<HashSet<u128>>, Failed> {
        let mut state = self.state();
        loop {
            let Some(group) = state.groups.get_mut(&lease) else {
                let text = format!("{}: the lease has ended", self.client.cluster());
                return Err(Failed::not_done(text));
            };
            match &group.checked {
                Some((began, lost)) if *began >= after => return Ok(lost.clone()),
                _ => {}
            }
            if !group.is_checking {
                group.is_checking = true;
                break;
            }
            state = self.wait(state, deadline)?;
        }
        drop(state);
        let _turn = Turn {
            driver: self,
            end: |state, lease| {
                if let Some(group) = state.groups.get_mut(&lease) {
                    group.is_checking = false;
                }
            },
            of: lease,
        };
        for _ in 0..ATTEMPTS {
            let began = Timestamp::now();
            let extension = self.extend(lease, began, deadline)?;
            let (lost, header, all) = self.find_lost(lease, deadline)?;
            let is_confirmed = match extension {
                Extension::Valid(term) => is_valid(term, header),
                // The keys of a lease that does not exist are gone with it.
                Extension::Gone => lost.len() == all,
            };
            if is_confirmed {
                let lost = Arc::new(lost);
                if let Some(group) = self.state().groups.get_mut(&lease) {
                    group.checked = Some((began, lost.clone()));
                }
                return Ok(lost);
            }
        }
        Err(self.contended())
    }

    /// Returns the requests of a group whose keys are absent, and the number of all.
    fn find_lost(
        &self,
        lease: Lease,
        deadline: Instant,
    ) -> Result<(HashSet<u128>, Header, usize), Failed> {
        let mut all = Vec::new();
        let (changes, is_certain, checks) = {
            let mut state = self.state();
            let mut is_certain = true;
            for (nonce, held) in &state.requests {
                if held.group != lease {
                    continue;
                }
                match held.created {
                    Some(created) => {
                        let key = self.keys.request(held.key.borrow(), Nonce::new(*nonce));
                        all.push((*nonce, key, created));
                    }
                    None => is_certain = false,
                }
            }
            let group = state.groups.get_mut(&lease);
            let (changes, checks) = group.map_or((None, 0), |group| {
                group.checks += 1;
                (Some((group.changes, group.in_flight)), group.checks)
            });
            (changes, is_certain, checks)
        };
        if all.len() <= COMPARED {
            let (lost, header) = self.compare(&all, deadline)?;
            return Ok((lost, header, all.len()));
        }
        // One request for thousands of keys: their number, and a comparison of some of them, which
        // are others in each check.
        all.sort_unstable_by_key(|(.., created)| *created);
        let first = checks * COMPARED % all.len();
        let some = all.iter().cycle().skip(first).take(COMPARED);
        let some: Vec<_> = some.cloned().collect();
        let compare: Vec<Value> = some
            .iter()
            .map(|(_, key, created)| message::was_created_at(key, *created))
            .collect();
        let attached = self.keys.attached(lease);
        let layout = message::get_key(&self.keys.layout());
        let body = transaction(&compare, &[message::count(&attached)], &[layout]);
        let answer = self.transact(&body, deadline)?;
        let changes_now = {
            let state = self.state();
            let group = state.groups.get(&lease);
            group.map(|group| (group.changes, group.in_flight))
        };
        let is_stable = is_certain && changes == changes_now && changes.is_some_and(|c| c.1 == 0);
        if answer.succeeded && is_stable && answer.count(0) == all.len() as i64 {
            return Ok((HashSet::new(), answer.header, all.len()));
        }
        let mut lost = HashSet::new();
        if !answer.succeeded {
            lost = self.compare(&some, deadline)?.0;
        }
        let (present, header) = self.list_attached(&attached, deadline)?;
        let absent = all.iter().map(|(nonce, ..)| *nonce);
        lost.extend(absent.filter(|nonce| !present.contains(nonce)));
        Ok((lost, header, all.len()))
    }

    /// Compares the create revisions of at most [`COMPARED`] keys.
    fn compare(
        &self,
        some: &[(u128, Vec<u8>, i64)],
        deadline: Instant,
    ) -> Result<(HashSet<u128>, Header), Failed> {
        let compare: Vec<Value> = some
            .iter()
            .map(|(_, key, created)| message::was_created_at(key, *created))
            .collect();
        let read: Vec<Value> = some
            .iter()
            .map(|(_, key, _)| message::get_key(key))
            .collect();
        // A transaction without a read would not be linearizable.
        let layout = message::get_key(&self.keys.layout());
        let body = transaction(&compare, &[layout], &read);
        let answer = self.transact(&body, deadline)?;
        let mut lost = HashSet::new();
        if !answer.succeeded {
            for (at, (nonce, _, created)) in some.iter().enumerate() {
                let entry = answer.range(at).pop();
                if entry.is_none_or(|entry| entry.created != *created) {
                    lost.insert(*nonce);
                }
            }
        }
        Ok((lost, answer.header))
    }

    fn list_attached(
        &self,
        attached: &[u8],
        deadline: Instant,
    ) -> Result<(HashSet<u128>, Header), Failed> {
        let mut header = Header::default();
        let mut present = HashSet::new();
        self.pages(attached, true, PAGE_OF_KEYS, deadline, |page, entries| {
            if header == Header::default() {
                header = page;
            }
            let nonces = entries.iter().filter_map(|entry| parse_nonce(&entry.key));
            present.extend(nonces.map(Nonce::get));
        })?;
        Ok((present, header))
    }

    /// Renews a lease that another engine acquired: its key is attached to a group of this one.
    fn renew_foreign(
        &self,
        renewal: &Renewal<'_>,
        call: Timestamp,
        deadline: Instant,
    ) -> Result<Renewed, Failed> {
        let own = self.keys.request(renewal.key, renewal.nonce);
        let read = [
            message::get(&own),
            message::first(&self.keys.queue(renewal.key)),
        ];
        let answer = self.transact(&transaction(&[], &read, &[]), deadline)?;
        let Some(entry) = answer.range(0).pop() else {
            return Ok(Renewed::Lost);
        };
        let is_first = answer.range(1).pop().is_some_and(|first| first.key == own);
        if !is_first || token_of(&entry) != renewal.token.get() {
            return Ok(Renewed::Lost);
        }
        let request = Request {
            key: renewal.key,
            nonce: renewal.nonce,
            owner: "",
            ttl: renewal.ttl,
        };
        let held = self.join(&request, call, deadline)?;
        let adopted = self
            .extend(held.group, call, deadline)
            .and_then(|extension| {
                let entry_answer = self.adopt(&held, renewal.nonce, &entry, deadline)?;
                Ok((extension, entry_answer))
            });
        self.update(renewal.nonce, |held| {
            held.asks -= 1;
            held.token = Some(renewal.token.get());
        });
        adopted?;
        let is_known = own_group(&self.state(), renewal);
        match is_known {
            Some(lease) => {
                let lost = self.check(lease, call, deadline)?;
                Ok(conclude(&mut self.state(), renewal, &lost, call))
            }
            None => {
                self.state().remove(renewal.nonce);
                Ok(Renewed::Unknown)
            }
        }
    }

    // Views

    pub(super) fn first(&self, key: Key<'_>, deadline: Instant) -> Result<Option<Entry>, Failed> {
        let body = transaction(&[], &[message::first(&self.keys.queue(key))], &[]);
        Ok(self.transact(&body, deadline)?.range(0).pop())
    }

    /// Returns the time until an engine lease ends, or `None` if it does not exist.
    pub(super) fn time_to_live(
        &self,
        lease: Lease,
        deadline: Instant,
    ) -> Result<Option<Duration>, Failed> {
        let body = json!({ "ID": lease.to_string() });
        let answer = self.client.call(TIME_TO_LIVE, &body, deadline)?;
        let ttl = u64::try_from(integer(&answer["TTL"]));
        Ok(ttl.ok().map(Duration::from_secs))
    }

    /// Reads all entries with a prefix, at one revision.
    pub(super) fn pages(
        &self,
        prefix: &[u8],
        keys_only: bool,
        limit: i64,
        deadline: Instant,
        mut read: impl FnMut(Header, &[Entry]),
    ) -> Result<(), Failed> {
        let end = end_of(prefix);
        let (mut start, mut revision) = (prefix.to_vec(), 0);
        loop {
            let body = message::page(&start, &end, limit, keys_only, revision);
            let answer = self.client.call(RANGE, &body, deadline)?;
            let found = entries(&answer);
            let header = message::header(&answer);
            read(header, &found);
            let has_more = answer["more"].as_bool().unwrap_or_default();
            let Some(last) = found.last().filter(|_| has_more) else {
                return Ok(());
            };
            start.clone_from(&last.key);
            start.push(0);
            if revision == 0 {
                revision = header.revision;
            }
        }
    }

    /// Reads all requests of a namespace for names that begin with `prefix`.
    pub(super) fn list(
        &self,
        namespace: &str,
        prefix: &str,
        deadline: Instant,
    ) -> Result<Vec<Entry>, Failed> {
        let mut all = Vec::new();
        let prefix = self.keys.names(namespace, prefix);
        self.pages(&prefix, false, PAGE, deadline, |_, entries| {
            all.extend_from_slice(entries);
        })?;
        Ok(all)
    }

    pub(super) fn break_lease(
        &self,
        key: Key<'_>,
        token: FencingToken,
        deadline: Instant,
    ) -> Result<bool, Failed> {
        for _ in 0..ATTEMPTS {
            let Some(entry) = self.first(key, deadline)? else {
                return Ok(false);
            };
            let nonce = parse_nonce(&entry.key);
            let (Some(nonce), true) = (nonce, token_of(&entry) == token.get()) else {
                return Ok(false);
            };
            let body = transaction(
                &[message::was_modified_at(&entry.key, entry.modified)],
                &[
                    message::delete(&entry.key),
                    message::delete(&self.keys.attachment(entry.lease, nonce)),
                ],
                &[],
            );
            if self.transact(&body, deadline)?.succeeded {
                return Ok(true);
            }
        }
        Err(self.contended())
    }

    /// Raises the offset of a namespace, so that each later token is greater than `floor` [EC3].
    pub(super) fn raise_floor(
        &self,
        key: Key<'_>,
        floor: i64,
        deadline: Instant,
    ) -> Result<(), Failed> {
        let offset_key = self.keys.offset(key.namespace);
        for _ in 0..ATTEMPTS {
            let read = [
                message::get(&offset_key),
                message::first(&self.keys.queue(key)),
            ];
            let answer = self.transact(&transaction(&[], &read, &[]), deadline)?;
            let (offset, modified) = self.read_offset(key.namespace, &answer.range(0));
            // A request that waits has an older revision than those that follow.
            let first = answer.range(1).pop();
            let least = first.map_or(answer.header.revision, |first| first.created - 1);
            let needed = floor.saturating_sub(least).max(offset);
            if needed == offset {
                return Ok(());
            }
            let body = transaction(
                &[message::was_modified_at(&offset_key, modified)],
                &[message::put(&offset_key, needed.to_string().as_bytes(), 0)],
                &[],
            );
            if self.transact(&body, deadline)?.succeeded {
                return Ok(());
            }
        }
        Err(self.contended())
    }

    // Waiting

    /// Waits until the predecessor's key is deleted, or until the deadline [EC8].
    pub(super) fn wait_hint(
        &self,
        key: Key<'_>,
        nonce: Nonce,
        deadline: Instant,
    ) -> Result<(), Failed> {
        let known = self.state().requests.get(&nonce.get()).cloned();
        let predecessor = match known {
            Some(held) => held.predecessor,
            // A request that is in no queue waits for the holder.
            None => self.read_last(key, deadline)?,
        };
        let Some((predecessor, revision)) = predecessor else {
            return Ok(());
        };
        let body = message::watch(&predecessor, revision + 1);
        let mut stream = self.client.stream(&body, deadline)?;
        while let Some(message) = stream.next() {
            let result = &message["result"];
            let is_over = result["canceled"].as_bool().unwrap_or_default();
            let has_events = result["events"]
                .as_array()
                .is_some_and(|all| !all.is_empty());
            if is_over || has_events || message.get("error").is_some() {
                // The caller reads the queue again: the predecessor is gone, or the revision was
                // compacted.
                break;
            }
        }
        Ok(())
    }

    fn read_last(&self, key: Key<'_>, deadline: Instant) -> Result<Option<(Vec<u8>, i64)>, Failed> {
        let read = message::last_keys(&self.keys.queue(key), None, 1);
        let answer = self.transact(&transaction(&[], &[read], &[]), deadline)?;
        let last = answer.range(0).pop();
        Ok(last.map(|last| (last.key, answer.header.revision)))
    }
}

/// Whether an extension of this term counts, as the header of a later transaction states [EC4].
fn is_valid(term: Option<i64>, header: Header) -> bool {
    term.is_none_or(|term| term == header.term)
}

fn granted(token: u64) -> Answered {
    Answered::Final(Attempt::Granted(FencingToken::new(token)))
}

/// The token of a request, if it holds its key.
pub(super) fn token_of(entry: &Entry) -> u64 {
    let offset = Details::read(&entry.value).offset;
    entry.created.saturating_add(offset) as u64
}

/// Returns the group of a lease that this engine granted, if it has the length of the renewal.
fn own_group(state: &State, renewal: &Renewal<'_>) -> Option<Lease> {
    let held = state.requests.get(&renewal.nonce.get())?;
    let group = state.groups.get(&held.group)?;
    let is_own = held.key.borrow() == renewal.key
        && held.created.is_some()
        && held.token == Some(renewal.token.get())
        && group.seconds == seconds_of(renewal.ttl);
    is_own.then_some(held.group)
}

/// Records the result of a check for one renewal.
fn conclude(
    state: &mut State,
    renewal: &Renewal<'_>,
    lost: &HashSet<u128>,
    call: Timestamp,
) -> Renewed {
    let nonce = renewal.nonce;
    if lost.contains(&nonce.get()) {
        state.remove(nonce);
        return Renewed::Lost;
    }
    match state.requests.get_mut(&nonce.get()) {
        Some(held) => {
            held.end = held.end.max(call.plus(renewal.ttl));
            Renewed::Held
        }
        // It was released concurrently.
        None => Renewed::Lost,
    }
}
