//! Entries of maps in a transaction: cells that may be without a value, and that a pin keeps.

use core::cell::Cell;

use super::Tx;
use super::access::{Draft, Lent};
use super::attempt::Attempt;
use super::error::Abort;
use super::ladder::Loss;
use super::touched::{Committed, Keeper};
use crate::cell::{OwnedVersioned, VersionedCell};
use crate::mvcc::{Head, NodeRef, Version};
use crate::reclaim::{CellPin, Local};
use crate::sync::tuning::LINEAR_CELLS;

impl<'t> Tx<'t, '_> {
    /// Records the value of `place` for the commit. It returns there unless the attempt commits.
    pub(crate) fn lend_entry<T: Send + Sync + 'static>(
        &mut self,
        i: usize,
        place: &'t Cell<Option<T>>,
    ) {
        let value = place.take();
        debug_assert!(value.is_some(), "a failed attempt returns the value");
        self.write_entry(i, value);
        self.attempt.log.lent.push(Lent::new(i, place));
    }

    /// The committed value, if the key has one.
    pub(crate) fn entry_owned<T: Send + Sync + 'static>(
        &self,
        i: usize,
    ) -> Option<OwnedVersioned<T>> {
        let seen = self.attempt.log.entries[i].entry_seen()?;
        Some(OwnedVersioned::of(seen))
    }

    pub(crate) fn local(&self) -> &'t Local {
        self.attempt.local
    }

    pub(crate) fn pin(&self) -> &CellPin {
        self.attempt.pin
    }

    /// The place of the last entry of the log, with its head, if it is one of `map` and was read.
    #[inline(always)]
    pub(crate) fn last_entry(&self, map: &'t (dyn Keeper + 'static)) -> Option<(usize, &'t Head)> {
        let entries = &self.attempt.log.entries;
        let last = entries.last()?;
        let is_read = last.is_of_map(map) && last.seen.is_some();
        is_read.then(|| (entries.len() - 1, last.head()))
    }

    /// The place in the log of an entry of `map` that the attempt has read. `is_it` is asked about
    /// the heads of such entries. A long log is not searched.
    #[inline(always)]
    pub(crate) fn find_entry(
        &self,
        map: &'t (dyn Keeper + 'static),
        mut is_it: impl FnMut(&'t Head) -> bool,
    ) -> Option<usize> {
        let entries = &self.attempt.log.entries;
        if entries.len() > LINEAR_CELLS {
            return None;
        }
        entries
            .iter()
            .rposition(|entry| entry.is_of_map(map) && entry.seen.is_some() && is_it(entry.head()))
    }

    #[inline(always)]
    pub(crate) fn check_running(&self) -> Result<(), Abort> {
        self.attempt.check_running()
    }

    /// Whether the attempt has read or written the cell of this head.
    pub(crate) fn has_read(&self, head: &Head) -> bool {
        self.attempt.log.find(head).is_some()
    }

    /// Reads the cell of an entry of `map`, which the pin of the attempt keeps. Returns its place
    /// in the log.
    #[inline]
    pub(crate) fn observe_entry<T: Send + Sync + 'static>(
        &mut self,
        map: &'t (dyn Keeper + 'static),
        cell: &'t VersionedCell<T>,
    ) -> Result<usize, Abort> {
        match self.attempt.log.undisturbed(self.attempt.pin, cell) {
            Some(read) => match read.push_entry(map) {
                Some(i) => Ok(i),
                None => Err(self.lose_dead(cell.head())),
            },
            None => self.observe_entry_disturbed(map, cell),
        }
    }

    #[inline(never)]
    fn observe_entry_disturbed<T: Send + Sync + 'static>(
        &mut self,
        map: &'t (dyn Keeper + 'static),
        cell: &'t VersionedCell<T>,
    ) -> Result<usize, Abort> {
        let i = self.attempt.observe(cell)?;
        let seen = self.attempt.seen(i);
        self.attempt.log.entries[i].set_entry::<T>(map, seen);
        if seen.header().is_dead() {
            return Err(self.lose_dead(cell.head()));
        }
        Ok(i)
    }

    /// The key may have another entry [V4].
    #[cold]
    #[inline(never)]
    fn lose_dead(&mut self, head: &Head) -> Abort {
        self.attempt.lose(Loss::Read, Some(head))
    }

    /// The value that the closure sees, if the key has one.
    #[inline]
    pub(crate) fn entry_value<T: Send + Sync + 'static>(&self, i: usize) -> Option<&'t T> {
        self.attempt.log.entries[i].entry_value()
    }

    /// The version of that value after the commit.
    pub(crate) fn entry_version_at(&self, i: usize) -> Option<Version> {
        let is_vacant = self.entry_node(i).header().is_vacant();
        (!is_vacant).then(|| self.attempt.version(i))
    }

    /// The version of the committed value.
    pub(crate) fn entry_version_seen(&self, i: usize) -> Option<Version> {
        let node = self.attempt.seen(i);
        (!node.header().is_vacant()).then(|| node.version())
    }

    #[inline(always)]
    fn entry_node(&self, i: usize) -> NodeRef<'t> {
        self.attempt.log.entries[i].visible().expect("it was read")
    }

    /// Records a value for the commit, or `None` for a removal, in an entry that was read.
    #[inline]
    pub(crate) fn write_entry<T: Send + Sync + 'static>(&mut self, i: usize, value: Option<T>) {
        let local = self.attempt.local;
        let is_vacant = value.is_none();
        let draft = match value {
            Some(value) => Draft::new(local, value),
            None => Draft::vacant::<T>(local),
        };
        self.attempt.write_draft_at(i, draft);
        if is_vacant != self.attempt.seen(i).header().is_vacant() {
            self.attempt.log.changes_maps = true;
        }
    }
}

impl Attempt<'_> {
    /// Returns the lent values to their owners. The attempt does not commit, and its owner is
    /// decided.
    #[cold]
    pub(super) fn return_lent(&mut self) {
        for lent in core::mem::take(&mut self.log.lent) {
            self.log.entries[lent.i as usize].return_lent(self.local, &lent);
        }
    }

    /// Reports the commit to the maps. Pinned still.
    #[inline]
    pub(super) fn note_commits(&self) {
        for entry in &self.log.entries {
            // One write alone was published without an owner, and is still in its place.
            let (Some(map), Some(new), Some(old)) = (
                entry.map,
                entry.put().or_else(|| entry.written()),
                entry.seen,
            ) else {
                continue;
            };
            let [new, old] = [new, old].map(NodeRef::header);
            if new.is_vacant() == old.is_vacant() || new.when().is_claim() {
                continue;
            }
            let write = Committed {
                version: new.version(),
                was_vacant: old.is_vacant(),
                is_vacant: new.is_vacant(),
            };
            map.note_commit(self.local, self.pin, entry.head(), write);
        }
    }
}
