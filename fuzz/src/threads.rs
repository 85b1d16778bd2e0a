//! Two threads at once. What each call returns depends on the other thread; that nobody holds what
//! excludes somebody else does not.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use latchwork::{
    LockTable, Mode,
    table::{ExclusiveGuard, LockSet, SharedGuard},
};

use crate::common::assert_as_new;
use crate::common::hashers::Place;
use crate::common::reference::{How, KEYS, Op};
use crate::input::Input;

/// Who holds one hash. Relaxed throughout: the oracle must not order what the locks should.
#[derive(Default)]
struct Holders {
    writers: AtomicU32,
    readers: AtomicU32,
}

impl Holders {
    fn enter(&self, mode: Mode) {
        match mode {
            Mode::Exclusive => {
                assert_eq!(self.writers.fetch_add(1, Relaxed), 0, "two writers");
                assert_eq!(self.readers.load(Relaxed), 0, "a writer beside readers");
            }
            Mode::Shared => {
                self.readers.fetch_add(1, Relaxed);
                assert_eq!(self.writers.load(Relaxed), 0, "a reader beside a writer");
            }
        }
    }

    fn leave(&self, mode: Mode) {
        match mode {
            Mode::Exclusive => {
                assert_eq!(self.readers.load(Relaxed), 0, "a reader came in");
                assert_eq!(self.writers.fetch_sub(1, Relaxed), 1, "two writers");
            }
            Mode::Shared => {
                assert_eq!(self.writers.load(Relaxed), 0, "a writer came in");
                self.readers.fetch_sub(1, Relaxed);
            }
        }
    }
}

#[expect(dead_code, reason = "the guards are held for their Drop")]
enum Held<'t> {
    Exclusive(ExclusiveGuard<'t>),
    Shared(SharedGuard<'t>),
    Set(LockSet<'t, u64, Place>),
}

struct Thread<'t> {
    table: &'t LockTable<u64, Place>,
    place: Place,
    holders: &'t [Holders],
    held: Vec<(Vec<(u64, Mode)>, Held<'t>)>,
    granted: u64,
}

/// Runs the first half of the calls in one thread and the second half in another.
pub(crate) fn run(input: &Input) -> u64 {
    let table = LockTable::builder()
        .hasher(input.place)
        .fairness(input.fairness)
        .expected_locks(1)
        .build();
    let fresh_bytes = table.stats().index_bytes;
    let holders: Vec<Holders> = (0..KEYS).map(|_| Holders::default()).collect();
    let start = Barrier::new(2);
    let granted = thread::scope(|scope| {
        let (first, second) = input.ops.split_at(input.ops.len() / 2);
        let threads = [first, second].map(|ops| {
            let (table, holders, start) = (&table, &holders[..], &start);
            scope.spawn(move || {
                let place = input.place;
                let mut thread = Thread {
                    table,
                    place,
                    holders,
                    held: Vec::new(),
                    granted: 0,
                };
                start.wait();
                ops.iter().for_each(|op| thread.step(op));
                thread.release_all(false);
                thread.granted
            })
        });
        threads
            .map(|thread| thread.join().expect("the oracle failed"))
            .iter()
            .sum()
    });
    assert_as_new(&table, fresh_bytes);
    granted
}

impl<'t> Thread<'t> {
    fn step(&mut self, op: &Op) {
        let table = self.table;
        match *op {
            Op::Try { key, mode } => self.one(key, mode, None),
            Op::Timed { key, mode, nanos } => self.one(key, mode, Some(nanos)),
            Op::Block { key, mode } => {
                // Whoever holds a lock and waits for another may wait for a thread that does the
                // same.
                self.release_all(true);
                let key = slot(key);
                let held = match mode {
                    Mode::Exclusive => Held::Exclusive(table.lock(&key)),
                    Mode::Shared => Held::Shared(table.lock_shared(&key)),
                };
                self.enter(vec![(key, mode)], Some(held));
            }
            Op::Crowd { key, count } => {
                for _ in 0..count {
                    self.one(key, Mode::Shared, None);
                }
            }
            Op::Many { how, ref keys } => {
                let keys: Vec<_> = keys.iter().map(|&(key, mode)| (slot(key), mode)).collect();
                if how == How::Block {
                    self.release_all(true);
                }
                let ask = keys.iter().map(|(key, mode)| (key, *mode));
                let set = match how {
                    How::Block => Some(table.lock_all(ask)),
                    How::Try => table.try_lock_all(ask),
                    How::Timed { nanos } => table.try_lock_all_for(ask, patience(nanos)),
                };
                let locks = set.as_ref().map_or_else(Vec::new, |set| self.locks_of(set));
                self.enter(locks, set.map(Held::Set));
            }
            Op::Unlock { guard } => {
                if !self.held.is_empty() {
                    self.release(usize::from(guard) % self.held.len());
                }
            }
            Op::UnlockAll { newest_first } => self.release_all(newest_first),
        }
    }

    fn one(&mut self, key: u8, mode: Mode, nanos: Option<u8>) {
        let (key, table) = (slot(key), self.table);
        let held = match (mode, nanos.map(patience)) {
            (Mode::Exclusive, None) => table.try_lock(&key).map(Held::Exclusive),
            (Mode::Exclusive, Some(time)) => table.try_lock_for(&key, time).map(Held::Exclusive),
            (Mode::Shared, None) => table.try_lock_shared(&key).map(Held::Shared),
            (Mode::Shared, Some(time)) => table.try_lock_shared_for(&key, time).map(Held::Shared),
        };
        self.enter(vec![(key, mode)], held);
    }

    /// One key for each lock of `set`, and its mode.
    fn locks_of(&self, set: &LockSet<'_, u64, Place>) -> Vec<(u64, Mode)> {
        let mut locks: Vec<(u64, Mode)> = Vec::new();
        for key in (0..KEYS).map(slot) {
            let Some(mode) = set.mode(&key) else { continue };
            if locks
                .iter()
                .all(|(other, _)| self.place.hash(*other) != self.place.hash(key))
            {
                locks.push((key, mode));
            }
        }
        assert_eq!(locks.len(), set.len());
        locks
    }

    /// The holders of `key`'s hash: those of the first key that has it.
    fn holders(&self, key: u64) -> &Holders {
        let hash = self.place.hash(key);
        let first = (0..KEYS)
            .map(slot)
            .find(|other| self.place.hash(*other) == hash);
        &self.holders[first.expect("the key itself") as usize]
    }

    fn enter(&mut self, locks: Vec<(u64, Mode)>, held: Option<Held<'t>>) {
        let Some(held) = held else { return };
        for &(key, mode) in &locks {
            self.holders(key).enter(mode);
            self.granted += 1;
        }
        self.held.push((locks, held));
    }

    fn release(&mut self, at: usize) {
        let (locks, held) = self.held.remove(at);
        for (key, mode) in locks {
            self.holders(key).leave(mode);
        }
        drop(held);
    }

    fn release_all(&mut self, newest_first: bool) {
        while !self.held.is_empty() {
            self.release(if newest_first { self.held.len() - 1 } else { 0 });
        }
    }
}

fn slot(key: u8) -> u64 {
    u64::from(key % KEYS)
}

fn patience(nanos: u8) -> Duration {
    Duration::from_nanos(u64::from(nanos) * 16)
}
