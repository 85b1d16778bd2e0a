//! Entries of maps in a transaction: cells that may be without a value, and that a pin keeps.
#![allow(unsafe_code)]

use core::cell::Cell;
use core::ptr::NonNull;

use super::Tx;
use super::attempt::Attempt;
use super::error::Abort;
use super::ladder::Loss;
use super::touched::{Committed, Installed, Keeper, Lent};
use crate::cell::{OwnedVersioned, VersionedCell};
use crate::mvcc::{Head, Header, Node, NodeRef, ValueRef, Version};
use crate::reclaim::{CellPin, Local};
use crate::sync::tuning::LINEAR_CELLS;

/// # Safety
/// `draft` is a `Node<T>` with a value, of this attempt, which has ended without a commit. It was
/// installed as `installed` tells. `place` is a `Cell<Option<T>>` of this thread.
unsafe fn give_back<T: Send + Sync + 'static>(
    local: &Local,
    draft: NonNull<Header>,
    installed: Installed,
    place: NonNull<()>,
) {
    let node = draft.cast::<Node<T>>();
    let value = match installed {
        // SAFETY: it was not published, so that it is ours, and it has a value.
        Installed::No => unsafe { Node::into_value(node, local) },
        // SAFETY: its owner was aborted, so no thread reads the value, and it has one.
        Installed::Yes => unsafe { Node::take_aborted(node) },
    };
    // SAFETY: by the caller's contract.
    unsafe { place.cast::<Cell<Option<T>>>().as_ref() }.set(Some(value));
}

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
        self.attempt.log.lent.push(Lent {
            i: i as u32,
            place: NonNull::from(place).cast(),
            give_back: give_back::<T>,
        });
    }

    /// The committed value, if the key has one.
    pub(crate) fn entry_owned<T: Send + Sync + 'static>(
        &self,
        i: usize,
    ) -> Option<OwnedVersioned<T>> {
        let node = self.attempt.seen(i);
        // SAFETY: it has a value, of the type of its entry.
        (!node.header().is_vacant()).then(|| OwnedVersioned::of(unsafe { ValueRef::new(node) }))
    }

    pub(crate) fn local(&self) -> &'t Local {
        self.attempt.local
    }

    pub(crate) fn pin(&self) -> &CellPin {
        &self.attempt.pin
    }

    /// The place of the last entry of the log, with its head, if it is one of `map` and was read.
    #[inline(always)]
    pub(crate) fn last_entry(&self, map: &'t (dyn Keeper + 'static)) -> Option<(usize, &'t Head)> {
        let map = NonNull::from(map).cast::<()>();
        let entries = &self.attempt.log.entries;
        let last = entries.last()?;
        let is_of_map = last.map.is_some_and(|other| other.cast() == map);
        let is_read = is_of_map && last.seen.is_some();
        is_read.then(|| (entries.len() - 1, self.attempt.head_of(last)))
    }

    /// The place in the log of an entry of `map` that the attempt has read. `is_it` is asked about
    /// the heads of such entries. A long log is not searched.
    #[inline(always)]
    pub(crate) fn find_entry(
        &self,
        map: &'t (dyn Keeper + 'static),
        mut is_it: impl FnMut(&'t Head) -> bool,
    ) -> Option<usize> {
        let map = NonNull::from(map).cast::<()>();
        let entries = &self.attempt.log.entries;
        if entries.len() > LINEAR_CELLS {
            return None;
        }
        entries.iter().rposition(|entry| {
            entry.map.is_some_and(|other| other.cast() == map)
                && entry.seen.is_some()
                && is_it(self.attempt.head_of(entry))
        })
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
        let head = cell.head();
        let Some(node) = self.attempt.undisturbed(head) else {
            return self.observe_entry_disturbed(map, cell);
        };
        if node.header().is_dead() {
            return Err(self.lose_dead(head));
        }
        // The committed node may be in the room of the entry [V16].
        let kind = Node::<T>::kind_of(node.header());
        let log = &mut self.attempt.log;
        // SAFETY: it has fewer entries than need an index.
        let i = unsafe { log.push_early(head, kind, Some(node.as_ptr())) };
        log.entries[i].map = Some(NonNull::from(map));
        Ok(i)
    }

    #[inline(never)]
    fn observe_entry_disturbed<T: Send + Sync + 'static>(
        &mut self,
        map: &'t (dyn Keeper + 'static),
        cell: &'t VersionedCell<T>,
    ) -> Result<usize, Abort> {
        let i = self.attempt.observe(cell)?;
        let seen = self.attempt.seen(i).header();
        let entry = &mut self.attempt.log.entries[i];
        // As above. The commit retires this node, or none.
        entry.kind = Node::<T>::kind_of(seen);
        entry.map = Some(NonNull::from(map));
        if seen.is_dead() {
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
        let node = self.entry_node(i);
        // SAFETY: the entry is that of a cell of `T`, and the node has a value.
        (!node.header().is_vacant()).then(|| unsafe { node.value() })
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
        let write = self.attempt.log.entries[i].write;
        write.map_or_else(|| self.attempt.seen(i), |node| self.attempt.node(node))
    }

    /// Records a value for the commit, or `None` for a removal, in an entry that was read.
    #[inline]
    pub(crate) fn write_entry<T: Send + Sync + 'static>(&mut self, i: usize, value: Option<T>) {
        let local = self.attempt.local;
        let is_vacant = value.is_none();
        let node = match value {
            Some(value) => local.allocate(Node::draft(value)),
            None => Node::<T>::vacant_draft(local),
        };
        self.attempt.write_node_at(i, node.cast());
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
            let entry = &mut self.log.entries[lent.i as usize];
            let is_installed = |node: &NonNull<Header>| {
                // SAFETY: the attempt's own node, under its pin [R1].
                !unsafe { node.as_ref() }.when().is_claim()
            };
            let has_value = |node: &NonNull<Header>| {
                // SAFETY: as above.
                !unsafe { node.as_ref() }.is_vacant()
            };
            let (draft, installed) = match entry.write {
                Some(draft) => (draft, Installed::No),
                None => match entry.put.filter(is_installed) {
                    Some(draft) => (draft, Installed::Yes),
                    None => continue,
                },
            };
            // A removal that was recorded later has replaced the value.
            if !has_value(&draft) {
                continue;
            }
            entry.write = None;
            // SAFETY: recorded together, with a value, and the place outlives the attempt.
            unsafe { (lent.give_back)(self.local, draft, installed, lent.place) };
        }
    }

    /// Reports the commit to the maps. Pinned still.
    #[inline]
    pub(super) fn note_commits(&self) {
        for entry in &self.log.entries {
            // One write alone was published without an owner, and is still in its place.
            let (Some(map), Some(new), Some(old)) =
                (entry.map, entry.put.or(entry.write), entry.seen)
            else {
                continue;
            };
            let [new, old] = [new, old].map(|node| self.node(node).header());
            if new.is_vacant() == old.is_vacant() || new.when().is_claim() {
                continue;
            }
            let write = Committed {
                version: new.version(),
                was_vacant: old.is_vacant(),
                is_vacant: new.is_vacant(),
            };
            // SAFETY: the map is borrowed for as long as the attempt lives.
            let map = unsafe { map.as_ref() };
            map.note_commit(self.local, &self.pin, self.head_of(entry), write);
        }
    }
}
