//! Waiting until something that an attempt has read changes, or until the owner of a cell ends.
#![allow(unsafe_code)]

use core::ptr::NonNull;

use super::attempt::Attempt;
use crate::mvcc::dropped::Watch;
use crate::mvcc::enlist::{enlist, enlist_with_lock, enlist_with_owner};
use crate::mvcc::{Head, Header, Owner};
use crate::park::{Notify, Wait};

/// Waits for all cells that an attempt has read, before the drafts of the attempt are dropped.
pub(super) struct Enlisted {
    waits: Vec<Wait>,
    /// The nodes that were read, and the cells that are dropped with the drafts, if there are any.
    drafts: Option<(Vec<NonNull<Header>>, Watch)>,
}

impl Enlisted {
    /// Returns the waits, once the attempt has ended. `None`: no write can end the wait, because
    /// every cell was inside a value that the attempt itself had recorded, and was dropped with it
    /// [X8].
    pub(super) fn settle(self) -> Option<Vec<Wait>> {
        match self.drafts {
            Some((nodes, watch)) if watch.has_seen(&nodes) => None,
            _ => Some(self.waits),
        }
    }
}

impl Attempt<'_> {
    pub(super) fn has_read(&self) -> bool {
        self.log.entries.iter().any(|entry| entry.seen.is_some())
    }

    /// Joins the queues of all cells that were read; `None` if one has changed already. Runs after
    /// the roll-back and still pinned: a cell may be inside a value that is freed after the pin
    /// [X8].
    pub(super) fn enlist(&self, mut notify: impl FnMut() -> Notify) -> Option<Enlisted> {
        let mut waits = Vec::with_capacity(self.log.entries.len());
        for i in 0..self.log.entries.len() {
            if let Some(seen) = self.log.entries[i].seen {
                let version = self.node(seen).version();
                waits.push(enlist(self.head(i), version, notify()).ok()?);
            }
        }
        let seen = || self.log.entries.iter().filter_map(|entry| entry.seen);
        let has_drafts = !self.log.aftermath.unused.is_empty();
        Some(Enlisted {
            waits,
            drafts: has_drafts.then(|| (seen().collect(), Watch::new())),
        })
    }

    /// Has the end of a transaction, which the attempt has encountered, notify; `None` if it has
    /// ended already. After the roll-back, so that the attempt holds nothing while it waits, and
    /// pinned still, so that the owner is alive [X1] [X10].
    pub(super) fn enlist_with_owner(&self, owner: NonNull<Owner>, notify: Notify) -> Option<Wait> {
        // SAFETY: found in a node under the pin of this attempt [X1].
        enlist_with_owner(unsafe { owner.as_ref() }, notify)
    }

    /// Has the end of a lock, which the attempt has encountered, notify. Returns the address of the
    /// cell, and `None` if the lock has ended already. After the roll-back, and pinned still [V13].
    pub(super) fn enlist_with_lock(
        &self,
        head: NonNull<Head>,
        notify: Notify,
    ) -> (usize, Option<Wait>) {
        // SAFETY: the entry was found under the pin of this attempt [V3].
        let head = unsafe { head.as_ref() };
        (head.address(), enlist_with_lock(head, notify))
    }
}
