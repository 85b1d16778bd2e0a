//! The end of objects: destructors run one after another, and never one inside another [R10].
#![allow(unsafe_code)]

use core::cell::{Cell, RefCell};
use core::ptr;
use std::collections::VecDeque;

use super::inside::Inside;
use super::kind::{Kind, Retired, has_one_share};
use super::local::Local;
use super::participant::CellPin;
use crate::sync::plain_thread_local;

plain_thread_local! {
    // The outermost release, while it runs. It exists as long as the thread [R9].
    static RUNNING: Cell<*const Release<'static>> = Cell::new(ptr::null());
}

/// The number of objects in the queue of a destructor from which on other threads that write also
/// destroy them [R11]. It was not chosen by measurement.
const OFFER_FROM: usize = 1024;

/// Whether this thread releases objects, and so may run a destructor.
pub(super) fn is_releasing() -> bool {
    RUNNING.with(|running| !running.get().is_null())
}

/// Destroys an object whose last share the caller has dropped, or queues it inside a destructor.
///
/// # Safety
/// As for [`Retired::destroy`].
#[inline]
pub(super) unsafe fn destroy(local: &Local, retired: Retired) {
    if retired.is_plain() {
        // SAFETY: the caller's contract.
        return unsafe { destroy_plain(local, &retired) };
    }
    let running = RUNNING.with(Cell::get);
    // SAFETY: it is on the stack of this thread, below the running destructor.
    if let Some(running) = unsafe { running.as_ref() } {
        running.enqueue(retired);
        return;
    }
    Release::run(local, |release| {
        // SAFETY: the caller's contract.
        unsafe { release.destroy(&retired) };
        while release.destroy_next() {}
    });
}

/// Drops the shares that retired objects without user code had to themselves, and destroys each
/// object whose last share it was. All of them are of one kind.
///
/// # Safety
/// As for [`Retired::drop_share`], for each object.
#[inline]
pub(super) unsafe fn release_plain(
    local: &Local,
    kind: &'static Kind,
    objects: &[Retired],
    pin: &mut Option<CellPin>,
) {
    debug_assert!(
        objects
            .iter()
            .all(|r| r.is_plain() && ptr::eq(r.kind, kind))
    );
    let count_at = kind.count_at();
    let is_last = |retired: &&Retired| {
        // SAFETY: the caller's contract.
        let has_one = count_at.is_some_and(|at| unsafe { has_one_share(retired.object, at) });
        has_one || drop_share_slow(retired)
    };
    if kind.is_inert() && kind.free().is_none() {
        let memory = objects.iter().filter(is_last).map(|retired| retired.object);
        // SAFETY: only the memory is left of each, and it is ours.
        unsafe { local.keep_all(kind, memory) };
    } else if let Some(free) = kind.free() {
        // One pin for all: the memory of each costs less then [V16].
        pin.get_or_insert_with(|| local.pin());
        let pool = local.pool();
        for retired in objects.iter().filter(is_last) {
            // SAFETY: it was the last share. No user code runs, so the thread remains pinned.
            unsafe { retired.destroy() };
            // SAFETY: only the memory is left, and it is ours.
            unsafe { free(retired.object, &pool) };
        }
    } else {
        for retired in objects.iter().filter(is_last) {
            // SAFETY: it was the last share.
            unsafe { destroy_plain(local, retired) };
        }
    }

    #[cold]
    fn drop_share_slow(retired: &Retired) -> bool {
        // SAFETY: the contract of the function around it.
        unsafe { retired.drop_share() }
    }
}

/// # Safety
/// As for [`Retired::destroy`]; it runs no user code.
#[inline]
unsafe fn destroy_plain(local: &Local, retired: &Retired) {
    // SAFETY: the caller's contract.
    unsafe { retired.destroy() };
    // SAFETY: only the memory is left, and it is ours.
    unsafe { local.keep(retired) };
}

/// The outermost release of a thread.
pub(super) struct Release<'a> {
    local: &'a Local,
    /// How many objects joined the queue in the slot and were not removed by this thread.
    queued: Cell<usize>,
    /// The queue of a thread without a slot, in a model that reclaims nothing.
    orphans: RefCell<VecDeque<Retired>>,
}

/// While it lives, [`destroy`] queues.
struct Outermost(());

impl Outermost {
    fn enter(release: &Release<'_>) -> Self {
        RUNNING.with(|place| place.set(ptr::from_ref(release).cast()));
        Outermost(())
    }
}

impl Drop for Outermost {
    fn drop(&mut self) {
        RUNNING.with(|place| place.set(ptr::null()));
    }
}

impl<'a> Release<'a> {
    /// Calls `f`, which may run destructors. Not inside a destructor.
    #[inline]
    pub(super) fn run<R>(local: &'a Local, f: impl FnOnce(&Self) -> R) -> R {
        let release = Release {
            local,
            queued: Cell::new(0),
            orphans: RefCell::default(),
        };
        let _outside = Inside::no_closure();
        // It ends before the release does.
        let _outermost = Outermost::enter(&release);
        f(&release)
    }

    /// Drops the share that a retired object had to itself, and destroys the object if it was the
    /// last. Objects that its destructor drops are queued.
    ///
    /// # Safety
    /// The grace period of the object is over [R2].
    #[inline]
    pub(super) unsafe fn release(&self, retired: &Retired) {
        // SAFETY: the caller's contract.
        if unsafe { retired.drop_share() } {
            // SAFETY: it was the last.
            unsafe { self.destroy(retired) };
        }
    }

    /// # Safety
    /// As for [`Retired::destroy`].
    unsafe fn destroy(&self, retired: &Retired) {
        // The memory is kept, including when the destructor panics.
        let _memory = Memory(self.local, retired);
        // SAFETY: the caller's contract.
        unsafe { retired.destroy() };
    }

    /// Adds an object to the queue, where other threads reach it.
    fn enqueue(&self, retired: Retired) {
        match self.local.slot() {
            Some(slot) => slot.enqueue(retired),
            None => self.orphans.borrow_mut().push_back(retired),
        }
        self.queued.set(self.queued.get() + 1);
        if self.queued.get() >= OFFER_FROM {
            self.local.offer();
        }
    }

    fn dequeue(&self) -> Option<Retired> {
        let queued = self.queued.get().checked_sub(1)?;
        let next = match self.local.slot() {
            Some(slot) => slot.dequeue(),
            None => self.orphans.borrow_mut().pop_front(),
        };
        // Other threads may have removed some.
        self.queued.set(next.as_ref().map_or(0, |_| queued));
        next
    }

    /// Destroys the next object of the queue. `false`: there is none.
    pub(super) fn destroy_next(&self) -> bool {
        let Some(retired) = self.dequeue() else {
            return false;
        };
        // SAFETY: this thread has dropped its last share, and has removed it [R4].
        unsafe { self.destroy(&retired) };
        true
    }
}

impl Drop for Release<'_> {
    fn drop(&mut self) {
        if self.queued.get() > 0 {
            self.local.end_queue();
        }
    }
}

/// The memory of an object that is being destroyed.
struct Memory<'a>(&'a Local, &'a Retired);

impl Drop for Memory<'_> {
    fn drop(&mut self) {
        // SAFETY: destroyed, so that only the memory is left, and it is ours.
        unsafe { self.0.keep(self.1) };
    }
}
