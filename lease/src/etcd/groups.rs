//! The engine leases that acquisitions of one length share, and the acquisitions themselves.
//!
//! A *group* is one engine lease of etcd. Its *requests* are the acquisitions whose keys are
//! attached to it. A keep-alive extends all of them at once, so each request has an end of its own
//! here. A request whose end has passed is removed before the group is extended again [EC5].
//!
//! All state is under one mutex, and no request is sent while it is locked.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::engine::Nonce;

use super::{Plant, planted};

/// The name and namespace of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OwnedKey {
    pub(super) namespace: String,
    pub(super) name: String,
}

impl OwnedKey {
    pub(super) fn borrow(&self) -> crate::engine::Key<'_> {
        crate::engine::Key {
            namespace: &self.namespace,
            name: &self.name,
        }
    }
}

/// The identity of a group: its engine lease in etcd.
pub(super) type Lease = i64;

/// One acquisition.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) group: Lease,
    pub(super) key: OwnedKey,
    /// The create revision of its key, once an answer stated it.
    pub(super) created: Option<i64>,
    /// Its token, once it was granted.
    pub(super) token: Option<u64>,
    /// It expires then, unless it is repeated or renewed.
    pub(super) end: Timestamp,
    /// The key to wait for, and the revision at which it existed.
    pub(super) predecessor: Option<(Vec<u8>, i64)>,
    /// A request of it had no answer, so it may be executed later.
    pub(super) is_unsure: bool,
    /// The calls that request it now.
    pub(super) asks: usize,
    /// Its end has passed, and its removal was or will be sent. So it is never granted [EC5].
    pub(super) is_leaving: bool,
}

/// An engine lease.
#[derive(Debug)]
pub(super) struct Group {
    /// The length that etcd granted.
    pub(super) ttl: Duration,
    /// The length that was requested, in seconds.
    pub(super) seconds: u64,
    /// When the last request that extended it was sent.
    pub(super) extended: Timestamp,
    /// The term of the member that answered it. `None` for a grant, which all members executed.
    pub(super) term: Option<i64>,
    /// A thread extends it now.
    pub(super) is_extending: bool,
    /// No request ends earlier. A bound, so that few calls search for the first end.
    pub(super) next_end: Timestamp,
    /// It has expired, or was revoked.
    pub(super) is_gone: bool,
    /// The number of changes of its keys by this process that have begun or ended.
    pub(super) changes: u64,
    /// The changes in progress.
    pub(super) in_flight: usize,
    /// A thread checks its keys now.
    pub(super) is_checking: bool,
    /// The number of checks, which select the keys that are compared.
    pub(super) checks: usize,
    /// When the last check began, and the requests whose keys were absent.
    pub(super) checked: Option<(Timestamp, std::sync::Arc<HashSet<u128>>)>,
}

/// The groups and requests of one engine.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) groups: HashMap<Lease, Group>,
    /// The groups that accept requests, by their length in seconds.
    pub(super) open: HashMap<u64, Lease>,
    /// The lengths for which a thread requests a group.
    pub(super) granting: HashSet<u64>,
    pub(super) requests: HashMap<u128, Held>,
    /// The keeper thread runs.
    pub(super) has_keeper: bool,
}

impl State {
    pub(super) fn new_group(&mut self, lease: Lease, seconds: u64, ttl: Duration, at: Timestamp) {
        let group = Group {
            ttl,
            seconds,
            extended: at,
            term: None,
            is_extending: false,
            next_end: Timestamp::MAX,
            is_gone: false,
            changes: 0,
            in_flight: 0,
            is_checking: false,
            checks: 0,
            checked: None,
        };
        self.groups.insert(lease, group);
        self.open.insert(seconds, lease);
    }

    /// Returns the open group of this length, unless it has ended.
    pub(super) fn open_group(&mut self, seconds: u64, now: Timestamp) -> Option<Lease> {
        let lease = *self.open.get(&seconds)?;
        let group = self.groups.get(&lease)?;
        if group.is_gone || now >= group.extended.plus(group.ttl) {
            self.close(lease);
            return None;
        }
        Some(lease)
    }

    /// Accepts no more requests into a group [EC6].
    pub(super) fn close(&mut self, lease: Lease) {
        self.open.retain(|_, open| *open != lease);
        self.forget_if_unused(lease);
    }

    /// Drops a closed group without requests. Its engine lease expires.
    fn forget_if_unused(&mut self, lease: Lease) {
        let is_open = self.open.values().any(|open| *open == lease);
        let is_used = || self.requests.values().any(|held| held.group == lease);
        if !is_open && !is_used() {
            self.groups.remove(&lease);
        }
    }

    /// Adds a request, or extends its end.
    pub(super) fn insert(&mut self, nonce: Nonce, held: Held) {
        if let Some(group) = self.groups.get_mut(&held.group) {
            group.next_end = group.next_end.min(held.end);
        }
        self.requests.insert(nonce.get(), held);
    }

    pub(super) fn remove(&mut self, nonce: Nonce) -> Option<Held> {
        let held = self.requests.remove(&nonce.get())?;
        if !self.open.values().any(|open| *open == held.group) {
            self.forget_if_unused(held.group);
        }
        Some(held)
    }

    /// As [`remove`](Self::remove), unless the request has joined another group since.
    pub(super) fn remove_from(&mut self, nonce: Nonce, group: Lease) {
        let is_there = |held: &Held| held.group == group;
        if self.requests.get(&nonce.get()).is_some_and(is_there) {
            self.remove(nonce);
        }
    }

    /// Extends the end of a request that is about to be repeated, unless it is removed already.
    pub(super) fn postpone(&mut self, nonce: Nonce, end: Timestamp) {
        if let Some(held) = self.requests.get_mut(&nonce.get()) {
            held.end = held.end.max(end);
        }
    }

    /// Returns the requests of a group whose end has passed. None of them is granted any more.
    pub(super) fn ended(&mut self, lease: Lease, now: Timestamp) -> Vec<(Nonce, Held)> {
        let Some(group) = self.groups.get_mut(&lease) else {
            return Vec::new();
        };
        if now < group.next_end {
            return Vec::new();
        }
        let mut next_end = Timestamp::MAX;
        let mut ended = Vec::new();
        for (nonce, held) in &mut self.requests {
            if held.group != lease {
                continue;
            }
            let has_ended = held.end <= now;
            held.is_leaving |= has_ended && !planted(Plant::RemovalForgotten);
            if has_ended || held.is_leaving {
                ended.push((Nonce::new(*nonce), held.clone()));
            }
            next_end = next_end.min(held.end);
        }
        group.next_end = next_end;
        ended
    }

    /// Records that a change of the keys of a group begins.
    pub(super) fn begin_change(&mut self, lease: Lease) {
        if let Some(group) = self.groups.get_mut(&lease) {
            group.changes += 1;
            group.in_flight += 1;
        }
    }

    pub(super) fn end_change(&mut self, lease: Lease) {
        if let Some(group) = self.groups.get_mut(&lease) {
            group.changes += 1;
            group.in_flight -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(group: Lease, end: u64) -> Held {
        Held {
            group,
            key: OwnedKey {
                namespace: "a".to_owned(),
                name: "b".to_owned(),
            },
            created: None,
            token: None,
            end: Timestamp::from_nanos(end),
            predecessor: None,
            is_unsure: false,
            asks: 0,
            is_leaving: false,
        }
    }

    #[test]
    fn a_request_ends_although_its_group_has_others() {
        let mut state = State::default();
        let at = Timestamp::from_nanos(1);
        state.new_group(7, 10, Duration::from_secs(10), at);
        state.insert(Nonce::new(1), held(7, 100));
        state.insert(Nonce::new(2), held(7, 200));
        assert!(state.ended(7, Timestamp::from_nanos(99)).is_empty());
        let ended = |state: &mut State, now| -> Vec<Nonce> {
            let ended = state.ended(7, Timestamp::from_nanos(now));
            ended.into_iter().map(|(nonce, _)| nonce).collect()
        };
        assert_eq!(ended(&mut state, 100), [Nonce::new(1)]);
        // It remains until it is removed.
        assert_eq!(ended(&mut state, 101), [Nonce::new(1)]);
        // Also if it is repeated since, because its removal may be in flight.
        state.postpone(Nonce::new(1), Timestamp::from_nanos(150));
        assert_eq!(ended(&mut state, 102), [Nonce::new(1)]);
        state.remove(Nonce::new(1));
        assert!(ended(&mut state, 102).is_empty());
        assert_eq!(ended(&mut state, 200), [Nonce::new(2)]);
    }

    #[test]
    fn a_closed_group_is_kept_until_its_last_request_is_removed() {
        let mut state = State::default();
        let at = Timestamp::from_nanos(1);
        state.new_group(7, 10, Duration::from_secs(10), at);
        state.insert(Nonce::new(1), held(7, 100));
        assert_eq!(state.open_group(10, at), Some(7));
        state.close(7);
        assert_eq!(state.open_group(10, at), None);
        assert!(state.groups.contains_key(&7));
        state.remove(Nonce::new(1));
        assert!(state.groups.is_empty());
        // A group that has expired by the own clock accepts no requests.
        state.new_group(8, 10, Duration::from_secs(10), at);
        let end = at.plus(Duration::from_secs(10));
        assert_eq!(state.open_group(10, end), None);
    }
}
