//! One instant over any number of cells.
#![allow(unsafe_code)]

use core::fmt;
use core::marker::PhantomData;

use crate::cell::{Current, Head, NodeRef, VersionedCell, clock};
use crate::reclaim::{self, CellPin};
use crate::sync::planted;

/// Shows a closure any number of cells as they were at one instant, that of the call.
///
/// It never fails, never starts again, and waits for nobody. A transaction that is about to commit
/// when the snapshot finds it commits later: snapshots have one commit look again at most 16 times.
///
/// # Inside and around
/// The closure may write cells, run transactions and take snapshots: what it writes is later than what it
/// is shown. Inside the closure of a transaction, a snapshot shows what is committed, without what that transaction is about to write, and
/// its reads are not among those that the transaction relies on.
///
/// # Memory
/// The closure runs pinned. As long as it runs, no value that any thread has replaced since is dropped, and
/// [`stats`](crate::stats()) shows how much waits and for how long. A closure that sleeps, waits or computes for long is better off with values of its own:
/// clone them out, take [`read_owned`](VersionedCell::read_owned) of single cells, or take a snapshot of a part at a time.
///
/// # Tasks
/// The closure is not asynchronous, and neither the view nor what it lends leaves it: nothing is pinned
/// across an `.await`. What it returns may be.
///
/// # Panics
/// If the closure does; the snapshot ends, and nothing else. After 2⁶¹ moments, when there is no other to begin.
///
/// # Examples
/// ```
/// use latchwork::{VersionedCell, snapshot};
/// let accounts: Vec<_> = [10, 20, 30].map(VersionedCell::new).into();
/// let total: i64 = snapshot(|s| accounts.iter().map(|c| *s.read(c)).sum());
/// assert_eq!(total, 60);
/// ```
pub fn snapshot<'env, R>(f: impl for<'t> FnOnce(&View<'t, 'env>) -> R) -> R {
    // Pinned before the clock is advanced: what is replaced after the moment is retired after the pin [X5].
    let pin = reclaim::with(reclaim::Local::pin);
    let view = View {
        moment: clock::advance(),
        _pin: pin,
        scope: PhantomData,
        env: PhantomData,
    };
    f(&view)
}

/// Cells as they were at one instant. See [`snapshot`].
///
/// # Examples
/// See [`snapshot`].
pub struct View<'t, 'env: 't> {
    moment: u64,
    _pin: CellPin,
    scope: PhantomData<&'t mut &'t ()>,
    env: PhantomData<&'env mut &'env ()>,
}

impl<'t, 'env: 't> View<'t, 'env> {
    /// Returns the value that the cell had. A cell that was made later shows its first value.
    ///
    /// # Examples
    /// See [`snapshot`].
    #[inline]
    pub fn read<T: Send + Sync + 'static>(&self, cell: &'t VersionedCell<T>) -> &'t T {
        // SAFETY: loaded under the pin, which lives as long as the view [R1] [X1].
        let node = unsafe { NodeRef::new(cell.head().load().node()) };
        let node = match node.stamp() {
            Some(stamp) if stamp <= self.moment => node,
            _ => self.older(cell.head()),
        };
        // SAFETY: a node of the cell that was current, and so has a value.
        unsafe { node.value() }
    }

    /// The newest node stamped no later than the moment.
    #[cold]
    #[inline(never)]
    fn older(&self, head: &Head) -> NodeRef<'t> {
        let mut node = self.newest(head);
        if planted("snapshot of what is new") {
            return node;
        }
        loop {
            let stamp = node.stamp();
            let stamp = stamp.expect("a node that was current is stamped");
            match node.header().prev() {
                // SAFETY: it is retired after the node on it was stamped, and so after the moment and the pin [X5].
                Some(prev) if stamp > self.moment => node = unsafe { NodeRef::new(prev) },
                _ => return node,
            }
        }
    }

    /// The node that is current, or was when a transaction put its own upon it that commits after the moment.
    fn newest(&self, head: &Head) -> NodeRef<'t> {
        // SAFETY: loaded under the pin, which lives as long as the view [R1] [X1].
        match unsafe { NodeRef::new(head.load().node()) }.current() {
            Current::Settled(node) => node,
            // What the head has now instead was put there after the moment: one load is enough.
            Current::Owned(owned) if planted("snapshot that postpones nobody") => owned.base,
            Current::Owned(owned) if owned.owner.postpone(self.moment).is_decided() => {
                owned.settle()
            }
            Current::Owned(owned) => owned.base,
        }
    }
}

impl fmt::Debug for View<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").finish_non_exhaustive()
    }
}
