//! Parts that models need and users must not have.

use super::VersionedMap;
use super::slot::Content;
use crate::reclaim;

impl<K: Send + Sync + 'static, V: Send + Sync + 'static, S> VersionedMap<K, V, S> {
    /// Examines at most `n` records whose grace periods are over, unless another thread does so.
    #[doc(hidden)]
    pub fn bury_in_model(&self, n: usize) {
        reclaim::with(|local| {
            if let Some(mut maintenance) = self.index.shared.maintenance().try_lock() {
                self.index.bury_some(local, &mut maintenance, n, &|_| false);
            }
        });
    }

    /// Makes the lock table, by an initialisation that a checker does not see.
    #[doc(hidden)]
    pub fn make_locks_in_model(&self) {
        self.locks.table();
    }

    /// Ends grace periods, and examines at most `n` records.
    #[doc(hidden)]
    pub fn end_grace_in_model(&self) {
        reclaim::with(reclaim::Local::end_grace_periods);
    }

    /// Copies one chunk, unless another thread does so. `true`: some slots are left.
    #[doc(hidden)]
    pub fn copy_in_model(&self) -> bool {
        reclaim::with(|local| {
            let Some(mut maintenance) = self.index.shared.maintenance().try_lock() else {
                return true;
            };
            let pin = local.pin();
            self.index.copy_some(local, &mut maintenance, &pin)
        })
    }

    /// The number of slots of all tables that have entries.
    #[doc(hidden)]
    pub fn linked_in_model(&self) -> usize {
        reclaim::with(|local| {
            let pin = local.pin();
            let tables = self.index.tables(&pin);
            let slots = tables.flat_map(|table| table.slots_from(0));
            let words = slots.map(|slot| slot.load().content());
            words.filter(|c| matches!(c, Content::Entry(_))).count()
        })
    }

    /// Appends a table for `entries`.
    #[doc(hidden)]
    pub fn grow_in_model(&self, entries: usize) {
        reclaim::with(|local| {
            let pin = local.pin();
            self.index.grow(local, self.index.root(&pin), None, entries);
        });
    }
}
