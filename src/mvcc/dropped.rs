//! The cells that this thread drops while an attempt drops its drafts: no write will ever wake
//! their waiters.
//!
//! A transaction that waits for a change joins the queues of the cells that it has read. A draft is
//! a value that the attempt has recorded. A cell inside a draft is dropped with it, before the
//! transaction sleeps, and no other thread has ever reached the cell [X8]. Such a cell is
//! identified by its node, and not by its address, because a destructor may move it first.

use core::cell::{Cell, RefCell};
use core::ptr::NonNull;

use super::node::Header;
use crate::sync::thread_local;

thread_local! {
    #[allow(clippy::missing_const_for_thread_local, reason = "a checker has no such form")]
    static DROPPED: RefCell<Vec<NonNull<Header>>> = RefCell::new(Vec::new());
}

thread_local! {
    /// How many watches there are, one inside the other.
    #[allow(clippy::missing_const_for_thread_local, reason = "a checker has no such form")]
    static WATCHES: Cell<usize> = Cell::new(0);
}

/// Records the drop of a cell that has the mark of waiters. A thread that is being torn down may
/// have no list any more, and then records nothing. A transaction of its destructors that waits for
/// such a cell relies on its deadline.
#[cold]
pub(crate) fn note(node: NonNull<Header>) {
    let is_watched = WATCHES.try_with(|watches| watches.get() > 0);
    if is_watched.unwrap_or(false) {
        let _ = DROPPED.try_with(|dropped| dropped.borrow_mut().push(node));
    }
}

/// Notes which cells this thread drops, for as long as it lives. It stays on its thread: its maker
/// ends it before the thread does anything else.
pub(crate) struct Watch(());

impl Watch {
    #[cold]
    pub(crate) fn new() -> Self {
        let _ = WATCHES.try_with(|watches| watches.set(watches.get() + 1));
        Watch(())
    }

    /// Whether each of the nodes was that of a cell that was dropped since.
    pub(crate) fn has_seen(&self, nodes: &[NonNull<Header>]) -> bool {
        let has_all = DROPPED.try_with(|dropped| {
            let dropped = dropped.borrow();
            nodes.iter().all(|node| dropped.contains(node))
        });
        has_all.unwrap_or(false)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let left = WATCHES.try_with(|watches| {
            watches.set(watches.get() - 1);
            watches.get()
        });
        if left.is_ok_and(|left| left == 0) {
            let _ = DROPPED.try_with(|dropped| dropped.borrow_mut().clear());
        }
    }
}
