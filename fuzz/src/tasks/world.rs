//! The table itself beside the model.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use latchwork::{
    LockTable, Mode,
    table::{
        ExclusiveGuard, FencingToken, LockAllFuture, LockFuture, LockSet, OwnedExclusiveGuard,
        OwnedLockAllFuture, OwnedLockFuture, OwnedLockSet, OwnedSharedGuard, OwnedSharedLockFuture,
        SharedGuard, SharedLockFuture,
    },
};

use super::TaskTally;
use super::input::{HowAll, HowUnlock, Input, Op, Several};
use super::model::{Id, Model};
use crate::common::assert_as_new;
use crate::common::hashers::Place;
use crate::common::reference::KEYS;
use crate::common::tasks::{Bell, Table};

/// Most futures and most guards at a time.
const MOST_HELD: usize = 60;

pub(super) enum Held<'t> {
    Exclusive(ExclusiveGuard<'t>),
    Shared(SharedGuard<'t>),
    OwnedExclusive(OwnedExclusiveGuard<u64, Place>),
    OwnedShared(OwnedSharedGuard<u64, Place>),
    Set(LockSet<'t, u64, Place>),
    OwnedSet(OwnedLockSet<u64, Place>),
}

enum Locking<'t> {
    Exclusive(LockFuture<'t>),
    Shared(SharedLockFuture<'t>),
    OwnedExclusive(OwnedLockFuture<u64, Place>),
    OwnedShared(OwnedSharedLockFuture<u64, Place>),
    Set(LockAllFuture<'t, u64, Place>),
    OwnedSet(OwnedLockAllFuture<u64, Place>),
}

impl<'t> Locking<'t> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Held<'t>> {
        match self {
            Locking::Exclusive(f) => Pin::new(f).poll(cx).map(Held::Exclusive),
            Locking::Shared(f) => Pin::new(f).poll(cx).map(Held::Shared),
            Locking::OwnedExclusive(f) => Pin::new(f).poll(cx).map(Held::OwnedExclusive),
            Locking::OwnedShared(f) => Pin::new(f).poll(cx).map(Held::OwnedShared),
            Locking::Set(f) => Pin::new(f).poll(cx).map(Held::Set),
            Locking::OwnedSet(f) => Pin::new(f).poll(cx).map(Held::OwnedSet),
        }
    }
}

/// Hashes with modes, ascending, each hash once.
pub(super) type Locks = Vec<(u64, Mode)>;

pub(super) struct World<'t> {
    table: &'t Arc<Table>,
    pub(super) place: Place,
    fresh_bytes: usize,
    pub(super) model: Model,
    bells: Vec<Arc<Bell>>,
    futures: Vec<(Id, Locking<'t>)>,
    made: Id,
    pub(super) held: Vec<(Locks, Held<'t>)>,
    pub(super) forgotten: bool,
    pub(super) tokens: BTreeMap<u64, FencingToken>,
    steps: usize,
    pub(super) tally: TaskTally,
}

pub(super) fn slot(key: u8) -> u64 {
    u64::from(key % KEYS)
}

fn of(number: u8, len: usize) -> Option<usize> {
    (len > 0).then(|| usize::from(number) % len)
}

impl<'t> World<'t> {
    pub(super) fn table(input: &Input) -> Arc<Table> {
        let table = LockTable::builder()
            .hasher(input.place)
            .fairness(input.fairness)
            .expected_locks(1)
            .build();
        Arc::new(table)
    }

    pub(super) fn new(input: &Input, table: &'t Arc<Table>) -> Self {
        World {
            table,
            place: input.place,
            fresh_bytes: table.stats().index_bytes,
            model: Model::new(input.fairness),
            bells: Vec::new(),
            futures: Vec::new(),
            made: 0,
            held: Vec::new(),
            forgotten: false,
            tokens: BTreeMap::new(),
            steps: 0,
            tally: TaskTally::default(),
        }
    }

    fn locks(&self, keys: impl IntoIterator<Item = (u64, Mode)>) -> Locks {
        let mut locks = BTreeMap::new();
        for (key, mode) in keys {
            let strongest = locks.entry(self.place.hash(key)).or_insert(mode);
            *strongest = mode.max(*strongest);
        }
        locks.into_iter().collect()
    }

    pub(super) fn step(&mut self, op: Op) {
        let table = self.table;
        match op {
            Op::Start { key, owned, lazy } => {
                let (key, mode) = (slot(key.0), key.1);
                let future = match (mode, owned) {
                    (Mode::Exclusive, false) => Locking::Exclusive(table.lock_async(&key)),
                    (Mode::Shared, false) => Locking::Shared(table.lock_shared_async(&key)),
                    (Mode::Exclusive, true) => {
                        Locking::OwnedExclusive(table.lock_async_owned(&key))
                    }
                    (Mode::Shared, true) => {
                        Locking::OwnedShared(table.lock_shared_async_owned(&key))
                    }
                };
                self.start(vec![(key, mode)], future, lazy);
            }
            Op::StartAll { keys, owned } => {
                let keys = slots(keys);
                let ask = keys.iter().map(|(key, mode)| (key, *mode));
                let future = if owned {
                    Locking::OwnedSet(table.lock_all_async_owned(ask))
                } else {
                    Locking::Set(table.lock_all_async(ask))
                };
                self.start(keys.clone(), future, false);
            }
            Op::Poll { future } => {
                if let Some(at) = of(future, self.futures.len()) {
                    self.poll(at);
                }
            }
            Op::Cancel { future } => {
                if let Some(at) = of(future, self.futures.len()) {
                    let (id, future) = self.futures.swap_remove(at);
                    drop(future);
                    self.model.cancel(id);
                }
            }
            Op::Try { key, owned } => {
                let (key, mode) = (slot(key.0), key.1);
                let held = match (mode, owned) {
                    (Mode::Exclusive, false) => table.try_lock(&key).map(Held::Exclusive),
                    (Mode::Shared, false) => table.try_lock_shared(&key).map(Held::Shared),
                    (Mode::Exclusive, true) => table.try_lock_owned(&key).map(Held::OwnedExclusive),
                    (Mode::Shared, true) => {
                        table.try_lock_shared_owned(&key).map(Held::OwnedShared)
                    }
                };
                self.outcome(op, &[(key, mode)], held);
            }
            Op::Timed { key } => {
                let (key, mode, patience) = (slot(key.0), key.1, Duration::from_nanos(1));
                let held = match mode {
                    Mode::Exclusive => table.try_lock_for(&key, patience).map(Held::Exclusive),
                    Mode::Shared => table.try_lock_shared_for(&key, patience).map(Held::Shared),
                };
                self.outcome(op, &[(key, mode)], held);
            }
            Op::Block { key, owned } => {
                let (key, mode) = (slot(key.0), key.1);
                if !self.admits(&[(key, mode)]) {
                    return;
                }
                let held = match (mode, owned) {
                    (Mode::Exclusive, false) => Held::Exclusive(table.lock(&key)),
                    (Mode::Shared, false) => Held::Shared(table.lock_shared(&key)),
                    (Mode::Exclusive, true) => Held::OwnedExclusive(table.lock_owned(&key)),
                    (Mode::Shared, true) => Held::OwnedShared(table.lock_shared_owned(&key)),
                };
                self.outcome(op, &[(key, mode)], Some(held));
            }
            Op::TryAll { keys, how } => self.several(op, &slots(keys), how),
            Op::Crowd { key, count } => {
                let key = slot(key);
                for _ in 0..count % 140 {
                    let held = table.try_lock_shared(&key).map(Held::Shared);
                    self.outcome(op, &[(key, Mode::Shared)], held);
                }
            }
            Op::Unlock { guard, how } => {
                if let Some(at) = of(guard, self.held.len()) {
                    self.unlock(at, how);
                }
            }
            Op::UnlockOne { guard, key } => {
                if let Some(at) = of(guard, self.held.len()) {
                    self.unlock_one(at, slot(key));
                }
            }
            Op::Downgrade { guard } | Op::Upgrade { guard } => {
                if let Some(at) = of(guard, self.held.len()) {
                    self.change_mode(at);
                }
            }
            Op::Token { guard } => {
                if let Some(at) = of(guard, self.held.len()) {
                    self.token(at);
                }
            }
        }
    }

    fn start(&mut self, keys: Vec<(u64, Mode)>, future: Locking<'t>, lazy: bool) {
        if self.futures.len() == MOST_HELD {
            return;
        }
        let locks = self.locks(keys);
        self.model.start(self.made, locks);
        self.futures.push((self.made, future));
        self.made += 1;
        if !lazy {
            self.poll(self.futures.len() - 1);
        }
    }

    fn poll(&mut self, at: usize) {
        let (bell, waker) = Bell::new();
        self.bells.push(bell);
        self.model.rings.push(0);
        let (id, future) = &mut self.futures[at];
        let expected = self.model.poll(*id, self.bells.len() - 1);
        let polled = future.poll(&mut Context::from_waker(&waker));
        match (polled, expected) {
            (Poll::Pending, None) => self.tally.pending += 1,
            (Poll::Ready(held), Some(locks)) => {
                drop(self.futures.swap_remove(at));
                self.keep(locks, held);
            }
            (polled, expected) => panic!(
                "ready: {}, but the model says {expected:?}",
                polled.is_ready()
            ),
        }
    }

    fn admits(&self, keys: &[(u64, Mode)]) -> bool {
        let locks = self.locks(keys.iter().copied());
        locks.iter().all(|(hash, mode)| {
            let lock = self.model.locks.get(hash);
            lock.is_none_or(|lock| lock.admits(*mode))
        })
    }

    fn several(&mut self, op: Op, keys: &[(u64, Mode)], how: HowAll) {
        let ask = keys.iter().map(|(key, mode)| (key, *mode));
        let held = match how {
            HowAll::Try => self.table.try_lock_all(ask).map(Held::Set),
            HowAll::Timed => {
                let set = self.table.try_lock_all_for(ask, Duration::from_nanos(1));
                set.map(Held::Set)
            }
            HowAll::Block | HowAll::BlockOwned if !self.admits(keys) => return,
            HowAll::Block => Some(Held::Set(self.table.lock_all(ask))),
            HowAll::BlockOwned => Some(Held::OwnedSet(self.table.lock_all_owned(ask))),
        };
        self.outcome(op, keys, held);
    }

    fn outcome(&mut self, op: Op, keys: &[(u64, Mode)], held: Option<Held<'t>>) {
        let locks = self.locks(keys.iter().copied());
        assert_eq!(held.is_some(), self.model.enter_all(&locks), "{op:?}");
        match held {
            Some(held) => self.keep(locks, held),
            None => self.tally.refused += 1,
        }
    }

    /// Holds it from now on, or gives it back at once if that would be too many.
    fn keep(&mut self, locks: Locks, held: Held<'t>) {
        let keys = || (0..KEYS).map(slot);
        let mode = |key: u64| {
            let hash = self.place.hash(key);
            locks.iter().find(|lock| lock.0 == hash).map(|lock| lock.1)
        };
        match &held {
            Held::Set(set) => {
                assert_eq!(set.len(), locks.len());
                keys().for_each(|key| assert_eq!(set.mode(&key), mode(key)));
            }
            Held::OwnedSet(set) => {
                assert_eq!(set.len(), locks.len());
                keys().for_each(|key| assert_eq!(set.mode(&key), mode(key)));
            }
            Held::Exclusive(guard) => assert_eq!(guard.key_id().get(), locks[0].0),
            Held::Shared(guard) => assert_eq!(guard.key_id().get(), locks[0].0),
            Held::OwnedExclusive(guard) => assert_eq!(guard.key_id().get(), locks[0].0),
            Held::OwnedShared(guard) => assert_eq!(guard.key_id().get(), locks[0].0),
        }
        self.held.push((locks, held));
    }

    /// Compares all that can be asked of the table with the model.
    pub(super) fn check(&mut self) {
        self.steps += 1;
        // Not after every step: most of the time would go there.
        if self.steps % 4 != 0 {
            return;
        }
        for key in (0..KEYS).map(slot) {
            let lock = self.model.locks.get(&self.place.hash(key));
            let mode = lock.and_then(|lock| lock.mode());
            assert_eq!(self.table.mode(&key), mode, "mode of {key}");
        }
        // The rest looks at the whole root.
        if self.steps % 16 == 0 {
            self.check_all();
        }
    }

    fn check_all(&self) {
        for (bell, rings) in self.bells.iter().zip(&self.model.rings) {
            assert_eq!(bell.rings(), *rings, "a waker");
        }
        let mut found = self.table.inspect();
        found.sort_by_key(|lock| lock.key_id);
        let found: Vec<_> = found
            .into_iter()
            .map(|lock| {
                let waiters: Vec<Mode> = lock.waiters.iter().map(|w| w.mode).collect();
                (lock.key_id.get(), lock.mode, lock.holders, waiters)
            })
            .collect();
        let in_use = |lock: &&(u64, Option<Mode>, u64, Vec<Mode>)| lock.2 > 0 || !lock.3.is_empty();
        let expected: Vec<_> = self
            .model
            .locks
            .iter()
            .map(|(hash, lock)| (*hash, lock.mode(), lock.holders(), lock.waiters().collect()))
            .collect();
        let expected: Vec<_> = expected.iter().filter(in_use).cloned().collect();
        assert_eq!(found, expected);
        let waiting: usize = expected.iter().map(|lock| lock.3.len()).sum();
        assert_eq!(self.table.stats().waiting, waiting);
    }

    /// Ends everything that is under way. What is forgotten stays locked.
    pub(super) fn end(mut self) -> TaskTally {
        self.check_all();
        for (id, future) in self.futures.drain(..) {
            drop(future);
            self.model.cancel(id);
        }
        while !self.held.is_empty() {
            self.unlock(0, HowUnlock::Plain);
        }
        self.check_all();
        if !self.forgotten {
            assert_as_new(self.table, self.fresh_bytes);
        }
        TaskTally {
            granted: self.model.granted,
            cancelled: self.model.cancelled,
            ..self.tally
        }
    }
}

fn slots(keys: Several) -> Vec<(u64, Mode)> {
    keys.iter().map(|(key, mode)| (slot(key), mode)).collect()
}
