//! The retired objects of one slot that have left its buffer, oldest first.

use std::collections::VecDeque;

use super::alloc::NodePool;
use super::epoch::{Reach, Tag};
use super::kind::{Absorbed, Last, Retired, Share, Size, Waiting};
use crate::sync::{recently, tuning::GARBAGE_BATCH};

/// A slot keeps the memory of a batch for so many objects.
const KEPT: usize = 4 * GARBAGE_BATCH;

/// Objects that left the buffer at one epoch.
#[derive(Debug)]
struct Batch {
    /// When the first of them left the buffer, by [`recently`].
    since: u64,
    objects: Waiting,
}

/// The retired objects of one slot. Protected by the mutex of the slot.
#[derive(Debug, Default)]
pub(super) struct Limbo {
    /// Objects whose last share was dropped inside the running destructor of the owner, which
    /// destroys them afterwards unless another thread does [R10].
    queue: VecDeque<Last>,
    /// Reclaimable objects with user code that could not run when they were found [R11].
    ready: VecDeque<Share>,
    /// In ascending order of their epochs. None is empty.
    batches: VecDeque<Batch>,
    /// The memory of batches that are empty. Usually three batches exist: of the present epoch, and
    /// of the two before.
    spare: [VecDeque<Retired>; 3],
    /// How many objects of the buffer were absorbed, ever.
    absorbed: u64,
    len: usize,
    bytes: usize,
    /// The number of objects that were absorbed when another thread first checked, and the time of
    /// that, by [`recently`].
    idle: (u64, u64),
}

/// Whether a release of the garbage of a slot includes the queue of its owner's destructor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queued {
    Included,
    Left,
}

impl Limbo {
    pub(super) fn size(&self) -> Size {
        Size {
            objects: self.len,
            bytes: self.bytes,
        }
    }

    fn add(&mut self, size: Size) {
        self.len += size.objects;
        self.bytes += size.bytes;
    }

    fn subtract(&mut self, size: Size) {
        self.len -= size.objects;
        self.bytes -= size.bytes;
    }

    /// Adds the objects that the buffer had to the batch of their tag [R2].
    pub(super) fn append(&mut self, absorbed: Absorbed<impl Iterator<Item = Retired>>) {
        let tag = absorbed.tag();
        if self.batches.back().is_none_or(|b| !b.objects.has_tag(tag)) {
            let batch = self.new_batch(tag);
            self.batches.push_back(batch);
        }
        let batch = self.batches.back_mut().expect("pushed above");
        let size = batch.objects.extend(absorbed);
        if batch.objects.is_empty() {
            self.batches.pop_back();
        }
        self.absorbed += size.objects as u64;
        self.add(size);
    }

    /// Adds an object whose last share was dropped inside a destructor.
    pub(super) fn enqueue(&mut self, object: Last) {
        self.add(Size::of(object.bytes()));
        self.queue.push_back(object);
    }

    /// Removes the first such object.
    pub(super) fn dequeue(&mut self) -> Option<Last> {
        let object = self.queue.pop_front()?;
        self.subtract(Size::of(object.bytes()));
        Some(object)
    }

    /// The owner leaves the rest of its queue to later releases.
    pub(super) fn end_queue(&mut self) {
        self.ready
            .extend(self.queue.drain(..).map(Last::into_share));
    }

    /// Returns an object that was removed and not released. It is the next to be removed.
    pub(super) fn restore(&mut self, share: Share) {
        self.add(Size::of(share.bytes()));
        self.ready.push_front(share);
    }

    /// How many objects are reclaimable.
    pub(super) fn count_up_to(&self, reach: Reach) -> usize {
        let batches = self.batches.iter();
        let batches = batches.take_while(|b| b.objects.is_covered_by(reach));
        let waited = batches.map(|b| b.objects.len()).sum::<usize>();
        waited + self.ready.len() + self.queue.len()
    }

    /// Removes a reclaimable object.
    #[inline]
    pub(super) fn pop_up_to(&mut self, reach: Reach, queued: Queued) -> Option<Share> {
        if queued == Queued::Included && !self.queue.is_empty() {
            return self.dequeue().map(Last::into_share);
        }
        if let Some(share) = self.ready.pop_front() {
            self.subtract(Size::of(share.bytes()));
            return Some(share);
        }
        let share = self.batches.front_mut()?.objects.pop(reach)?;
        self.has_popped(Size::of(share.bytes()));
        Some(share)
    }

    /// Removes some reclaimable objects: at most `n`. Calls `f` for each, and returns their size.
    /// It is 0 if none is left, or a plain object is next.
    #[inline]
    pub(super) fn pop_some(
        &mut self,
        n: usize,
        reach: Reach,
        queued: Queued,
        mut f: impl FnMut(Share),
    ) -> Size {
        let mut size = Size::default();
        if n == 0 {
            return size;
        }
        let has_queue = queued == Queued::Included && !self.queue.is_empty();
        if has_queue || !self.ready.is_empty() {
            if let Some(share) = self.pop_up_to(reach, queued) {
                size = Size::of(share.bytes());
                f(share);
            }
            return size;
        }
        if let Some(front) = self.batches.front_mut() {
            size = front.objects.pop_some(n, reach, f);
            self.has_popped(size);
        }
        size
    }

    /// So many objects of the first batch were removed.
    #[inline]
    fn has_popped(&mut self, size: Size) {
        if self.batches.front().is_some_and(|b| b.objects.is_empty()) {
            self.remove_front();
        }
        self.subtract(size);
    }

    /// Sets aside the oldest reclaimable objects, at most `n`, while they run user code. Returns
    /// how many there were.
    pub(super) fn set_aside(&mut self, n: usize, reach: Reach) -> usize {
        for done in 0..n {
            let front = self.batches.front_mut();
            let Some(share) = front.and_then(|b| b.objects.pop_with_destructor(reach)) else {
                return done;
            };
            // They count as before.
            self.has_popped(Size::default());
            self.ready.push_back(share);
        }
        n
    }

    /// Removes the first batch, which is empty.
    fn remove_front(&mut self) {
        if let Some(Batch { objects, .. }) = self.batches.pop_front() {
            let objects = objects.into_memory();
            // A long list is returned to the allocator after a burst.
            if objects.capacity() <= KEPT {
                let free = self.spare.iter_mut().find(|spare| spare.capacity() == 0);
                if let Some(free) = free {
                    *free = objects;
                }
            }
        }
    }

    fn new_batch(&mut self, tag: Tag) -> Batch {
        let kept = self.spare.iter_mut().find(|spare| spare.capacity() > 0);
        Batch {
            since: recently(),
            objects: Waiting::new(tag, kept.map(core::mem::take).unwrap_or_default()),
        }
    }

    /// Releases the oldest reclaimable objects, in order and at most `n`, while they run no user
    /// code. Returns how many there were.
    #[inline]
    pub(super) fn release_plain(&mut self, n: usize, reach: Reach, nodes: &NodePool) -> usize {
        let mut released = 0;
        while let Some(front) = self.batches.front_mut() {
            let size = front.objects.release_plain(n - released, reach, nodes);
            if size.objects == 0 {
                break;
            }
            self.has_popped(size);
            released += size.objects;
        }
        released
    }

    /// Ends the limbo without a release.
    #[cfg(any(latchwork_loom, latchwork_shuttle))]
    pub(super) fn into_shares(
        self,
    ) -> (impl Iterator<Item = Share>, impl Iterator<Item = Retired>) {
        let queue = self.queue.into_iter().map(Last::into_share);
        let batches = self.batches.into_iter();
        (
            queue.chain(self.ready),
            batches.flat_map(|batch| batch.objects.into_memory()),
        )
    }

    /// When the oldest object that is not reclaimable left its buffer, by [`recently`].
    pub(super) fn oldest_after(&self, reach: Reach) -> Option<u64> {
        let batches = self.batches.iter();
        let mut waiting = batches.filter(|b| !b.objects.is_covered_by(reach));
        waiting.next().map(|b| b.since)
    }

    /// Whether the owner has retired nothing for `span`, between two calls of this function.
    pub(super) fn is_idle(&mut self, now: u64, span: u64) -> bool {
        let (absorbed, since) = self.idle;
        if absorbed != self.absorbed {
            self.idle = (self.absorbed, now);
            return false;
        }
        now.saturating_sub(since) >= span
    }
}

#[cfg(all(test, not(any(latchwork_loom, latchwork_shuttle))))]
mod tests {
    use super::super::kind::tests::{SEEN, absorbed, lasts, shares};
    use super::*;

    fn to(epoch: u64) -> Reach {
        Reach::to(epoch)
    }

    fn addresses(limbo: &mut Limbo, epoch: u64) -> Vec<usize> {
        let next = || limbo.pop_up_to(to(epoch), Queued::Included);
        core::iter::from_fn(next)
            .map(|share| share.address())
            .collect()
    }

    fn release_plain(limbo: &mut Limbo, n: usize, epoch: u64) -> usize {
        limbo.release_plain(n, to(epoch), &NodePool::default())
    }

    fn enqueue(limbo: &mut Limbo, range: core::ops::Range<usize>) {
        lasts::<u64>(range).for_each(|object| limbo.enqueue(object));
    }

    #[test]
    fn objects_leave_oldest_first_and_not_before_their_epoch() {
        let mut limbo = Limbo::default();
        for (epoch, range) in [(3, 10..20), (3, 20..25), (4, 25..30), (7, 30..31)] {
            limbo.append(absorbed::<u64>(epoch, range, true));
        }
        assert_eq!(limbo.count_up_to(to(2)), 0);
        assert_eq!(limbo.count_up_to(to(3)), 15);
        assert_eq!(limbo.count_up_to(to(6)), 20);
        assert!(limbo.oldest_after(to(6)).is_some() && limbo.oldest_after(to(7)).is_none());
        assert_eq!(addresses(&mut limbo, 2), [0; 0]);
        assert_eq!(addresses(&mut limbo, 3), (10..25).collect::<Vec<_>>());
        enqueue(&mut limbo, 1..3);
        assert!(limbo.pop_up_to(to(3), Queued::Left).is_none());
        limbo.end_queue();
        enqueue(&mut limbo, 3..4);
        assert_eq!(limbo.count_up_to(to(4)), 8);
        assert_eq!(addresses(&mut limbo, 4), [3, 1, 2, 25, 26, 27, 28, 29]);
        assert_eq!(addresses(&mut limbo, 7), [30]);
        assert_eq!(limbo.size(), Size::default());
    }

    #[test]
    fn a_limbo_knows_its_size() {
        let mut limbo = Limbo::default();
        limbo.append(absorbed::<u64>(1, 1..4, true));
        limbo.append(absorbed::<[u64; 10]>(2, 4..6, false));
        let size = |objects, bytes| Size { objects, bytes };
        assert_eq!(limbo.size(), size(5, 3 * 8 + 2 * 80));
        assert_eq!(release_plain(&mut limbo, 2, 2), 2);
        assert_eq!(limbo.size(), size(3, 8 + 2 * 80));
        // Up to the first object with a destructor.
        assert_eq!(release_plain(&mut limbo, 9, 2), 1);
        assert_eq!(release_plain(&mut limbo, 9, 2), 0);
        assert_eq!(limbo.size(), size(2, 2 * 80));
        assert_eq!(addresses(&mut limbo, 2), [4, 5]);
        assert_eq!(limbo.size(), size(0, 0));
        limbo.append(absorbed::<u64>(3, 1..1, true));
        assert!(limbo.batches.is_empty());
    }

    #[test]
    fn plain_objects_leave_in_order_and_not_before_their_epoch() {
        let mut limbo = Limbo::default();
        limbo.append(absorbed::<u64>(1, 1..4, true));
        limbo.append(absorbed::<u64>(2, 4..6, true));
        SEEN.take();
        let mut drain = |n, epoch| release_plain(&mut limbo, n, epoch);
        assert_eq!(
            [drain(9, 0), drain(2, 1), drain(9, 1), drain(9, 2)],
            [0, 2, 1, 2]
        );
        assert_eq!(SEEN.take(), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn objects_with_user_code_are_set_aside_when_they_are_due() {
        let mut limbo = Limbo::default();
        limbo.append(absorbed::<u64>(1, 1..4, false));
        limbo.append(absorbed::<u64>(1, 4..5, true));
        limbo.append(absorbed::<u64>(2, 5..7, false));
        let size = limbo.size();
        assert_eq!(
            [limbo.set_aside(9, to(0)), limbo.set_aside(2, to(1))],
            [0, 2]
        );
        assert_eq!(
            [limbo.set_aside(9, to(1)), limbo.set_aside(9, to(1))],
            [1, 0]
        );
        assert_eq!((limbo.size(), limbo.count_up_to(to(0))), (size, 3));
        assert_eq!(release_plain(&mut limbo, 9, 1), 1);
        assert_eq!(
            [limbo.set_aside(9, to(1)), limbo.set_aside(9, to(2))],
            [0, 2]
        );
        assert_eq!(addresses(&mut limbo, 0), [1, 2, 3, 5, 6]);
        assert_eq!(limbo.size(), Size::default());
    }

    #[test]
    fn objects_with_user_code_leave_together_and_in_order() {
        let mut limbo = Limbo::default();
        limbo.append(absorbed::<u64>(1, 1..4, false));
        limbo.append(absorbed::<u64>(1, 4..5, true));
        limbo.append(absorbed::<u64>(2, 5..7, false));
        shares::<u64>(7..8, false).for_each(|share| limbo.restore(share));
        let mut seen = Vec::new();
        let mut pop = |limbo: &mut Limbo, n, epoch| {
            let f = |share: Share| seen.push(share.address());
            limbo.pop_some(n, to(epoch), Queued::Left, f)
        };
        let size = |objects| Size {
            objects,
            bytes: 8 * objects,
        };
        assert_eq!(pop(&mut limbo, 0, 2), size(0));
        assert_eq!(
            [pop(&mut limbo, 9, 0), pop(&mut limbo, 9, 0)],
            [size(1), size(0)]
        );
        assert_eq!(
            [pop(&mut limbo, 2, 1), pop(&mut limbo, 9, 2)],
            [size(2), size(1)]
        );
        assert_eq!(pop(&mut limbo, 9, 2), size(0), "a plain one is next");
        assert_eq!(release_plain(&mut limbo, 9, 2), 1);
        assert_eq!(
            [pop(&mut limbo, 9, 1), pop(&mut limbo, 9, 2)],
            [size(0), size(2)]
        );
        assert_eq!(seen, [7, 1, 2, 3, 5, 6]);
        assert_eq!(limbo.size(), Size::default());
    }

    #[test]
    fn a_limbo_keeps_the_memory_of_a_short_batch_only() {
        for (len, is_kept) in [(KEPT / 2, true), (KEPT + 1, false)] {
            let mut limbo = Limbo::default();
            limbo.append(absorbed::<u64>(1, 1..len + 1, true));
            assert_eq!(addresses(&mut limbo, 1).len(), len);
            assert_eq!(limbo.spare[0].capacity() > 0, is_kept, "{len}");
            assert_eq!(limbo.batches.len(), 0);
        }
    }

    #[test]
    fn an_owner_is_idle_if_nothing_came_between_two_looks() {
        let mut limbo = Limbo {
            absorbed: 1,
            ..Limbo::default()
        };
        assert!(!limbo.is_idle(100, 10), "seen for the first time");
        assert!(!limbo.is_idle(109, 10));
        assert!(limbo.is_idle(110, 10));
        limbo.absorbed = 2;
        assert!(!limbo.is_idle(200, 10));
        assert!(limbo.is_idle(210, 10));
    }
}
