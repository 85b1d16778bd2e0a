//! Reads of any number of cells as of one instant.

use core::fmt;
use core::marker::PhantomData;

use crate::cell::VersionedCell;
use crate::mvcc::{Head, Moment, NodeRef};
use crate::reclaim::CellPin;

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
    let moment = Moment::now();
    let view = View {
        moment: &moment,
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
    moment: &'t Moment,
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
        cell.as_of(self.moment)
    }

    /// Returns the newest node of an entry of a map with a stamp no later than the timestamp.
    /// `None`: the key was absent before the first node [V7].
    #[inline]
    pub(crate) fn entry_at(&self, head: &Head) -> Option<NodeRef<'t>> {
        self.moment.entry_at(head)
    }

    pub(crate) fn pin(&self) -> &CellPin {
        self.moment.pin()
    }
}

impl fmt::Debug for View<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").finish_non_exhaustive()
    }
}
