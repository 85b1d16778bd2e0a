//! The slots of all threads that use cells. Threads find each other's states and garbage here.
//!
//! Segments of slots are pushed onto a list and never freed in a real build, so a scan needs no
//! mutex. A thread acquires a free slot under a mutex, and an ended thread returns it there.
#![allow(unsafe_code)]

use core::cell::Cell;
use core::iter::successors;
use core::ptr::NonNull;

use crossbeam_utils::CachePadded;

use super::epoch::{Epoch, State, join_fence};
use super::kind::Retired;
use super::limbo::{Limbo, Queued, Size};
use super::members::{Members, Verdict};
use super::retire_buffer::RetireBuffer;
#[cfg(not(any(latchwork_loom, latchwork_shuttle)))]
use crate::sync::tuning::AGE_FROM;
use crate::sync::tuning::{ADVANCE_AFTER, AGE_EVERY, AGE_SOONER_FROM, SLOTS, SLOTS_AT_MOST};
use crate::sync::{AtomicPtr, AtomicU64, Counter, Mutex, Ordering, constructor, unlock_fairly};

/// The part of a thread that other threads use.
#[derive(Debug)]
pub(super) struct Slot {
    own: CachePadded<Own>,
    limbo: Mutex<Limbo>,
    /// The name of the thread that owns it; 0 if none does. Only a hint for the search for garbage,
    /// and used in a child after a fork.
    owner: Counter,
    /// Whether its owner releases no user code for now [R11]. Only a hint.
    is_offered: Counter,
    /// Whether its owner was lost in a fork. No thread uses its garbage then.
    is_lost: Counter,
    /// Where it joins, and its number there.
    members: NonNull<Members>,
    number: usize,
}

// SAFETY: the members are `Sync`, and live as long as the slot.
unsafe impl Send for Slot {}
// SAFETY: as above; its own part is `Sync`, and the limbo is behind a mutex.
unsafe impl Sync for Slot {}

/// The part of a slot that only its owner writes.
#[derive(Debug)]
struct Own {
    state: State,
    buffer: RetireBuffer,
    in_hand: InHand,
    /// How many pins there are, one inside the other. No loop that forgets pins reaches the end of
    /// this range.
    depth: Cell<u64>,
    /// The thread has ended, and the last of its pins returns the slot.
    has_ended: Cell<bool>,
}

// SAFETY: the cells are accessed by the thread that owns the slot. The mutex of the registry orders
// one owner after another.
unsafe impl Sync for Own {}

/// Slots side by side, and which of them are members.
struct Segment {
    members: Members,
    slots: Box<[Slot]>,
    next: Option<NonNull<Segment>>,
}

/// The number of idle slots that count as one. A slot that leaves after three visits was visited so
/// seldom, compared with one that stays, after a few dozen scans. It was not chosen by measurement.
const IDLE_PER_VISIT: u64 = 16;

/// All slots.
pub(super) struct Registry {
    segments: AtomicPtr<Segment>,
    free: Mutex<Vec<NonNull<Slot>>>,
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

// SAFETY: it owns its segments, and lends slots, which are `Sync`.
unsafe impl Send for Registry {}
// SAFETY: as above.
unsafe impl Sync for Registry {}

/// The objects that the owner has removed from any slot and whose destructors have not begun [R4].
#[derive(Debug)]
pub(super) struct InHand {
    objects: AtomicU64,
    /// Of the whole batch, while any object of it waits.
    bytes: AtomicU64,
}

impl InHand {
    fn new() -> Self {
        InHand {
            objects: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    /// The owner of the slot removes objects, under the mutex of their slot.
    #[inline]
    pub(super) fn begin(&self, objects: usize, bytes: usize) {
        self.set(objects);
        // Relaxed: as in `set`.
        self.bytes.store(bytes as u64, Ordering::Relaxed);
    }

    /// A destructor begins, and so many objects are left.
    #[inline]
    pub(super) fn set(&self, objects: usize) {
        // Relaxed: a thread that misses the objects in their slot has locked its mutex afterwards,
        // and so finds the number of then or a later one. It orders no other access [R4].
        self.objects.store(objects as u64, Ordering::Relaxed);
    }

    /// The objects have returned to a limbo.
    #[cold]
    pub(super) fn clear(&self) {
        // Release: a thread that finds 0 also finds the new number of restores. Pairs with the
        // Acquire in `size` [R4].
        self.objects.store(0, Ordering::Release);
    }

    pub(super) fn size(&self) -> Size {
        // Acquire: pairs with the Release in `clear` [R4].
        let objects = self.objects.load(Ordering::Acquire) as usize;
        Size {
            objects,
            // Relaxed: it may be of another batch than the number of objects.
            bytes: match objects {
                0 => 0,
                _ => self.bytes.load(Ordering::Relaxed) as usize,
            },
        }
    }
}

impl Slot {
    fn new(members: NonNull<Members>, number: usize) -> Self {
        Slot {
            own: CachePadded::new(Own {
                state: State::new(),
                buffer: RetireBuffer::new(),
                in_hand: InHand::new(),
                depth: Cell::new(0),
                has_ended: Cell::new(false),
            }),
            limbo: Mutex::new(Limbo::default()),
            owner: Counter::new(),
            is_offered: Counter::new(),
            is_lost: Counter::new(),
            members,
            number,
        }
    }

    pub(super) fn is_owned(&self) -> bool {
        self.owner() != 0
    }

    /// The name of the owner; 0 if there is none.
    pub(super) fn owner(&self) -> u64 {
        self.owner.get()
    }

    /// Ends the pins of the owner, if it is another thread than `own`: it does not exist in this
    /// process. Its mutex may stay locked indefinitely.
    #[cfg(all(unix, not(any(latchwork_loom, latchwork_shuttle))))]
    pub(super) fn lose_unless_owned_by(&self, own: usize) {
        if self.is_owned() && self.owner() != own as u64 {
            self.own.state.unpin();
            self.is_lost.set(1);
        }
    }

    /// Whether other threads may use its garbage.
    pub(super) fn is_usable(&self) -> bool {
        self.is_lost.get() == 0
    }

    pub(super) fn is_pinned(&self) -> bool {
        self.own.depth.get() != 0
    }

    /// Pins the thread that owns the slot.
    #[inline(always)]
    pub(super) fn pin(&self, epoch: &Epoch) {
        let depth = self.own.depth.get();
        self.own.depth.set(depth + 1);
        if depth == 0 && self.own.state.pin(epoch) {
            self.join_slow();
        }
    }

    /// Lets scans visit the slot again.
    #[cold]
    #[inline(never)]
    fn join_slow(&self) {
        // SAFETY: the segment lives as long as the slot.
        unsafe { self.members.as_ref() }.join(self.number);
        join_fence();
    }

    /// Ends a pin. `true`: the slot must be returned now.
    #[inline(always)]
    #[must_use]
    pub(super) fn unpin(&self) -> bool {
        let depth = self.own.depth.get() - 1;
        self.own.depth.set(depth);
        if depth != 0 {
            return false;
        }
        self.own.state.unpin();
        self.own.has_ended.get()
    }

    /// The thread ends. `true`: the slot must be returned now, because no pin is left.
    #[must_use]
    pub(super) fn end(&self) -> bool {
        self.own.has_ended.set(true);
        !self.is_pinned()
    }

    #[inline(always)]
    pub(super) fn buffer(&self) -> &RetireBuffer {
        &self.own.buffer
    }

    #[inline(always)]
    pub(super) fn in_hand(&self) -> &InHand {
        &self.own.in_hand
    }

    /// Runs `f` with the limbo, into which the buffer was emptied first, and with the number of
    /// objects that were in the buffer.
    pub(super) fn with_limbo<R>(&self, epoch: &Epoch, f: impl FnOnce(&mut Limbo, usize) -> R) -> R {
        let mut limbo = self.limbo.lock();
        let absorbed = self.absorb(&mut limbo, epoch);
        let result = f(&mut limbo, absorbed);
        // A flush locks it again at once, and the owner of the slot may wait for it.
        unlock_fairly(limbo);
        result
    }

    /// The same, unless another thread has the mutex.
    pub(super) fn try_with_limbo<R>(
        &self,
        epoch: &Epoch,
        f: impl FnOnce(&mut Limbo, usize) -> R,
    ) -> Option<R> {
        let mut limbo = self.limbo.try_lock()?;
        let absorbed = self.absorb(&mut limbo, epoch);
        Some(f(&mut limbo, absorbed))
    }

    fn absorb(&self, limbo: &mut Limbo, epoch: &Epoch) -> usize {
        // SAFETY: both are of this slot, whose mutex is locked.
        unsafe { limbo.absorb(self.buffer(), || epoch.tag()) }
    }

    /// Adds an object that the owner destroys after its running destructor [R10].
    pub(super) fn enqueue(&self, retired: Retired) {
        self.limbo.lock().enqueue(retired);
    }

    /// Removes the first such object.
    pub(super) fn dequeue(&self) -> Option<Retired> {
        self.limbo.lock().dequeue()
    }

    /// Leaves the rest of these objects to later releases.
    #[cold]
    pub(super) fn end_queue(&self) {
        self.limbo.lock().end_queue();
    }

    /// Lets other threads release the garbage, or no longer [R11].
    #[inline]
    pub(super) fn offer(&self, is_offered: bool) {
        let value = u64::from(is_offered);
        if self.is_offered.get() != value {
            self.is_offered.set(value);
        }
    }

    pub(super) fn is_offered(&self) -> bool {
        self.is_offered.get() != 0
    }

    pub(super) fn size(&self, epoch: &Epoch) -> Size {
        self.with_limbo(epoch, |limbo, _| limbo.size())
    }
}

impl Registry {
    constructor! {
        pub(super) fn new() -> Self {
            Registry {
                segments: AtomicPtr::new(core::ptr::null_mut()),
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
        self.segments().flat_map(move |segment| {
            let skipped = before.min(segment.slots.len());
            before -= skipped;
            segment.slots[skipped..].iter()
        })
    }

    /// All slots, those that no thread owns included. A slot that was published before the call is
    /// among them.
    pub(super) fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.segments().flat_map(|segment| segment.slots.iter())
    }

    fn segments(&self) -> impl Iterator<Item = &Segment> {
        // Acquire: the segment is complete. Pairs with the Release in `grow`.
        let first = NonNull::new(self.segments.load(Ordering::Acquire));
        // SAFETY: a segment in the list lives as long as the registry.
        let first = first.map(|segment| unsafe { segment.as_ref() });
        // SAFETY: as above.
        successors(first, |s| s.next.map(|next| unsafe { next.as_ref() }))
    }

    /// Visits the state of each slot that is a member. `false`: `look` has ended the scan.
    pub(super) fn scan(&self, look: impl Fn(&State) -> Verdict) -> bool {
        let (mut scanned, mut idle) = (0, 0);
        for segment in self.segments() {
            scanned += 1;
            let is_whole = segment.members.scan(|number| {
                let verdict = look(&segment.slots[number].own.state);
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

    /// How many slots and segments the last whole scan visited.
    #[cfg(test)]
    pub(super) fn scanned(&self) -> usize {
        self.scanned.get() as usize
    }

    /// What a scan costs on average, in slots, to within a half. Idle slots count little.
    pub(super) fn weight(&self) -> usize {
        self.weight.get() as usize
    }

    /// The number of epochs between two scans in which idle slots age. The more slots a scan
    /// visits, the sooner the idle ones leave.
    pub(super) fn age_every(&self) -> u64 {
        let scanned = self.scanned.get().max(1);
        (AGE_EVERY * AGE_SOONER_FROM / scanned).clamp(1, AGE_EVERY)
    }

    /// Whether a scan visits so many slots that idle ones should leave.
    pub(super) fn is_large(&self) -> bool {
        #[cfg(any(latchwork_loom, latchwork_shuttle))]
        return self.counts_as_large.get() != 0;
        #[cfg(not(any(latchwork_loom, latchwork_shuttle)))]
        return self.scanned.get() >= AGE_FROM;
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
    pub(super) fn acquire(&self, thread: usize) -> NonNull<Slot> {
        let mut free = self.free.lock();
        if free.is_empty() {
            self.grow(&mut free);
        }
        let slot = free.pop().expect("a segment has slots");
        drop(free);
        // SAFETY: it lives as long as the registry, which outlives all threads.
        let own = unsafe { slot.as_ref() };
        own.own.has_ended.set(false);
        own.offer(false);
        own.owner.set(thread as u64);
        slot
    }

    /// Returns the slot of a thread that has ended and is not pinned.
    #[cold]
    pub(super) fn release(&self, slot: &Slot) {
        slot.owner.set(0);
        self.free.lock().push(NonNull::from(slot));
    }

    /// Adds a segment. The mutex is locked, so that one thread at a time does.
    #[cold]
    fn grow(&self, free: &mut Vec<NonNull<Slot>>) {
        // Relaxed: written under this mutex only.
        let next = NonNull::new(self.segments.load(Ordering::Relaxed));
        let n = self.len().clamp(SLOTS, SLOTS_AT_MOST);
        let segment = NonNull::from(Box::leak(Box::new(Segment {
            members: Members::new(),
            slots: Box::new([]),
            next,
        })));
        // SAFETY: it was leaked above.
        let members = NonNull::from(unsafe { &segment.as_ref().members });
        let slots = (0..n).map(|number| Slot::new(members, number));
        // The slots have pointers to the members, so only the other field is changed.
        let slots: Box<[Slot]> = slots.collect();
        // SAFETY: the segment is alive, and no other thread has it.
        let place = unsafe { &raw mut (*segment.as_ptr()).slots };
        // SAFETY: no reference to this field exists, and the empty slice before owns nothing.
        unsafe { place.write(slots) };
        // SAFETY: as above.
        let slots = unsafe { &segment.as_ref().slots };
        // The first is acquired first.
        free.extend(slots.iter().rev().map(NonNull::from));
        self.len.set((self.len() + n) as u64);
        // Release: pairs with the Acquire in `segments`.
        self.segments.store(segment.as_ptr(), Ordering::Release);
    }
}

impl Drop for Registry {
    /// Only under a checker: in a real build it is never dropped.
    fn drop(&mut self) {
        // All threads have ended.
        for slot in self.slots() {
            let mut limbo = core::mem::take(&mut *slot.limbo.lock());
            // SAFETY: as in `absorb`; no other thread is left.
            unsafe { limbo.absorb(slot.buffer(), || 0) };
            while let Some(retired) = limbo.pop_up_to(u64::MAX, Queued::Included) {
                // SAFETY: no thread is left that could use the object.
                let is_last = unsafe { retired.drop_share() };
                if is_last {
                    // SAFETY: as above.
                    unsafe { retired.destroy() };
                    // SAFETY: the memory is ours now.
                    unsafe { retired.return_to_allocator() };
                }
            }
        }
        // Relaxed: as above.
        let mut next = NonNull::new(self.segments.load(Ordering::Relaxed));
        while let Some(segment) = next {
            // SAFETY: from `Box::leak`, and no thread is left that could use it.
            next = unsafe { Box::from_raw(segment.as_ptr()) }.next;
        }
    }
}

#[cfg(all(test, not(any(latchwork_loom, latchwork_shuttle))))]
mod tests {
    use super::*;

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
        let (registry, epoch) = (Registry::new(), Epoch::new());
        for thread in 1..=SLOTS {
            let slot = registry.acquire(thread as usize);
            // SAFETY: it lives as long as the registry.
            let slot = unsafe { slot.as_ref() };
            slot.pin(&epoch);
            assert!(!slot.unpin());
        }
        let scans = [(); 4].map(|()| {
            assert!(epoch.advance(&registry));
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
        let (registry, epoch) = (Registry::new(), Epoch::new());
        let loaded = Epoch::new();
        let first = epoch.current();
        let slots = [1, 2].map(|thread| registry.acquire(thread));
        // SAFETY: they live as long as the registry.
        let [stopped, other] = slots.each_ref().map(|slot| unsafe { slot.as_ref() });
        let advances_beside_a_pin = || {
            other.pin(&epoch);
            let advances = epoch.advance(&registry);
            assert!(!other.unpin());
            advances
        };
        (0..MANY).for_each(|_| assert!(advances_beside_a_pin()));
        assert_eq!(epoch.current(), first + MANY);
        let reclaimable = epoch.reclaimable();
        stopped.pin(&loaded);
        (0..MANY).for_each(|_| assert!(!advances_beside_a_pin(), "it passes an old pin"));
        assert_eq!(epoch.reclaimable(), reclaimable);
        assert!(!stopped.unpin());
        (0..MANY).for_each(|_| assert!(advances_beside_a_pin()));
        assert_eq!(epoch.current(), first + 2 * MANY);
    }
}
