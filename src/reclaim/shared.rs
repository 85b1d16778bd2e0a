//! The objects that threads leave behind when they end, and the counts of waiting objects.
#![allow(unsafe_code)]

use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;

use super::LIMIT;
use super::limbo::{Limbo, Stage};
use crate::sync::{Counter, Mutex, recently};

/// Shared by all threads that use cells.
#[derive(Debug)]
pub(super) struct Shared {
    orphans: Mutex<Orphans>,
    has_orphans: AtomicBool,
    // A plain mutex, including under a checker: no algorithm reads it.
    records: parking_lot::Mutex<Vec<Arc<Record>>>,
}

/// What threads that have ended have left.
#[derive(Debug, Default)]
struct Orphans {
    /// No thread can see these objects any more. None of the lists is ever moved into another that
    /// is long: a thread may leave millions, and the thread that adopts them is pinned.
    stages: Vec<Stage>,
    /// How many threads have ended whose objects still wait for pins.
    leaving: usize,
}

/// The waiting objects of one thread.
#[derive(Debug, Default)]
pub(super) struct Record {
    objects: Counter,
    bytes: Counter,
    /// Nanoseconds from the creation of `Shared` to the time since which the oldest objects wait; 0
    /// if none do.
    since: Counter,
}

/// The part of [`crate::stats`] that concerns reclamation.
#[derive(Debug, Default)]
pub(crate) struct Census {
    pub(crate) objects: u64,
    pub(crate) bytes: u64,
    pub(crate) oldest: Option<Duration>,
}

impl Default for Shared {
    fn default() -> Self {
        Shared {
            orphans: Mutex::new(Orphans::default()),
            has_orphans: AtomicBool::new(false),
            records: Default::default(),
        }
    }
}

impl Record {
    #[inline]
    pub(super) fn note(&self, limbo: &Limbo) {
        self.objects.set((limbo.len() + limbo.due.len()) as u64);
        self.bytes.set((limbo.bytes() + limbo.due.bytes()) as u64);
    }
}

impl Shared {
    /// A record that [`census`](Self::census) reads for as long as the caller keeps it.
    pub(super) fn enrol(&self) -> Arc<Record> {
        let record = Arc::new(Record::default());
        self.records.lock().push(record.clone());
        record
    }

    pub(super) fn strike_off(&self, record: &Arc<Record>) {
        self.records.lock().retain(|r| !Arc::ptr_eq(r, record));
    }

    pub(super) fn note_since(&self, record: &Record, since: Option<u64>) {
        // 0 is for none.
        record.since.set(since.map_or(0, |since| since.max(1)));
    }

    pub(super) fn census(&self) -> Census {
        let now = recently();
        let mut census = Census::default();
        for record in self.records.lock().iter() {
            census.objects += record.objects.get();
            census.bytes += record.bytes.get();
            let since = record.since.get();
            if since != 0 {
                let age = Duration::from_nanos(now.saturating_sub(since));
                census.oldest = census.oldest.max(Some(age));
            }
        }
        let orphans = self.orphans.lock();
        for stage in &orphans.stages {
            census.objects += stage.len() as u64;
            census.bytes += stage.bytes() as u64;
        }
        census
    }

    /// Announces one more call of [`orphan`](Self::orphan).
    pub(super) fn await_orphans(&self) {
        self.orphans.lock().leaving += 1;
    }

    /// Returns the number of expected calls of [`orphan`](Self::orphan).
    pub(super) fn leaving(&self) -> usize {
        self.orphans.lock().leaving
    }

    /// How many threads use cells.
    pub(super) fn threads(&self) -> usize {
        self.records.lock().len()
    }

    /// Accepts objects whose grace period is over, for other threads to release [R5].
    pub(super) fn orphan(&self, mut objects: Stage) {
        let mut orphans = self.orphans.lock();
        match orphans.stages.last_mut() {
            Some(last) if last.len() + objects.len() <= LIMIT => last.take_in(&mut objects),
            _ => orphans.stages.push(objects),
        }
        orphans.leaving -= 1;
        // Relaxed: a hint; the mutex orders the rest.
        self.has_orphans.store(true, Ordering::Relaxed);
    }

    /// Moves some of the orphans to the reclaimable objects of `limbo`. `false`: there are none.
    pub(super) fn adopt(&self, limbo: &mut Limbo) -> bool {
        // Relaxed: a hint; the mutex orders the rest.
        if !self.has_orphans.load(Ordering::Relaxed) {
            return false;
        }
        let mut orphans = self.orphans.lock();
        let stage = orphans.stages.pop();
        // Relaxed: as above.
        self.has_orphans
            .store(!orphans.stages.is_empty(), Ordering::Relaxed);
        drop(orphans);
        stage.map(|stage| limbo.adopt(stage)).is_some()
    }
}

impl Drop for Shared {
    /// Only under a checker: in a real build it is never dropped.
    fn drop(&mut self) {
        let stages = core::mem::take(&mut self.orphans.lock().stages);
        for retired in stages.into_iter().flat_map(Stage::into_objects) {
            // SAFETY: `orphan` is given objects whose grace period is over.
            let released = unsafe { retired.release() };
            if released {
                // SAFETY: the memory is ours now.
                unsafe { super::nodes::give_back(retired.object, retired.kind.shape.layout) };
            }
        }
    }
}

#[cfg(all(test, not(any(latchwork_loom, latchwork_shuttle))))]
mod tests {
    use core::ptr::NonNull;

    use super::super::limbo::{Destructor, Kind, Retired};
    use super::*;

    /// Nothing to release, and no memory to keep.
    static NOTHING: Kind = {
        // SAFETY: it accesses no object, and reports that none is over.
        unsafe { Kind::of::<u64>(|_| false, Destructor::None) }
    };

    fn left_behind(shared: &Shared, len: usize) {
        let one = || Retired {
            object: NonNull::dangling(),
            kind: &NOTHING,
        };
        shared.await_orphans();
        shared.orphan((0..len).map(|_| one()).collect());
    }

    /// Counts the waiting objects of live threads, and those that ended threads have left.
    #[test]
    fn the_census_counts_who_is_there_and_what_was_left() {
        let shared = Shared::default();
        let records = [1, 2].map(|n| {
            let record = shared.enrol();
            record.objects.set(n);
            record.bytes.set(10 * n);
            record
        });
        let counted = || {
            let census = shared.census();
            (shared.threads(), census.objects, census.bytes)
        };
        assert_eq!(counted(), (2, 3, 30));
        shared.strike_off(&records[0]);
        assert_eq!(counted(), (1, 2, 20));
        for len in [3, 2 * LIMIT] {
            left_behind(&shared, len);
        }
        let left = 3 + 2 * LIMIT as u64;
        assert_eq!(counted(), (1, 2 + left, 20 + 8 * left));
    }

    /// A thread that adopts is pinned, and other threads wait for it.
    #[test]
    fn a_long_list_is_handed_on_as_it_is() {
        let shared = Shared::default();
        for len in [2 * LIMIT, 1, 2, 3 * LIMIT] {
            left_behind(&shared, len);
        }
        let lens = |shared: &Shared| {
            let orphans = shared.orphans.lock();
            orphans.stages.iter().map(Stage::len).collect::<Vec<_>>()
        };
        assert_eq!(lens(&shared), [2 * LIMIT, 3, 3 * LIMIT]);
        assert_eq!(shared.census().objects, 5 * LIMIT as u64 + 3);
        let mut limbo = Limbo::default();
        let mut taken = Vec::new();
        while shared.adopt(&mut limbo) {
            taken.push(limbo.due.len());
        }
        assert_eq!(taken, [3 * LIMIT, 3 * LIMIT + 3, 5 * LIMIT + 3]);
        assert_eq!((shared.leaving(), shared.census().objects), (0, 0));
    }
}
