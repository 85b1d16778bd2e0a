//! The state that the threads of a map share beside its tables: counters, floors, the graveyard,
//! and the mutex of the thread that buries and copies.

use std::collections::VecDeque;

use crossbeam_utils::CachePadded;

use crate::cell::Version;
use crate::reclaim::{GracePeriod, Local};
use crate::sync::tuning::{MAP_FLOORS as FLOORS, MAP_STRIPES as STRIPES};
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
    changes: Counter,
    entries: Counter,
    values: Counter,
    /// The number of records, for threads that do not lock.
    waiting: Counter,
    records: Mutex<VecDeque<Record>>,
}

/// The state of the work that one thread does for all.
pub(super) struct Maintenance {
    /// The number of slots of the root that were copied.
    pub(super) copied: usize,
    /// The stripe whose records are examined next.
    next: usize,
}

/// No version of a buried entry of its hashes is greater [V6].
pub(super) struct Floor(AtomicU64);

/// Names a vacant node of an entry [V11].
pub(super) struct Record {
    pub(super) hash: u64,
    pub(super) entry: usize,
    pub(super) version: Version,
    pub(super) grace: GracePeriod,
}

/// The effect of a write on the counters.
#[derive(Clone, Copy)]
pub(super) struct Changes {
    entries: i64,
    values: i64,
}

impl Changes {
    pub(super) const ENTRY: Changes = Changes {
        entries: 1,
        values: 0,
    };
    pub(super) const VALUE: Changes = Changes {
        entries: 0,
        values: 1,
    };
    pub(super) const NO_ENTRY: Changes = Changes {
        entries: -1,
        values: 0,
    };
    pub(super) const NO_VALUE: Changes = Changes {
        entries: 0,
        values: -1,
    };
}

impl Shared {
    pub(super) fn new() -> Self {
        Shared {
            stripes: core::array::from_fn(|_| {
                CachePadded::new(Stripe {
                    changes: Counter::new(),
                    entries: Counter::new(),
                    values: Counter::new(),
                    waiting: Counter::new(),
                    records: Mutex::new(VecDeque::new()),
                })
            }),
            floors: core::array::from_fn(|_| Floor(AtomicU64::new(Version::FIRST.get()))),
            maintenance: Mutex::new(Maintenance { copied: 0, next: 0 }),
        }
    }

    fn stripe(&self, local: &Local) -> &Stripe {
        &self.stripes[local.thread() % STRIPES]
    }

    pub(super) fn count(&self, local: &Local, changes: Changes) {
        let stripe = self.stripe(local);
        if changes.entries != 0 {
            stripe.entries.add(changes.entries as u64);
        }
        if changes.values != 0 {
            stripe.values.add(changes.values as u64);
        }
    }

    fn sum(&self, of: impl Fn(&Stripe) -> &Counter) -> usize {
        let parts = self.stripes.iter().map(|stripe| of(stripe).get());
        let sum = parts.fold(0, u64::wrapping_add) as i64;
        // The stripes are read one after another, so the sum may be less than nothing.
        usize::try_from(sum).unwrap_or(0)
    }

    pub(super) fn entries(&self) -> usize {
        self.sum(|stripe| &stripe.entries)
    }

    pub(super) fn values(&self) -> usize {
        self.sum(|stripe| &stripe.values)
    }

    pub(super) fn records(&self) -> usize {
        self.sum(|stripe| &stripe.waiting)
    }

    pub(super) fn floor(&self, hash: u64) -> &Floor {
        &self.floors[(hash >> 32) as usize % FLOORS]
    }

    /// Appends a record.
    pub(super) fn bequeath(&self, local: &Local, record: Record) {
        let stripe = self.stripe(local);
        stripe.waiting.add(1);
        stripe.records.lock().push_back(record);
    }

    /// Whether the calling thread should bury: its stripe has records. Sometimes it also checks
    /// the other stripes, whose threads may have ended.
    pub(super) fn is_burial_due(&self, local: &Local) -> bool {
        let stripe = self.stripe(local);
        stripe.waiting.get() > 0 || (stripe.changes.next() % 64 == 63 && self.records() > 0)
    }

    /// Removes a record whose grace period is over, if one is at the front of a stripe.
    pub(super) fn take_record(
        &self,
        local: &Local,
        maintenance: &mut Maintenance,
    ) -> Option<Record> {
        for _ in 0..STRIPES {
            let stripe = &self.stripes[maintenance.next % STRIPES];
            if stripe.waiting.get() > 0 {
                let mut records = stripe.records.lock();
                if records.front().is_some_and(|r| local.is_over(r.grace)) {
                    stripe.waiting.add(u64::MAX);
                    let record = records.pop_front();
                    if records.is_empty() {
                        records.shrink_to(KEPT_ROOM);
                    }
                    return record;
                }
            }
            maintenance.next = maintenance.next.wrapping_add(1);
        }
        None
    }

    pub(super) fn maintenance(&self) -> &Mutex<Maintenance> {
        &self.maintenance
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
            shared.count(local, Changes::NO_VALUE);
            assert_eq!(shared.values(), 0);
            for _ in 0..3 {
                shared.count(local, Changes::VALUE);
                shared.count(local, Changes::ENTRY);
            }
            shared.count(local, Changes::NO_ENTRY);
            assert_eq!((shared.values(), shared.entries()), (2, 2));
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
