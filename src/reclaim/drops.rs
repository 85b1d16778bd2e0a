//! The end of objects: destructors run one after another, and never one inside another [R10].

use core::cell::Cell;

use super::inside::Inside;
use super::kind::{Last, Share};
use super::local::Local;
use super::participant::Place;
use crate::sync::plain_thread_local;

plain_thread_local! {
    // The slot of the outermost release, while it runs. It exists as long as the thread [R9].
    static RUNNING: Cell<Option<Place>> = Cell::new(None);
}

plain_thread_local! {
    // How many objects joined the queue in the slot and were not removed by this thread.
    static QUEUED: Cell<usize> = Cell::new(0);
}

/// The number of objects in the queue of a destructor from which on other threads that write also
/// destroy them [R11]. It was not chosen by measurement.
const OFFER_FROM: usize = 1024;

/// Whether this thread releases objects, and so may run a destructor.
pub(super) fn is_releasing() -> bool {
    running().is_some()
}

#[inline(always)]
fn running() -> Option<Place> {
    RUNNING.with(|place| {
        let running = place.take();
        place.set(running.clone());
        running
    })
}

/// Destroys an object whose last share the caller has dropped, or queues it inside a destructor.
#[inline]
pub(super) fn destroy(local: &Local, object: Last) {
    if object.is_plain() {
        return object.end(local.pool());
    }
    if let Some(running) = running() {
        return enqueue(&running, object);
    }
    Release::run(local, |release| {
        object.end(local.pool());
        while release.destroy_next() {}
    });
}

/// Adds an object to the queue, where other threads reach it.
fn enqueue(running: &Place, object: Last) {
    let slot = running.slot();
    match slot {
        Some(slot) => slot.enqueue(object),
        None => orphans::push(object),
    }
    let queued = QUEUED.with(|queued| {
        queued.set(queued.get() + 1);
        queued.get()
    });
    if queued >= OFFER_FROM {
        slot.into_iter().for_each(|slot| slot.offer(true));
    }
}

/// The outermost release of a thread. While it runs, [`destroy`] queues.
pub(super) struct Release<'a> {
    local: &'a Local,
}

/// Ends the outermost release.
struct Outermost<'a>(&'a Local);

impl Drop for Outermost<'_> {
    fn drop(&mut self) {
        RUNNING.with(|place| place.set(None));
        if QUEUED.with(Cell::get) > 0 {
            self.0.end_queue();
        }
    }
}

impl<'a> Release<'a> {
    /// Calls `f`, which may run destructors. Not inside a destructor.
    #[inline]
    pub(super) fn run<R>(local: &'a Local, f: impl FnOnce(&Self) -> R) -> R {
        // It ends after the user code.
        let _outermost = Outermost(local);
        QUEUED.with(|queued| queued.set(0));
        RUNNING.with(|place| place.set(Some(local.place())));
        let _outside = Inside::no_closure();
        f(&Release { local })
    }

    /// Drops a share, and destroys the object if it was the last. Objects that its destructor drops
    /// are queued.
    #[inline]
    pub(super) fn release(&self, share: Share) {
        if let Some(object) = share.give_up() {
            object.end(self.local.pool());
        }
    }

    fn dequeue(&self) -> Option<Last> {
        let queued = QUEUED.with(Cell::get).checked_sub(1)?;
        let next = match self.local.slot() {
            Some(slot) => slot.dequeue(),
            None => orphans::pop(),
        };
        // Other threads may have removed some.
        let queued = next.as_ref().map_or(0, |_| queued);
        QUEUED.with(|place| place.set(queued));
        next
    }

    /// Destroys the next object of the queue. `false`: there is none.
    pub(super) fn destroy_next(&self) -> bool {
        let Some(object) = self.dequeue() else {
            return false;
        };
        object.end(self.local.pool());
        true
    }
}

/// The queue of a thread without a slot, in a model that reclaims nothing.
#[cfg(any(latchwork_loom, latchwork_shuttle))]
mod orphans {
    use core::cell::RefCell;
    use std::collections::VecDeque;

    use crate::reclaim::kind::Last;
    use crate::sync::thread_local;

    thread_local! {
        static ORPHANS: RefCell<VecDeque<Last>> = RefCell::default();
    }

    pub(super) fn push(object: Last) {
        ORPHANS.with(|orphans| orphans.borrow_mut().push_back(object));
    }

    pub(super) fn pop() -> Option<Last> {
        ORPHANS.with(|orphans| orphans.borrow_mut().pop_front())
    }
}

/// A thread of a real build has a slot.
#[cfg(not(any(latchwork_loom, latchwork_shuttle)))]
mod orphans {
    use crate::reclaim::kind::Last;

    pub(super) fn push(_: Last) {}

    pub(super) fn pop() -> Option<Last> {
        None
    }
}
