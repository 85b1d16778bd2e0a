//! Wakes the waiters for writes of cells, and for the ends of transactions and locks.
//!
//! A cell has no space for a queue. Its waiters are in the parking lot, by the address of the cell,
//! and leave a mark in its word [C5]. Waiters for the end of a transaction are there by the address
//! of its owner, which names no other owner as long as the transaction is undecided [X10]. Waiters
//! for the end of a lock are there by the address of the head of the entry [V13].

use super::head::Head;
use super::version::Version;
use crate::park::{Event, WakeList};

/// Runs `f` under the mutex of the queue, unless a waiter of the cell is in it. `f` runs no user
/// code [V10].
#[cold]
pub(crate) fn if_none_waits<R>(cell: usize, f: impl FnOnce() -> R) -> Option<R> {
    Event::Write(cell).if_none_waits(f)
}

/// Wakes all waiters for a version before `written`.
#[cold]
pub(crate) fn wake(cell: usize, written: Version) {
    let mut woken = WakeList::default();
    take_out(&mut woken, cell, written);
    woken.run();
}

/// Wakes all waiters for the end of a transaction, which is decided [X10].
#[cold]
pub(crate) fn wake_those_of_owner(owner: usize) {
    let mut woken = WakeList::default();
    woken.grant_all(Event::Decision(owner));
    woken.run();
}

/// Wakes all waiters for the end of a lock, which has ended, and for a version before `written`, if
/// the lock has written one. The caller has found the mark of the word [V13].
#[cold]
pub(crate) fn wake_those_of_lock(head: &Head, written: Option<Version>) {
    let mut woken = WakeList::default();
    woken.grant_all(Event::Unlock(head.address()));
    if let Some(written) = written {
        take_out(&mut woken, head.address(), written);
    }
    woken.run();
}

/// Adds all waiters for a version before `written` to `woken`. The cell must still exist: later,
/// another cell may have its address. Runs no user code.
pub(crate) fn take_out(woken: &mut WakeList, cell: usize, written: Version) {
    woken.grant(Event::Write(cell), written.get());
}
