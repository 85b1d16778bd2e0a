//! The objects that a thread has removed from a slot and is about to destroy.

use core::cell::{Cell, RefCell, RefMut};
use core::ops::Range;

use super::alloc::NodePool;
use super::domain::Domain;
use super::epoch::Reach;
use super::kind::Share;
use super::limbo::{Limbo, Queued};
use super::slot::Slot;
use crate::sync::tuning::BATCH_IN_HAND;

/// The room of a thread for the objects that it has removed.
#[derive(Default)]
pub(super) struct Palm(RefCell<[Option<Share>; BATCH_IN_HAND]>);

/// Objects with destructors that were removed together, so that the mutex of their slot is locked
/// once for all. If a destructor panics, the rest returns to that slot.
pub(super) struct Hand<'a> {
    domain: &'a Domain,
    /// Where the number of objects is published.
    own: &'a Slot,
    from: &'a Slot,
    nodes: &'a NodePool,
    /// The number of retired objects at which the next write collects.
    collect_at: &'a Cell<u64>,
    objects: RefMut<'a, [Option<Share>; BATCH_IN_HAND]>,
    /// Those that are there.
    range: Range<usize>,
}

impl<'a> Hand<'a> {
    /// Not inside a destructor: the thread has one hand.
    pub(super) fn new(
        palm: &'a Palm,
        nodes: &'a NodePool,
        collect_at: &'a Cell<u64>,
        domain: &'a Domain,
        [own, from]: [&'a Slot; 2],
    ) -> Self {
        Hand {
            domain,
            own,
            from,
            nodes,
            collect_at,
            objects: palm.0.borrow_mut(),
            range: 0..0,
        }
    }

    /// Removes at most `n` reclaimable objects, of which at most `batch` have destructors. Releases
    /// the others at once, and returns how many there were, and whether none is left.
    pub(super) fn fill(
        &mut self,
        limbo: &mut Limbo,
        n: usize,
        batch: usize,
        up_to: Reach,
        queued: Queued,
    ) -> (usize, bool) {
        self.range = 0..0;
        let (mut plain, mut bytes) = (0, 0);
        loop {
            plain += limbo.release_plain(n - plain - self.range.end, up_to, self.nodes);
            let room = (n - plain).min(batch) - self.range.end;
            let some = limbo.pop_some(room, up_to, queued, |share| {
                self.objects[self.range.end] = Some(share);
                self.range.end += 1;
            });
            bytes += some.bytes;
            if some.objects == 0 {
                self.begin(bytes);
                return (plain, room > 0);
            }
        }
    }

    /// Publishes how many objects wait.
    fn begin(&self, bytes: usize) {
        // An object alone does not wait: its destructor begins at once.
        if self.range.end > 1 {
            self.own.in_hand().begin(self.range.end, bytes);
        }
    }

    #[inline]
    pub(super) fn next(&mut self) -> Option<Share> {
        let share = self.objects[self.range.next()?].take();
        // Alone, it was not counted.
        if self.range.end > 1 {
            self.own.in_hand().set(self.range.len());
        }
        share
    }

    #[cold]
    fn restore(&mut self) {
        self.from.with_limbo(&self.domain.epoch, |limbo, _| {
            // Backwards, so that they keep their order.
            while let Some(i) = self.range.next_back() {
                if let Some(share) = self.objects[i].take() {
                    limbo.restore(share);
                }
            }
            self.domain.registry.count_restore();
            self.own.in_hand().clear();
        });
        // The next write collects.
        self.collect_at.set(self.own.own_len());
    }
}

impl Drop for Hand<'_> {
    #[inline]
    fn drop(&mut self) {
        if !self.range.is_empty() {
            self.restore();
        }
    }
}
