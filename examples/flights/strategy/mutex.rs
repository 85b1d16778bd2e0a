//! `mutex`: one lock for everything. Nothing runs in parallel, and nothing is cheaper for a single
//! thread.

use parking_lot::{Mutex, MutexGuard};

use super::{Group, Steps, Strategy};
use crate::data::{Dataset, Flight};
use crate::totals::{Cells, Sums, Tally};
use crate::work::Work;

pub(crate) struct GlobalMutex {
    lock: Mutex<()>,
    totals: Cells,
}

impl Strategy for GlobalMutex {
    const NAME: &'static str = "mutex";
    const ABOUT: &'static str = "one parking_lot mutex around all totals: the baseline, always run";
    const STEPS: Steps = Steps::Atomic;
    const GROUP: Group = Group::Locks;

    fn new(dataset: &Dataset) -> Self {
        Self {
            lock: Mutex::new(()),
            totals: Cells::new(dataset),
        }
    }

    fn step(&self, flight: &Flight, work: Work) -> u64 {
        let mut waits = 0;
        let _guard = lock_counting(&self.lock, &mut waits);
        self.totals.add(flight, work);
        waits
    }

    fn audit(&self) -> Sums {
        let _guard = self.lock.lock();
        self.totals.sums()
    }

    fn tally(&self) -> Tally {
        self.totals.tally()
    }
}

/// Locks, and counts a wait if the mutex was not free at once.
pub(super) fn lock_counting<'a>(mutex: &'a Mutex<()>, waits: &mut u64) -> MutexGuard<'a, ()> {
    mutex.try_lock().unwrap_or_else(|| {
        *waits += 1;
        mutex.lock()
    })
}
