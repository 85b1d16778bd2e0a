//! The waiters for writes of cells.
//!
//! A cell has no space for a queue. Its waiters are kept here, by the address of the cell, and
//! leave a mark in its word [C5]. Waiters for the end of a transaction are also here, by the
//! address of its owner. No cell has this address as long as the transaction is undecided [X10].
//! Waiters for the end of a lock are here by an address inside the head of the entry [V13].

use core::ops::RangeInclusive;
use std::collections::BTreeMap;

use crossbeam_utils::CachePadded;

use super::{Head, Version};
use crate::reclaim::inside::Inside;
use crate::sync::tuning::WAITER_SHARDS;
use crate::sync::{Mutex, global};
use crate::wait::Notify;

/// Names one waiter of one cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket {
    cell: usize,
    number: u64,
}

struct Shard {
    numbers: u64,
    waiting: BTreeMap<Ticket, Waiting>,
}

impl Shard {
    const fn new() -> Self {
        Shard {
            numbers: 0,
            waiting: BTreeMap::new(),
        }
    }
}

struct Waiting {
    /// It waits for another version than this.
    version: Version,
    notify: Notify,
}

impl Ticket {
    /// Those of all waiters of a cell.
    fn all_of(cell: usize) -> RangeInclusive<Ticket> {
        let ticket = |number| Ticket { cell, number };
        ticket(0)..=ticket(u64::MAX)
    }
}

global! {
    const SHARDS: [CachePadded<Mutex<Shard>>; WAITER_SHARDS] =
        CachePadded::new(Mutex::new(Shard::new()));
}

fn shard(cell: usize) -> &'static Mutex<Shard> {
    // Cells lie 8 bytes apart or more; Fibonacci hashing spreads them.
    let spread = (cell as u64 >> 3).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    &SHARDS[(spread >> 32) as usize % WAITER_SHARDS]
}

/// Adds a waiter for a write after `version`, unless `mark` finds that there has been one. `mark`
/// runs under the mutex, and leaves the mark in the cell's word [C5].
pub(crate) fn enlist<E>(
    cell: usize,
    version: Version,
    notify: Notify,
    mark: impl FnOnce() -> Result<(), E>,
) -> Result<Ticket, (E, Notify)> {
    let mut shard = shard(cell).lock();
    if let Err(error) = mark() {
        return Err((error, notify));
    }
    shard.numbers += 1;
    let number = shard.numbers;
    let ticket = Ticket { cell, number };
    shard.waiting.insert(ticket, Waiting { version, notify });
    Ok(ticket)
}

/// Gives a waiter another notification, and returns the one that it had. `Err`: it was woken.
pub(crate) fn renew(ticket: Ticket, notify: Notify) -> Result<Notify, Notify> {
    match shard(ticket.cell).lock().waiting.get_mut(&ticket) {
        Some(waiting) => Ok(core::mem::replace(&mut waiting.notify, notify)),
        None => Err(notify),
    }
}

/// Removes a waiter that was not woken.
pub(crate) fn leave(ticket: Ticket) {
    // The notification is dropped after the mutex is released: a waker's destructor is user code.
    let left = shard(ticket.cell).lock().waiting.remove(&ticket);
    drop(left);
}

/// Runs `f` under the mutex of the queue, unless a waiter of the cell is in it. `f` runs no user
/// code [V10].
#[cold]
pub(crate) fn if_none_waits<R>(cell: usize, f: impl FnOnce() -> R) -> Option<R> {
    let shard = shard(cell).lock();
    let is_empty = shard.waiting.range(Ticket::all_of(cell)).next().is_none();
    is_empty.then(f)
}

/// Wakes all waiters for a version before `written`.
#[cold]
pub(crate) fn wake(cell: usize, written: Version) {
    let mut woken = Woken::default();
    woken.take_out(cell, written);
    woken.run();
}

/// Wakes all waiters for the end of a transaction, which is decided [X10].
#[cold]
pub(crate) fn wake_those_of_owner(owner: usize) {
    let mut woken = Woken::default();
    woken.take_out_of_owner(owner);
    woken.run();
}

/// Wakes all waiters for the end of a lock, which has ended, and for a version before `written`, if
/// the lock has written one. The caller has found the mark of the word [V13].
#[cold]
pub(crate) fn wake_those_of_lock(head: &Head, written: Option<Version>) {
    let mut woken = Woken::default();
    woken.take_out(head.lock_address(), Version::new(u64::MAX));
    if let Some(written) = written {
        woken.take_out(head.address(), written);
    }
    woken.run();
}

/// Notifications, each of which is used once, including when one panics.
#[derive(Default)]
pub(crate) struct Woken(Vec<Notify>);

impl Woken {
    /// Removes all waiters for a version before `written` from their queue. The cell must still
    /// exist: later, another cell may have its address. Runs no user code.
    #[cold]
    pub(crate) fn take_out(&mut self, cell: usize, written: Version) {
        let mut shard = shard(cell).lock();
        let late: Vec<Ticket> = shard
            .waiting
            .range(Ticket::all_of(cell))
            .filter(|(_, waiting)| waiting.version < written)
            .map(|(ticket, _)| *ticket)
            .collect();
        for ticket in late.iter().rev() {
            self.0
                .extend(shard.waiting.remove(ticket).map(|w| w.notify));
        }
    }

    /// Removes all waiters for the end of a transaction, which is decided, from their queue [X10].
    /// Runs no user code.
    #[cold]
    pub(crate) fn take_out_of_owner(&mut self, owner: usize) {
        self.take_out(owner, Version::new(u64::MAX));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn run(&mut self) {
        // A waker is no code of the closure that made the write.
        let _outside = Inside::no_closure();
        while let Some(notify) = self.0.pop() {
            notify.notify();
        }
    }
}

impl Drop for Woken {
    fn drop(&mut self) {
        self.run();
    }
}

#[cfg(test)]
mod tests {
    use core::task::Waker;
    use std::sync::Arc;
    use std::task::Wake;

    use super::*;
    use crate::sync::{AtomicU64, Ordering};

    #[derive(Default)]
    struct Bell(AtomicU64);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A write does not wake a waiter that has seen it, and wakes no waiter of another cell.
    #[test]
    fn a_write_wakes_those_who_have_not_seen_it() {
        let place = [0_u64; 2];
        let [cell, other] = place.each_ref().map(|at| core::ptr::from_ref(at).addr());
        let bells = [cell, cell, other].map(|of| (of, Arc::new(Bell::default())));
        let rung = || {
            bells
                .each_ref()
                .map(|(_, bell)| bell.0.load(Ordering::Relaxed))
        };
        let tickets = [4, 5, 4].into_iter().zip(&bells).map(|(seen, (of, bell))| {
            let notify = Notify::Task(Waker::from(bell.clone()));
            let placed = enlist(*of, Version::new(seen), notify, || Ok::<_, ()>(()));
            placed.unwrap_or_else(|_| unreachable!("nothing was written since"))
        });
        let tickets: Vec<_> = tickets.collect();
        wake(cell, Version::new(5));
        assert_eq!(rung(), [1, 0, 0]);
        wake(cell, Version::new(6));
        assert_eq!(rung(), [1, 1, 0]);
        tickets.into_iter().for_each(leave);
        wake(other, Version::new(9));
        assert_eq!(rung(), [1, 1, 0]);
    }
}
