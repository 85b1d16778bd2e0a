//! The state of one thread in the domain of cells: its membership, and its free nodes.

use core::cell::Cell;
use core::ptr::NonNull;
use std::time::Duration;

use super::alloc::{NodePool, Pool};
use super::domain::Domain;
use super::drops::{self, Release};
use super::epoch::Reach;
use super::hand::{Hand, Palm};
use super::kind::{Retired, Share, Size};
use super::limbo::Queued;
use super::participant::{CellPin, OwnSlot, Participant, Place};
use super::quota::{CHUNK, Quota};
use super::slot::{Slot, with_local};
use super::thread::name as thread_name;
use crate::sync::tuning::{
    ADVANCE_AFTER, COLLECT_AFTER, COLLECT_AFTER_SLOW, COLLECT_FOR, FLUSHES_IN_VAIN,
    GARBAGE_BATCH as BATCH, GARBAGE_BATCH_BYTES as BATCH_BYTES, GARBAGE_LIMIT as LIMIT,
    RELEASES_PER_RETIRE, RESCUE_AFTER, SCAN_OF_SLOT,
};
use crate::sync::{recently, thread_local, yield_now};

thread_local! {
    static LOCAL: Local = Local::new();
}

pub(crate) struct Local {
    /// The length of the retire buffer at which the next write collects.
    collect_at: Cell<u64>,
    nodes: NodePool,
    palm: Palm,
    participant: Participant,
    pace: Pace,
    /// The name of its thread.
    thread: usize,
    block: KeptBlock,
}

/// Memory in which a layer above makes its objects one after another. All of them are retired at
/// once, with the block. See [`Local::take_block`].
#[derive(Default)]
struct KeptBlock {
    memory: Cell<Option<Retired>>,
    /// How many objects were made in it.
    used: Cell<usize>,
}

/// When this thread advances the epoch next.
#[derive(Default)]
struct Pace {
    /// The epoch at the last collection.
    epoch: Cell<u64>,
    /// How many objects this thread has retired since it changed.
    retired: Cell<usize>,
    /// The bytes that waited at the last attempt.
    bytes: Cell<usize>,
    /// When the last attempt was, by [`recently`].
    at: Cell<u64>,
    /// When the last collection was.
    collected_at: Cell<Option<u64>>,
    /// The number of waiting objects from which on the thread yields [R6].
    yields_at: Cell<usize>,
    /// How many objects the last collections should have released, and had no time for [R12].
    owed: Cell<usize>,
    /// The length of the retire buffer at the last collection, and at the end of the last
    /// destructor that it ran.
    collected_from: Cell<u64>,
    outside_from: Cell<u64>,
    /// How many objects with destructors the next batch of a write has [R12].
    batch: Cell<usize>,
}

/// The fewest objects that a thread that seldom retires may release.
const HANDFUL: usize = 32;

/// The objects that a write releases however slow their destructors are, unless it owes some
/// already: more than it retires [R12].
const LEAST: usize = RELEASES_PER_RETIRE;

/// The garbage of all threads, for statistics.
#[derive(Debug, Default)]
pub(crate) struct Census {
    pub(crate) objects: u64,
    pub(crate) bytes: u64,
    pub(crate) oldest: Option<Duration>,
}

/// A period that ends once every pin from before its beginning has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GracePeriod(u64);

impl GracePeriod {
    /// The period as a number, for an atomic.
    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    pub(crate) fn from_bits(bits: u64) -> Self {
        GracePeriod(bits)
    }
}

/// Calls `f` with the state of this thread. A thread that is being torn down may have lost its
/// state. Then `f` gets a temporary one, whose garbage stays in its slot.
#[inline(always)]
pub(crate) fn with<R>(f: impl FnOnce(&Local) -> R) -> R {
    with_local(&LOCAL, one_for_itself, f)
}

#[cold]
fn one_for_itself() -> Box<Local> {
    Box::new(Local::new())
}

/// Counts the waiting objects of all slots, once the epoch is as late as the pins permit.
pub(crate) fn census() -> Census {
    with(census_of)
}

fn census_of(local: &Local) -> Census {
    let Some((
        Domain {
            epoch, registry, ..
        },
        _,
    )) = local.participant.enter()
    else {
        return Census::default();
    };
    for slot in registry.usable_slots() {
        slot.with_limbo(epoch, |_, _| ());
    }
    // The objects were absorbed above. So each that is not reclaimable after two epochs waits for a
    // pin.
    epoch.advance_twice(registry);
    let (reclaimable, now) = (epoch.reclaimable(), recently());
    loop {
        let mut census = Census::default();
        let restores = registry.restores();
        for slot in registry.usable_slots() {
            let (size, since) = slot.with_limbo(epoch, |limbo, _| {
                (limbo.size(), limbo.oldest_after(reclaimable))
            });
            census.add(size);
            let age = since.map(|since| Duration::from_nanos(now.saturating_sub(since)));
            census.oldest = census.oldest.max(age);
        }
        // Afterwards: an object that was missing above is in a hand, or its destructor has begun.
        for slot in registry.usable_slots() {
            census.add(slot.in_hand().size());
        }
        // Otherwise objects may have returned to a limbo that was counted before [R4].
        if registry.restores() == restores {
            return census;
        }
    }
}

impl Census {
    fn add(&mut self, size: Size) {
        self.objects += size.objects as u64;
        self.bytes += size.bytes as u64;
    }
}

impl Local {
    #[cold]
    fn new() -> Self {
        let thread = thread_name();
        let participant = Participant::register(thread);
        let len = participant.slot().map_or(0, |slot| slot.own_len());
        Local {
            // The first write looks for garbage that other threads have left.
            collect_at: Cell::new(len),
            nodes: NodePool::default(),
            palm: Palm::default(),
            participant,
            pace: Pace {
                collected_from: Cell::new(len),
                outside_from: Cell::new(len),
                batch: Cell::new(1),
                ..Pace::default()
            },
            thread,
            block: KeptBlock::default(),
        }
    }

    /// Returns the block that this thread keeps, if there is one, and the number of objects that
    /// were made in it.
    #[inline(always)]
    pub(crate) fn take_block(&self) -> Option<(NonNull<u8>, usize)> {
        let block = self.block.memory.take()?;
        Some((block.into_object(), self.block.used.get()))
    }

    /// Keeps a block for the thread's next object. Between `take_block` and this call, other code
    /// of the thread may have kept another block, which is retired then.
    #[inline(always)]
    pub(crate) fn keep_block(&self, pin: &CellPin, block: Retired, used: usize) {
        self.block.used.set(used);
        if let Some(before) = self.block.memory.replace(Some(block)) {
            self.retire_slow(pin, before);
        }
    }

    #[cold]
    #[inline(never)]
    fn retire_slow(&self, pin: &CellPin, block: Retired) {
        self.retire(pin, block);
    }

    /// Whether this thread keeps a pin.
    #[allow(dead_code, reason = "debug builds ask")]
    pub(crate) fn is_pinned(&self) -> bool {
        self.participant.is_pinned()
    }

    #[inline]
    pub(crate) fn pin(&self) -> CellPin {
        self.participant.pin()
    }

    /// Begins a grace period.
    pub(crate) fn begin_grace(&self) -> GracePeriod {
        // A model that reclaims nothing has no grace periods.
        let epoch = self.participant.enter().map(|(d, _)| d.epoch.begin_grace());
        GracePeriod(epoch.unwrap_or_default())
    }

    /// Returns whether every pin from before the beginning of the period has ended. The accesses
    /// under these pins happen before the return [R2].
    pub(crate) fn is_over(&self, period: GracePeriod) -> bool {
        let domain = self.participant.enter();
        domain.is_none_or(|(domain, _)| period.0 <= domain.epoch.reclaimable().epoch())
    }

    /// Ends all grace periods that no pin holds back.
    pub(crate) fn end_grace_periods(&self) {
        if let Some((domain, _)) = self.participant.enter() {
            domain.epoch.advance_twice(&domain.registry);
        }
    }

    /// Moves `object` into memory of its own.
    #[inline]
    pub(crate) fn allocate<N>(&self, object: N) -> NonNull<N> {
        self.nodes.allocate(object)
    }

    /// Returns memory for an object that the caller writes where it will lie. No object is moved
    /// out of its memory to be dropped: it may be larger than the stack of the thread that drops it
    /// [R8].
    #[inline]
    pub(crate) fn reserve<N>(&self) -> NonNull<N> {
        self.nodes.reserve()
    }

    /// The pool of this thread, for the memory of objects.
    #[inline]
    pub(crate) fn pool(&self) -> Pool<'_> {
        Pool::of(&self.nodes)
    }

    /// Drops one reference to an object now. If it was the last, destroys the object: now, or
    /// inside the destructor of another object, after that destructor [R10]. May run user code.
    pub(crate) fn release_now(&self, share: Share) {
        if let Some(object) = share.give_up() {
            drops::destroy(self, object);
        }
    }

    /// The name of this thread, that no other thread has.
    pub(crate) fn thread(&self) -> usize {
        self.thread
    }

    /// Releases an object once no thread can see it. Runs no user code.
    #[inline]
    pub(crate) fn retire(&self, pin: &CellPin, object: Retired) {
        self.retire_all(pin, [object]);
    }

    /// Retires some objects as [`retire`](Self::retire) does.
    #[inline(always)]
    pub(crate) fn retire_all<const N: usize>(&self, pin: &CellPin, objects: [Retired; N]) {
        // The buffer of a checker is smaller than some arrays.
        if N > OwnSlot::ROOM {
            return objects.into_iter().for_each(|one| self.retire(pin, one));
        }
        // A model that reclaims nothing forgets the objects.
        if let Some((domain, own)) = self.participant.enter() {
            let is_large = objects.iter().any(Retired::is_large);
            let len = match own.push(objects) {
                Ok(len) => len,
                Err(objects) => self.push_slow(domain, own, objects),
            };
            if is_large {
                self.collect_at.set(len);
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn push_slow<const N: usize>(
        &self,
        domain: &Domain,
        own: &OwnSlot,
        objects: [Retired; N],
    ) -> u64 {
        self.has_absorbed(own.make_room(&domain.epoch));
        own.push(objects).expect("a buffer with room")
    }

    /// The buffer of the slot is empty: so many objects have left it.
    fn has_absorbed(&self, retired: usize) {
        self.pace.retired.set(self.pace.retired.get() + retired);
    }

    pub(super) fn place(&self) -> Place {
        self.participant.place()
    }

    pub(super) fn slot(&self) -> Option<&OwnSlot> {
        self.participant.slot()
    }

    /// The next write collects.
    fn collect_soon(&self) {
        if let Some(slot) = self.slot() {
            self.collect_at.set(slot.own_len());
        }
    }

    /// Leaves the rest of the queue to the next collections.
    #[cold]
    pub(super) fn end_queue(&self) {
        // Without a slot, in a model that reclaims nothing, the rest is forgotten.
        if let Some(slot) = self.slot() {
            slot.end_queue();
            self.collect_soon();
        }
    }

    /// Releases a bounded part of the garbage, before a write begins. May run user code:
    /// destructors.
    #[inline]
    pub(crate) fn collect_some(&self) {
        if let Some(slot) = self.participant.slot() {
            if slot.own_len() >= self.collect_at.get() {
                self.collect_some_slow();
            }
        }
    }

    #[inline(never)]
    fn collect_some_slow(&self) {
        let Some((domain, slot)) = self.participant.enter() else {
            return;
        };
        if drops::is_releasing() || std::thread::panicking() {
            return self.collect_plain(domain, slot);
        }
        slot.offer(false);
        let (now, up_to) = (recently(), domain.epoch.reclaimable());
        // A thread that seldom retires may retire large values. One that retires more seldom than
        // the searches for the garbage of other threads are due makes them at each write.
        let before = self.pace.collected_at.replace(Some(now));
        let within = match before.map(|before| now.saturating_sub(before)) {
            Some(span) if span < ADVANCE_AFTER => COLLECT_AFTER,
            Some(span) if span < RESCUE_AFTER => COLLECT_AFTER_SLOW,
            _ => 1,
        };
        let len = slot.own_len();
        self.collect_at.set(len + within);
        let looked = slot.try_with_limbo(&domain.epoch, |limbo, retired| {
            let reclaimable = limbo.count_up_to(up_to);
            // Objects without a destructor at once: most garbage is of this kind.
            let n = RELEASES_PER_RETIRE * retired.max(1);
            let done = limbo.release_plain(n, up_to, &self.nodes);
            (retired, done, reclaimable - done, limbo.size())
        });
        // Otherwise another thread releases objects of this slot.
        if let Some((retired, done, reclaimable, left)) = looked {
            self.has_absorbed(retired);
            let pace = &self.pace;
            let per = |len: u64| RELEASES_PER_RETIRE * (len as usize).max(1);
            let least = per(len - pace.outside_from.get());
            let due = pace.owed.get() + per(len - pace.collected_from.replace(len));
            // Most of the rest was left by a pin that has ended.
            let least = if pace.owed.get() > 0 { least } else { LEAST };
            let span = COLLECT_FOR.saturating_mul(1 + (reclaimable / LIMIT) as u64);
            let mut quota = Quota::new(least, due + reclaimable / 8, now, span);
            quota.done = done;
            quota.batch = pace.batch.replace(1);
            // If a destructor panics, the rest is owed.
            pace.owed.set(due);
            let (mut up_to, mut has_more) = (up_to, reclaimable > 0);
            if left.objects > 0 && self.advance_if_due(domain, slot, left, now) {
                // A thread that seldom retires releases now what it has just made reclaimable.
                up_to = domain.epoch.reclaimable();
                quota.most += HANDFUL;
                has_more = true;
            }
            has_more = has_more && self.release(domain, slot, up_to, Queued::Left, &mut quota);
            let owed = if has_more {
                due.saturating_sub(quota.done)
            } else {
                0
            };
            pace.owed.set(owed);
            pace.batch.set(quota.end());
            pace.outside_from.set(slot.own_len());
            if owed > 0 {
                self.collect_at.set(len + 1);
            }
        }
        if domain.rescue.is_due(now) {
            domain.rescue.run(self, domain, slot);
        }
        // Destructors may have retired objects, and collected inside.
        self.collect_at.set(self.collect_at.get().min(len + within));
    }

    /// Inside a destructor and during a panic: releases objects that run no user code, and leaves
    /// the others to later writes, or to other threads [R11].
    #[cold]
    fn collect_plain(&self, domain: &Domain, slot: &OwnSlot) {
        slot.offer(true);
        self.collect_at.set(slot.own_len() + COLLECT_AFTER);
        let (now, up_to) = (recently(), domain.epoch.reclaimable());
        let looked = slot.try_with_limbo(&domain.epoch, |limbo, retired| {
            let mut left = RELEASES_PER_RETIRE * retired.max(1);
            loop {
                let plain = limbo.release_plain(left, up_to, &self.nodes);
                let others = limbo.set_aside(left - plain, up_to);
                left -= plain + others;
                if left == 0 || others == 0 {
                    return (retired, limbo.size());
                }
            }
        });
        if let Some((retired, left)) = looked {
            self.has_absorbed(retired);
            self.pace.outside_from.set(slot.own_len());
            if left.objects > 0 {
                self.advance_if_due(domain, slot, left, now);
            }
        }
    }

    /// Advances the epoch, if this thread has retired much since it changed, or has not tried for a
    /// while. `true`: the latter, and every earlier object became reclaimable.
    fn advance_if_due(&self, domain: &Domain, slot: &OwnSlot, left: Size, now: u64) -> bool {
        let Domain {
            epoch, registry, ..
        } = domain;
        let pace = &self.pace;
        let current = epoch.current();
        if pace.epoch.replace(current) != current {
            // Another thread has advanced for this one.
            pace.retired.set(0);
            pace.at.set(now);
        }
        // The more objects wait, and the more slots a scan looks at, the less often an advance is
        // worthwhile.
        let weight = registry.weight();
        let batch = BATCH.max(left.objects / 16).max(weight * 8);
        // The garbage may have shrunk.
        pace.bytes.set(pace.bytes.get().min(left.bytes));
        let bytes = pace.bytes.get() + BATCH_BYTES.max(left.bytes / 16);
        let has_many = pace.retired.get() >= batch || left.bytes >= bytes;
        let patience = ADVANCE_AFTER.max(SCAN_OF_SLOT * weight as u64);
        let has_waited = now.saturating_sub(pace.at.get()) >= patience;
        if !(has_many || has_waited) || !registry.begin_scan(now) {
            return false;
        }
        pace.retired.set(0);
        pace.bytes.set(left.bytes);
        pace.at.set(now);
        // Once is enough for a thread that retires all the time.
        let moves = match has_waited {
            true => epoch.advance_twice(registry),
            false => epoch.advance(registry),
        };
        registry.end_scan();
        pace.epoch.set(epoch.current());
        // Many threads share the room that eight have.
        let limit = (LIMIT * 8 / weight.max(8)).max(LIMIT / 32);
        // No more than a sixteenth above what there is: the garbage may have shrunk.
        let next = limit.max(left.objects + left.objects / 16);
        let yields_at = pace.yields_at.get().min(next);
        pace.yields_at.set(yields_at);
        let is_too_much = left.objects > limit && left.objects >= yields_at;
        if !moves && is_too_much && !self.is_pinned() {
            // It waits for threads that do not run [R6].
            yield_now();
            epoch.advance_twice(registry);
            let left = slot.with_limbo(epoch, |limbo, absorbed| {
                self.has_absorbed(absorbed);
                limbo.size().objects
            });
            pace.yields_at.set(limit.max(left + left / 16));
        }
        moves && has_waited
    }

    /// Releases reclaimable objects of a slot, as the quota permits. `true`: some may be left.
    ///
    /// Objects with destructors are removed in batches. Those whose destructors have not begun are
    /// counted, but no other thread reaches them [R4].
    pub(super) fn release(
        &self,
        domain: &Domain,
        slot: &Slot,
        up_to: Reach,
        queued: Queued,
        quota: &mut Quota,
    ) -> bool {
        let Some(own) = self.slot() else {
            return false;
        };
        Release::run(self, |release| {
            let own: &Slot = own;
            let mut hand = Hand::new(
                &self.palm,
                &self.nodes,
                &self.collect_at,
                domain,
                [own, slot],
            );
            let mut is_empty = false;
            while quota.is_left() {
                if release.destroy_next() {
                    quota.count_destroyed();
                    continue;
                }
                if is_empty {
                    return false;
                }
                let n = CHUNK.min(quota.most - quota.done);
                let (plain, all) = slot.with_limbo(&domain.epoch, |limbo, _| {
                    hand.fill(limbo, n, quota.batch, up_to, queued)
                });
                is_empty = all;
                quota.count_plain(plain);
                while let Some(share) = hand.next() {
                    quota.count_destroyed();
                    release.release(share);
                }
            }
            true
        })
    }

    /// Releases whatever no pin holds back, of all threads.
    pub(crate) fn flush(&self) {
        // Inside a destructor, the release that runs it does so.
        if drops::is_releasing() {
            return;
        }
        let Some((domain, slot)) = self.participant.enter() else {
            return;
        };
        let Domain {
            epoch, registry, ..
        } = domain;
        let (mut least, mut in_vain) = (usize::MAX, 0);
        loop {
            let waiting: usize = registry
                .usable_slots()
                .map(|slot| slot.size(epoch).objects)
                .sum();
            if waiting == 0 {
                return;
            }
            let retired = slot.own_len();
            // Objects that were retired before the call need two epochs.
            let moves = epoch.advance_twice(registry);
            let up_to = epoch.reclaimable();
            for each in registry.usable_slots() {
                self.release(domain, each, up_to, Queued::Included, &mut Quota::all());
            }
            // Less garbage than ever, or a destructor has retired the next object of a chain. Other
            // threads may retire all the time, so more of theirs is no reason to go on.
            let has_gained = waiting < least || slot.own_len() != retired;
            least = least.min(waiting);
            in_vain = if has_gained { 0 } else { in_vain + 1 };
            if in_vain > FLUSHES_IN_VAIN || (!moves && self.is_pinned()) {
                return;
            }
            if !moves && in_vain > 0 {
                // A pin that was there for a moment ends when its thread runs.
                yield_now();
            }
        }
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        if let Some(block) = self.block.memory.take() {
            self.retire_slow(&self.pin(), block);
        }
        // Its garbage stays in the slot for others [R5]. No destructor runs: one that panics here
        // would end the process.
        if let Some((
            Domain {
                epoch, registry, ..
            },
            slot,
        )) = self.participant.enter()
        {
            if slot.size(epoch).objects > 0 {
                epoch.advance_twice(registry);
            }
        }
    }
}

#[cfg(all(test, not(any(latchwork_loom, latchwork_shuttle))))]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;
    use crate::VersionedCell;

    /// One test at a time: many threads share the limit of garbage.
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

    fn alone() -> impl Drop {
        ALONE
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Too much waits for a pin of another thread: the next collection lets others run, and for as
    /// long as its own thread is pinned none does [R6].
    #[test]
    fn who_has_too_much_garbage_gives_way_when_unpinned() {
        let _alone = alone();
        let (is_pinned, pinned) = channel();
        let (done, is_done) = channel::<()>();
        thread::scope(|s| {
            s.spawn(move || {
                let _pin = crate::pin();
                is_pinned.send(()).unwrap();
                // Waits until the other thread has ended, including by a panic.
                let _ = is_done.recv();
            });
            let _done = done;
            pinned.recv().unwrap();
            let cell = VersionedCell::new(0);
            let write = |n: usize| {
                cell.set(n);
            };
            // The epoch may move on once behind a pin of the present epoch.
            (0..10 * BATCH).for_each(write);
            with(|local| {
                let yields_at = || local.pace.yields_at.get();
                assert_eq!(yields_at(), 0);
                let pin = crate::pin();
                (0..2 * LIMIT).for_each(write);
                assert_eq!(yields_at(), 0, "it is pinned");
                drop(pin);
                (0..LIMIT).for_each(write);
                let first = yields_at();
                assert!(first > 0, "it has not yielded");
                (0..LIMIT).for_each(write);
                assert!(yields_at() > first, "it yields again when there is more");
            });
        });
    }

    /// Threads that are idle leave the scans. When they read again, no value that they read is
    /// dropped [R13].
    #[test]
    fn idle_threads_leave_the_scans_and_join_again() {
        use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
        use std::sync::{Arc, Barrier};

        const THREADS: usize = 48;

        let _alone = alone();

        /// Its number of drops belongs to a test that outlives it.
        struct Value(Arc<AtomicUsize>);

        impl Drop for Value {
            fn drop(&mut self) {
                self.0.fetch_add(1, SeqCst);
            }
        }

        let scanned = || {
            with(|local| {
                let (domain, _) = local.participant.enter().unwrap();
                domain.registry.scanned()
            })
        };
        let drops = Arc::new(AtomicUsize::new(0));
        let value = |drops: &Arc<AtomicUsize>| Value(drops.clone());
        let cell = VersionedCell::new(value(&Arc::new(AtomicUsize::new(0))));
        let reached = Barrier::new(THREADS + 1);
        thread::scope(|s| {
            for _ in 0..THREADS {
                s.spawn(|| {
                    drop(cell.read());
                    reached.wait();
                    // The others leave here.
                    reached.wait();
                    let read = cell.read();
                    reached.wait();
                    // The writes are here.
                    reached.wait();
                    assert_eq!(read.0.load(SeqCst), 0, "dropped under a reader");
                });
            }
            reached.wait();
            // Other tests of this process may have some threads.
            let mut writes = 0;
            while writes < 1_000 || scanned() >= THREADS {
                cell.set(value(&Arc::new(AtomicUsize::new(0))));
                writes += 1;
                assert!(writes < 10_000_000, "{} slots are members", scanned());
            }
            cell.set(value(&drops));
            reached.wait();
            reached.wait();
            for _ in 0..20_000 {
                cell.set(value(&Arc::new(AtomicUsize::new(0))));
            }
            crate::flush();
            assert_eq!(drops.load(SeqCst), 0, "dropped under all readers");
            reached.wait();
        });
        crate::flush();
        assert_eq!(drops.load(SeqCst), 1);
        // The threads have ended, and other tests have the whole limit of garbage again.
        for writes in 0.. {
            cell.set(value(&drops));
            if scanned() <= 16 {
                break;
            }
            assert!(writes < 10_000_000, "{} slots are members", scanned());
        }
    }

    /// A thread that ends returns its slot, and the next one has it.
    #[test]
    fn slots_are_used_again() {
        let slots = || with(|local| local.participant.enter().map(|(d, _)| d.registry.len()));
        let cell = VersionedCell::new(0);
        let one = || {
            thread::scope(|s| {
                s.spawn(|| cell.set(1)).join().unwrap();
            });
        };
        one();
        let before = slots();
        (0..1_000).for_each(|_| one());
        // Other tests of this process may start some threads.
        assert!(slots() <= before.map(|n| n + 256));
    }

    /// A pin that outlives the state of its thread keeps the slot until it is dropped.
    #[test]
    fn a_pin_outlives_the_state_of_its_thread() {
        let local = Box::new(Local::new());
        let pin = local.pin();
        let slot = local.slot().expect("a real build reclaims").slot().clone();
        let is_ours = || slot.owner() == thread_name() as u64;
        drop(local);
        assert!(is_ours());
        drop(pin);
        assert!(!is_ours());
    }
}
