//! Waiting until something that an attempt has read changes, or until the owner of a cell ends.

use core::ptr::NonNull;

use super::attempt::Attempt;
use crate::mvcc::Header;
use crate::mvcc::dropped::Watch;
use crate::mvcc::enlist::enlist;
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
                let head = self.log.entries[i].head();
                waits.push(enlist(head, seen.version(), notify()).ok()?);
            }
        }
        let entries = self.log.entries.iter();
        let seen = || entries.filter_map(|entry| Some(entry.seen?.as_ptr()));
        let has_drafts = !self.log.aftermath.unused.is_empty();
        Some(Enlisted {
            waits,
            drafts: has_drafts.then(|| (seen().collect(), Watch::new())),
        })
    }
}
