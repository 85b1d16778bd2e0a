//! Locked keys: guards, sets, sessions and futures, each with the drafts that it should have.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use latchwork::map::{EntryGuard, EntryLockFuture, EntrySession, EntrySet};
use latchwork::session::{LockError, Policy};

use super::value::{Key, Map, Value};
use super::{KEYS, World, key_of};
use crate::common::hashers::Place;
use crate::common::tasks::Bell;

/// Most holders at a time, and most futures.
const MOST: usize = 6;

enum Lock<'m> {
    Guard(EntryGuard<'m, Key, Value, Place>),
    Set(EntrySet<'m, Key, Value, Place>),
    Session(EntrySession<'m, Key, Value, Place>),
}

/// What a holder will write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Draft {
    Nothing,
    Value(u64),
    Removal,
}

pub(super) struct Holder<'m> {
    lock: Lock<'m>,
    drafts: BTreeMap<u64, Draft>,
}

pub(super) struct Waiting<'m> {
    key: u64,
    future: Pin<Box<EntryLockFuture<'m, Key, Value, Place>>>,
    bell: Arc<Bell>,
}

impl<'m> World<'m> {
    /// Whether a guard has this key.
    pub(super) fn is_locked(&self, key: u64) -> bool {
        self.holders
            .iter()
            .any(|holder| holder.drafts.contains_key(&key))
            || self.forgotten.contains(&key)
    }

    fn hash(&self, key: u64) -> u64 {
        self.place.hash(key)
    }

    /// Whether a guard has a key of this hash.
    fn is_held(&self, hash: u64) -> bool {
        (0..KEYS).any(|key| self.hash(key) == hash && self.is_locked(key))
    }

    fn is_awaited(&self, hash: u64) -> bool {
        self.waiting
            .iter()
            .any(|waiting| self.hash(waiting.key) == hash)
    }

    fn hold(&mut self, lock: Lock<'m>, keys: impl IntoIterator<Item = u64>) {
        let drafts = keys.into_iter().map(|key| (key, Draft::Nothing)).collect();
        self.tally.locked += 1;
        self.holders.push(Holder { lock, drafts });
    }

    pub(super) fn lock(&mut self, kind: u8, with: u8) {
        let map: &'m Map = self.map;
        let key = key_of(with);
        let name = self.key(key);
        let hash = self.hash(key);
        let (is_held, is_awaited) = (self.is_held(hash), self.is_awaited(hash));
        // A lock excludes those of its key. Those of other keys with its hash it may exclude.
        let is_locked = self.is_locked(key);
        let is_free = !is_held && !is_awaited;
        let has_room = self.holders.len() < MOST;
        match kind % 64 {
            37 if has_room && is_free => {
                let guard = match kind >> 6 {
                    0 => map.lock(&name),
                    1 => map.lock_key(name),
                    2 => map
                        .try_lock_for(&name, Duration::from_secs(60))
                        .expect("it is free"),
                    _ => map.try_lock(&name).expect("it is free"),
                };
                self.hold(Lock::Guard(guard), [key]);
            }
            38 | 39 => {
                let guard = match kind >> 6 {
                    0 => map.try_lock_for(&name, Duration::from_micros(1)),
                    _ => map.try_lock(&name),
                };
                // A lock that a future awaits may have been granted to it.
                assert!(guard.is_some() || is_held || is_awaited, "it is free");
                assert!(guard.is_none() || !is_locked, "two guards of one key");
                if let (Some(guard), true) = (guard, has_room) {
                    self.hold(Lock::Guard(guard), [key]);
                }
            }
            40 | 41 if self.waiting.len() < MOST => {
                let mut future = Box::pin(map.lock_async(&name));
                let (bell, waker) = Bell::new();
                match future.as_mut().poll(&mut Context::from_waker(&waker)) {
                    Poll::Ready(guard) => {
                        assert!(!is_locked, "two guards of one key");
                        self.hold(Lock::Guard(guard), [key]);
                    }
                    Poll::Pending => {
                        assert!(!is_free, "it is free");
                        self.tally.pending += 1;
                        self.waiting.push(Waiting { key, future, bell });
                    }
                }
            }
            42 => self.poll(with),
            43 if has_room => {
                let keys = (0..KEYS).filter(|n| u64::from(with) >> (n % 8) & 1 == n / 8 % 2);
                let is_free = |key: &u64| {
                    let hash = self.hash(*key);
                    !self.is_held(hash) && !self.is_awaited(hash)
                };
                let keys: Vec<u64> = keys.filter(is_free).take(4).collect();
                let names: Vec<Key> = keys.iter().map(|key| self.key(*key)).collect();
                // One of them twice.
                let set = map.lock_all(names.iter().chain(names.first()));
                assert_eq!((set.len(), set.is_empty()), (keys.len(), keys.is_empty()));
                self.hold(Lock::Set(set), keys);
            }
            44 if has_room => {
                let session = map.session().policy(Policy::NoWait);
                self.hold(Lock::Session(session.named("a session")), []);
            }
            44 | 45 => {
                let sessions = self.holders.iter_mut().enumerate();
                let mut sessions = sessions.filter(|(_, h)| matches!(h.lock, Lock::Session(_)));
                let Some((at, holder)) = sessions.nth(usize::from(kind >> 6)) else {
                    return;
                };
                let Lock::Session(session) = &mut holder.lock else {
                    unreachable!("found above");
                };
                let has_key = holder.drafts.contains_key(&key);
                match session.lock(&name) {
                    Ok(entry) => {
                        assert_eq!(entry.key().number, key);
                        assert!(has_key || !is_locked, "two locks of one key");
                        self.holders[at].drafts.entry(key).or_insert(Draft::Nothing);
                        self.tally.locked += u64::from(!has_key);
                    }
                    Err(error) => {
                        assert!(matches!(error, LockError::WouldBlock), "{error:?}");
                        assert!(!has_key && !is_free, "it is free");
                    }
                }
            }
            _ => {}
        }
    }

    fn poll(&mut self, with: u8) {
        if self.waiting.is_empty() {
            return;
        }
        let at = usize::from(with >> 1) % self.waiting.len();
        if with & 1 == 1 {
            // A grant that it has received is passed on.
            drop(self.waiting.remove(at));
            return;
        }
        let key = self.waiting[at].key;
        let hash = self.hash(key);
        let (is_held, is_locked) = (self.is_held(hash), self.is_locked(key));
        let earlier = self.waiting[..at].iter();
        let is_first = earlier.clone().all(|other| self.hash(other.key) != hash);
        let waiting = &mut self.waiting[at];
        let before = core::mem::replace(&mut waiting.bell, Bell::new().0);
        let waker = std::task::Waker::from(waiting.bell.clone());
        match waiting
            .future
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
        {
            Poll::Ready(guard) => {
                assert!(!is_locked, "two guards of one key");
                // A later one may barge.
                assert!(before.rings() > 0 || !is_first, "granted without a wake-up");
                drop(self.waiting.remove(at));
                self.hold(Lock::Guard(guard), [key]);
            }
            Poll::Pending => assert!(is_held || !is_first, "it is free"),
        }
    }

    /// Something that a holder does with its draft.
    pub(super) fn draft(&mut self, kind: u8, with: u8) {
        let Some(at) = self.some_holder(with) else {
            return;
        };
        let value = self.value(kind);
        let holder = &self.holders[at];
        let keys = holder.drafts.len().max(1);
        let Some((&key, &draft)) = holder.drafts.iter().nth(usize::from(with >> 3) % keys) else {
            return;
        };
        let seen = self.seen(key);
        let name = self.key(key);
        let shown = match draft {
            Draft::Nothing => seen.map(|(number, _)| number),
            Draft::Value(number) => Some(number),
            Draft::Removal => None,
        };
        macro_rules! on {
            ($entry:expr) => {{
                let entry = $entry;
                assert_eq!(entry.key().number, key);
                assert_eq!(entry.get().map(|value| value.number), shown);
                assert_eq!(entry.version(), seen.map(|(_, version)| version));
                match kind >> 6 {
                    0 => {
                        let number = value.number;
                        entry.set(value);
                        Draft::Value(number)
                    }
                    1 => match entry.value_mut() {
                        Some(draft) => {
                            draft.number = value.number;
                            Draft::Value(value.number)
                        }
                        None => draft,
                    },
                    2 => {
                        assert_eq!(entry.remove(), shown.is_some());
                        Draft::Removal
                    }
                    _ => draft,
                }
            }};
        }
        let holder = &mut self.holders[at];
        let draft = match &mut holder.lock {
            Lock::Guard(guard) => on!(guard),
            Lock::Set(set) => on!(&mut set.entry(&name).expect("it has the key")),
            Lock::Session(session) => on!(&mut session.entry(&name).expect("it has the key")),
        };
        holder.drafts.insert(key, draft);
    }

    fn some_holder(&self, with: u8) -> Option<usize> {
        let many = self.holders.len();
        (many > 0).then(|| usize::from(with) % many)
    }

    /// Commits or discards what a holder has.
    pub(super) fn unlock(&mut self, kind: u8, with: u8) {
        let Some(at) = self.some_holder(with) else {
            return;
        };
        let Holder { lock, drafts } = self.holders.remove(at);
        let is_idle = drafts.values().all(|draft| *draft == Draft::Nothing);
        if kind % 64 == 50 && kind >> 6 == 3 && is_idle && with >= 224 {
            if let Lock::Guard(guard) = lock {
                std::mem::forget(guard);
                self.forgotten.extend(drafts.keys());
                return;
            }
        }
        if kind % 64 == 50 {
            // Discards, as the end of a panic and of a future would.
            match lock {
                Lock::Session(mut session) if kind >> 6 == 0 => session.discard(),
                lock => drop(lock),
            }
            return;
        }
        let is_written = |(key, draft): &(&u64, &Draft)| match draft {
            Draft::Nothing => false,
            Draft::Value(_) => true,
            Draft::Removal => self.seen(**key).is_some(),
        };
        let written = drafts.iter().filter(is_written).count();
        match lock {
            Lock::Guard(guard) => {
                let version = guard.commit();
                assert_eq!(version.is_some(), written == 1);
                if let Some(Draft::Value(_)) = drafts.values().next() {
                    let key = drafts.keys().next().expect("it has one");
                    assert_eq!(self.map.version(&self.key(*key)), version);
                }
            }
            Lock::Set(set) => assert_eq!(set.commit(), written),
            Lock::Session(mut session) => assert_eq!(session.commit(), written),
        }
        // One write after another.
        for (key, draft) in drafts {
            match draft {
                Draft::Nothing => continue,
                Draft::Value(number) => {
                    let version = self.map.version(&self.key(key)).expect("it was written");
                    self.wrote(key, number, version);
                }
                Draft::Removal if self.seen(key).is_some() => self.removed(key),
                Draft::Removal => continue,
            }
            self.tally.drafts += 1;
        }
    }
}
