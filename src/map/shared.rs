//! The state that the threads of a map share beside its tables: counters, floors, the graveyard,
//! and the mutex of the thread that buries and copies.

use std::collections::VecDeque;

use crossbeam_utils::CachePadded;

use crate::cell::Version;
use crate::reclaim::{GracePeriod, Local};
use crate::sync::tuning::{MAP_BURIES_FROM, MAP_FLOORS as FLOORS, MAP_STRIPES as STRIPES};
use crate::sync::{AtomicU64, Counter, Mutex, Ordering};

/// The number of records for which an empty graveyard keeps room, however many it had. It was not
/// chosen by measurement.
const KEPT_ROOM: usize = 1024;

pub(super) struct Shared {
    stripes: [CachePadded<Stripe>; STRIPES],
    floors: [Floor; FLOORS],
    /// The mutex of the map [V8].
    maintenance: Mutex<Maintenance>,
}

/// The part of some threads.
struct Stripe {
    /// The number of entries, without those that were made with their values.
    entries: Counter,
    /// The number of values, without those that were inserted with their entries, and without
    /// removals that were counted with their records.
    values: Counter,
    /// The number of removals that were counted with their records. Changed under the mutex.
    removals: Counter,
    /// The number of inserts of entries with values.
    inserts: Counter,
    /// The number of records, for threads that do not lock. Changed under the mutex.
    waiting: Counter,
    /// The grace period of the first record, or of an earlier one if there is none. Changed under
    /// the mutex.
    first_grace: Counter,
    records: Mutex<VecDeque<Record>>,
}

/// The state of the work that one thread does for all.
#[derive(Default)]
pub(super) struct Maintenance {
    /// The number of slots of the root that were copied.
    pub(super) copied: usize,
    /// The stripe whose records are examined next.
    next: usize,
    /// Memory for the records that are examined, and for the entries that are buried.
    pub(super) examined: Vec<Record>,
    pub(super) buried: Vec<usize>,
}

/// No version of a buried entry of its hashes is greater [V6].
pub(super) struct Floor(AtomicU64);

/// Names a vacant node of an entry [V11].
#[derive(Clone, Copy)]
pub(super) struct Record {
    pub(super) hash: u64,
    pub(super) entry: usize,
    pub(super) version: Version,
    pub(super) grace: GracePeriod,
}

impl Shared {
    pub(super) fn new() -> Self {
        Shared {
            stripes: core::array::from_fn(|_| {
                CachePadded::new(Stripe {
                    entries: Counter::new(),
                    values: Counter::new(),
                    removals: Counter::new(),
                    inserts: Counter::new(),
                    waiting: Counter::new(),
                    first_grace: Counter::new(),
                    records: Mutex::new(VecDeque::new()),
                })
            }),
            floors: core::array::from_fn(|_| Floor(AtomicU64::new(Version::FIRST.get()))),
            maintenance: Mutex::new(Maintenance::default()),
        }
    }

    fn stripe(&self, local: &Local) -> &Stripe {
        &self.stripes[local.thread() % STRIPES]
    }

    /// Counts an entry that is made with its value. `true`, at times: the caller should check the
    /// stripes of other threads, which may have ended.
    #[inline]
    pub(super) fn count_insert(&self, local: &Local) -> bool {
        self.stripe(local).inserts.next() % 64 == 63
    }

    /// Counts an entry without a value.
    pub(super) fn count_entry(&self, local: &Local) {
        self.stripe(local).entries.add(1);
    }

    /// Counts that some entries without values were freed.
    pub(super) fn count_no_entries(&self, local: &Local, n: usize) {
        self.stripe(local).entries.add((n as u64).wrapping_neg());
    }

    /// Counts a value of an entry that had none.
    pub(super) fn count_value(&self, local: &Local) {
        self.stripe(local).values.add(1);
    }

    /// Counts a removal.
    pub(super) fn count_no_value(&self, local: &Local) {
        self.stripe(local).values.add(u64::MAX);
    }

    fn sum(&self, of: impl Fn(&Stripe) -> u64) -> usize {
        let parts = self.stripes.iter().map(|stripe| of(stripe));
        let sum = parts.fold(0, u64::wrapping_add) as i64;
        // The stripes are read one after another, so the sum may be less than nothing.
        usize::try_from(sum).unwrap_or(0)
    }

    pub(super) fn entries(&self) -> usize {
        self.sum(|stripe| stripe.inserts.get().wrapping_add(stripe.entries.get()))
    }

    pub(super) fn values(&self) -> usize {
        self.sum(|stripe| {
            let values = stripe.inserts.get().wrapping_add(stripe.values.get());
            values.wrapping_sub(stripe.removals.get())
        })
    }

    pub(super) fn records(&self) -> usize {
        self.sum(|stripe| stripe.waiting.get())
    }

    pub(super) fn floor(&self, hash: u64) -> &Floor {
        &self.floors[(hash >> 32) as usize % FLOORS]
    }

    /// Appends a record.
    pub(super) fn bequeath(&self, local: &Local, record: Record) {
        let stripe = self.stripe(local);
        stripe.append(&mut stripe.records.lock(), record);
    }

    /// Appends the record of a removal, and counts the removal: without another atomic addition.
    pub(super) fn bequeath_removal(&self, local: &Local, record: Record) {
        let stripe = self.stripe(local);
        let mut records = stripe.records.lock();
        stripe.removals.set(stripe.removals.get().wrapping_add(1));
        stripe.append(&mut records, record);
    }

    /// Whether the calling thread should bury: its stripe has some records, and the grace period of
    /// the first one is over.
    #[inline]
    pub(super) fn is_burial_due(&self, local: &Local) -> bool {
        let stripe = self.stripe(local);
        let first = || GracePeriod::from_bits(stripe.first_grace.get());
        stripe.waiting.get() >= MAP_BURIES_FROM && local.is_over(first())
    }

    /// Removes some records whose grace periods are over, at most `n`, from the front of a stripe.
    /// `false`: no stripe has one.
    pub(super) fn take_records(
        &self,
        local: &Local,
        maintenance: &mut Maintenance,
        n: usize,
        some: &mut Vec<Record>,
    ) -> bool {
        for _ in 0..STRIPES {
            let stripe = &self.stripes[maintenance.next % STRIPES];
            if stripe.waiting.get() > 0 {
                let mut records = stripe.records.lock();
                // One part of the ring: the next call has the other.
                let (first, _) = records.as_slices();
                let first = &first[..first.len().min(n - some.len())];
                let is_over = |record: &&Record| local.is_over(record.grace);
                let over = first.iter().take_while(is_over).count();
                some.extend_from_slice(&first[..over]);
                records.drain(..over);
                stripe.show(&records);
                if records.is_empty() {
                    records.shrink_to(KEPT_ROOM);
                }
                if !some.is_empty() {
                    return true;
                }
            }
            maintenance.next = maintenance.next.wrapping_add(1);
        }
        false
    }

    pub(super) fn maintenance(&self) -> &Mutex<Maintenance> {
        &self.maintenance
    }
}

impl Record {
    /// The grace period begins here. The node is stamped.
    pub(super) fn new(local: &Local, hash: u64, entry: usize, version: Version) -> Self {
        Record {
            hash,
            entry,
            version,
            grace: local.begin_grace(),
        }
    }
}

impl Stripe {
    /// Appends a record. The caller has locked the mutex.
    #[inline]
    fn append(&self, records: &mut VecDeque<Record>, record: Record) {
        records.push_back(record);
        self.show(records);
    }

    /// Shows the records to threads that do not lock. The caller has locked the mutex.
    #[inline]
    fn show(&self, records: &VecDeque<Record>) {
        self.waiting.set(records.len() as u64);
        if let Some(first) = records.front() {
            self.first_grace.set(first.grace.bits());
        }
    }
}

impl Floor {
    pub(super) fn load(&self) -> Version {
        // Relaxed: a raise happens before the dead node is found, and the caller has found it, or
        // what follows from it [V6].
        Version::new(self.0.load(Ordering::Relaxed))
    }

    /// Raises the floor. The caller has locked the mutex of the map.
    pub(super) fn raise(&self, version: Version) {
        // Relaxed: both, since no other thread changes it, and the dead node publishes it [V6].
        if self.0.load(Ordering::Relaxed) < version.get() {
            self.0.store(version.get(), Ordering::Relaxed);
        }
    }
}

#[cfg(all(test, not(any(latchwork_loom, latchwork_shuttle))))]
mod tests {
    use super::*;
    use crate::reclaim;

    #[test]
    fn counters_are_sums_and_floors_rise() {
        let shared = Shared::new();
        reclaim::with(|local| {
            shared.count_no_value(local);
            assert_eq!(shared.values(), 0);
            for _ in 0..3 {
                shared.count_insert(local);
            }
            shared.count_no_entries(local, 1);
            assert_eq!((shared.values(), shared.entries()), (2, 2));
            shared.count_entry(local);
            shared.count_value(local);
            assert_eq!((shared.values(), shared.entries()), (3, 3));
        });
        let floor = shared.floor(u64::MAX);
        floor.raise(Version::new(7));
        floor.raise(Version::new(3));
        assert_eq!(
            (floor.load(), shared.floor(0).load()),
            (Version::new(7), Version::FIRST)
        );
    }
}
