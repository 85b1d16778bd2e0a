//! The slot of a thread, which other threads use: its state, and its retired objects [R4].
//!
//! The last retired objects are in the buffer: a queue from the owner of the slot to the holder of
//! its mutex. The others are in the limbo, under the mutex.
//!
//! # Fields of the buffer
//! | field | written | read |
//! |---|---|---|
//! | `len` | by the owner of the slot | by the holder of the mutex |
//! | `places` | by the owner, behind `len` | by the holder, before `len` |
//! | `popped` | by the holder | by the holder |
//!
//! # After a fork
//! The child has one thread. The pins of the other threads protect nothing that the child may use,
//! and no thread is left to end them, so they are ended in the child. The garbage of those threads
//! stays where it is: each of its destructors belongs to the parent. The garbage of threads that
//! had ended, and of the thread that forked, is released by both.
#![allow(unsafe_code)]

use core::cell::Cell;
use core::iter::successors;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ops::Deref;
use core::ptr::NonNull;
#[cfg(any(latchwork_loom, latchwork_shuttle))]
use std::sync::Arc;
use std::sync::OnceLock;

use crossbeam_utils::CachePadded;

#[cfg(any(latchwork_loom, latchwork_shuttle))]
use super::alloc::Pool;
use super::epoch::{Epoch, State, Tag, join_fence};
use super::in_hand::InHand;
#[cfg(any(latchwork_loom, latchwork_shuttle))]
use super::kind::Share;
use super::kind::{Absorbed, Last, Retired, Size};
use super::limbo::Limbo;
use super::members::Members;
#[cfg(all(unix, not(any(latchwork_loom, latchwork_shuttle))))]
use super::thread::name as thread_name;
use crate::sync::tuning::RETIRE_BUFFER as ROOM;
use crate::sync::{
    AtomicPtr, AtomicU64, Counter, LocalKey, Mutex, Ordering, UnsafeCell, unlock_fairly,
};

/// The part of a thread that other threads use.
#[derive(Debug)]
pub(super) struct Slot {
    own: CachePadded<Own>,
    garbage: Mutex<Garbage>,
    /// The name of the thread that owns it; 0 if none does. Also used in a child after a fork, and
    /// as a hint for the search for garbage.
    owner: Counter,
    /// Whether its owner releases no user code for now [R11]. Only a hint.
    is_offered: Counter,
    /// Whether its owner was lost in a fork. No thread uses its garbage then.
    is_lost: Counter,
    /// Where it joins, and its number there.
    members: NonNull<Members>,
    number: usize,
}

// SAFETY: the members are `Sync`, and live as long as the slot. The rest is `Send`.
unsafe impl Send for Slot {}
// SAFETY: as above; the objects in the buffer are written by one thread and read by another
// afterwards [R4]. Only [`OwnSlot`] and [`SlotPin`] access the plain cells. They stay on the thread
// that owns the slot, and one owner happens before the next, by `owner`. The rest is atomic, or
// behind a mutex.
unsafe impl Sync for Slot {}

/// The part of a slot that only its owner writes.
#[derive(Debug)]
struct Own {
    state: State,
    /// How many objects were pushed onto the buffer, ever.
    len: AtomicU64,
    /// Used again in turn. Allocated for the first object: most readers never retire one.
    places: OnceLock<Box<Places>>,
    in_hand: InHand,
    /// How many pins there are, one inside the other. No loop that forgets pins reaches the end of
    /// this range.
    depth: Cell<u64>,
    /// The thread has ended, and the last of its pins returns the slot.
    has_ended: Cell<bool>,
}

/// The place of an object is determined by the number of all that were pushed before.
type Places = [UnsafeCell<MaybeUninit<Retired>>; ROOM];

/// The part of a slot behind its mutex.
#[derive(Debug, Default)]
struct Garbage {
    /// How many objects of the buffer were popped, ever.
    popped: u64,
    limbo: Limbo,
}

impl Slot {
    fn new(members: NonNull<Members>, number: usize) -> Self {
        Slot {
            own: CachePadded::new(Own {
                state: State::new(),
                len: AtomicU64::new(0),
                places: OnceLock::new(),
                in_hand: InHand::new(),
                depth: Cell::new(0),
                has_ended: Cell::new(false),
            }),
            garbage: Mutex::new(Garbage::default()),
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
    fn lose_unless_owned_by(&self, own: usize) {
        if self.is_owned() && self.owner() != own as u64 {
            self.own.state.unpin();
            self.is_lost.set(1);
        }
    }

    /// Whether other threads may use its garbage.
    pub(super) fn is_usable(&self) -> bool {
        self.is_lost.get() == 0
    }

    pub(super) fn state(&self) -> &State {
        &self.own.state
    }

    /// Lets scans visit the slot again.
    #[cold]
    #[inline(never)]
    fn join_slow(&self) {
        // SAFETY: the segment lives as long as the slot.
        unsafe { self.members.as_ref() }.join(self.number);
        join_fence();
    }

    #[inline(always)]
    pub(super) fn in_hand(&self) -> &InHand {
        &self.own.in_hand
    }

    /// How many objects the owner has retired, for the owner.
    #[inline(always)]
    pub(super) fn own_len(&self) -> u64 {
        // Relaxed: written by the calling thread, or by an owner before it [R4].
        self.own.len.load(Ordering::Relaxed)
    }

    /// The places of the objects.
    #[inline(always)]
    fn places(&self) -> &Places {
        self.own.places.get_or_init(|| {
            Box::new(core::array::from_fn(|_| {
                UnsafeCell::new(MaybeUninit::uninit())
            }))
        })
    }

    /// Runs `f` with the limbo, into which the buffer was emptied first, and with the number of
    /// objects that were in the buffer.
    pub(super) fn with_limbo<R>(&self, epoch: &Epoch, f: impl FnOnce(&mut Limbo, usize) -> R) -> R {
        self.with_garbage(epoch, |garbage, absorbed| f(&mut garbage.limbo, absorbed))
    }

    /// The same, unless another thread has the mutex.
    pub(super) fn try_with_limbo<R>(
        &self,
        epoch: &Epoch,
        f: impl FnOnce(&mut Limbo, usize) -> R,
    ) -> Option<R> {
        self.try_with_garbage(epoch, |garbage, absorbed| f(&mut garbage.limbo, absorbed))
    }

    #[inline]
    fn with_garbage<R>(&self, epoch: &Epoch, f: impl FnOnce(&mut Garbage, usize) -> R) -> R {
        let mut garbage = self.garbage.lock();
        let absorbed = self.absorb(&mut garbage, || epoch.tag());
        let result = f(&mut garbage, absorbed);
        // A flush locks it again at once, and the owner of the slot may wait for it.
        unlock_fairly(garbage);
        result
    }

    #[inline]
    fn try_with_garbage<R>(
        &self,
        epoch: &Epoch,
        f: impl FnOnce(&mut Garbage, usize) -> R,
    ) -> Option<R> {
        let mut garbage = self.garbage.try_lock()?;
        let absorbed = self.absorb(&mut garbage, || epoch.tag());
        Some(f(&mut garbage, absorbed))
    }

    /// Moves all objects of the buffer to the limbo, if there are any, and returns how many there
    /// were. The tag is determined once the number of objects is known [R2].
    fn absorb(&self, garbage: &mut Garbage, tag: impl FnOnce() -> Tag) -> usize {
        // Acquire: the objects are complete. Pairs with the Release in `push` [R4].
        let len = self.own.len.load(Ordering::Acquire);
        let added = (len - garbage.popped) as usize;
        if added == 0 {
            return 0;
        }
        let tag = tag();
        let places = self.places();
        let objects = (garbage.popped..len).map(|n| {
            places[n as usize % ROOM].with(|place| {
                // SAFETY: pushed, and not popped: the garbage is that of this slot, by its mutex.
                // The owner does not write the place again before it learns that it was popped
                // [R4].
                let place = unsafe { place.read() };
                // SAFETY: as above.
                unsafe { place.assume_init() }
            })
        });
        // SAFETY: each was pushed before the tag was determined, and was unlinked before [R1].
        let absorbed = unsafe { Absorbed::new(tag, objects) };
        garbage.popped = len;
        garbage.limbo.append(absorbed);
        added
    }

    /// Adds an object that the owner destroys after its running destructor [R10].
    pub(super) fn enqueue(&self, object: Last) {
        self.garbage.lock().limbo.enqueue(object);
    }

    /// Removes the first such object.
    pub(super) fn dequeue(&self) -> Option<Last> {
        self.garbage.lock().limbo.dequeue()
    }

    /// Leaves the rest of these objects to later releases.
    #[cold]
    pub(super) fn end_queue(&self) {
        self.garbage.lock().limbo.end_queue();
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

/// Only under a checker: in a real build slots are never dropped.
#[cfg(any(latchwork_loom, latchwork_shuttle))]
impl Drop for Slot {
    fn drop(&mut self) {
        let mut garbage = core::mem::take(&mut *self.garbage.lock());
        self.absorb(&mut garbage, Tag::of_the_end);
        let (shares, retired) = garbage.limbo.into_shares();
        // SAFETY: every pin keeps the domain, which keeps the slot [R2].
        let retired = retired.map(|retired| unsafe { Share::of_retired(retired) });
        for share in shares.chain(retired) {
            if let Some(last) = share.give_up() {
                last.end(Pool::OF_ALLOCATOR);
            }
        }
    }
}

/// A slot, which lives as long as the process.
#[cfg(not(any(latchwork_loom, latchwork_shuttle)))]
#[derive(Clone)]
pub(super) struct SlotRef(&'static Slot);

#[cfg(not(any(latchwork_loom, latchwork_shuttle)))]
impl Deref for SlotRef {
    type Target = Slot;

    #[inline(always)]
    fn deref(&self) -> &Slot {
        self.0
    }
}

/// A slot, which lives as long as this.
#[cfg(any(latchwork_loom, latchwork_shuttle))]
#[derive(Clone)]
pub(super) struct SlotRef(Arc<Segment>, usize);

#[cfg(any(latchwork_loom, latchwork_shuttle))]
impl Deref for SlotRef {
    type Target = Slot;

    fn deref(&self) -> &Slot {
        &self.0.slots[self.1]
    }
}

/// Where a slot returns when its thread has ended and is not pinned.
pub(super) trait Home: Clone {
    /// By value, so that no pin has an address.
    fn take_back(self, slot: Left);
}

/// A slot whose thread has ended and is not pinned.
pub(super) struct Left(SlotRef);

impl Left {
    /// Ends the ownership of the thread.
    pub(super) fn disown(self) -> SlotRef {
        self.0.owner.clear();
        self.0
    }
}

/// The thread that owns a slot: it alone pins itself and retires objects there. One exists for each
/// slot at a time.
pub(super) struct OwnSlot<H: Home> {
    slot: SlotRef,
    /// The length of the buffer at which it may be full.
    full_at: Cell<u64>,
    /// The places of the buffer. They exist if it is not full.
    places: Cell<*const Places>,
    home: H,
    /// It stays on its thread.
    _thread: PhantomData<*const ()>,
}

/// A pin of the thread that owns a slot.
pub(super) struct SlotPin<H: Home> {
    slot: SlotRef,
    home: H,
    /// It stays on its thread.
    _thread: PhantomData<*const ()>,
}

impl<H: Home> OwnSlot<H> {
    /// Owns a slot for the thread of this name. `None`: another thread owns it.
    pub(super) fn of(slot: SlotRef, thread: usize, home: H) -> Option<Self> {
        if !slot.owner.claim(thread as u64) {
            return None;
        }
        slot.own.has_ended.set(false);
        // Objects of the owner before may be there, so it is full.
        let full_at = Cell::new(slot.own_len());
        Some(OwnSlot {
            slot,
            full_at,
            places: Cell::new(core::ptr::null()),
            home,
            _thread: PhantomData,
        })
    }

    #[inline(always)]
    pub(super) fn slot(&self) -> &SlotRef {
        &self.slot
    }

    #[inline(always)]
    pub(super) fn home(&self) -> &H {
        &self.home
    }

    pub(super) fn is_pinned(&self) -> bool {
        self.slot.own.depth.get() != 0
    }

    /// Pins the thread.
    #[inline(always)]
    pub(super) fn pin(&self, epoch: &Epoch) -> SlotPin<H> {
        let slot = self.slot.clone();
        let depth = slot.own.depth.get();
        slot.own.depth.set(depth + 1);
        if depth == 0 && slot.own.state.pin(epoch) {
            slot.join_slow();
        }
        SlotPin {
            slot,
            home: self.home.clone(),
            _thread: PhantomData,
        }
    }

    /// The most objects that are retired together.
    pub(super) const ROOM: usize = ROOM;

    /// Retires some objects. Returns how many were retired, ever, or the objects if the buffer has
    /// no room for them: then [`make_room`](Self::make_room) empties it. More than
    /// [`ROOM`](Self::ROOM) objects never have room.
    #[inline(always)]
    pub(super) fn push<const N: usize>(&self, objects: [Retired; N]) -> Result<u64, [Retired; N]> {
        let slot: &Slot = &self.slot;
        let before = slot.own_len();
        let len = before + N as u64;
        if len > self.full_at.get() {
            return Err(objects);
        }
        // SAFETY: the buffer is not full, so they were set. They live as long as the slot.
        let places = unsafe { &*self.places.get() };
        let mut n = before as usize;
        // By `map`, which the compiler unrolls: an iterator over an array by value copies it.
        let _ = objects.map(|retired| {
            places[n % ROOM].with_mut(|place| {
                // SAFETY: no thread uses this place: this thread alone pushes, and the last object
                // there was popped, since fewer than `ROOM` are not [R4].
                unsafe { place.write(MaybeUninit::new(retired)) };
            });
            n += 1;
        });
        // Release: the objects are complete. Pairs with the Acquire in `absorb` [R4].
        slot.own.len.store(len, Ordering::Release);
        Ok(len)
    }

    /// Empties the buffer, and returns how many objects it had.
    pub(super) fn make_room(&self, epoch: &Epoch) -> usize {
        self.slot.places();
        self.with_limbo(epoch, |_, absorbed| absorbed)
    }

    /// As [`Slot::with_limbo`]. The buffer has room then, if an object was ever pushed onto it.
    pub(super) fn with_limbo<R>(&self, epoch: &Epoch, f: impl FnOnce(&mut Limbo, usize) -> R) -> R {
        self.slot.with_garbage(epoch, |garbage, absorbed| {
            self.has_room(garbage);
            f(&mut garbage.limbo, absorbed)
        })
    }

    /// As [`Slot::try_with_limbo`]. The buffer has room then, as above.
    pub(super) fn try_with_limbo<R>(
        &self,
        epoch: &Epoch,
        f: impl FnOnce(&mut Limbo, usize) -> R,
    ) -> Option<R> {
        self.slot.try_with_garbage(epoch, |garbage, absorbed| {
            self.has_room(garbage);
            f(&mut garbage.limbo, absorbed)
        })
    }

    /// The buffer was emptied.
    fn has_room(&self, garbage: &Garbage) {
        if let Some(places) = self.slot.own.places.get() {
            self.places.set(&raw const **places);
            self.full_at.set(garbage.popped + ROOM as u64);
        }
    }
}

impl<H: Home> Deref for OwnSlot<H> {
    type Target = Slot;

    #[inline(always)]
    fn deref(&self) -> &Slot {
        &self.slot
    }
}

impl<H: Home> Drop for OwnSlot<H> {
    fn drop(&mut self) {
        self.slot.own.has_ended.set(true);
        if !self.is_pinned() {
            self.home.clone().take_back(Left(self.slot.clone()));
        }
    }
}

impl<H: Home> Drop for SlotPin<H> {
    #[inline(always)]
    fn drop(&mut self) {
        let slot = self.slot.clone();
        let depth = slot.own.depth.get() - 1;
        slot.own.depth.set(depth);
        if depth != 0 {
            return;
        }
        slot.own.state.unpin();
        if slot.own.has_ended.get() {
            self.home.clone().take_back(Left(slot));
        }
    }
}

/// Calls `f` with the value of a thread-local. A thread that is being torn down may have lost the
/// value. Then `f` gets another one.
#[inline(always)]
pub(super) fn with_local<T, R>(
    key: &'static LocalKey<T>,
    another: impl FnOnce() -> Box<T>,
    f: impl FnOnce(&T) -> R,
) -> R {
    let own;
    let value = match key.try_with(|value| NonNull::from(value)) {
        // SAFETY: it is there until the thread ends, which it does not do inside `f`. If `f` ends
        // the process, the destructors of thread-locals run, and `f` does not continue.
        Ok(value) => unsafe { value.as_ref() },
        Err(_) => {
            own = another();
            &own
        }
    };
    f(value)
}

/// Slots side by side, and which of them are members.
pub(super) struct Segment {
    members: Members,
    slots: Box<[Slot]>,
    next: Option<NonNull<Segment>>,
}

// SAFETY: the next segment lives as long as this one, and is `Sync` itself.
unsafe impl Send for Segment {}
// SAFETY: as above.
unsafe impl Sync for Segment {}

impl Segment {
    pub(super) fn members(&self) -> &Members {
        &self.members
    }

    pub(super) fn slots(&self) -> &[Slot] {
        &self.slots
    }
}

/// All segments, the last one first. None is removed.
pub(super) struct Segments(AtomicPtr<Segment>);

impl Segments {
    crate::sync::constructor! {
        pub(super) fn new() -> Self {
            Segments(AtomicPtr::new(core::ptr::null_mut()))
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Segment> {
        // Acquire: the segment is complete. Pairs with the Release in `push`.
        let first = NonNull::new(self.0.load(Ordering::Acquire));
        // SAFETY: a segment in the list lives as long as the list.
        let first = first.map(|segment| unsafe { segment.as_ref() });
        // SAFETY: as above.
        successors(first, |s| s.next.map(|next| unsafe { next.as_ref() }))
    }

    /// Adds a segment of `n` slots, and returns the slots.
    #[cold]
    pub(super) fn push(&self, n: usize) -> impl DoubleEndedIterator<Item = SlotRef> {
        // Relaxed: the exchange below checks it, and the pointer is not followed.
        let mut next = self.0.load(Ordering::Relaxed);
        let segment = leak(Segment {
            members: Members::new(),
            slots: Box::new([]),
            next: None,
        });
        // SAFETY: it was leaked above.
        let members = NonNull::from(unsafe { &segment.as_ref().members });
        let slots = (0..n).map(|number| Slot::new(members, number));
        // The slots have pointers to the members, so only the other fields are changed.
        let slots: Box<[Slot]> = slots.collect();
        // SAFETY: the segment is alive, and no other thread has it.
        let place = unsafe { &raw mut (*segment.as_ptr()).slots };
        // SAFETY: no reference to this field exists, and the empty slice before owns nothing.
        unsafe { place.write(slots) };
        loop {
            // SAFETY: as above.
            unsafe { (*segment.as_ptr()).next = NonNull::new(next) };
            // Release: pairs with the Acquire in `iter`. Relaxed on failure: as above.
            let pushed = self.0.compare_exchange(
                next,
                segment.as_ptr(),
                Ordering::Release,
                Ordering::Relaxed,
            );
            match pushed {
                Ok(_) => break,
                Err(other) => next = other,
            }
        }
        refs(segment)
    }

    /// Lets the child of each fork of the process end the pins of the threads that it does not
    /// have. Only one list of a process is watched.
    #[cfg(all(unix, not(any(latchwork_loom, latchwork_shuttle))))]
    pub(super) fn watch_forks(&'static self) {
        static WATCHED: OnceLock<&Segments> = OnceLock::new();

        extern "C" fn forget_other_threads() {
            let own = thread_name();
            if let Some(segments) = WATCHED.get() {
                let slots = segments.iter().flat_map(Segment::slots);
                slots.for_each(|slot| slot.lose_unless_owned_by(own));
            }
        }

        if WATCHED.set(self).is_ok() {
            // SAFETY: the handler stores into atomics only. If the system has no room for it,
            // children reclaim nothing, which is what they did without it.
            unsafe { libc::pthread_atfork(None, None, Some(forget_other_threads)) };
        }
    }
}

#[cfg(not(any(latchwork_loom, latchwork_shuttle)))]
fn leak(segment: Segment) -> NonNull<Segment> {
    NonNull::from(Box::leak(Box::new(segment)))
}

/// Returns the slots of a segment that was leaked.
#[cfg(not(any(latchwork_loom, latchwork_shuttle)))]
fn refs(segment: NonNull<Segment>) -> impl DoubleEndedIterator<Item = SlotRef> {
    // SAFETY: it was leaked, and is never freed.
    let segment: &'static Segment = unsafe { segment.as_ref() };
    segment.slots.iter().map(SlotRef)
}

#[cfg(any(latchwork_loom, latchwork_shuttle))]
fn leak(segment: Segment) -> NonNull<Segment> {
    let segment = Arc::into_raw(Arc::new(segment)).cast_mut();
    NonNull::new(segment).expect("a segment is not at null")
}

/// Returns the slots of a segment that was leaked, whose list is there.
#[cfg(any(latchwork_loom, latchwork_shuttle))]
fn refs(segment: NonNull<Segment>) -> impl DoubleEndedIterator<Item = SlotRef> {
    // SAFETY: the list has a reference to it.
    unsafe { Arc::increment_strong_count(segment.as_ptr()) };
    // SAFETY: the reference that was added.
    let segment = unsafe { Arc::from_raw(segment.as_ptr()) };
    (0..segment.slots.len()).map(move |i| SlotRef(segment.clone(), i))
}

#[cfg(any(latchwork_loom, latchwork_shuttle))]
impl Drop for Segments {
    fn drop(&mut self) {
        // Relaxed: all threads have ended.
        let mut next = NonNull::new(self.0.load(Ordering::Relaxed));
        while let Some(segment) = next {
            // SAFETY: the reference of the list.
            next = unsafe { Arc::from_raw(segment.as_ptr()) }.next;
        }
    }
}
