//! Calls that read locks, break them, or raise a counter, and the wait for a free key.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use latchwork::table::FencingToken;
use redis::Value;

use crate::engine::{EngineError, HolderInfo, Key, Nonce, Released};
use crate::notices;

use super::acquire::count_of;
use super::answers::Wait;
use super::listen::Listeners;
use super::node::{Answer, Packed};
use super::scripts::{self, Lock, Script};
use super::{Quorum, check_deadline, inspect, jitter, replied};

/// The time between two reads of a waiter that is notified of releases.
const RECHECK_INTERVAL: Duration = Duration::from_millis(500);

/// The time between two reads of a waiter while no node notifies it.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The time between two reads while it is not known whether a nonce has a majority.
const UNCERTAIN_INTERVAL: Duration = Duration::from_millis(10);

/// The time between two reads while another nonce has some of the locks.
const PARTIAL_INTERVAL: Duration = Duration::from_millis(2);

/// The number of such reads after which these locks count as remains.
const PARTIAL_READS: u32 = 4;

/// The time between two reads of all nodes after one node refused the waiter.
const REFUSED_INTERVAL: Duration = Duration::from_millis(100);

/// The time for which one node is awaited that is read alone.
const ONE_LIMIT: Duration = Duration::from_millis(20);

/// The number of locks that one script reads.
const READ_CHUNK: usize = 256;

/// A lock of one node, with its age and the time until it ends.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) lock: Lock,
    pub(super) value: Vec<u8>,
    age: Duration,
    left: Duration,
}

/// Whether a key is free for a nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No other nonce has a lock.
    Free,
    /// Other nonces have locks, and none of them has a majority.
    Partial,
    Held,
    /// The nodes that did not answer decide.
    Uncertain,
}

/// Returns the locks that a node replied with, in the order of the keys.
pub(super) fn seen(reply: &Value) -> Vec<Option<Seen>> {
    let Value::Array(fields) = reply else {
        return Vec::new();
    };
    let Some((now, pairs)) = fields.split_first() else {
        return Vec::new();
    };
    let now: u64 = inspect::text(now)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    let one = |pair: &[Value]| {
        let [Value::BulkString(value), Value::Int(left)] = pair else {
            return None;
        };
        let lock = Lock::parse(value)?;
        Some(Seen {
            age: Duration::from_millis(now.saturating_sub(lock.granted)),
            left: Duration::from_millis(u64::try_from(*left).ok()?),
            value: value.clone(),
            lock,
        })
    };
    pairs.chunks_exact(2).map(one).collect()
}

/// Returns the request that reads locks.
pub(super) fn read_request(keys: &[String]) -> Packed {
    let mut packed = Packed::default();
    for chunk in keys.chunks(READ_CHUNK) {
        packed = packed.call(
            Script::Read,
            chunk.iter().map(String::as_bytes),
            std::iter::empty(),
        );
    }
    packed
}

/// The holder that a set of nodes shows.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) nonce: Nonce,
    pub(super) nodes: usize,
    pub(super) info: HolderInfo,
}

/// Returns the nonce that holds the lock on most nodes, as a majority of them shows it.
fn shown(locks: &[Seen], majority: usize) -> Option<Shown> {
    let mut of_nonce: BTreeMap<u128, Vec<&Seen>> = BTreeMap::new();
    for seen in locks {
        of_nonce
            .entry(seen.lock.nonce.get())
            .or_default()
            .push(seen);
    }
    let (nonce, mut locks) = of_nonce.into_iter().max_by_key(|(_, locks)| locks.len())?;
    // A node that answered after the token was chosen may store another one.
    let mut tokens: BTreeMap<u64, usize> = BTreeMap::new();
    locks
        .iter()
        .for_each(|seen| *tokens.entry(seen.lock.token).or_default() += 1);
    let (token, _) = tokens
        .into_iter()
        .max_by_key(|(token, count)| (*count, *token))?;
    // The lease ends when fewer nodes than a majority have it.
    locks.sort_unstable_by_key(|seen| std::cmp::Reverse(seen.left));
    let last = locks[locks.len().min(majority) - 1];
    Some(Shown {
        nonce: Nonce::new(nonce),
        nodes: locks.len(),
        info: HolderInfo {
            owner: last.lock.owner.clone(),
            token: FencingToken::new(token),
            held_for: last.age,
            expires_in: last.left,
        },
    })
}

/// Returns the first lock of each node that replied, and the number of these nodes.
fn first_locks(answers: &[Option<Answer>]) -> (Vec<Seen>, usize) {
    let mut locks = Vec::new();
    for answer in answers {
        if let Some(Answer::Replies(replies)) = answer {
            locks.extend(
                replies
                    .first()
                    .and_then(|reply| seen(reply).pop().flatten()),
            );
        }
    }
    (locks, replied(answers))
}

impl Quorum {
    /// Reads the lock of a key from its nodes: the locks, and the number of nodes that replied.
    fn read(&self, key: Key<'_>, deadline: Instant) -> Result<(Vec<Seen>, usize), EngineError> {
        check_deadline(deadline)?;
        let set = self.members.of(key);
        let majority = self.members.majority();
        let packed = Arc::new(read_request(&[scripts::lock(key)]));
        let decide = |answers: &[Option<Answer>]| {
            let pending = answers.iter().filter(|answer| answer.is_none()).count();
            let (locks, replied) = first_locks(answers);
            let most = shown(&locks, majority).map_or(0, |shown| shown.nodes);
            match replied >= majority {
                true if most >= majority || most + pending < majority => Wait::Over,
                true => Wait::Stragglers,
                false if replied + pending < majority => Wait::Over,
                false => Wait::Needed,
            }
        };
        let (_, answers) = self.call(&set, &packed, deadline, majority, decide);
        let (locks, replied) = first_locks(&answers);
        match replied >= majority {
            true => Ok((locks, replied)),
            false => Err(self.unavailable(&set, &answers)),
        }
    }

    /// Returns the nonce that holds a key, or may hold it if some nodes did not answer.
    fn holding(&self, key: Key<'_>, deadline: Instant) -> Result<Option<Shown>, EngineError> {
        let (locks, replied) = self.read(key, deadline)?;
        let majority = self.members.majority();
        let missing = self.members.copies() - replied;
        let is_holder = |shown: &Shown| shown.nodes + missing >= majority;
        Ok(shown(&locks, majority).filter(is_holder))
    }

    pub(super) fn holder(
        &self,
        key: Key<'_>,
        deadline: Instant,
    ) -> Result<Option<HolderInfo>, EngineError> {
        Ok(self.holding(key, deadline)?.map(|shown| shown.info))
    }

    pub(super) fn break_lease(
        &self,
        key: Key<'_>,
        token: FencingToken,
        deadline: Instant,
    ) -> Result<bool, EngineError> {
        let Some(shown) = self.holding(key, deadline)? else {
            return Ok(false);
        };
        if shown.info.token != token {
            return Ok(false);
        }
        // The nonce names one acquisition, so a later holder is not affected.
        let removed = self.remove(key, shown.nonce, deadline)?;
        Ok(removed == Released::Done || shown.nodes < self.members.majority())
    }

    pub(super) fn raise_floor(
        &self,
        key: Key<'_>,
        token: FencingToken,
        deadline: Instant,
    ) -> Result<(), EngineError> {
        let floor = crate::engine::floor(token).map_err(EngineError::misconfigured)?;
        check_deadline(deadline)?;
        let set = self.members.of(key);
        let majority = self.members.majority();
        let packed = Arc::new(floor_request(&self.hash, key.namespace, floor as u64));
        let decide = |answers: &[Option<Answer>]| {
            let pending = answers.iter().filter(|answer| answer.is_none()).count();
            let raised = count_of(answers, 1);
            match raised >= majority || raised + pending < majority {
                true => Wait::Over,
                false => Wait::Needed,
            }
        };
        let (_, mut answers) = self.call(&set, &packed, deadline, majority, decide);
        self.fail_foreign(&set, &mut answers)?;
        match count_of(&answers, 1) >= majority {
            true => Ok(()),
            false => Err(self.unavailable(&set, &answers)),
        }
    }

    pub(super) fn list(
        &self,
        namespace: &str,
        prefix: &str,
        deadline: Instant,
    ) -> Result<Vec<(String, HolderInfo)>, EngineError> {
        check_deadline(deadline)?;
        let beginning = scripts::locks(namespace);
        let pattern = format!("{}*", scripts::escape(&format!("{beginning}{prefix}")));
        let all: Vec<usize> = (0..self.nodes.len()).collect();
        // Each holder has a majority, so few nodes may be missing.
        let needed = self.nodes.len() - (self.members.copies() - self.members.majority());
        let keys = self.scan(&all, &pattern, needed, deadline)?;
        let keys: Vec<String> = keys.into_iter().collect();
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let decide = |answers: &[Option<Answer>]| match replied(answers) >= needed {
            true => Wait::Stragglers,
            false => Wait::Needed,
        };
        let answers = self.ask(&all, Arc::new(read_request(&keys)), deadline, needed);
        let answers = self.gather(&all, &answers, deadline, decide);
        if replied(&answers) < needed {
            return Err(self.unavailable(&all, &answers));
        }
        let mut of_key: Vec<Vec<Seen>> = vec![Vec::new(); keys.len()];
        for answer in &answers {
            let Some(Answer::Replies(replies)) = answer else {
                continue;
            };
            let locks = replies.iter().flat_map(seen);
            for (seen, lock) in of_key.iter_mut().zip(locks) {
                seen.extend(lock);
            }
        }
        let majority = self.members.majority();
        let mut listed = Vec::new();
        for (key, locks) in keys.iter().zip(&of_key) {
            let name = &key[beginning.len()..];
            let set = self.members.of(Key { namespace, name });
            let missing = set
                .iter()
                .filter(|node| !matches!(answers[**node], Some(Answer::Replies(_))));
            let missing = missing.count();
            if let Some(shown) = shown(locks, majority) {
                if shown.nodes + missing >= majority {
                    listed.push((name.to_owned(), shown.info));
                }
            }
        }
        listed.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(listed)
    }

    /// Returns the keys of all nodes that match a pattern.
    pub(super) fn scan(
        &self,
        all: &[usize],
        pattern: &str,
        needed: usize,
        deadline: Instant,
    ) -> Result<BTreeSet<String>, EngineError> {
        let mut keys = BTreeSet::new();
        let mut cursors: Vec<Option<Vec<u8>>> = vec![Some(b"0".to_vec()); all.len()];
        let mut missing = vec![None; all.len()];
        while cursors.iter().any(Option::is_some) {
            let places: Vec<usize> = (0..all.len())
                .filter(|place| cursors[*place].is_some())
                .collect();
            let set: Vec<usize> = places.iter().map(|place| all[*place]).collect();
            let answers = Arc::new(super::Answers::new(set.len(), set.len()));
            for (at, place) in places.iter().enumerate() {
                let cursor = cursors[*place].as_deref().unwrap_or(b"0");
                let words = [b"SCAN".as_slice(), cursor, b"MATCH", pattern.as_bytes()];
                let words = [words.as_slice(), &[b"COUNT", b"1000"]].concat();
                let packed = Arc::new(Packed::default().command(&words));
                self.send(&set, at, &packed, deadline, &answers);
            }
            let failed = missing.iter().flatten().count();
            let decide = |answers: &[Option<Answer>]| {
                let pending = answers.iter().filter(|answer| answer.is_none()).count();
                match all.len() - failed - pending >= needed {
                    true => Wait::Stragglers,
                    false => Wait::Needed,
                }
            };
            let answers = self.gather(&set, &answers, deadline, decide);
            for (place, answer) in places.into_iter().zip(answers) {
                let replies = match &answer {
                    Some(Answer::Replies(replies)) => replies.first(),
                    _ => None,
                };
                let Some((cursor, names)) = replies.and_then(scanned) else {
                    missing[place] = Some(answer);
                    cursors[place] = None;
                    continue;
                };
                keys.extend(names);
                cursors[place] = (cursor != b"0").then_some(cursor);
            }
            if all.len() - missing.iter().flatten().count() < needed {
                let replied = || Some(Answer::Replies(Vec::new()));
                let answers: Vec<_> = missing
                    .into_iter()
                    .map(|answer| answer.unwrap_or_else(replied))
                    .collect();
                return Err(self.unavailable(all, &answers));
            }
        }
        Ok(keys)
    }

    fn state(&self, key: Key<'_>, nonce: Nonce, deadline: Instant) -> Result<State, EngineError> {
        let (mut locks, replied) = self.read(key, deadline)?;
        let majority = self.members.majority();
        locks.retain(|seen| seen.lock.nonce != nonce);
        let most = shown(&locks, majority).map_or(0, |shown| shown.nodes);
        let missing = self.members.copies() - replied;
        Ok(match most >= majority {
            true => State::Held,
            false if most + missing >= majority => State::Uncertain,
            false if most > 0 => State::Partial,
            false => State::Free,
        })
    }

    /// Reads the lock of the node that woken waiters ask first.
    fn state_of_first(&self, key: Key<'_>, nonce: Nonce, deadline: Instant) -> Option<State> {
        let set = self.members.of(key);
        let node = set.into_iter().find(|node| !self.nodes[*node].is_slow())?;
        let packed = Arc::new(read_request(&[scripts::lock(key)]));
        let answers = Arc::new(super::Answers::new(1, 1));
        let direct = self.begin(&[node], &[0], &packed, deadline, &answers);
        let limit = deadline.min(Instant::now() + ONE_LIMIT);
        let answers = self.gather_from(direct, &[node], &answers, limit, |_| Wait::Needed);
        let (locks, replied) = first_locks(&answers);
        let is_held = locks.first().is_some_and(|seen| seen.lock.nonce != nonce);
        match replied {
            0 => None,
            _ if is_held => Some(State::Held),
            _ => Some(State::Free),
        }
    }

    pub(super) fn wait_hint(
        &self,
        key: Key<'_>,
        nonce: Nonce,
        deadline: Instant,
        listeners: &Listeners,
    ) -> Result<(), EngineError> {
        // Registered before the nodes are read, so a release after the read is not missed [QU10].
        // Relaxed: the lock of the waiters orders it.
        let mut resets = self.resets.load(Ordering::Relaxed);
        let mut waiter = self.notices.register(notices::hash(key));
        // A waiter that one node refused reads that node only, because another waiter was faster.
        let mut was_refused = self.refused.lock().remove(nonce);
        let mut partial = 0;
        loop {
            let now = Instant::now();
            if now >= deadline {
                return Ok(());
            }
            // The read may last a little longer than the wait.
            let limit = deadline.max(now + Duration::from_millis(100));
            let first = match std::mem::take(&mut was_refused) {
                true => self.state_of_first(key, nonce, limit),
                false => None,
            };
            let is_first = first.is_some();
            let state = match first {
                Some(state) => state,
                None => self.state(key, nonce, limit)?,
            };
            let pause = match state {
                State::Free => {
                    self.woken.lock().insert(nonce);
                    return Ok(());
                }
                // Another client acquires or releases, or has left locks behind.
                State::Partial if partial == PARTIAL_READS => return Ok(()),
                State::Partial => {
                    partial += 1;
                    PARTIAL_INTERVAL
                }
                State::Uncertain => UNCERTAIN_INTERVAL,
                State::Held if is_first => REFUSED_INTERVAL,
                State::Held if listeners.are_listening() => RECHECK_INTERVAL,
                State::Held => POLL_INTERVAL,
            };
            let until = Instant::now() + pause + jitter(pause);
            if waiter.wait(deadline.min(until)) {
                // Relaxed: the lock of the waiters orders it.
                let now = self.resets.load(Ordering::Relaxed);
                if now != resets {
                    // A node began to notify: releases may have been missed before.
                    resets = now;
                    waiter = self.notices.register(notices::hash(key));
                    continue;
                }
                self.woken.lock().insert(nonce);
                return Ok(());
            }
        }
    }
}

/// Returns the hash of another configuration that a node replied with.
pub(super) fn foreign_hash(answer: &Answer) -> Option<String> {
    let Answer::Replies(replies) = answer else {
        return None;
    };
    replies.iter().find_map(|reply| match reply {
        Value::Array(fields) if fields.first().and_then(inspect::text)? == "C" => {
            Some(fields.get(1).and_then(inspect::text).unwrap_or_default())
        }
        _ => None,
    })
}

/// Returns the request that raises the counter of a namespace.
pub(super) fn floor_request(hash: &str, namespace: &str, floor: u64) -> Packed {
    let keys = [scripts::CONFIG.to_owned(), scripts::fence(namespace)];
    let arguments = [hash.to_owned(), scripts::token(floor), floor.to_string()];
    Packed::default().call(
        Script::Floor,
        keys.iter().map(String::as_bytes),
        arguments.iter().map(String::as_bytes),
    )
}

/// Returns the cursor and the keys of a reply to `SCAN`.
fn scanned(reply: &Value) -> Option<(Vec<u8>, Vec<String>)> {
    let Value::Array(fields) = reply else {
        return None;
    };
    let [Value::BulkString(cursor), Value::Array(keys)] = fields.as_slice() else {
        return None;
    };
    // A key that is not text belongs to another program.
    let keys = keys.iter().filter_map(inspect::text).collect();
    Some((cursor.clone(), keys))
}
