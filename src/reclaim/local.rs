//! The state of one thread in the domain of cells: its membership, its garbage and its free nodes.
#![allow(unsafe_code)]

use core::cell::{Cell, RefCell};
use core::ptr::NonNull;
use std::sync::Arc;

use super::inside::Inside;
use super::limbo::{Fresh, Kind, Limbo, Retired};
use super::nodes::{Nodes, Shape, layout};
use super::participant::{CellPin, Participant};
use super::shared::{Census, Record, Shared};
use super::{BATCH, BATCH_BYTES, Epochs, LIMIT, RELEASE_AFTER, RELEASES_PER_RETIRE};
use crate::sync::{global, plain_thread_local, thread_local, yield_now};

#[derive(Default)]
pub(super) struct Domain {
    // Dropped first, under a checker: it may still hold what threads left behind.
    epochs: Epochs,
    shared: Arc<Shared>,
}

global! {
    static DOMAIN: Domain = Domain::default();
}

thread_local! {
    static LOCAL: Local = Local::new();
}

plain_thread_local! {
    static IDENTITY: Identity = Identity::new();
}

/// The state that must not change while a thread is torn down and each call of [`with`] makes
/// another `Local`. Otherwise a thread would wait for itself [R9].
struct Identity {
    /// Objects are being released further up this stack.
    releasing: Cell<bool>,
    /// The standing of the thread's current work, which the layers above store here.
    standing: Cell<u64>,
}

impl Identity {
    const fn new() -> Self {
        Identity {
            releasing: Cell::new(false),
            standing: Cell::new(u64::MAX),
        }
    }
}

pub(crate) struct Local {
    fresh: Fresh,
    /// The objects that were retired earlier.
    limbo: RefCell<Limbo>,
    nodes: Nodes,
    /// The number of objects at which `limbo` advances next.
    turn_at: Cell<usize>,
    /// The same, in bytes.
    turn_at_bytes: Cell<usize>,
    /// The number of objects in `fresh` at which the next write must first collect.
    tidy_at: Cell<usize>,
    /// Too much waits for pins: others should run, and unpin [R6].
    owes_way: Cell<bool>,
    /// How many objects were retired before those in `fresh`, and how many before the last write
    /// that released some.
    retired: Cell<usize>,
    paid: Cell<usize>,
    /// The address of its thread's [`Identity`].
    thread: usize,
    record: Arc<Record>,
    shared: Arc<Shared>,
    participant: Participant,
}

/// More objects than `fresh` ever has.
const NEVER: usize = usize::MAX;

/// Calls `f` with the state of this thread. A thread that is being torn down may have lost its
/// state. Then `f` gets a temporary one, whose garbage is left to others at once. Its [`Identity`]
/// stays.
#[inline(always)]
pub(crate) fn with<R>(f: impl FnOnce(&Local) -> R) -> R {
    let own;
    let local = match LOCAL.try_with(|local| NonNull::from(local)) {
        // SAFETY: it is there until the thread ends, which it cannot do inside `f`.
        Ok(local) => unsafe { local.as_ref() },
        Err(_) => {
            own = one_for_itself();
            &own
        }
    };
    f(local)
}

#[cold]
fn one_for_itself() -> Box<Local> {
    Box::new(Local::new())
}

/// Counts the waiting objects of all threads.
pub(crate) fn census() -> Census {
    DOMAIN.shared.census()
}

/// Reclaims inside this execution of a model. Before the first use of a cell.
#[cfg(latchwork_loom)]
pub(crate) fn reclaim_in_model() {
    DOMAIN.epochs.reclaim();
}

impl Local {
    #[cold]
    fn new() -> Self {
        Local {
            fresh: Fresh::new(),
            limbo: RefCell::default(),
            nodes: Nodes::default(),
            turn_at: Cell::new(BATCH),
            turn_at_bytes: Cell::new(BATCH_BYTES),
            tidy_at: Cell::new(NEVER),
            owes_way: Cell::new(false),
            retired: Cell::new(0),
            paid: Cell::new(0),
            thread: IDENTITY.with(|identity| core::ptr::from_ref(identity).addr()),
            record: DOMAIN.shared.enrol(),
            shared: DOMAIN.shared.clone(),
            participant: DOMAIN.epochs.register(),
        }
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

    /// Moves `object` into memory of its own.
    #[inline]
    pub(crate) fn allocate<N>(&self, object: N) -> NonNull<N> {
        let memory = self.reserve();
        // SAFETY: fresh memory of this layout.
        unsafe { memory.write(object) };
        memory
    }

    /// Returns memory for an object that the caller writes where it will lie.
    #[inline]
    pub(crate) fn reserve<N>(&self) -> NonNull<N> {
        self.nodes.take(const { layout::<N>() }).cast()
    }

    /// Keeps the memory of an object that has been dropped where it lay. No object is moved out of
    /// its memory to be dropped: it may be larger than the stack of the thread that drops it [R8].
    ///
    /// # Safety
    /// `object` is from `allocate` or `reserve`, on any thread, and no thread uses it again.
    #[inline]
    pub(crate) unsafe fn free<N>(&self, object: NonNull<N>) {
        // SAFETY: it is from `take` with this layout.
        unsafe { self.nodes.put(object.cast(), &const { Shape::of::<N>() }) };
    }

    /// Releases one reference to `object` now. May run user code.
    ///
    /// # Safety
    /// `object` is from `allocate`, is of this kind, and the reference belongs to the caller.
    pub(crate) unsafe fn release_now(&self, object: NonNull<u8>, kind: &'static Kind) {
        // SAFETY: the caller's contract.
        unsafe { self.release(&Retired { object, kind }) };
    }

    /// A name for this thread, that no other living thread has.
    pub(crate) fn thread(&self) -> usize {
        self.thread
    }

    /// The standing of what this thread is doing; `u64::MAX` at first.
    pub(crate) fn standing(&self) -> u64 {
        IDENTITY.with(|identity| identity.standing.get())
    }

    pub(crate) fn set_standing(&self, standing: u64) {
        IDENTITY.with(|identity| identity.standing.set(standing));
    }

    /// Releases `object` by `kind` once no thread can see it. Runs no user code.
    ///
    /// # Safety
    /// `object` is from `allocate`, is of this kind and may change threads, is unlinked, and is
    /// retired only this once; `pin` belongs to this thread [R1].
    #[inline]
    pub(crate) unsafe fn retire(&self, pin: &CellPin, object: NonNull<u8>, kind: &'static Kind) {
        if self.fresh.push(Retired { object, kind }) {
            self.empty_fresh(pin);
        }
    }

    #[cold]
    #[inline(never)]
    fn empty_fresh(&self, pin: &CellPin) {
        let mut limbo = self.limbo.borrow_mut();
        self.take_in_fresh(&mut limbo);
        if limbo.len() >= self.turn_at.get() || limbo.bytes() >= self.turn_at_bytes.get() {
            self.turn(&mut limbo, pin);
        }
    }

    fn take_in_fresh(&self, limbo: &mut Limbo) {
        self.retired.set(self.retired_so_far());
        limbo.take_in(&self.fresh);
        if self.tidy_at.get() != NEVER {
            // Large objects arrive here one by one.
            self.tidy_at
                .set(RELEASE_AFTER.saturating_sub(self.unpaid()));
        }
    }

    #[inline]
    fn retired_so_far(&self) -> usize {
        self.retired.get().wrapping_add(self.fresh.len())
    }

    /// How many objects were retired since the last write that released some.
    fn unpaid(&self) -> usize {
        self.retired_so_far().wrapping_sub(self.paid.get())
    }

    #[cold]
    fn turn(&self, limbo: &mut Limbo, pin: &CellPin) {
        limbo.turn(pin);
        self.shared.adopt(limbo);
        let len = limbo.len();
        // The more objects wait, the less often a check is worthwhile.
        self.turn_at.set(len + BATCH.max(len / 16));
        let bytes = limbo.bytes();
        self.turn_at_bytes.set(bytes + BATCH_BYTES.max(bytes / 16));
        if len > LIMIT {
            self.owes_way.set(true);
        }
        if self.tidy_at.get() == NEVER && (len > LIMIT || limbo.due.len() > 0) {
            self.paid.set(self.retired_so_far());
            self.tidy_at.set(RELEASE_AFTER);
        }
        self.record.note(limbo);
        self.shared.note_since(&self.record, limbo.since());
    }

    /// Does a little of what has piled up, before a write begins. May run user code: destructors.
    #[inline]
    pub(crate) fn tidy(&self) {
        if self.fresh.len() >= self.tidy_at.get() {
            self.tidy_slow();
        }
    }

    #[inline(never)]
    fn tidy_slow(&self) {
        // Owed until a write finds this thread unpinned.
        if self.owes_way.get() && !self.participant.is_pinned() {
            yield_now();
            let pin = self.pin();
            let mut limbo = self.limbo.borrow_mut();
            self.take_in_fresh(&mut limbo);
            self.turn(&mut limbo, &pin);
            self.owes_way.set(false);
        }
        if IDENTITY.with(|identity| identity.releasing.get()) {
            // Inside a destructor: its caller, or the next write outside, also releases for this
            // one.
            return;
        }
        self.tidy_at.set(self.fresh.len() + RELEASE_AFTER);
        let unpaid = self.unpaid();
        self.paid.set(self.retired_so_far());
        self.release_due(unpaid.saturating_mul(RELEASES_PER_RETIRE));
    }

    /// Releases at most `n` reclaimable objects.
    fn release_due(&self, mut n: usize) {
        // A destructor that writes a cell calls this: its caller does the remaining work.
        if IDENTITY.with(|identity| identity.releasing.replace(true)) {
            return;
        }
        let _done = Done;
        let _outside = Inside::no_closure();
        loop {
            let mut limbo = self.limbo.borrow_mut();
            // Objects without user code are released in one batch.
            while n > 0 {
                let Some(plain) = limbo.due.pop_if(Retired::is_plain) else {
                    break;
                };
                n -= 1;
                // SAFETY: a reclaimable object has had its grace period [R2].
                if unsafe { plain.release() } {
                    // SAFETY: released, so the memory is ours.
                    unsafe { self.nodes.put(plain.object, &plain.kind.shape) };
                }
            }
            if n == 0 {
                return;
            }
            n -= 1;
            let Some(retired) = limbo.due.pop_if(|_| true) else {
                limbo.due.shrink();
                if !self.owes_way.get() {
                    self.tidy_at.set(NEVER);
                }
                self.record.note(&limbo);
                return;
            };
            drop(limbo);
            // SAFETY: as above.
            unsafe { self.release(&retired) };
        }
    }

    /// # Safety
    /// As for [`Retired::release`].
    unsafe fn release(&self, retired: &Retired) {
        let _outside = Inside::no_closure();
        let mut memory = Memory(self, Some(retired));
        // SAFETY: the caller's contract.
        if !unsafe { retired.release() } {
            memory.1 = None;
        }
    }

    /// Reclaims whatever no pin holds back, of this thread and of those that have ended.
    pub(crate) fn flush(&self) {
        // Each advance runs only a few of the deferred functions of all threads. So repeat it while
        // it helps. A ticket's period needs two epochs, and one more for objects that were retired
        // behind the ticket. The tickets of other threads may be ahead of it.
        let (mut least, mut in_vain) = (usize::MAX, 0);
        while in_vain < 4 + self.shared.threads() / 4 {
            let pin = self.pin();
            let mut limbo = self.limbo.borrow_mut();
            self.take_in_fresh(&mut limbo);
            self.turn(&mut limbo, &pin);
            let left = limbo.len() + self.shared.leaving();
            if left == 0 {
                break;
            }
            in_vain = if left < least { 0 } else { in_vain + 1 };
            least = least.min(left);
        }
        while self.shared.adopt(&mut self.limbo.borrow_mut()) {}
        self.release_due(usize::MAX);
    }
}

/// Records that this thread no longer releases, including when a destructor panics.
struct Done;

impl Drop for Done {
    fn drop(&mut self) {
        IDENTITY.with(|identity| identity.releasing.set(false));
    }
}

/// The memory of an object that is being released: kept for other nodes, including when its
/// destructor panics.
struct Memory<'a>(&'a Local, Option<&'a Retired>);

impl Drop for Memory<'_> {
    fn drop(&mut self) {
        if let Some(retired) = self.1 {
            // SAFETY: released, so the memory is ours.
            unsafe { self.0.nodes.put(retired.object, &retired.kind.shape) };
        }
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.take_in_fresh(&mut self.limbo.borrow_mut());
        let limbo = self.limbo.get_mut();
        if !limbo.is_empty() {
            limbo.abandon(&self.participant.pin(), &self.shared);
        }
        self.shared.strike_off(&self.record);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;
    use crate::VersionedCell;

    /// Too much waits for a pin of another thread: the next write lets others run, and for as long
    /// as its own thread is pinned none does [R6].
    #[test]
    fn who_has_too_much_garbage_gives_way_when_unpinned() {
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
            with(|local| {
                assert!(!local.owes_way.get());
                let pin = crate::pin();
                (0..LIMIT + 2 * BATCH).for_each(write);
                assert!(local.owes_way.get(), "it is pinned");
                drop(pin);
                (0..=RELEASE_AFTER).for_each(write);
                assert!(!local.owes_way.get());
            });
        });
    }
}
