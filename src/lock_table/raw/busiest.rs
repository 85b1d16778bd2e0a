//! The keys that threads have waited for most, and how long they were held while a thread
//! waited, for the console.
//!
//! A table stores nothing for a free key, so it cannot count for each key. It counts for a fixed
//! number of keys, by the algorithm *space-saving* (Metwally, Agrawal, El Abbadi: Efficient
//! computation of frequent and top-k elements in data streams, 2005). A key without an entry
//! replaces the entry with the least waits, and inherits its number of waits as an error bound. A
//! key with more than 1/[`KEPT`] of all waits always has an entry.
//!
//! Nothing here runs for an uncontended key, and without the feature `console` nothing runs at all.

#[cfg(feature = "console")]
use core::panic::{RefUnwindSafe, UnwindSafe};

#[cfg(feature = "console")]
use crate::sync::{Counter, Mutex, recently};

/// The time at which the present hold of a key began, or its first waiter queued, whichever is
/// later. It measures only while a waiter is queued.
///
/// A hold that follows another begins here with the release of that one, so it includes the time in
/// which a woken thread starts to run. Of several shared holders, each release ends a part.
#[derive(Debug)]
pub(super) struct HoldClock {
    #[cfg(feature = "console")]
    since: Counter,
}

impl HoldClock {
    #[inline]
    pub(super) fn start() -> Self {
        HoldClock {
            #[cfg(feature = "console")]
            since: Counter::at(recently()),
        }
    }

    /// Starts it again, and returns the nanoseconds since its last start.
    #[inline]
    pub(super) fn restart(&self) -> u64 {
        #[cfg(feature = "console")]
        {
            let now = recently();
            now.saturating_sub(self.since.swap(now))
        }
        #[cfg(not(feature = "console"))]
        0
    }

    /// Returns the nanoseconds since its last start.
    #[cfg(feature = "console")]
    pub(super) fn elapsed(&self) -> u64 {
        recently().saturating_sub(self.since.get())
    }
}

/// The number of keys that are counted.
#[cfg(feature = "console")]
pub(crate) const KEPT: usize = 64;

/// The counts of one key. Times are in nanoseconds.
#[cfg(feature = "console")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Busy {
    pub(crate) hash: u64,
    /// The waits that have ended, with or without the key, and those that were inherited.
    pub(crate) waits: u64,
    /// The waits that may belong to other keys.
    pub(crate) inherited: u64,
    pub(crate) waited: u64,
    /// The releases while a waiter was queued.
    pub(crate) releases: u64,
    /// The time for which the key was held while a waiter was queued.
    pub(crate) held: u64,
    pub(crate) longest_hold: u64,
}

/// The counts of the busiest keys.
#[cfg(feature = "console")]
#[derive(Debug)]
pub(crate) struct Busiest(Mutex<Vec<Busy>>);

// No user code runs while the mutex is locked, so a panic leaves it consistent.
#[cfg(feature = "console")]
impl UnwindSafe for Busiest {}
#[cfg(feature = "console")]
impl RefUnwindSafe for Busiest {}

#[cfg(feature = "console")]
impl Default for Busiest {
    fn default() -> Self {
        Busiest(Mutex::new(Vec::new()))
    }
}

#[cfg(feature = "console")]
impl Busiest {
    /// Counts a wait that has ended.
    pub(super) fn waited(&self, hash: u64, nanos: u64) {
        let mut all = self.0.lock();
        let entry = match all.iter().position(|entry| entry.hash == hash) {
            Some(place) => &mut all[place],
            None => {
                let place = Self::free(&mut all);
                let entry = &mut all[place];
                *entry = Busy {
                    hash,
                    waits: entry.waits,
                    inherited: entry.waits,
                    ..Busy::default()
                };
                entry
            }
        };
        entry.waits += 1;
        entry.waited += nanos;
    }

    /// Counts a release of a key with waiters. It replaces no entry: only waits do.
    pub(super) fn released(&self, hash: u64, nanos: u64) {
        let mut all = self.0.lock();
        let place = match all.iter().position(|entry| entry.hash == hash) {
            Some(place) => place,
            None if all.len() < KEPT => {
                all.push(Busy {
                    hash,
                    ..Busy::default()
                });
                all.len() - 1
            }
            None => return,
        };
        let entry = &mut all[place];
        entry.releases += 1;
        entry.held += nanos;
        entry.longest_hold = entry.longest_hold.max(nanos);
    }

    /// Returns the place of an empty entry, or that of the entry with the least waits.
    fn free(all: &mut Vec<Busy>) -> usize {
        if all.len() < KEPT {
            all.push(Busy::default());
            return all.len() - 1;
        }
        let least = (0..all.len()).min_by_key(|place| all[*place].waits);
        least.expect("there are as many entries as are kept")
    }

    /// Returns the counts, those of the key with the most waits first.
    pub(crate) fn all(&self) -> Vec<Busy> {
        let mut all = self.0.lock().clone();
        all.sort_unstable_by_key(|entry| (core::cmp::Reverse(entry.waits), entry.hash));
        all
    }
}

#[cfg(all(test, feature = "console", not(any(latchwork_loom, latchwork_shuttle))))]
mod tests {
    use super::*;

    /// One key with a third of the waits among 300 others: it has an entry, its count is at least
    /// the true one, and less its error bound at most the true one.
    #[test]
    fn a_frequent_key_keeps_its_entry() {
        let busiest = Busiest::default();
        let (mut true_waits, mut others) = (0, 0);
        for round in 0..3_000_u64 {
            if round % 3 == 0 {
                busiest.waited(7, 10);
                true_waits += 1;
            } else {
                busiest.waited(1_000 + others % 300, 1);
                others += 1;
            }
        }
        let all = busiest.all();
        assert_eq!(all.len(), KEPT);
        let first = all[0];
        assert_eq!(first.hash, 7);
        assert!(first.waits >= true_waits);
        assert!(first.waits - first.inherited <= true_waits);
        assert_eq!(all.iter().map(|entry| entry.waits).sum::<u64>(), 3_000);
    }

    #[test]
    fn holds_are_counted_for_keys_with_an_entry() {
        let busiest = Busiest::default();
        busiest.released(7, 5);
        busiest.waited(7, 2);
        busiest.released(7, 3);
        let [entry] = busiest.all()[..] else {
            panic!("one key has waited")
        };
        assert_eq!((entry.waits, entry.waited, entry.inherited), (1, 2, 0));
        assert_eq!((entry.releases, entry.held, entry.longest_hold), (2, 8, 5));
        (0..100).for_each(|hash| busiest.waited(1_000 + hash, 1));
        (0..100).for_each(|_| busiest.waited(1, 0));
        busiest.released(5, 9);
        assert!(busiest.all().iter().all(|entry| entry.hash != 5));
    }
}
