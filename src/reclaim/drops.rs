//! The end of objects: destructors run one after another, and never one inside another [R10].
#![allow(unsafe_code)]

use core::cell::{Cell, RefCell};
use core::ptr;
use std::collections::VecDeque;

use super::inside::Inside;
use super::kind::Retired;
use super::local::Local;
use crate::sync::plain_thread_local;

/// The objects that were dropped inside the running destructor of this thread.
type Queue = RefCell<VecDeque<Retired>>;

plain_thread_local! {
    // The queue of the outermost release, while a destructor runs. It exists as long as the
    // thread [R9].
    static QUEUE: Cell<*const Queue> = Cell::new(ptr::null());
}

/// Whether this thread releases objects, and so may run a destructor.
pub(super) fn is_releasing() -> bool {
    QUEUE.with(|queue| !queue.get().is_null())
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
    let queue = QUEUE.with(Cell::get);
    // SAFETY: it is on the stack of this thread, below the running destructor.
    if let Some(queue) = unsafe { queue.as_ref() } {
        queue.borrow_mut().push_back(retired);
        return;
    }
    Release::run(local, |release| {
        // SAFETY: the caller's contract.
        unsafe { release.destroy(&retired) };
        release.run_queue(usize::MAX);
    });
}

/// Drops the share that a retired object without user code had to itself, and destroys the object
/// if it was the last.
///
/// # Safety
/// As for [`Retired::drop_share`].
#[inline]
pub(super) unsafe fn release_plain(local: &Local, retired: &Retired) {
    debug_assert!(retired.is_plain());
    // SAFETY: the caller's contract.
    if unsafe { retired.drop_share() } {
        // SAFETY: it was the last.
        unsafe { destroy_plain(local, retired) };
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
    /// Objects whose last share this thread has dropped.
    queue: Queue,
}

/// While it lives, [`destroy`] queues.
struct Outermost(());

impl Outermost {
    fn enter(queue: &Queue) -> Self {
        QUEUE.with(|place| place.set(queue));
        Outermost(())
    }
}

impl Drop for Outermost {
    fn drop(&mut self) {
        QUEUE.with(|place| place.set(ptr::null()));
    }
}

impl<'a> Release<'a> {
    /// Calls `f`, which may run destructors. Not inside a destructor.
    #[inline]
    pub(super) fn run<R>(local: &'a Local, f: impl FnOnce(&Self) -> R) -> R {
        let release = Release {
            local,
            queue: Queue::default(),
        };
        let _outside = Inside::no_closure();
        // It ends before the queue does.
        let _outermost = Outermost::enter(&release.queue);
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

    /// Destroys at most `n` objects of the queue, those that join it included, and returns how many
    /// it has destroyed. If a destructor panics, the rest returns to the limbo.
    pub(super) fn run_queue(&self, n: usize) -> usize {
        for done in 0..n {
            let next = self.queue.borrow_mut().pop_front();
            let Some(retired) = next else { return done };
            // SAFETY: this thread has dropped its last share.
            unsafe { self.destroy(&retired) };
        }
        n
    }
}

impl Drop for Release<'_> {
    fn drop(&mut self) {
        let rest = self.queue.take();
        if !rest.is_empty() {
            self.local.restore(rest);
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
