//! The slots of all threads that use cells. Threads find each other's states and garbage here.
//!
//! Segments of slots are pushed onto a list and never freed in a real build, so a scan needs no
//! mutex. A thread acquires a free slot under a mutex, and an ended thread returns it there.

use crossbeam_utils::CachePadded;

use super::epoch::{Scan, State};
use super::members::Verdict;
use super::slot::{Home, Left, OwnSlot, Segment, Segments, Slot, SlotRef};
#[cfg(not(any(latchwork_loom, latchwork_shuttle)))]
use crate::sync::tuning::AGE_FROM;
use crate::sync::tuning::{ADVANCE_AFTER, AGE_EVERY, AGE_SOONER_FROM, SLOTS, SLOTS_AT_MOST};
use crate::sync::{AtomicU64, Counter, Mutex, Ordering, constructor};

/// The number of idle slots that count as one. A slot that leaves after three visits was visited so
/// seldom, compared with one that stays, after a few dozen scans. It was not chosen by measurement.
const IDLE_PER_VISIT: u64 = 16;

/// All slots.
pub(super) struct Registry {
    segments: Segments,
    free: Mutex<Vec<SlotRef>>,
    /// How many slots there are.
    len: Counter,
    /// How many slots and segments the last whole scan visited.
    scanned: Counter,
    /// What a scan costs on average, in slots.
    weight: Counter,
    /// When another thread may scan beside a large scan that runs, by [`recently`].
    scan_ends: CachePadded<Counter>,
    #[cfg(any(latchwork_loom, latchwork_shuttle))]
    counts_as_large: Counter,
    /// How often objects in hand have returned to a limbo.
    restores: AtomicU64,
}

impl Registry {
    constructor! {
        pub(super) fn new() -> Self {
            Registry {
                segments: Segments::new(),
                free: Mutex::new(Vec::new()),
                len: Counter::new(),
                scanned: Counter::new(),
                weight: Counter::new(),
                scan_ends: CachePadded::new(Counter::new()),
                #[cfg(any(latchwork_loom, latchwork_shuttle))]
                counts_as_large: Counter::new(),
                restores: AtomicU64::new(0),
            }
        }
    }

    /// The slots whose garbage the caller may release.
    pub(super) fn usable_slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots().filter(|slot| slot.is_usable())
    }

    /// The slots from number `first` on. Visits none of those before.
    pub(super) fn slots_from(&self, first: usize) -> impl Iterator<Item = &Slot> {
        let mut before = first;
        self.segments.iter().flat_map(move |segment| {
            let skipped = before.min(segment.slots().len());
            before -= skipped;
            segment.slots()[skipped..].iter()
        })
    }

    /// All slots, those that no thread owns included. A slot that was published before the call is
    /// among them.
    pub(super) fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.segments.iter().flat_map(Segment::slots)
    }

    /// How many slots and segments the last whole scan visited.
    #[cfg(test)]
    pub(super) fn scanned(&self) -> usize {
        self.scanned.get() as usize
    }

    /// What a scan costs on average, in slots, to within a half. Idle slots count little.
    pub(super) fn weight(&self) -> usize {
        self.weight.get() as usize
    }

    /// Begins a scan that the caller ends by [`end_scan`](Self::end_scan). `false`: another thread
    /// makes a large one, and does not need help unless it was preempted.
    pub(super) fn begin_scan(&self, now: u64) -> bool {
        let ends = self.scan_ends.get();
        !self.is_large() || (now >= ends && self.scan_ends.replace(ends, now + ADVANCE_AFTER))
    }

    pub(super) fn end_scan(&self) {
        if self.scan_ends.get() != 0 {
            self.scan_ends.set(0);
        }
    }

    /// Lets idle slots leave the scans of this execution, however few there are.
    #[cfg(any(latchwork_loom, latchwork_shuttle))]
    pub(super) fn count_as_large(&self) {
        self.counts_as_large.set(1);
    }

    /// How many slots there are.
    pub(super) fn len(&self) -> usize {
        self.len.get() as usize
    }

    /// How often objects in hand have returned to a limbo.
    pub(super) fn restores(&self) -> u64 {
        // Relaxed: before the limbos are counted, their mutexes order it. After the objects in hand
        // are counted, the Acquire of that does [R4].
        self.restores.load(Ordering::Relaxed)
    }

    /// The caller holds the mutex of the slot to which it has returned objects, and clears the
    /// number of its objects in hand afterwards.
    #[cold]
    pub(super) fn count_restore(&self) {
        // Relaxed: the Release in `clear` publishes it [R4].
        self.restores.fetch_add(1, Ordering::Relaxed);
    }

    /// A slot for the calling thread, perhaps with garbage of the one before.
    pub(super) fn acquire<H: Home>(&self, thread: usize, home: H) -> OwnSlot<H> {
        let mut free = self.free.lock();
        if free.is_empty() {
            self.grow(&mut free);
        }
        let slot = free.pop().expect("a segment has slots");
        drop(free);
        slot.offer(false);
        OwnSlot::of(slot, thread, home).expect("a free slot has no owner")
    }

    /// Returns the slot of a thread that has ended and is not pinned.
    #[cold]
    pub(super) fn release(&self, slot: Left) {
        let slot = slot.disown();
        self.free.lock().push(slot);
    }

    /// Adds a segment. The mutex is locked, so that one thread at a time does.
    #[cold]
    fn grow(&self, free: &mut Vec<SlotRef>) {
        let n = self.len().clamp(SLOTS, SLOTS_AT_MOST);
        free.extend(self.segments.push(n).rev());
        self.len.set((self.len() + n) as u64);
    }

    /// Lets the child of each fork end the pins of the threads that it does not have.
    #[cfg(all(unix, not(any(latchwork_loom, latchwork_shuttle))))]
    pub(super) fn watch_forks(&'static self) {
        self.segments.watch_forks();
    }
}

impl Scan for Registry {
    fn scan(&self, look: impl Fn(&State) -> Verdict) -> bool {
        let (mut scanned, mut idle) = (0, 0);
        for segment in self.segments.iter() {
            scanned += 1;
            let is_whole = segment.members().scan(|number| {
                let verdict = look(segment.slots()[number].state());
                scanned += 1;
                idle += u64::from(matches!(verdict, Verdict::Idle | Verdict::Leave));
                verdict
            });
            if !is_whole {
                return false;
            }
        }
        // An idle slot is visited a few times and leaves, unless its thread pins itself: so most
        // of these visits are not made again.
        let weight = scanned - idle + idle / IDLE_PER_VISIT;
        if self.scanned.get() != scanned {
            self.scanned.set(scanned);
        }
        // How many threads are unpinned at this instant differs from scan to scan, and each thread
        // with garbage loads the word.
        let before = self.weight.get();
        if weight.abs_diff(before) > before / 2 {
            self.weight.set(weight);
        }
        true
    }

    fn is_large(&self) -> bool {
        #[cfg(any(latchwork_loom, latchwork_shuttle))]
        return self.counts_as_large.get() != 0;
        #[cfg(not(any(latchwork_loom, latchwork_shuttle)))]
        return self.scanned.get() >= AGE_FROM;
    }

    /// The more slots a scan visits, the sooner the idle ones leave.
    fn age_every(&self) -> u64 {
        let scanned = self.scanned.get().max(1);
        (AGE_EVERY * AGE_SOONER_FROM / scanned).clamp(1, AGE_EVERY)
    }
}

#[cfg(all(test, not(any(latchwork_loom, latchwork_shuttle))))]
mod tests {
    use super::super::epoch::Epoch;
    use super::*;

    /// The slots of ended threads are not used again.
    #[derive(Clone)]
    struct Nowhere;

    impl Home for Nowhere {
        fn take_back(self, _: Left) {}
    }

    #[test]
    fn one_thread_makes_a_large_scan_for_all() {
        let registry = Registry::new();
        // Small scans run beside each other.
        for scanned in [0, AGE_FROM - 1] {
            registry.scanned.set(scanned);
            assert!(registry.begin_scan(7) && registry.begin_scan(7));
            assert_eq!(registry.scan_ends.get(), 0);
        }
        registry.scanned.set(AGE_FROM);
        for now in [100, 5 * ADVANCE_AFTER] {
            let begin = |after| registry.begin_scan(now + after);
            assert!(begin(0));
            assert!(!begin(0) && !begin(ADVANCE_AFTER - 1));
            // The thread that scans was preempted. Another one takes its place, and is alone again.
            assert!(begin(ADVANCE_AFTER));
            assert!(!begin(ADVANCE_AFTER) && !begin(2 * ADVANCE_AFTER - 1));
            registry.end_scan();
            assert_eq!(registry.scan_ends.get(), 0);
            assert!(begin(0));
            registry.end_scan();
        }
    }

    /// 10,000 threads have used a cell once. 48 scans visited each of them, and all writes in
    /// between waited for these scans, so 15 MiB of garbage did.
    #[test]
    fn many_idle_slots_leave_after_three_scans() {
        const SLOTS: u64 = 10_000;
        // Its slots are never freed.
        static REGISTRY: Registry = Registry::new();
        let (registry, epoch) = (&REGISTRY, Epoch::new());
        for thread in 1..=SLOTS {
            let slot = registry.acquire(thread as usize, Nowhere);
            drop(slot.pin(&epoch));
        }
        let scans = [(); 4].map(|()| {
            assert!(epoch.advance(registry));
            (registry.scanned.get(), registry.weight.get())
        });
        const SEGMENTS: u64 = 17;
        let (whole, rest) = (SLOTS + SEGMENTS, SLOTS / 16 + SEGMENTS);
        assert_eq!(scans[..3], [(whole, rest); 3]);
        assert_eq!(scans[3], (SEGMENTS, SEGMENTS));
    }

    /// A thread is stopped after it has loaded the epoch, and publishes it a thousand epochs later.
    /// Other threads do not advance beside its pin, and continue after it.
    #[test]
    fn a_thread_that_publishes_an_old_epoch_holds_back_later_ones() {
        const MANY: u64 = 1_000;
        // Its slots are never freed.
        static REGISTRY: Registry = Registry::new();
        let (registry, epoch) = (&REGISTRY, Epoch::new());
        let loaded = Epoch::new();
        let first = epoch.current();
        let [stopped, other] = [1, 2].map(|thread| registry.acquire(thread, Nowhere));
        let advances_beside_a_pin = || {
            let _pin = other.pin(&epoch);
            epoch.advance(registry)
        };
        (0..MANY).for_each(|_| assert!(advances_beside_a_pin()));
        assert_eq!(epoch.current(), first + MANY);
        let reclaimable = epoch.reclaimable();
        let pin = stopped.pin(&loaded);
        (0..MANY).for_each(|_| assert!(!advances_beside_a_pin(), "it passes an old pin"));
        assert_eq!(epoch.reclaimable(), reclaimable);
        drop(pin);
        (0..MANY).for_each(|_| assert!(advances_beside_a_pin()));
        assert_eq!(epoch.current(), first + 2 * MANY);
    }
}
