//! Looking at a table from outside, without taking part.
#![allow(unsafe_code)]

use core::mem::size_of;

use std::time::Duration;

use super::index::{Child, Leaf, RawTable, Walk, child_ref, monitor_at};
use super::monitor::Monitor;
use super::{KeyId, TableStats};
use crate::reclaim::Pin;
use crate::sync::{AtomicU64, Ordering, recently};
use crate::word::{Kind, Mode, SlotWord, State};

/// A key that is held or waited for. Returned by [`LockTable::inspect`](super::LockTable::inspect).
///
/// # Examples
/// ```
/// let table: latchwork::LockTable<u64> = latchwork::LockTable::new();
/// let guard = table.lock_shared(&1);
/// for lock in table.inspect() {
///     println!("{}: {:?} by {}, {} wait", lock.key_id, lock.mode, lock.holders, lock.waiters.len());
/// }
/// # drop(guard);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockInfo {
    /// The identity of the key.
    pub key_id: KeyId,
    /// How it is held, or `None` if it is free for a waiter that was woken.
    pub mode: Option<Mode>,
    /// How many hold it.
    pub holders: u64,
    /// Who waits for it, in the order in which the key will be granted.
    pub waiters: Vec<WaiterInfo>,
}

/// Somebody who waits for a key. Part of [`LockInfo`].
///
/// # Examples
/// ```
/// let table: latchwork::LockTable<u64> = latchwork::LockTable::new();
/// let guard = table.lock(&1);
/// let mut future = Box::pin(table.lock_async(&1));
/// let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
/// assert!(std::future::Future::poll(future.as_mut(), &mut cx).is_pending());
/// let waiter = &table.inspect()[0].waiters[0];
/// assert_eq!(waiter.mode, latchwork::Mode::Exclusive);
/// # drop((guard, future));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WaiterInfo {
    /// How it wants to hold the key.
    pub mode: Mode,
    /// How long it has been queued, give or take some microseconds.
    pub waited: Duration,
}

/// What a slot holds that is not a child.
enum Found<'p> {
    Inline(SlotWord, u64),
    Monitor(&'p Monitor),
    Child,
}

impl RawTable {
    /// Calls `f` with each word in use. A word that moves meanwhile may be seen twice or not at all.
    fn visit(&self, mut f: impl FnMut(Found<'_>)) {
        fn go(slots: &[AtomicU64], root: Option<usize>, pin: &Pin, f: &mut impl FnMut(Found<'_>)) {
            for (i, slot) in slots.iter().enumerate() {
                let root = root.unwrap_or(i);
                // Acquire: monitors and children are read through the word [S2].
                let word = SlotWord::from_bits(slot.load(Ordering::Acquire)).thawed();
                match word.kind() {
                    Kind::Empty => {}
                    Kind::Inline => f(Found::Inline(word, word.hash_beside(root as u64))),
                    // SAFETY: loaded under the pin [S5].
                    Kind::Monitor => f(Found::Monitor(unsafe { &*monitor_at(word).cast_const() })),
                    Kind::Child => {
                        f(Found::Child);
                        // SAFETY: loaded under the pin.
                        let child = unsafe { child_ref(word, pin) };
                        go(&child.slots, Some(root), pin, f);
                    }
                }
            }
        }
        go(self.root(), None, &self.domain.pin(), &mut f);
    }

    pub(super) fn held(&self) -> usize {
        let mut held = 0;
        self.visit(|found| {
            held += usize::from(match found {
                Found::Inline(..) => true,
                Found::Monitor(monitor) => monitor.peek().is_held(),
                Found::Child => false,
            });
        });
        held
    }

    pub(super) fn stats(&self) -> TableStats {
        let mut stats = TableStats {
            waits: self.statistics.waits.get(),
            inflations: self.statistics.inflations.get(),
            longest_wait: Duration::from_nanos(self.statistics.longest_wait.get()),
            waiting: 0,
            index_bytes: size_of_val(self.root()),
            token_bytes: self.token_bytes(),
            monitors: 0,
        };
        self.visit(|found| match found {
            Found::Inline(..) => {}
            Found::Monitor(monitor) => {
                monitor.for_each_waiter(|_| stats.waiting += 1);
                stats.monitors += 1;
                stats.index_bytes += size_of::<Monitor>();
            }
            Found::Child => stats.index_bytes += size_of::<Child>(),
        });
        stats
    }

    pub(super) fn inspect(&self) -> Vec<LockInfo> {
        let mut locks = Vec::new();
        self.visit(|found| match found {
            Found::Inline(word, hash) => locks.push(LockInfo {
                key_id: KeyId(hash),
                mode: Some(word.mode()),
                holders: word.readers().max(1),
                waiters: Vec::new(),
            }),
            Found::Monitor(monitor) => {
                let mut waiters = Vec::new();
                let now = recently();
                monitor.for_each_waiter(|waiter| {
                    waiters.push(WaiterInfo {
                        mode: waiter.mode(),
                        waited: Duration::from_nanos(now.saturating_sub(waiter.since())),
                    });
                });
                let state = monitor.peek();
                if state.is_held() || !waiters.is_empty() {
                    locks.push(LockInfo {
                        key_id: KeyId(monitor.hash()),
                        mode: state.mode(),
                        holders: state.holders(),
                        waiters,
                    });
                }
            }
            Found::Child => {}
        });
        locks
    }

    pub(super) fn mode(&self, hash: u64) -> Option<Mode> {
        let mut walk = Walk::new(self, hash);
        match walk.leaf() {
            Leaf::Empty | Leaf::Other(_) => None,
            Leaf::Own(word) => Some(word.mode()),
            Leaf::Monitor(word) => {
                let monitor = walk.monitor(word);
                (monitor.hash() == hash)
                    .then(|| monitor.peek())
                    .and_then(State::mode)
            }
        }
    }
}
