//! Waits for a write of a cell, for the end of a transaction, and for the end of a lock.

use super::head::Head;
use super::owner::Owner;
use super::resolve::{Current, Owned};
use super::version::Version;
use crate::park::{Event, Notify, Wait, Waiter};
use crate::reclaim;
use crate::sync::store_load_fence;

/// Adds a waiter for a version other than `seen` to the queue of a cell. `Err` has the current
/// version, if it differs already [C5].
pub(crate) fn enlist(head: &Head, seen: Version, notify: Notify) -> Result<Wait, Version> {
    let waiter = Waiter::take_for_change(seen.get(), notify);
    Wait::begin(Event::Write(head.address()), waiter, || {
        reclaim::with(|local| {
            let pin = local.pin();
            loop {
                let (word, node) = head.load_in(&pin);
                if let Current::Owned(Owned { owner, .. }) = node.current() {
                    owner.check_not_of(local.thread());
                }
                let version = node.settle().version();
                if version == seen && head.mark(word).is_err() {
                    continue;
                }
                // A transaction that owns the cell commits without touching the word. It checks the
                // mark afterwards, and the caller checks the commit [C5]. A mark that exists
                // already serves all waiters.
                store_load_fence();
                let version = node.settle().version();
                return if version == seen {
                    Ok(())
                } else {
                    Err(version)
                };
            }
        })
    })
}

/// Adds a waiter for the end of a transaction to a queue, or returns `None` if it has ended. The
/// caller is pinned. The owner must have an age, because other owners do not search for waiters
/// when they end [X10].
pub(crate) fn enlist_with_owner(owner: &Owner, notify: Notify) -> Option<Wait> {
    let waiter = Waiter::take_for_change(0, notify);
    let wait = Wait::begin(Event::Decision(owner.address()), waiter, || {
        if owner.status().is_decided() {
            return Err(());
        }
        Ok(())
    });
    wait.ok()
}

/// Adds a waiter for the end of the lock of an entry to its queue, or returns `None` if the entry
/// is not locked any more. The caller is pinned [V13].
pub(crate) fn enlist_with_lock(head: &Head, notify: Notify) -> Option<Wait> {
    let waiter = Waiter::take_for_change(0, notify);
    let wait = Wait::begin(Event::Unlock(head.address()), waiter, || {
        loop {
            let seen = head.load();
            if !seen.is_locked() {
                return Err(());
            }
            if head.mark(seen).is_ok() {
                return Ok(());
            }
        }
    });
    wait.ok()
}

/// The owner of a cell has no age, and notifies no task when it ends.
pub(crate) struct WithoutAge;

/// Enlists as [`enlist_with_owner`] does, with the transaction that owns a cell. Returns `None` if
/// no transaction owns the cell any more.
pub(crate) fn enlist_with_owner_of(
    head: &Head,
    notify: Notify,
) -> Result<Option<Wait>, WithoutAge> {
    reclaim::with(|local| {
        let pin = local.pin();
        let (_, node) = head.load_in(&pin);
        let Current::Owned(Owned { owner, .. }) = node.current() else {
            return Ok(None);
        };
        if !owner.rank().is_ranked() {
            return Err(WithoutAge);
        }
        Ok(enlist_with_owner(owner, notify))
    })
}
