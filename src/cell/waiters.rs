//! Who waits for a write to which cell.
//!
//! Cells have no room for a queue, and need none while nobody waits: waiters are kept here, by the
//! address of their cell, and leave a mark in its word [C5].

use std::collections::BTreeMap;

use crossbeam_utils::CachePadded;

use super::Version;
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

global! {
    const SHARDS: [CachePadded<Mutex<Shard>>; WAITER_SHARDS] =
        CachePadded::new(Mutex::new(Shard::new()));
}

fn shard(cell: usize) -> &'static Mutex<Shard> {
    // Cells lie 8 bytes apart or more; Fibonacci hashing spreads them.
    let spread = (cell as u64 >> 3).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    &SHARDS[(spread >> 32) as usize % WAITER_SHARDS]
}

/// Adds a waiter for a write after `version`, unless `mark` finds that there has been one. `mark` runs under the
/// mutex, and leaves the mark in the cell's word [C5].
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

/// Takes a waiter out, if it was not woken.
pub(crate) fn leave(ticket: Ticket) {
    // The notification is dropped after the mutex is released: a waker's destructor is user code.
    let left = shard(ticket.cell).lock().waiting.remove(&ticket);
    drop(left);
}

/// Wakes all who wait for a version before `written`.
#[cold]
pub(crate) fn wake(cell: usize, written: Version) {
    let mut woken = Woken::default();
    woken.take_out(cell, written);
    woken.run();
}

/// Notifications to be used, each once, also if one panics.
#[derive(Default)]
pub(crate) struct Woken(Vec<Notify>);

impl Woken {
    /// Takes all out of their queue who wait for a version before `written`. While the cell is there: later, its address
    /// may be that of another. Runs no user code.
    #[cold]
    pub(crate) fn take_out(&mut self, cell: usize, written: Version) {
        let all = Ticket { cell, number: 0 }..=Ticket {
            cell,
            number: u64::MAX,
        };
        let mut shard = shard(cell).lock();
        let late: Vec<Ticket> = shard
            .waiting
            .range(all)
            .filter(|(_, waiting)| waiting.version < written)
            .map(|(ticket, _)| *ticket)
            .collect();
        for ticket in late.iter().rev() {
            self.0
                .extend(shard.waiting.remove(ticket).map(|w| w.notify));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn run(&mut self) {
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
