//! The end of entries whose keys are absent: steps 7 and 8.
#![allow(unsafe_code)]

use core::ptr::{NonNull, with_exposed_provenance_mut};

use super::entry::Entry;
use super::index::Index;
use super::shared::{Maintenance, Record};
use super::table::{Slot, Table};
use crate::cell::{Current, Head, Node, Version, dead, waiters};
use crate::reclaim::{self, CellPin, Local};
use crate::sync::tuning::{MAP_BURIALS, MAP_MAINTAINS};

/// Whether the caller has read the entry with this head.
pub(super) type IsRead<'a> = &'a dyn Fn(&Head) -> bool;

/// The result of the examination of a record.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The entry has a value, or was buried before.
    Done,
    /// The entry at this address is buried, and is in no table.
    Buried(usize),
    /// The entry is examined again after another grace period.
    Again(Version),
}

impl<K: Send + Sync + 'static, V: Send + Sync + 'static> Index<K, V> {
    /// Records that an entry has a vacant node of this version, which is stamped.
    pub(super) fn record(&self, local: &Local, entry: &Entry<K, V>, version: Version) {
        let (hash, address) = entry.name();
        self.bequeath(local, hash, address, version);
    }

    /// Counts a removal, and records that an entry has a vacant node of this version, which is
    /// stamped.
    pub(super) fn record_removal(&self, local: &Local, entry: &Entry<K, V>, version: Version) {
        let (hash, address) = entry.name();
        let record = Record::new(local, hash, address, version);
        self.shared.bequeath_removal(local, record);
    }

    pub(super) fn bequeath(&self, local: &Local, hash: u64, entry: usize, version: Version) {
        let record = Record::new(local, hash, entry, version);
        self.shared.bequeath(local, record);
    }

    /// Does a part of the work that is left, after a write that has made an entry, or has left one
    /// vacant. Runs no user code.
    #[inline]
    pub(super) fn maintain(&self, local: &Local, pin: &CellPin) {
        self.maintain_beside(local, pin, &|_| false);
    }

    /// The same, and buries no entry with a head that `is_read`: the attempt of a transaction that
    /// has read it would be lost.
    #[inline]
    pub(super) fn maintain_beside(&self, local: &Local, pin: &CellPin, is_read: IsRead<'_>) {
        if MAP_MAINTAINS && (self.is_growing(pin) || self.shared.is_burial_due(local)) {
            self.maintain_slow(local, is_read);
        }
    }

    /// The same, after the insert of a new entry with a value, which is counted.
    #[inline]
    pub(super) fn maintain_after_insert(&self, local: &Local, pin: &CellPin) {
        let checks_others = self.shared.count_insert(local);
        if MAP_MAINTAINS && checks_others && self.shared.records() > 0 {
            return self.maintain_slow(local, &|_| false);
        }
        self.maintain(local, pin);
    }

    #[cold]
    #[inline(never)]
    fn maintain_slow(&self, local: &Local, is_read: IsRead<'_>) {
        let Some(mut maintenance) = self.shared.maintenance().try_lock() else {
            return;
        };
        self.bury_some(local, &mut maintenance, MAP_BURIALS, is_read);
        let pin = local.pin();
        self.copy_some(local, &mut maintenance, &pin);
    }

    /// Copies all that is left, and buries all that no pin holds back.
    pub(super) fn flush(&self) {
        reclaim::with(|local| {
            let mut before = usize::MAX;
            loop {
                local.end_grace_periods();
                self.finish_maintenance(local);
                let left = self.shared.records();
                // The rest waits for pins, transactions or waiters; or other threads add to it.
                if left == 0 || left >= before {
                    break;
                }
                before = left;
            }
            local.flush();
        });
    }

    fn finish_maintenance(&self, local: &Local) {
        let mut maintenance = self.shared.maintenance().lock();
        let records = self.shared.records();
        self.bury_some(local, &mut maintenance, records, &|_| false);
        let pin = local.pin();
        while self.copy_some(local, &mut maintenance, &pin) {}
    }

    /// Examines at most `n` records whose grace periods are over. Returns how many.
    pub(super) fn bury_some(
        &self,
        local: &Local,
        maintenance: &mut Maintenance,
        n: usize,
        is_read: IsRead<'_>,
    ) -> usize {
        let mut done = 0;
        // No user code runs below, so the memory is there again afterwards.
        let mut some = core::mem::take(&mut maintenance.examined);
        while done < n {
            let most = (n - done).min(MAP_BURIALS);
            if !self
                .shared
                .take_records(local, maintenance, most, &mut some)
            {
                break;
            }
            done += some.len();
            let pin = local.pin();
            for record in some.drain(..) {
                match self.bury(local, &record, &pin, is_read) {
                    Fate::Done => {}
                    Fate::Buried(entry) => maintenance.buried.push(entry),
                    Fate::Again(version) => {
                        self.bequeath(local, record.hash, record.entry, version);
                    }
                }
            }
            // All entries after all nodes: objects of one kind are released together.
            self.shared
                .count_no_entries(local, maintenance.buried.len());
            let entries = maintenance.buried.drain(..);
            let entries = entries.map(|address| {
                let entry = NonNull::new(with_exposed_provenance_mut(address));
                let entry = entry.expect("an entry is not at null");
                (entry, Entry::<K, V>::KIND)
            });
            // SAFETY: no table from the root on has them, and they were unlinked by this thread,
            // which has locked the mutex of the map [V3] [V8].
            unsafe { local.retire_all(&pin, entries) };
        }
        maintenance.examined = some;
        done
    }

    /// Buries the entry of a record, if the vacant node is still there.
    fn bury(&self, local: &Local, record: &Record, pin: &CellPin, is_read: IsRead<'_>) -> Fate {
        let Some((table, slot)) = self.linked_slot(record.hash, record.entry, pin) else {
            return Fate::Done;
        };
        let entry = self.entry(record.entry, pin);
        // Its tag and its place may be those of another hash.
        if entry.hash() != record.hash {
            return Fate::Done;
        }
        let head = entry.cell.head();
        let seen = head.load();
        let node = entry.node(seen, pin);
        let base = match node.current() {
            Current::Settled(base) => base,
            Current::Owned(owned) => owned.base,
        };
        if node == base && !base.header().is_vacant() {
            return Fate::Done;
        }
        // An owner may restore the base or commit its node, and a new node has a new grace period.
        let version = base.version();
        // Neither while the entry is locked [V12].
        if node != base || version != record.version || seen.is_locked() {
            return Fate::Again(version);
        }
        if is_read(head) {
            return Fate::Again(version);
        }
        // Before the dead node is there: a thread that finds it makes an entry with a later version
        // [V6].
        self.shared.floor(record.hash).raise(version);
        let replace = || head.replace(seen, dead()).is_ok();
        // No waiter joins the queue while its mutex is locked, and none is left behind [V10].
        let is_dead = match seen.is_waited() {
            false => replace(),
            true => waiters::if_none_waits(head.address(), replace).unwrap_or(false),
        };
        if !is_dead {
            return Fate::Again(version);
        }
        let kind = Node::<V>::kind_of(base.header());
        // SAFETY: the vacant node was replaced by the dead one, by this thread [V4].
        unsafe { local.retire(pin, base.as_ptr().cast(), kind) };
        entry.end();
        // In all tables: no earlier one has it.
        slot.end();
        let mut table = table;
        while let Some(next) = self.next(table, pin) {
            if let Some(slot) = next.slot_of(record.hash, record.entry) {
                slot.end();
            }
            table = next;
        }
        Fate::Buried(record.entry)
    }

    /// The entry of this name, if a table has it. The address alone may be that of another one.
    pub(super) fn linked<'p>(
        &'p self,
        hash: u64,
        address: usize,
        pin: &'p CellPin,
    ) -> Option<&'p Entry<K, V>> {
        let entry = self.linked_slot(hash, address, pin);
        let entry = entry.map(|_| self.entry(address, pin));
        // Its tag and its place may be those of another hash.
        entry.filter(|entry| entry.hash() == hash)
    }

    /// The first table that has the entry of this name, and its slot there.
    fn linked_slot<'p>(
        &'p self,
        hash: u64,
        address: usize,
        pin: &'p CellPin,
    ) -> Option<(&'p Table, &'p Slot)> {
        self.tables(pin)
            .find_map(|table| Some((table, table.slot_of(hash, address)?)))
    }
}
