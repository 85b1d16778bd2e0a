//! A reference for one thread: which calls must succeed, which must say `None`, and what is held.
//!
//! One thread never finds a waiter of another, so the contract leaves no choice: an exclusive lock
//! is to be had if and only if nobody holds the key, a shared one if and only if no exclusive lock
//! is held. Keys are one lock exactly when their hashes are equal, which is how the model is keyed.

use std::collections::BTreeMap;
use std::time::Duration;

use latchwork::{
    Fairness, LockTable, Mode,
    table::{ExclusiveGuard, LockSet, SharedGuard},
};

use super::hashers::Place;

/// Keys are taken modulo this: few enough to conflict, more than one child has slots.
pub const KEYS: u8 = 24;

/// One step. Indices are taken modulo what there is, so that every sequence of steps is meaningful.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// `try_lock` or `try_lock_shared`.
    Try { key: u8, mode: Mode },
    /// The timed forms; a conflict makes the caller queue and give up.
    Timed { key: u8, mode: Mode, nanos: u8 },
    /// `lock` or `lock_shared`, where the model says that it does not block; otherwise nothing.
    Block { key: u8, mode: Mode },
    /// As many shared locks of one key: past what a slot counts inline.
    Crowd { key: u8, count: u8 },
    /// One of the forms that take several keys at once.
    Many { how: How, keys: Vec<(u8, Mode)> },
    /// Drops one of the guards that are held.
    Unlock { guard: u8 },
    /// Drops all guards, first to last or last to first.
    UnlockAll { newest_first: bool },
}

/// Which of the forms that take several keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Block,
    Try,
    Timed { nanos: u8 },
}

/// How often each outcome was seen, for tests that must not be vacuous.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub granted: u64,
    pub refused: u64,
    pub released: u64,
    pub most_children_bytes: usize,
    pub most_monitors: usize,
}

/// What the model knows of one hash that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holders {
    Exclusive,
    Shared(usize),
}

#[derive(Debug)]
#[expect(dead_code, reason = "the guards are held for their Drop")]
enum Held<'t> {
    Exclusive(ExclusiveGuard<'t>),
    Shared(SharedGuard<'t>),
    Set(LockSet<'t, u64, Place>),
}

struct Run<'t> {
    table: &'t LockTable<u64, Place>,
    place: Place,
    fresh_bytes: usize,
    model: BTreeMap<u64, Holders>,
    guards: Vec<(Vec<(u64, Mode)>, Held<'t>)>,
    tally: Tally,
    steps: usize,
}

/// Runs `ops` on a new table and panics where it departs from the model.
pub fn run(place: Place, fairness: Fairness, ops: &[Op]) -> Tally {
    // The smallest root, because every step looks at all of it.
    let table = LockTable::builder()
        .hasher(place)
        .fairness(fairness)
        .expected_locks(1)
        .build();
    let fresh_bytes = table.stats().index_bytes;
    let mut run = Run {
        table: &table,
        place,
        fresh_bytes,
        model: BTreeMap::new(),
        guards: Vec::new(),
        tally: Tally::default(),
        steps: 0,
    };
    for op in ops {
        run.step(op);
        run.check();
    }
    run.step(&Op::UnlockAll {
        newest_first: false,
    });
    run.check();
    run.tally
}

impl<'t> Run<'t> {
    fn step(&mut self, op: &Op) {
        let table = self.table;
        match *op {
            Op::Try { key, mode } => {
                let key = slot(key);
                let held = match mode {
                    Mode::Exclusive => table.try_lock(&key).map(Held::Exclusive),
                    Mode::Shared => table.try_lock_shared(&key).map(Held::Shared),
                };
                self.outcome(op, self.wanted([(key, mode)]), held);
            }
            Op::Timed { key, mode, nanos } => {
                let (key, patience) = (slot(key), Duration::from_nanos(nanos.into()));
                let held = match mode {
                    Mode::Exclusive => table.try_lock_for(&key, patience).map(Held::Exclusive),
                    Mode::Shared => table.try_lock_shared_for(&key, patience).map(Held::Shared),
                };
                self.outcome(op, self.wanted([(key, mode)]), held);
            }
            Op::Block { key, mode } => {
                let key = slot(key);
                let wanted = self.wanted([(key, mode)]);
                if self.grants(&wanted) {
                    let held = match mode {
                        Mode::Exclusive => Held::Exclusive(table.lock(&key)),
                        Mode::Shared => Held::Shared(table.lock_shared(&key)),
                    };
                    self.outcome(op, wanted, Some(held));
                }
            }
            Op::Crowd { key, count } => {
                let key = slot(key);
                for _ in 0..count {
                    let held = table.try_lock_shared(&key).map(Held::Shared);
                    self.outcome(op, self.wanted([(key, Mode::Shared)]), held);
                }
            }
            Op::Many { how, ref keys } => self.many(op, how, keys),
            Op::Unlock { guard } => {
                if !self.guards.is_empty() {
                    let at = usize::from(guard) % self.guards.len();
                    self.release(at);
                }
            }
            Op::UnlockAll { newest_first } => {
                while !self.guards.is_empty() {
                    self.release(if newest_first {
                        self.guards.len() - 1
                    } else {
                        0
                    });
                }
            }
        }
    }

    fn many(&mut self, op: &Op, how: How, keys: &[(u8, Mode)]) {
        let keys: Vec<(u64, Mode)> = keys.iter().map(|&(key, mode)| (slot(key), mode)).collect();
        let given = || keys.iter().map(|(key, mode)| (key, *mode));
        let wanted = self.wanted(keys.iter().copied());
        let set = match how {
            How::Block if !self.grants(&wanted) => return,
            How::Block => Some(self.table.lock_all(given())),
            How::Try => self.table.try_lock_all(given()),
            How::Timed { nanos } => self
                .table
                .try_lock_all_for(given(), Duration::from_nanos(nanos.into())),
        };
        if let Some(set) = &set {
            assert_eq!(set.len(), wanted.len(), "{op:?}");
            assert_eq!(set.is_empty(), wanted.is_empty(), "{op:?}");
            for key in (0..KEYS).map(slot) {
                let hash = self.place.hash(key);
                let mode = wanted.iter().find(|w| w.0 == hash).map(|w| w.1);
                assert_eq!(set.mode(&key), mode, "{op:?}, key {key}");
                assert_eq!(set.contains(&key), mode.is_some(), "{op:?}, key {key}");
            }
        }
        self.outcome(op, wanted, set.map(Held::Set));
    }

    /// What is asked for, by hash: a hash given twice counts once, in the stronger mode.
    fn wanted(&self, keys: impl IntoIterator<Item = (u64, Mode)>) -> Vec<(u64, Mode)> {
        let mut wanted = BTreeMap::new();
        for (key, mode) in keys {
            let strongest = wanted.entry(self.place.hash(key)).or_insert(mode);
            *strongest = mode.max(*strongest);
        }
        wanted.into_iter().collect()
    }

    /// Whether the model grants all of `wanted`.
    fn grants(&self, wanted: &[(u64, Mode)]) -> bool {
        wanted
            .iter()
            .all(|(hash, mode)| match (self.model.get(hash), mode) {
                (None, _) | (Some(Holders::Shared(_)), Mode::Shared) => true,
                (Some(_), _) => false,
            })
    }

    /// Compares an outcome with the model's, and notes what is held now.
    fn outcome(&mut self, op: &Op, wanted: Vec<(u64, Mode)>, held: Option<Held<'t>>) {
        assert_eq!(
            held.is_some(),
            self.grants(&wanted),
            "{op:?}, held: {:?}",
            self.model
        );
        let Some(held) = held else {
            self.tally.refused += 1;
            return;
        };
        self.tally.granted += 1;
        for &(hash, mode) in &wanted {
            let holders = match (self.model.get(&hash), mode) {
                (_, Mode::Exclusive) => Holders::Exclusive,
                (Some(Holders::Shared(n)), Mode::Shared) => Holders::Shared(n + 1),
                (_, Mode::Shared) => Holders::Shared(1),
            };
            self.model.insert(hash, holders);
        }
        self.guards.push((wanted, held));
    }

    fn release(&mut self, at: usize) {
        let (locks, held) = self.guards.remove(at);
        drop(held);
        self.tally.released += 1;
        for (hash, _) in locks {
            match self.model.remove(&hash) {
                Some(Holders::Shared(n)) if n > 1 => {
                    self.model.insert(hash, Holders::Shared(n - 1));
                }
                Some(_) => {}
                None => unreachable!("the model holds what a guard holds"),
            }
        }
    }

    /// Compares all that can be asked of the table with the model.
    fn check(&mut self) {
        for key in (0..KEYS).map(slot) {
            let mode = self
                .model
                .get(&self.place.hash(key))
                .map(|holders| match holders {
                    Holders::Exclusive => Mode::Exclusive,
                    Holders::Shared(_) => Mode::Shared,
                });
            assert_eq!(self.table.mode(&key), mode, "mode of {key}");
        }
        // The rest looks at the whole root: not after every step.
        self.steps += 1;
        if self.steps % 8 != 0 && !self.model.is_empty() {
            return;
        }
        assert_eq!(self.table.locked_count(), self.model.len(), "keys held");
        let stats = self.table.stats();
        let children = stats.index_bytes - self.fresh_bytes;
        self.tally.most_children_bytes = self.tally.most_children_bytes.max(children);
        self.tally.most_monitors = self.tally.most_monitors.max(stats.monitors);
        if self.model.is_empty() {
            super::assert_as_new(self.table, self.fresh_bytes);
        }
    }
}

fn slot(key: u8) -> u64 {
    u64::from(key % KEYS)
}
