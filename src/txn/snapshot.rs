//! Reads of any number of cells as of one instant.
#![allow(unsafe_code)]

use core::fmt;
use core::marker::PhantomData;

use crate::cell::VersionedCell;
use crate::mvcc::{Current, Head, NodeRef, clock};
use crate::reclaim::{self, CellPin};

/// Calls a closure with a view of all cells as they are at the instant of the call.
///
/// A snapshot never fails, never restarts, and never waits for a writer. A transaction that is
/// about to commit when the snapshot reads its cell commits later. All snapshots together cause at
/// most 16 more validations of one commit.
///
/// # Inside and around
/// The closure may write cells, run transactions and nest snapshots. Its writes are later than the
/// snapshot, which does not show them. Inside the closure of a transaction, a snapshot shows
/// committed values, without the writes of that transaction. Its reads are not in the read set of
/// the transaction.
///
/// # Memory
/// The closure runs pinned. While it runs, no value that any thread replaces is dropped.
/// [`stats`](crate::stats()) reports the number of such values and the age of the pin. A closure
/// that sleeps, waits or computes for long should not run inside a snapshot. Clone the values
/// instead, use [`read_owned`](VersionedCell::read_owned) of single cells, or use several smaller
/// snapshots.
///
/// # Tasks
/// The closure is not asynchronous, and neither the view nor its references can leave it. So no pin
/// crosses an `.await`. The result of the closure may.
///
/// # Blocking
/// Never blocks.
///
/// # Panics
/// Panics if the closure panics; this affects nothing but the snapshot. Panics after 2⁶¹ snapshots,
/// when no timestamp is left.
///
/// # Examples
/// ```
/// use latchwork::{VersionedCell, snapshot};
/// let accounts: Vec<_> = [10, 20, 30].map(VersionedCell::new).into();
/// let total: i64 = snapshot(|s| accounts.iter().map(|c| *s.read(c)).sum());
/// assert_eq!(total, 60);
/// ```
pub fn snapshot<'env, R>(f: impl for<'t> FnOnce(&View<'t, 'env>) -> R) -> R {
    // Pinned before the clock is read: a node that is replaced after the timestamp is retired after
    // the pin [X5].
    let pin = reclaim::with(reclaim::Local::pin);
    let view = View {
        moment: clock::read_timestamp(),
        pin,
        scope: PhantomData,
        env: PhantomData,
    };
    f(&view)
}

/// Shows cells as they were at one instant. See [`snapshot`].
///
/// # Examples
/// See [`snapshot`].
pub struct View<'t, 'env: 't> {
    moment: u64,
    pin: CellPin,
    scope: PhantomData<&'t mut &'t ()>,
    env: PhantomData<&'env mut &'env ()>,
}

impl<'t, 'env: 't> View<'t, 'env> {
    /// Returns the value that the cell had. A cell that was created later shows its first value.
    ///
    /// Never blocks.
    ///
    /// # Examples
    /// See [`snapshot`].
    #[inline]
    pub fn read<T: Send + Sync + 'static>(&self, cell: &'t VersionedCell<T>) -> &'t T {
        let node = self.load(cell.head());
        let node = match node.stamp() {
            Some(stamp) if stamp <= self.moment => node,
            _ => self.older(cell.head()),
        };
        // SAFETY: a node of the cell that was current, and so has a value.
        unsafe { node.value() }
    }

    /// Returns the newest node of an entry of a map with a stamp no later than the timestamp.
    /// `None`: the key was absent before the first node [V7].
    #[inline]
    pub(crate) fn entry_at(&self, head: &Head) -> Option<NodeRef<'t>> {
        let mut node = self.load(head);
        if node.stamp().is_none() {
            node = self.newest(head);
        }
        loop {
            let stamp = node.stamp();
            if stamp.expect("a node that was current is stamped") <= self.moment {
                return Some(node);
            }
            // SAFETY: as in `older`.
            node = unsafe { NodeRef::new(node.header().prev()?) };
        }
    }

    #[inline(always)]
    fn load(&self, head: &Head) -> NodeRef<'t> {
        // SAFETY: loaded under the pin, which lives as long as the view [R1] [X1].
        unsafe { NodeRef::new(head.load().node()) }
    }

    pub(crate) fn pin(&self) -> &CellPin {
        &self.pin
    }

    /// Returns the newest node with a stamp no later than the timestamp.
    #[cold]
    #[inline(never)]
    fn older(&self, head: &Head) -> NodeRef<'t> {
        let mut node = self.newest(head);
        loop {
            let stamp = node.stamp();
            let stamp = stamp.expect("a node that was current is stamped");
            match node.header().prev() {
                // SAFETY: the node is retired after its successor was stamped, and so after the
                // timestamp and the pin [X5].
                Some(prev) if stamp > self.moment => node = unsafe { NodeRef::new(prev) },
                _ => return node,
            }
        }
    }

    /// Returns the current node, or its predecessor if a transaction owns it that commits after the
    /// timestamp.
    fn newest(&self, head: &Head) -> NodeRef<'t> {
        match self.load(head).current() {
            Current::Settled(node) => node,
            // A later node of the head was installed after the timestamp: one load is enough.
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
