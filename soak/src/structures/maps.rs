//! Money that transactions, batches and holders of locks move between the keys of a map, and keys
//! that are inserted once and removed.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Waker};
use std::thread::yield_now;
use std::time::Duration;

use latchwork::{Tx, VersionedMap, atomically, snapshot};

use super::{Structure, Total, block_on, equal};
use crate::crew::Worker;

/// The keys of accounts. A key whose account is empty is absent.
const ACCOUNTS: u64 = 24;
const MONEY: i64 = 1_000 * ACCOUNTS as i64;
/// Keys that any thread inserts and removes.
const NOTES: std::ops::Range<u64> = 100..164;
/// Keys that are inserted once.
const TICKETS: u64 = 1_000;

pub(super) struct Maps {
    map: VersionedMap<u64, i64>,
    next_ticket: AtomicU64,
    operations: Total,
}

/// Reads a key, and inserts or removes it, so that it has so much more.
fn add<'t, 'env>(
    tx: &mut Tx<'t, 'env>,
    map: &'env VersionedMap<u64, i64>,
    key: u64,
    amount: i64,
) -> Result<(), latchwork::Abort> {
    let sum = tx.get(map, &key)?.copied().unwrap_or(0) + amount;
    match sum {
        0 => tx.remove(map, &key)?,
        sum => tx.insert(map, key, sum)?,
    };
    Ok(())
}

impl Maps {
    pub(super) fn new() -> Self {
        let map: VersionedMap<u64, i64> = (0..ACCOUNTS).map(|key| (key, 1_000)).collect();
        // Makes the lock table before any thread is there.
        drop(map.lock(&0));
        Maps {
            map,
            next_ticket: AtomicU64::new(TICKETS),
            operations: Total::default(),
        }
    }

    fn account(worker: &mut Worker) -> u64 {
        let among = if worker.rng.one_in(2) { 3 } else { ACCOUNTS };
        worker.rng.below(among)
    }

    fn money(&self) -> i64 {
        snapshot(|view| view.iter(&self.map).map(|(_, n)| *n).sum())
    }

    /// By two conditional writes.
    fn batch(&self, from: u64, to: u64, amount: i64) {
        let read = |key| self.map.get(&key).map(|n| (n.version(), *n));
        let mut batch = self.map.transact();
        for (key, amount) in [(from, -amount), (to, amount)] {
            batch = match read(key) {
                None => batch.insert_if_absent(key, amount),
                Some((version, n)) if n + amount == 0 => batch.remove_if(key, version),
                Some((version, n)) => batch.put_if(key, version, n + amount),
            };
        }
        if let Err(cancelled) = batch.commit() {
            assert!(
                cancelled.reasons.iter().any(|reason| !reason.is_met()),
                "without a reason"
            );
        }
    }

    /// A future of a lock that is dropped, or ends, with the draft of its holder or without.
    fn task(&self, key: u64, worker: &mut Worker) {
        let mut lock = self.map.lock_async(&key);
        if worker.rng.one_in(2) {
            let _ = Pin::new(&mut lock).poll(&mut Context::from_waker(Waker::noop()));
            return;
        }
        let mut guard = block_on(lock);
        let n = guard.get().copied();
        guard.set(1_000_000);
        yield_now();
        if worker.rng.one_in(64) {
            // The draft is discarded.
            worker.panic();
        }
        match n {
            Some(n) => guard.set(n),
            None => drop(guard.remove()),
        }
        guard.commit();
    }

    /// Keys that no other thread uses.
    fn tickets(&self) {
        let first = self.next_ticket.fetch_add(8, Relaxed);
        for key in first..first + 8 {
            let (made, old) = self.map.insert(key, 0);
            assert!(old.is_none(), "a ticket was there");
            assert_eq!(self.map.version(&key), Some(made));
        }
        for key in first..first + 8 {
            assert!(self.map.remove(&key).is_some(), "a ticket is gone");
        }
    }
}

impl Structure for Maps {
    fn name(&self) -> &'static str {
        "maps"
    }

    fn operations(&self) -> &Total {
        &self.operations
    }

    fn act(&self, worker: &mut Worker) {
        let map = &self.map;
        let (from, to) = (Self::account(worker), Self::account(worker));
        let amount = worker.rng.below(100) as i64;
        let slow = worker.rng.one_in(8);
        match worker.rng.below(20) {
            0..=4 => atomically(|tx| {
                add(tx, map, from, -amount)?;
                if slow {
                    yield_now();
                }
                add(tx, map, to, amount)
            }),
            5 | 6 if from != to => self.batch(from, to, amount),
            7 | 8 if from != to => {
                let mut set = map.lock_all([&from, &to]);
                for (key, amount) in [(from, -amount), (to, amount)] {
                    let mut entry = set.entry(&key).expect("it was locked");
                    let n = entry.get().copied().unwrap_or(0);
                    entry.set(n + amount);
                    if slow && worker.rng.one_in(16) {
                        worker.panic();
                    }
                }
                // Each key is committed by itself, so the sum would be wrong in between.
                let [a, b] = [from, to].map(|key| {
                    let entry = set.entry(&key).expect("it was locked");
                    entry.version()
                });
                drop(set);
                if a.is_some() && b.is_some() {
                    self.batch(from, to, amount);
                }
            }
            9 => {
                let mut session = map.session();
                // In no order: one of two sessions in a cycle gets an error.
                for key in [from, to] {
                    let Ok(mut entry) = session.lock(&key) else {
                        return;
                    };
                    let n = entry.get().copied();
                    entry.set(7);
                    match n {
                        Some(n) => entry.set(n),
                        None => drop(entry.remove()),
                    }
                    if slow {
                        yield_now();
                    }
                }
                session.commit();
            }
            10 => self.task(from, worker),
            11 | 12 => self.tickets(),
            13 => {
                let seen = map.version(&from);
                let timeout = Duration::from_micros(worker.rng.below(50));
                let now = map.wait_changed_for(&from, seen, timeout);
                assert!(now.is_none_or(|now| now != seen));
            }
            14 => match worker.rng.below(64) {
                0 => map.reserve(256),
                1 => map.shrink_to_fit(),
                2 => map.flush(),
                _ => {
                    let guard = map.try_lock_for(&from, Duration::from_micros(20));
                    assert!(guard.is_none_or(|guard| *guard.key() == from));
                }
            },
            15 => {
                let pin = latchwork::pin();
                for (key, n) in map.iter_in(&pin) {
                    assert!(*key < ACCOUNTS || *n == 0, "a torn entry");
                }
            }
            16 => map.retain(|key, _| !NOTES.contains(key)),
            17 => {
                map.update(&from, |n| *n);
                let note = NOTES.start + worker.rng.below(NOTES.end - NOTES.start);
                drop(map.insert(note, 0));
            }
            _ => assert_eq!(self.money(), MONEY, "a snapshot's sum"),
        }
    }

    fn check(&self) -> Result<(), String> {
        equal("money", self.money(), MONEY)?;
        self.map.retain(|key, _| *key < ACCOUNTS);
        for _ in 0..64 {
            self.map.flush();
        }
        let stats = self.map.stats();
        equal("entries of the map", stats.entries, stats.len)?;
        equal("records of the map", stats.removed, 0)?;
        if stats.index_bytes > 1 << 20 {
            return Err(format!("the index has {} bytes", stats.index_bytes));
        }
        Ok(())
    }
}
