//! Renewals: a group is extended, and its keys are read.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;

use crate::clock::Timestamp;
use crate::engine::{Nonce, Renewal, Renewed, Request};

use super::client::Failed;
use super::driver::{ATTEMPTS, Driver, Extension, Turn, is_valid, seconds_of, token_of};
use super::groups::{Lease, State};
use super::keys::parse_nonce;
use super::message::{self, Header, transaction};

/// The greatest number of keys that one transaction compares. By default etcd allows 128.
const COMPARED: usize = 100;

/// The number of keys in one page of a list without values.
const PAGE_OF_KEYS: i64 = 10_000;

impl Driver {
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
    pub(super) fn check(
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
                // A lease that does not exist has no keys.
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
    pub(super) fn find_lost(
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
    pub(super) fn compare(
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

    pub(super) fn list_attached(
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
    pub(super) fn renew_foreign(
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
        Some(held) if !held.is_leaving => {
            held.end = held.end.max(call.plus(renewal.ttl));
            Renewed::Held
        }
        // It has ended, or was released concurrently.
        _ => Renewed::Lost,
    }
}
